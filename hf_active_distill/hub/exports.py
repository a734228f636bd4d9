"""Annotations as data sets for other trainers: the formats of TRL, and rows for a classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from datasets import ClassLabel, Dataset, Features, List, Value, load_dataset
from huggingface_hub.errors import RevisionNotFoundError

from ..annotation.views import (
    completion_rows,
    preference_rows,
    step_preference_rows,
    stepwise_rows,
    unpaired_preference_rows,
)
from ..errors import ConfigurationError, DataError, LineageError, LineageUnreachableError
from ..records import Annotation
from ..rounds import RoundStore
from ..tables import annotation_from_row
from ..tasks import Task, as_messages
from .hub_store import HubStore
from .label_texts import settings_of, task_of, texts_of
from .layout import ANNOTATIONS, STUDENT
from .store import open_store


_TEXT = Value("string")
_VIEWS: dict[str, tuple[Callable[..., list[dict[str, Any]]], str]] = {
    "prompt_completion": (completion_rows, "no row was annotated"),
    "preference": (
        preference_rows,
        "no solution of a student was rejected (with 'cot', only some selections let the student explain)",
    ),
    "step_preference": (step_preference_rows, "the teacher rejected no step"),
    "unpaired_preference": (unpaired_preference_rows, "no row was annotated"),
    "stepwise": (stepwise_rows, "the teacher judged no step, which only 'clear' and 'one_call' make it do"),
}
FORMATS = (*_VIEWS, "classification")
# Where it matters which answers are equal.
_COMPARED = ("preference", "unpaired_preference")
_WRITERS = {".parquet": "to_parquet", ".jsonl": "to_json", ".csv": "to_csv"}

AnnotationSource: TypeAlias = str | Path | Dataset | Iterable[Annotation]


def export_annotations(
    source: AnnotationSource,
    format: str,
    *,
    revision: str | None = None,
    texts: Mapping[str, Sequence[str]] | None = None,
    task: Task | None = None,
) -> Dataset:
    """
    Annotations in the format of another trainer. Failed ones are left out.

    | `format` | columns | for |
    |---|---|---|
    | `"prompt_completion"` | `prompt`, `completion` | `SFTTrainer` |
    | `"preference"` | `prompt`, `chosen`, `rejected` | `DPOTrainer`, `RewardTrainer` |
    | `"step_preference"` | `prompt`, `chosen`, `rejected` | your own step-level losses |
    | `"unpaired_preference"` | `prompt`, `completion`, `label` | `KTOTrainer` |
    | `"stepwise"` | `prompt`, `completions`, `labels` | training of process reward models |
    | `"classification"` | `text` (and `text_pair`), `label` or `labels` | `transformers.Trainer` |

    Args:
        source (`str`, `Path`, `Dataset` or `Iterable[Annotation]`):
            A run's `output_dir`, a `lineage_dir`, a parquet file or a folder with annotations, a name on the Hub (of
            the student or of its annotations), a data set as `annotations_dataset()` gives it, or the records
            themselves.
        format (`str`): One of the table.
        revision (`str`, *optional*): Tag, branch or commit of a name on the Hub, tag of a `lineage_dir`.
        texts (`Mapping[str, Sequence[str]]`, *optional*):
            Text, or pair of texts, by `row_id`, for `"classification"`. Unless given, those that the task of the run
            was shown, or the last turn of the prompt where the source does not say which task that was.
        task ([`~tasks.Task`], *optional*):
            Tells which answers are equal, for preferences. Unless given, the run's; where the source does not say
            which that was, numbers are compared by value and text without regard to case.

    Returns:
        `Dataset`: Texts where every prompt is text, conversations otherwise.

    Raises:
        [`~errors.ConfigurationError`]: For an unknown format.
        [`~errors.DataError`]: When the source holds no annotations, or none that the format can show.
    """
    if format not in FORMATS:
        raise ConfigurationError(f"No format is called {format!r}. Known: {', '.join(FORMATS)}.")
    annotations = _alike([one for one in read_annotations(source, revision=revision) if one.status == "ok"])
    if format == "classification":
        if texts is None and isinstance(source, str | Path):
            texts = texts_of(annotations, settings_of(source, revision))
        return _classification(annotations, texts or {})
    view, why = _VIEWS[format]
    options: dict[str, Any] = {}
    if format in _COMPARED:
        if task is None and isinstance(source, str | Path):
            task = task_of(settings_of(source, revision))
        options = {} if task is None else {"answers_equal": task.answers_equal}
    rows = view(annotations, **options)
    if not rows:
        raise DataError(f"Nothing can be exported as {format!r}: {why}.")
    return Dataset.from_list(rows)


def read_annotations(source: AnnotationSource, *, revision: str | None = None) -> list[Annotation]:
    """
    Annotations from wherever they are: see [`export_annotations`].

    Raises:
        [`~errors.DataError`]: When there are none.
    """
    if isinstance(source, Dataset):
        annotations = _from_rows(source)
    elif isinstance(source, str | Path):
        here = Path(source)
        annotations = _from_folder(here, revision) if here.exists() else _from_hub(str(source), revision)
    else:
        annotations = list(source)
    if not annotations:
        raise DataError(f"{source if isinstance(source, str | Path) else 'The source'} holds no annotations.")
    return annotations


def write_export(dataset: Dataset, target: str | Path) -> Path:
    """
    Writes a data set by the ending of its file: `.parquet`, `.jsonl` or `.csv`. A path without an ending is a folder,
    which `load_dataset` reads.

    Returns:
        `Path`: The file.
    """
    path = Path(target)
    if not path.suffix or path.is_dir():
        path = path / "train.parquet"
    if path.suffix not in _WRITERS:
        raise ConfigurationError(f"{path}: name a file that ends with {', '.join(_WRITERS)}, or a folder.")
    nested = any(not isinstance(kind, Value | ClassLabel) for kind in dataset.features.values())
    if path.suffix == ".csv" and nested:
        raise ConfigurationError(f"{path}: conversations and lists have no place in CSV. Write .parquet or .jsonl.")
    path.parent.mkdir(parents=True, exist_ok=True)
    getattr(dataset, _WRITERS[path.suffix])(str(path))
    return path


def _alike(annotations: list[Annotation]) -> list[Annotation]:
    """All prompts as conversations where one is: a column has one type."""
    if all(isinstance(annotation.prompt, str) for annotation in annotations):
        return annotations
    return [replace(annotation, prompt=as_messages(annotation.prompt)) for annotation in annotations]


def _classification(annotations: list[Annotation], texts: Mapping[str, Sequence[str]]) -> Dataset:
    """Rows with class indices, in the order of the teacher's distribution, which is that of the label set."""
    labelled = [one for one in annotations if one.label is not None or one.labels is not None]
    if not labelled:
        raise DataError("Nothing can be exported as 'classification': no annotation holds a label.")
    several = any(one.labels is not None for one in labelled)
    names = list(dict.fromkeys(name for one in labelled for name in [*(one.distribution or {}), *_labels_of(one)]))
    label = List(ClassLabel(names=names)) if several else ClassLabel(names=names)
    found = {one.row_id: tuple(texts.get(one.row_id) or (as_messages(one.prompt)[-1]["content"],)) for one in labelled}
    columns = ("text", "text_pair")[: max(map(len, found.values()))]
    rows = [
        {**dict(zip(columns, found[one.row_id], strict=False)), "labels": _labels_of(one), "label": one.label}
        for one in labelled
    ]
    kept = (*columns, "labels" if several else "label")
    features = Features({**dict.fromkeys(columns, _TEXT), kept[-1]: label})
    return Dataset.from_list([{name: row.get(name) for name in kept} for row in rows], features=features)


