"""Questions whose answer is yes or no."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from ..records import PoolRow
from ..thinking import split_thinking
from .reasoning import ReasoningTask
from .registry import register_task
from .steps import own_text_end


_YES = re.compile(r"(?i)\s*(?:yes|yeah|true|correct)\b")
_NO = re.compile(r"(?i)\s*(?:no|nope|false|incorrect)\b")
_LAST = re.compile(
    r"(?i)(?:^|[.!?\n])\W{0,8}(?:(?:so|thus|therefore|hence)\b\W*)?(yes|no)\b(?=\s*(?:[,.!:;\u2014-]|$))"
)


@register_task("yes_no")
@dataclass
class YesNoTask(ReasoningTask):
    """
    Steps and a final yes or no; true and false are read as well, and so is an explanation that opens or closes a
    sentence with the bare word. Options as in [`ReasoningTask`].
    """

    name: ClassVar[str] = "yes_no"

    def canonical(self, raw: str) -> str | None:
        """`"yes"`, `"no"`, or `None`."""
        raw = raw.strip(" \t\n*_`\"'([$.")
        if _YES.match(raw):
            return "yes"
        return "no" if _NO.match(raw) else None

    def read_answer(self, text: str) -> str | None:
        """The marked answer; without a mark, the last sentence that opens with yes or no."""
        marked = super().read_answer(text)
        if marked is not None:
            return marked
        visible = split_thinking(text)[1]
        said = _LAST.findall(visible[: own_text_end(visible)])
        return said[-1].lower() if said else None

    def read_reference(self, reference: str) -> str | None:
        """Booleans and 0/1 are references too."""
        bare = reference.strip().lower()
        return {"1": "yes", "0": "no"}.get(bare) or super().read_reference(reference)

    def answer_choices(self, row: PoolRow) -> list[str] | None:
        """`["yes", "no"]`."""
        return ["yes", "no"]
