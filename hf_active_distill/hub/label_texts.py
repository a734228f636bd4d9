"""The texts that a teacher labelled, without the words that the task puts around them in a prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, LineageError
from ..records import Annotation, PoolRow, Prompt
from ..rounds import RoundStore
from ..tasks import Task, as_messages, get_task
from ..tasks.classification import ClassificationTask
from .layout import ANNOTATIONS, STUDENT
from .store import open_store


_MARKS = ("\N{OBJECT REPLACEMENT CHARACTER}1", "\N{OBJECT REPLACEMENT CHARACTER}2")


def settings_of(source: str | Path, revision: str | None) -> dict[str, Any]:
    """Settings of the run that annotations are of, empty where nothing says them."""
    path = Path(source)
    if path.exists() and not (path / STUDENT).is_dir():
        return RoundStore(path).settings()
    target: str | Path = path if path.exists() else str(source).removesuffix(f"-{ANNOTATIONS}")
    try:
        store = open_store(target)
        at = revision or next(reversed(store.round_tags()), None)
        info = None if at is None else store.round_info(STUDENT, at)
    except LineageError:  # annotations without rounds, or at a commit that the student does not have
        return {}
    return {} if info is None else dict(info.get("settings", {}))


def task_of(settings: Mapping[str, Any]) -> Task | None:
    """The task of a run by its settings, `None` where they name none that is known here."""
    try:
        return get_task(settings["task"], **(settings.get("task_kwargs") or {}))
    except (KeyError, ConfigurationError):  # a task object of somebody's own
        return None


def texts_of(annotations: Iterable[Annotation], settings: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """
    The text or pair of texts by row, as the task of a run reads them. Rows whose prompt the task did not write, and
    all rows where the settings name no task that labels, are left out.
    """
    task = task_of(settings)
    if not isinstance(task, ClassificationTask):
        return {}
    found = {annotation.row_id: _texts(task, annotation.prompt) for annotation in annotations}
    return {row_id: texts for row_id, texts in found.items() if texts is not None}


def _texts(task: ClassificationTask, prompt: Prompt) -> tuple[str, ...] | None:
    example = dict(zip(task.text_columns, _MARKS, strict=False))
    marked: Prompt = task.read_row(example).prompt
    if not isinstance(prompt, str):
        marked = as_messages(marked)
    before, _, around = _last_turn(task.student_prompt(PoolRow("", marked, None))).partition(_MARKS[0])
    between, second, after = around.partition(_MARKS[1])
    if not second:
        between, after = "", around
    text = _last_turn(prompt)
    if not (text.startswith(before) and text.endswith(after) and len(text) >= len(before) + len(after)):
        return None
    text = text[len(before) : len(text) - len(after)]
    if not second:
        return (text,)
    # Where a text holds what stands between the two, nobody can tell which is which.
    return None if text.count(between) != 1 else tuple(text.split(between))


def _last_turn(prompt: Prompt) -> str:
    return as_messages(prompt)[-1]["content"]
