"""Putting texts into classes of a closed set."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import ConfigurationError, DataError
from ..records import Messages, PoolRow
from ..thinking import split_thinking
from .labels import LabelSet, normalised
from .reasoning import ReasoningTask
from .registry import register_task
from .rows import REFERENCE_COLUMNS, row_from_example


#: What a text without any label is written as, where several labels can hold.
NO_LABEL = "none"
_LEAD = re.compile(r"(?i)^\W*(?:(?:the|my|final|best)\s+)*(?:label|class|category|answer)s?(?:\s+is|\s*[:=])\s*")


@register_task("classification")
@dataclass
class ClassificationTask(ReasoningTask):
    """
    Texts and a closed set of labels. Names are compared without regard to case, spaces and punctuation.

    Args:
        labels (`list[str]`): Names of the classes; their order is that of the class indices. At least two.
        descriptions (`dict[str, str]`, *optional*): What labels mean, by name, shown to the teacher.
        multi_label (`bool`, *optional*, defaults to `False`): Whether any number of labels can hold for one text.
        abstain (`str`, *optional*): A further choice of the teacher alone, such as `"none of these"`. A row that it is
            chosen for is recorded as failed (`"abstained"`); it is no class of the student.
        text_columns (`tuple[str, ...]`, *optional*, defaults to `("text",)`): One column with the text, or two for
            pairs. Without a column `text`, the default takes what [`row_from_example`] finds.
        instruction (`str`, *optional*): What stands before the text where a teacher or a causal student is asked.
        answer_format (`str`, *optional*, defaults to `"Label: {answer}"`): The label's line in the completion of a
            causal student.
        system_prompt (`str` or `None`), few_shot (`list[tuple[str, str]]`), prompt_template (`str` or `None`): Of a
            causal student, as in [`ReasoningTask`].

    Raises:
        [`~errors.ConfigurationError`]: For labels that cannot be told apart, and options that contradict each other.

    Example:

    ```python
    >>> task = get_task("classification", labels=["sports", "politics"])
    >>> row = task.read_row({"text": "The match ended 2 to 1.", "label": 0})
    >>> task.texts(row), row.reference
    (('The match ended 2 to 1.',), 'sports')
    ```
    """

    name: ClassVar[str] = "classification"

    labels: list[str] = field(default_factory=list)
    descriptions: dict[str, str] | None = None
    multi_label: bool = False
    abstain: str | None = None
    text_columns: tuple[str, ...] = ("text",)
    instruction: str | None = None
    answer_format: str = "Label: {answer}"
    label_set: LabelSet = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.label_set = LabelSet(self.labels)
        self.labels = self.label_set.names
        columns = (self.text_columns,) if isinstance(self.text_columns, str) else tuple(self.text_columns)
        self.text_columns = columns
        if not 1 <= len(columns) <= 2 or len(set(columns)) < len(columns):
            raise ConfigurationError(f"text_columns={columns} must name one column, or two different ones for pairs.")
        if self.abstain is not None:
            if self.multi_label:
                raise ConfigurationError("With `multi_label` no label may hold as well: leave `abstain` out.")
            if not normalised(self.abstain) or self.label_set.find(self.abstain) is not None:
                raise ConfigurationError(f"abstain={self.abstain!r} must differ from all labels: rename it.")
        unknown = [name for name in self.descriptions or {} if name not in self.options]
        if unknown:
            raise ConfigurationError(
                f"descriptions names {unknown[0]!r}, which is no label: {', '.join(self.options)}."
            )
        if self.multi_label:
            self._check_lists()

    def _check_lists(self) -> None:
        """Completions list labels with commas between them."""
        odd = [name for name in self.labels if "," in name or normalised(name) == NO_LABEL]
        if odd:
            raise ConfigurationError(
                f"With `multi_label` the label {odd[0]!r} cannot be told from a list or from no label: rename it."
            )

    @property
    def options(self) -> list[str]:
        """What the teacher may choose from: the labels, and `abstain` behind them."""
        return [*self.labels, *([self.abstain] if self.abstain is not None else [])]

    @property
    def id2label(self) -> dict[int, str]:
        """Class index to name, as model configurations hold it."""
        return dict(enumerate(self.labels))

    @property
    def label2id(self) -> dict[str, int]:
        """Name to class index."""
        return {name: index for index, name in enumerate(self.labels)}

    def label_index(self, name: str) -> int:
        """The class index of a label; a [`~errors.DataError`] for what is none."""
        return self.label_set.index(name)

    # Rows

    def read_row(self, example: Mapping[str, Any], **columns: str | None) -> PoolRow:
        """
        One example as a pool row. Its reference becomes the name of its class, whether the data set holds names or
        ids, and a JSON list of names with `multi_label`. Of a pair, the prompt holds both texts and `columns` each.
        """
        given = dict(columns)
        if len(self.text_columns) == 2:
            missing = [name for name in self.text_columns if not isinstance(example.get(name), str)]
            if missing:
                raise DataError(
                    f"The data set has no text in column {missing[0]!r}. It has: {', '.join(map(str, example))}. Name "
                    "the right ones in `text_columns`."
                )
            pair = "\n".join(f"{name}: {example[name]}" for name in self.text_columns)
            if "\n".join(example[name].strip() for name in self.text_columns).strip() == "":
                raise DataError(
                    f"Both texts of a pair are empty ({', '.join(self.text_columns)}): filter such rows out."
                )
            example = {**example, "prompt": pair}
            given["prompt_column"] = "prompt"
        elif given.get("prompt_column") is None and (self.text_columns != ("text",) or "text" in example):
            given["prompt_column"] = self.text_columns[0]
        column = given.get("reference_column") or next(
            (name for name in (*REFERENCE_COLUMNS, "labels") if example.get(name) is not None), None
        )
        if column is not None:
            given["reference_column"] = column
            example = {**example, column: self._written(example.get(column))}
        return row_from_example(example, **given)

    def without_label(self, example: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """
        An example without the columns that hold labels, and whether there was one: a label that was left in a pool by
        mistake must not leak into a run that claims to need none. It need be no label of this task.
        """
        columns = [column for column in (*REFERENCE_COLUMNS, "labels") if column not in self.text_columns]
        left = {column: value for column, value in example.items() if column not in columns}
        return left, any(_is_label(example.get(column)) for column in columns)

    def _written(self, value: Any) -> str | None:
        if not self.multi_label:
            return self.label_set.read(value)
        names = self.label_set.read_many(value)
        return None if names is None else json.dumps(names, ensure_ascii=False)

    def texts(self, row: PoolRow) -> tuple[str, ...]:
        """The one or two texts of a row, as a tokenizer takes them."""
        if len(self.text_columns) == 1:
            return (super().question(row),)
        missing = [name for name in self.text_columns if not isinstance(row.columns.get(name), str)]
        if missing:
            raise DataError(
                f"Row {row.row_id} has no text in {missing[0]!r}: read pairs with `ClassificationTask.read_row`."
            )
        return tuple(row.columns[name] for name in self.text_columns)

    def question(self, row: PoolRow) -> str:
        """The instruction and the text."""
        asked = self.instruction or (
            "Say which labels hold for this text." if self.multi_label else "Label this text."
        )
        return f"{asked}\n\n{super().question(row)}"

    def _own_turns(self, row: PoolRow) -> Messages:
        return [{"role": "user", "content": self._with_labels(self.question(row))}]

    def _plain_prompt(self, question: str) -> str:
        return super()._plain_prompt(self._with_labels(question))

    def _with_labels(self, question: str) -> str:
        return f"{question}\n\nLabels: {', '.join(self.labels)}"

    # Answers

    def canonical(self, raw: str) -> str | None:
        """The label that a text is; with `multi_label`, the labels it lists, in the order of the label set."""
        text = _LEAD.sub("", raw).strip(" \t\n*_`\"'.")
        if not self.multi_label:
            return self.label_set.find(text)
        names = self._listed(text) if text else None
        return None if names is None else self.join(names)

    def _listed(self, text: str) -> list[str] | None:
        text = text.strip("[]{} ")
        if not text or normalised(text) == NO_LABEL:
            return []
        found = [self.label_set.find(part) for part in re.split(r"[,;\n]", text) if part.strip()]
        return None if None in found else [name for name in self.labels if name in found]

    def join(self, names: Sequence[str]) -> str:
        """Several labels as one answer: in the order of the label set, commas between them, `"none"` for no label."""
        chosen = {self.labels[self.label_index(name)] for name in names}
        return ", ".join(name for name in self.labels if name in chosen) or NO_LABEL

    def split(self, answer: str) -> list[str]:
        """The labels of an answer that [`join`] wrote; a single label without `multi_label`."""
        names = self._listed(answer) if self.multi_label else [self.labels[self.label_index(answer)]]
        if names is None:
            raise DataError(f"{answer!r} names more than the labels of this task: {', '.join(self.labels)}.")
        return names

    def read_label(self, text: str) -> str | None:
        """
        The label (the answer, with `multi_label`) that a reply gives: behind a mark such as "Label:", by itself, or on
        its last line. `None` where it names none, and for `abstain`.
        """
        visible = split_thinking(text)[1].strip()
        lines = visible.split("\n")
        marked = [line.strip()[len(self.own.prefix) :] for line in lines if line.strip().startswith(self.own.prefix)]
        readings = (self.canonical(own) for own in (*marked[-1:], visible))
        found = next((label for label in readings if label is not None), None)
        return found or super().read_answer(visible) or self.canonical(lines[-1])

    def is_abstention(self, text: str) -> bool:
        """Whether a reply chooses `abstain`."""
        visible = split_thinking(text)[1]
        return self.abstain is not None and normalised(_LEAD.sub("", visible.strip())) == normalised(self.abstain)

    def read_answer(self, text: str) -> str | None:
        """As [`read_label`]."""
        return self.read_label(text)

    def answers_equal(self, first: str | None, second: str | None) -> bool:
        """The same label, or the same set of labels."""
        if first is None or second is None:
            return False
        left, right = self.canonical(first), self.canonical(second)
        return left is not None and left == right

    def answer_choices(self, row: PoolRow) -> list[str] | None:
        """All labels; `None` where several can hold."""
        return None if self.multi_label else list(self.labels)

    def read_reference(self, reference: str) -> str | None:
        """A reference as `read_row` writes it, and names and ids as other readers leave them."""
        if not self.multi_label:
            return self.label_set.read(reference)
        names = self.label_set.read_many(reference)
        return None if names is None else self.join(names)


def _is_label(value: Any) -> bool:
    """Data sets write "no label" as nothing, -1 or not a number."""
    if isinstance(value, str):
        return value.strip() not in ("", "-1")
    return value is not None and not (isinstance(value, int | float) and (value == -1 or value != value))
