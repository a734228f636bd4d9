"""Records as data sets, with one schema whatever they hold, so that the tables of two rounds can be put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset, Features, List, Value

from .records import Annotation
from .tasks import as_messages


_TEXT, _COUNT = Value("string"), Value("int64")
_MESSAGES = List({"role": _TEXT, "content": _TEXT})


def annotation_features(conversational: bool) -> Features:
    """The columns of annotations; prompts and completions are text, or conversations."""
    return Features(
        {
            "row_id": _TEXT,
            "prompt": _MESSAGES if conversational else _TEXT,
            "completion": _MESSAGES if conversational else _TEXT,
            "round": _COUNT,
            "kind": _TEXT,
            "status": _TEXT,
            "reason": _TEXT,
            "steps": List(_TEXT),
            "answer": _TEXT,
            "thinking": _TEXT,
            "student": {
                "row_id": _TEXT,
                "text": _TEXT,
                "steps": List(_TEXT),
                "answer": _TEXT,
                "finish_reason": _TEXT,
                "thinking": _TEXT,
                "num_tokens": _COUNT,
                "sample_index": _COUNT,
            },
            "verdicts": List(
                {
                    "index": _COUNT,
                    "student_step": _TEXT,
                    "accepted": Value("bool"),
                    "teacher_step": _TEXT,
                    "reply": _TEXT,
                }
            ),
            "first_rejected": _COUNT,
            "attempt": _COUNT,
            "teacher": _TEXT,
            "revision": _TEXT,
            "usage": {
                "calls": _COUNT,
                "prompt_tokens": _COUNT,
                "completion_tokens": _COUNT,
                "reasoning_tokens": _COUNT,
                "cached_prompt_tokens": _COUNT,
                "estimated": Value("bool"),
            },
            "cost": Value("float64"),
            "seed_row": Value("bool"),
            "label": _TEXT,
            "labels": List(_TEXT),
            # Pairs, so that one schema serves every label set.
            "distribution": List({"label": _TEXT, "probability": Value("float64")}),
            "confidence": Value("float64"),
            "mass": Value("float64"),
        }
    )


def annotations_to_dataset(annotations: Sequence[Annotation]) -> Dataset:
    """
    Annotations as a data set, one row each, failed ones included (`status`).

    `prompt` and `completion` are text where every prompt is text, conversations otherwise, so rows with `status="ok"`
    are prompt-completion rows as TRL takes them.
    """
    conversational = any(not isinstance(annotation.prompt, str) for annotation in annotations)
    rows = [annotation_row(annotation, conversational) for annotation in annotations]
    return Dataset.from_list(rows, features=annotation_features(conversational))


def annotation_row(annotation: Annotation, conversational: bool) -> dict[str, Any]:
    """One annotation in the columns of [`annotation_features`]."""
    row = annotation.to_dict()
    if annotation.distribution is not None:
        row["distribution"] = [{"label": k, "probability": v} for k, v in annotation.distribution.items()]
    if conversational:
        row["prompt"] = as_messages(annotation.prompt)
        text = annotation.completion
        row["completion"] = None if text is None else [{"role": "assistant", "content": text}]
    return {name: row[name] for name in annotation_features(conversational)}


def annotation_from_row(row: dict[str, Any], *, text_prompt: bool = False) -> Annotation:
    """
    The reverse of [`annotation_row`].

    Args:
        row (`dict`): One row.
        text_prompt (`bool`, *optional*, defaults to `False`): Whether the prompt was text before it was written as a
            conversation.
    """
    fields = dict(row)
    if isinstance(row["completion"], list):
        fields["completion"] = row["completion"][0]["content"]
    if text_prompt and isinstance(row["prompt"], list):
        fields["prompt"] = row["prompt"][-1]["content"]
    if row["distribution"] is not None:
        fields["distribution"] = {pair["label"]: pair["probability"] for pair in row["distribution"]}
    return Annotation.from_dict(fields)
