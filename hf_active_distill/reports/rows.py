"""Annotations as rows of the page, small enough that a whole run fits into one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records import Annotation, StepVerdict
from ..rounds import RoundRecord
from ..tasks import as_messages
from .values import clip, number, without_empty


MAX_STEPS = 60
MAX_LABELS = 8
MAX_NAME = 160  # of ids, labels, reasons: what stands in a narrow column


class PageRows:
    """
    Makes rows and keeps what many of them share, once.

    Args:
        limit (`int`): Longest text of a row, in characters. What is longer ends in a count of what is left out.
    """

    def __init__(self, limit: int):
        self.limit = limit
        self._contexts: dict[str, int] = {}
        self._teachers: dict[str, int] = {}

    @property
    def shared(self) -> dict[str, list[str]]:
        """What rows name by its place: earlier turns of conversations, and teachers."""
        return {"contexts": list(self._contexts), "teachers": list(self._teachers)}

    def of_round(self, record: RoundRecord) -> list[dict[str, Any]]:
        """One row an annotation, with the reason why it was chosen."""
        ranks = {row_id: rank for rank, row_id in enumerate(record.selected_ids, start=1)}
        random = set(record.random_ids)
        return [
            without_empty(
                {
                    "id": clip(annotation.row_id, MAX_NAME),
                    "round": record.round,
                    "rank": ranks.get(annotation.row_id),
                    "score": number(record.scores.get(annotation.row_id)),
                    "why": clip(record.reasons.get(annotation.row_id, ""), MAX_NAME) or None,
                    "random": annotation.row_id in random,
                    **self._annotation(annotation),
                }
            )
            for annotation in record.annotations
        ]

    def _annotation(self, annotation: Annotation) -> dict[str, Any]:
        *earlier, last = as_messages(annotation.prompt)
        context = "\n\n".join(f"{turn.get('role')}: {turn.get('content')}" for turn in earlier)
        teacher = " @ ".join(filter(None, [annotation.teacher, annotation.revision]))
        student = annotation.student
        odd = [v for v in annotation.verdicts if v.reply and (v.accepted is None or annotation.status != "ok")]
        return {
            "kind": annotation.kind,
            "status": annotation.status,
            "reason": self._name(annotation.reason),
            "prompt": self._text(last.get("content")),
            "context": self._place(self._contexts, clip(context, self.limit)),
            "teacher": self._place(self._teachers, clip(teacher, MAX_NAME)),
            "student": self._steps(student.steps if student else [v.student_step for v in annotation.verdicts]),
            "student_answer": self._name(student.answer) if student else None,
            "cut": bool(student and student.finish_reason == "length"),
            "verdicts": [self._verdict(v, annotation) for v in annotation.verdicts[:MAX_STEPS]],
            "replies": [[v.index, self._text(v.reply)] for v in odd[:MAX_STEPS]],
            "steps": self._steps(annotation.steps),
            "answer": self._name(annotation.answer),
            "attempt": annotation.attempt or None,
            "tokens": annotation.usage.total_tokens,
            "calls": annotation.usage.calls,
            "cost": number(annotation.cost),
            "label": self._name(annotation.label),
            "labels": [clip(label, MAX_NAME) for label in (annotation.labels or [])[:MAX_LABELS]],
            "distribution": _most_probable(annotation.distribution),
            "confidence": number(annotation.confidence),
            "mass": number(annotation.mass),
        }

    def _verdict(self, verdict: StepVerdict, annotation: Annotation) -> list[Any]:
        """[index, 1 or 0 or None], and the teacher's wording where it is not the step of the same index."""
        judged = None if verdict.accepted is None else int(verdict.accepted)
        steps, own = annotation.steps, verdict.teacher_step
        known = verdict.index < len(steps) and steps[verdict.index] == own
        return [verdict.index, judged] if own is None or known else [verdict.index, judged, self._text(own)]

    def _steps(self, steps: Sequence[str]) -> list[str]:
        shown = [clip(step, self.limit) for step in steps[:MAX_STEPS]]
        return [*shown, f"… [{len(steps) - MAX_STEPS:,} more steps]"] if len(steps) > MAX_STEPS else shown

    def _text(self, text: str | None) -> str | None:
        return clip(text, self.limit) if text else None

    def _name(self, text: str | None) -> str | None:
        return None if text is None else clip(text, MAX_NAME)

    @staticmethod
    def _place(known: dict[str, int], text: str) -> int | None:
        return known.setdefault(text, len(known)) if text else None


def _most_probable(distribution: dict[str, float] | None) -> list[list[Any]]:
    ranked = sorted((distribution or {}).items(), key=lambda pair: pair[1], reverse=True)
    return [[clip(label, MAX_NAME), number(probability)] for label, probability in ranked[:MAX_LABELS]]
