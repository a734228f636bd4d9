"""The words in which a teacher is asked for a label, and the reading of them back (the scripted teacher does)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Messages, PoolRow
from ..tasks.classification import ClassificationTask
from ..teachers.labels import read_lettered


ONE_LABEL = "Which label fits the text best?"
EACH_LABEL = "Does this label hold for the text? Any number of labels may hold."
LABELS = "Labels:\n"
ASKED_LABEL = "Label in question: "
EXAMPLES = "Examples:\n\n"
EXAMPLE = "Example text:\n"
TEXT = "Text to label:\n"
YES, NO = "yes", "no"
ANSWER_NAME = "Answer with the name of one label only."


def label_prompt(
    task: ClassificationTask,
    row: PoolRow,
    demonstrations: Sequence[tuple[PoolRow, str]] = (),
    label: str | None = None,
    *,
    words: bool = False,
) -> str:
    """
    Asks for the label of a row, without the options. What stays the same from row to row stands first, so that servers
    can keep it.

    Args:
        task ([`~tasks.ClassificationTask`]): The labels, what they mean, and the instruction.
        row ([`~records.PoolRow`]): The row.
        demonstrations (`Sequence[tuple[PoolRow, str]]`, *optional*): Labelled rows, shown in this order.
        label (`str`, *optional*): Asks whether this label holds, instead of which one does.
        words (`bool`, *optional*, defaults to `False`): Whether the labels are listed here and the answer is a name.
    """
    parts = [task.instruction or (ONE_LABEL if label is None else EACH_LABEL)]
    descriptions = task.descriptions or {}
    if label is not None or descriptions or words:
        parts.append(LABELS + "\n".join(f"- {name}{_meaning(descriptions, name)}" for name in task.options))
    if demonstrations:
        shown = [f"{EXAMPLE}{_text(task, other)}\n{task.own.render(answer)}" for other, answer in demonstrations]
        parts.append(EXAMPLES + "\n\n".join(shown))
    parts.append(f"{TEXT}{_text(task, row)}")
    if label is not None:
        parts.append(f"{ASKED_LABEL}{label}")
    if words:
        parts.append(ANSWER_NAME)
    return "\n\n".join(parts)


def _meaning(descriptions: dict[str, str], name: str) -> str:
    return f": {descriptions[name]}" if name in descriptions else ""


def _text(task: ClassificationTask, row: PoolRow) -> str:
    texts = task.texts(row)
    if len(texts) == 1:
        return texts[0]
    return "\n".join(f"{name}: {text}" for name, text in zip(task.text_columns, texts, strict=True))


@dataclass
class ReadLabelPrompt:
    """What a prompt asks: the text, the lettered options in their order, and the label in question, if one is."""

    text: str
    options: list[str]
    label: str | None = None


def read_label_prompt(messages: Messages) -> ReadLabelPrompt | None:
    """Reads a conversation of one turn back, `None` if it asks for no label."""
    turns = [turn["content"] for turn in messages if turn["role"] != "system"]
    read = read_lettered(turns[0]) if len(turns) == 1 else None
    if read is None or TEXT not in read[0]:
        return None
    text = read[0].rpartition(TEXT)[2]
    body, mark, label = text.rpartition(f"\n\n{ASKED_LABEL}")
    return ReadLabelPrompt(body, read[1], label) if mark else ReadLabelPrompt(text, read[1])
