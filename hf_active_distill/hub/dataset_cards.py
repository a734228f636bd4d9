"""Cards of the data sets: fields with types, how they were made, counts, an example, licence."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from datasets import Features
from huggingface_hub import DatasetCard, DatasetCardData

from ..records import Annotation
from ..rounds import RoundRecord
from ..tasks import as_messages
from .cards import TEMPLATES, common_data, terms
from .facts import UNKNOWN, RunFacts
from .label_texts import texts_of
from .markup import MOST_CHARACTERS, code, fenced, is_repo_id, link, plain, scrubbed, table
from .papers import papers_of


#: What the columns hold: by name, or by table and name where a table means something else.
FIELD_WORDS = {
    "row_id": "id of the row, the same in pool and annotations",
    "prompt": "what the student is asked",
    "text_prompt": "whether the prompt was plain text before it became a conversation",
    "reference": "gold answer, where there is one; shown to neither student nor teacher",
    "columns": "the row's other columns, as JSON",
    "round": "round in which it was made, from 0",
    "state": "`annotated`, `failed` (may be asked about again), `given_up`, or `unfinished` (the budget ended)",
    "attempts": "times the row had been asked about",
    "attempt": "0 at the first try of the row",
    "reason": "why",
    "score": "how much the student does not understand it; higher is chosen first",
    "chosen": "whether the teacher was asked about it",
    "rank": "place among the chosen",
    "random": "whether it was drawn at random instead of by its score",
    "completion": "the training target, in the teacher's words",
    "kind": "annotation method",
    "status": "`ok`, or `failed` (recorded, not trained on)",
    "steps": "the teacher's steps",
    "answer": "the teacher's answer",
    "thinking": "the teacher's reasoning, where it thinks aloud",
    "student": "the explanation that was revised: text, steps, answer",
    "verdicts": "the teacher's judgement of each step of the student, with its own wording",
    "first_rejected": "0-based index of the first step that the teacher rejected",
    "teacher": "model that was asked",
    "revision": "its revision",
    "usage": "calls and tokens that the row cost",
    "cost": "money that the row cost, where prices are known",
    "seed_row": "whether it was given with the training data, and no teacher was asked",
    "row": "the row as it stood in the training data, as JSON",
    "label": "the teacher's label",
    "labels": "all labels that hold, where several can",
    "distribution": "the teacher's probability of every label",
    "confidence": "probability of the label that was given",
    "mass": "probability that the teacher's next word was a label at all, before renormalising",
    "id": "number of the call",
    "key": "hash of the request: the same request is not paid for again",
    "own": "whether this run made the call; else its answer was found in a shared journal",
    "turn": "turn of the dialogue about the row",
    "model": "model that was asked",
    "sample_index": "which of several samples",
    "journal.state": "`sending`, `answered` or `failed`",
    "journal.attempt": "how often the row had been tried",
    "journal.answer": "the reply, as JSON",
    "content": "the request, as JSON",
    "error": "what went wrong",
    "calls": "calls that it cost",
    "prompt_tokens": "tokens of the request",
    "completion_tokens": "tokens of the reply, reasoning included",
    "reasoning_tokens": "tokens of hidden reasoning",
    "cached_prompt_tokens": "tokens of the request that the server had cached",
    "estimated": "whether the server gave no figures and the bound was booked",
    "bound_prompt_tokens": "most tokens that the request was foreseen to have",
    "bound_completion_tokens": "most tokens that the reply could have",
    "latency": "seconds that the call took",
    "clock": "seconds that the run had spent asking",
    "sent_at": "when it was sent",
    "finished_at": "when it was answered or failed",
}


@dataclass(frozen=True)
class TableFacts:
    """
    A table of a data set, which is one of its configurations.

    Args:
        name (`str`): Name of the configuration.
        data_files (`str`): Its files, as a pattern.
        features (`Features`): Its columns.
        words (`str`, *optional*, defaults to `""`): What it holds, in a sentence.
        default (`bool`, *optional*, defaults to `False`): Whether the viewer shows it first.
    """

    name: str
    data_files: str
    features: Features
    words: str = ""
    default: bool = False


def pool_card(facts: RunFacts, tables: Sequence[TableFacts]) -> DatasetCard:
    """The card of a pool: its rows, their state, and the scores of every candidate of every round."""
    head = ["round", "in the pool", "candidates", "selected", "at random", "used", "failed", "unfinished"]
    return _card(facts, tables, "pool_card.md", counts=table(head, map(_pool_row, facts.records)))


def annotations_card(facts: RunFacts, tables: Sequence[TableFacts]) -> DatasetCard:
    """The card of the annotations: what the teacher said of every row that it was asked about."""
    counts = Counter((a.round, a.kind, a.status, a.reason or "") for a in facts.annotations)
    rows = [[str(at), code(kind), code(status), code(why), f"{n:,}"] for (at, kind, status, why), n in counts.items()]
    labels = Counter(a.label for a in facts.annotations if a.status == "ok" and a.label is not None)
    return _card(
        facts,
        tables,
        "annotations_card.md",
        annotations_creators=["machine-generated"],
        teacher=", ".join(map(code, facts.teachers)) or UNKNOWN,
        counts=table(["round", "kind", "status", "reason", "rows"], rows),
        labels=table(["label", "rows"], ([code(name), f"{count:,}"] for name, count in labels.most_common())),
        example=revision_example(facts.annotations),
        label_example=label_example(facts.annotations, facts.settings),
    )


def _card(
    facts: RunFacts,
    tables: Sequence[TableFacts],
    template: str,
    annotations_creators: list[str] | None = None,
    **values: Any,
) -> DatasetCard:
    repo = facts.pool_repo if template.startswith("pool") else facts.annotations_repo
    card = DatasetCard.from_template(
        DatasetCardData(
            annotations_creators=annotations_creators,
            configs=[_config(one) for one in tables],
            pretty_name=plain(facts.title, 96),
            source_datasets=[facts.dataset] if is_repo_id(facts.dataset) else None,
            task_categories=["text-classification" if facts.classifies else "text-generation"],
            **common_data(facts),
        ),
        template_path=str(TEMPLATES / template),
        title=code(facts.title),
        repo=repo if is_repo_id(repo) else None,
        round=facts.records[-1].round if facts.records else 0,
        links={
            "student": facts.student_repo and link(facts.student_repo),
            "pool": facts.pool_repo and link(facts.pool_repo, "datasets/"),
            "annotations": facts.annotations_repo and link(facts.annotations_repo, "datasets/"),
        },
        source=link(facts.dataset, "datasets/") if facts.dataset else UNKNOWN,
        task=code(facts.settings.get("task", UNKNOWN)),
        selection=code(facts.settings.get("selection", UNKNOWN)),
        annotation=code(facts.settings.get("annotation", UNKNOWN)),
        papers=papers_of(facts.settings),
        tables=[(one, _fields_table(one)) for one in tables],
        terms=terms(facts),
        **values,
    )
    return DatasetCard(scrubbed(str(card), facts.private))


def _config(one: TableFacts) -> dict[str, Any]:
    config: dict[str, Any] = {"config_name": one.name, "data_files": one.data_files}
    return {**config, "default": True} if one.default else config


def _fields_table(one: TableFacts) -> str:
    rows = ([f"`{name}`", f"`{_type(kind)}`", field_words(one.name, name)] for name, kind in one.features.items())
    return table(["field", "type", "what it holds"], rows)


def field_words(table_name: str, field: str) -> str:
    """What a column of a table holds."""
    return FIELD_WORDS.get(f"{table_name}.{field}", FIELD_WORDS.get(field, ""))


def _type(kind: Any) -> str:
    """`list of {role: string, content: string}`."""
    if isinstance(kind, Mapping):
        return "{" + ", ".join(f"{name}: {_type(inner)}" for name, inner in kind.items()) + "}"
    inner = getattr(kind, "feature", None)
    return f"list of {_type(inner)}" if inner is not None else str(getattr(kind, "dtype", kind))


def _pool_row(record: RoundRecord) -> list[str]:
    figures = record.figures()
    counts = [record.available, figures["candidates"], figures["selected"], len(record.random_ids)]
    counts += [figures["annotated"], figures["failed"], figures["unfinished"]]
    return [str(record.round), *(f"{count:,}" for count in counts)]


def revision_example(annotations: Sequence[Annotation]) -> str:
    """
    The shortest revision in which a step was rejected, as a diff; `""` where there is none. Every line of the texts is
    cut, and begins with the sign of the diff.
    """
    revised = [a for a in annotations if a.status == "ok" and a.first_rejected is not None and a.student is not None]
    if not revised:
        return ""
    shown = min(revised, key=lambda a: (len(str(a.prompt)) + len(a.completion or ""), a.row_id))
    assert shown.student is not None
    question = plain(as_messages(shown.prompt)[-1]["content"], 4 * MOST_CHARACTERS)
    before, after = (
        [" ".join(plain(step, MOST_CHARACTERS).split()) for step in [*steps, f"answer: {answer}"]]
        for steps, answer in ((shown.student.steps, shown.student.answer), (shown.steps, shown.answer))
    )
    diff = difflib.unified_diff(before, after, "student", "teacher", lineterm="", n=len(before))
    return f"{fenced(question)}\n\n" + fenced("\n".join(diff), "diff")


def label_example(annotations: Sequence[Annotation], settings: Mapping[str, Any]) -> str:
    """
    The shortest text with the teacher's probabilities of its labels, one on which the student had another label where
    there is such; `""` where nothing is labelled. At most ten labels are shown.
    """
    labelled = [a for a in annotations if a.status == "ok" and a.distribution and not a.seed_row]
    if not labelled:
        return ""
    texts = texts_of(labelled, settings)

    def text_of(annotation: Annotation) -> str:
        own = texts.get(annotation.row_id)
        return "\n".join(own) if own is not None else as_messages(annotation.prompt)[-1]["content"]

    def order(annotation: Annotation) -> tuple[bool, int, str]:
        agreed = annotation.student is None or annotation.student.answer == annotation.answer
        return agreed, len(text_of(annotation)), annotation.row_id

    shown = min(labelled, key=order)
    assert shown.distribution is not None
    given = [shown.label] if shown.label is not None else shown.labels or []
    student = "" if shown.student is None else f"\n\nThe student's own: {code(shown.student.answer)}"
    likeliest = sorted(shown.distribution.items(), key=lambda pair: -pair[1])[:10]
    rows = ([code(name), f"{p:.2f}", "x" if name in given else ""] for name, p in likeliest)
    text = fenced(plain(text_of(shown), 4 * MOST_CHARACTERS))
    return f"{text}\n\n{table(['label', 'probability', 'given'], rows)}{student}"