def _labels_of(annotation: Annotation) -> list[str]:
    single = [] if annotation.label is None else [annotation.label]
    return single if annotation.labels is None else annotation.labels


def _from_rows(rows: Dataset) -> list[Annotation]:
    missing = {"row_id", "prompt", "completion", "status"} - set(rows.column_names)
    if missing:
        raise DataError(f"This is no data set of annotations: it has no column {', '.join(sorted(missing))}.")
    return [annotation_from_row(row, text_prompt=bool(row.get("text_prompt"))) for row in rows.to_list()]


def _from_folder(path: Path, revision: str | None) -> list[Annotation]:
    if (path / STUDENT).is_dir():
        path = path / ANNOTATIONS / (revision or next(reversed(open_store(path).round_tags()), "no round"))
    elif path.is_dir() and (records := RoundStore(path).records()):
        return [annotation for record in records for annotation in record.annotations]
    files = (
        [path]
        if path.is_file()
        else sorted((path / "annotations").glob("*.parquet")) or [*path.glob("annotations.parquet")]
    )
    if not files:
        raise DataError(
            f"{path} holds no annotations: name the `output_dir` of a run, a parquet file, or a name on the Hub."
        )
    return _from_rows(Dataset.from_parquet([str(file) for file in files]))


def _from_hub(name: str, revision: str | None) -> list[Annotation]:
    at = revision or "main"
    store = HubStore(name.removesuffix(f"-{ANNOTATIONS}"))
    try:
        files = [path for path in store.files(ANNOTATIONS, at) if path.startswith("annotations/")]
    except LineageUnreachableError:
        raise
    except LineageError as error:
        if isinstance(error.__cause__, RevisionNotFoundError):
            known = ", ".join(store.tags(ANNOTATIONS)) or "none"
            raise DataError(f"{store.where(ANNOTATIONS)} has no revision '{at}'. Its rounds: {known}.") from error
        if store.api.repo_exists(name, repo_type="dataset"):  # annotations that somebody pushed under another name
            return _from_rows(load_dataset(name, split="train", revision=revision))
        raise DataError(
            f"There is no folder {name}, and on the Hub no data set {store.where(ANNOTATIONS)} that you may see: "
            f"{error}"
        ) from error
    found = store.fetch(ANNOTATIONS, at, files)
    return _from_rows(Dataset.from_parquet([str(found[file]) for file in files])) if files else []
