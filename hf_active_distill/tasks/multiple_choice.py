"""Questions with lettered options."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..records import Messages, PoolRow
from .reasoning import ReasoningTask
from .registry import register_task


_OPTION_LINE = re.compile(r"(?m)^[ \t]*\(?([A-Z])[).:][ \t]+(\S.*)$")
_SAID = re.compile(r"(?i)^(?:option|choice|letter)?\s*\(?([A-Za-z]|\d{1,2})\)?(?=$|[\s):,\]]|\.(?!\d))")
_COLUMNS = ("choices", "options", "endings")


@register_task("multiple_choice")
@dataclass
class MultipleChoiceTask(ReasoningTask):
    """
    Steps and a final option letter. The options stand in the question as lines `(A) ...`, or in a column `choices` or
    `options` (a list of texts, or `{"label": [...], "text": [...]}`) and are then put below the question. Options as
    in [`ReasoningTask`].
    """

    name: ClassVar[str] = "multiple_choice"

    answer_format: str = "The answer is ({answer})"

    def choices(self, row: PoolRow) -> dict[str, str]:
        """Label to text, in order; empty where the row has no options."""
        for column in _COLUMNS:
            value = row.columns.get(column)
            if value:
                return _labelled(value)
        return {label: text.strip() for label, text in _OPTION_LINE.findall(super().question(row))}

    def question(self, row: PoolRow) -> str:
        """The question with its options."""
        text = super().question(row)
        return text + _options_below(self.choices(row), text)

    def _own_turns(self, row: PoolRow) -> Messages:
        turns = super()._own_turns(row)
        turns[-1]["content"] += _options_below(self.choices(row), turns[-1]["content"])
        return turns

    def canonical(self, raw: str) -> str | None:
        """The option's label; the text as written where no label is named."""
        plain = re.sub(r"\\text\s*\{([^{}]*)\}", r"\1", raw).strip(" \t\n*_`\"'[]$.,;")
        said = _SAID.match(plain)
        if said and (len(plain) <= 3 or not re.match(r"(?i)[ai]\s+[a-z]", plain)):
            return said[1].upper()
        return super().canonical(raw)

    def answer_choices(self, row: PoolRow) -> list[str] | None:
        """The labels of this row."""
        return list(self.choices(row)) or None

    def verify(self, row: PoolRow, answer: str | None) -> bool | None:
        """By label; an option named by its text counts, and so does a reference that is a 0-based index."""
        if row.reference is None:
            return None
        gold = self._label(row, self.read_reference(row.reference))
        labels = list(self.choices(row))
        if gold is not None and gold not in labels and gold.isdigit() and int(gold) < len(labels):
            gold = labels[int(gold)]
        return self.answers_equal(self._label(row, answer), gold)

    def _label(self, row: PoolRow, answer: str | None) -> str | None:
        choices = self.choices(row)
        if answer is None or answer in choices:
            return answer
        same = [label for label, text in choices.items() if self.answers_equal(self.canonical(text), answer)]
        return same[0] if len(same) == 1 else answer


def _options_below(choices: dict[str, str], text: str) -> str:
    """The options as lines, nothing where the text shows them already."""
    shown = {label for label, _ in _OPTION_LINE.findall(text)}
    if not choices or shown >= set(choices):
        return ""
    return "\n" + "\n".join(f"({label}) {option}" for label, option in choices.items())


def _labelled(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping) and "text" in value:
        labels = value.get("label") or string.ascii_uppercase
        return {str(label): str(text) for label, text in zip(labels, value["text"], strict=False)}
    if isinstance(value, Mapping):
        return {str(label): str(text) for label, text in value.items()}
    # AQuA writes its options as "A)21".
    texts = [re.sub(r"^\(?[A-Z][).:]\s*", "", str(text)) for text in value]
    return dict(zip(string.ascii_uppercase, texts, strict=False))
