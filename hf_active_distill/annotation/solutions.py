"""Reading steps, an answer, or a JSON revision in what a teacher wrote."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..tasks.base import Task
from ..tasks.steps import one_line
from .verdicts import is_remark


_NUMBERED = re.compile(
    r"^[*_#\s]*(?:(?:remaining|next|corrected|new)\s+)?(?:step\s*(?:\d+|[a-z])?\s*[*_]*\s*[:.)]|\(?\d{1,2}[.)])[*_]*\s+",
    re.I,
)
_BULLET = re.compile(r"^[-*\u2022]\s+")
_HEADING = re.compile(
    r"(?i)^[#*_\s]*(?:here\b.*|(?:the\s+)?(?:remaining|correct(?:ed)?|right|following|missing|new|full|whole|my|solution|steps?)\b"
    r"(?:\s+(?:steps?|solution|and|the|are|is|answer|way|continuation|final))*)\s*:?[*_\s]*$"
)
_LABEL = re.compile(
    r"(?im)^[*_#> \t-]{0,12}(?:(?:my|the|your)\s+)?(?:step|wording|rewording)(?:\s*\d+)?[*_]*\s*:[*_]*[ \t]*"
)
_REASON = re.compile(r"(?i)^[*_\s]*(?:reason|because|explanation|comment|why)\b[*_]*\s*:")
_RULE = re.compile(r"^\s*(?:```\w*|-{3,}|\*{3,}|={3,})\s*$")


def clean_steps(steps: Sequence[str]) -> list[str]:
    """Steps as single lines, without numbers, bullets, bold marks, headings and rules."""
    kept = [one_line(step) for step in steps if step.strip() and not _RULE.match(step) and not _is_heading(step)]
    bullets = len(kept) > 1 and all(_BULLET.match(step) for step in kept)
    cleaned = []
    for step in kept:
        # A lone "- 5 + 3" is a sign, a list of them is bullets.
        if bullets or re.match(r"^[-*\u2022]\s+[^\d\s.(]", step):
            step = _BULLET.sub("", step)
        step = _NUMBERED.sub("", step).strip()
        bold = re.fullmatch(r"(\*\*|__)(.+?)\1[.]?", step)
        step = bold[2].strip() if bold else step
        if step:
            cleaned.append(step)
    return cleaned


def _is_heading(line: str) -> bool:
    line = line.strip()
    return bool(_HEADING.match(line)) and (line.rstrip("*_ ").endswith(":") or line.startswith(("#", "**")))


def read_solution(task: Task, text: str) -> tuple[list[str], str | None]:
    """Steps and answer of a solution."""
    steps = [span.text for span in task.split_steps(text)]
    lines = [line for step in steps for line in step.split("\n")]
    start = next((index + 1 for index, line in enumerate(lines) if _is_heading(line)), 0)
    return clean_steps(lines[start:]), task.read_answer(text)


_REASONS = re.compile(
    r"(?i)\b(?:wrong|incorrect|mistakes?|errors?|not|should|instead|forgot|student|because|\w+n['\u2019]t|cannot)\b"
)


def read_remaining(task: Task, rest: str, remark: str) -> tuple[list[str], str | None]:
    """
    Steps and answer behind a "no". What stands on the line of the "no" is a step unless it talks about the mistake.
    """
    lines = [line for line in rest.split("\n") if not _REASON.match(line)]
    steps, answer = read_solution(task, "\n".join(lines))
    while steps and is_remark(steps[0]):
        steps = steps[1:]
    if remark and not _REASONS.search(remark) and not is_remark(remark):
        steps = clean_steps([remark]) + steps
    return steps, answer


def read_wording(task: Task, rest: str) -> str | None:
    """
    The teacher's own wording of an accepted step: behind "Step:", else what stands behind the verdict. A teacher that
    wrote the whole solution is taken at its first line.
    """
    label = _LABEL.search(rest)
    if label:
        lines = [line for line in rest[label.end() :].split("\n") if line.strip()][:1]
    else:
        lines = [line for span in task.split_steps(rest) for line in span.text.split("\n")]
        if lines and task.read_answer(rest) is not None:
            lines = lines[:1]
    lines = clean_steps(lines)
    wording = " ".join(lines)
    return wording if wording and not is_remark(wording) else None


@dataclass(frozen=True)
class Revision:
    """A one-call reply: 0-based index of the first wrong step, the whole solution, the answer."""

    first_wrong: int | None
    steps: list[str]
    answer: str


def read_revision(task: Task, text: str, n_steps: int) -> Revision | None:
    """
    Reads the JSON object of a one-call reply, also inside a code block or other text, with a missing bracket at its
    end or an index as text; and, from a server that ignored the grammar, the same three parts as plain lines.
    `None` where they are not there.
    """
    data = _first_object(text)
    if data is None:
        return _read_plain(task, text, n_steps)
    known = {re.sub(r"[\s_-]", "", str(name)).lower(): value for name, value in data.items()}
    steps, answer = known.get("steps"), known.get("answer", known.get("finalanswer"))
    if isinstance(steps, str):
        steps = steps.split("\n")
    if not isinstance(steps, list) or answer is None or "firstwrongstep" not in known:
        return None
    index = _index(known["firstwrongstep"], n_steps)
    if index is False:
        return None
    words = [str(step.get("step", step.get("text", ""))) if isinstance(step, dict) else str(step) for step in steps]
    read = task.read_answer(str(answer)) or task.read_forced_answer(str(answer))
    cleaned = clean_steps(words)
    if read is None or not cleaned:
        return None
    # Some models close the list of steps with the answer line.
    if len(cleaned) > 1 and not task.split_steps(cleaned[-1]):
        cleaned = cleaned[:-1]
    return Revision(index, cleaned, read)


def _index(value: Any, n_steps: int) -> int | None | bool:
    """0-based index, `None` for no wrong step, `False` for what is neither."""
    if value is None or (isinstance(value, str) and value.strip().lower() in ("", "null", "none", "0", "-1", "no")):
        return None
    number = re.search(r"-?\d+", str(value)) if not isinstance(value, bool) else None
    if number is None:
        return False
    index = int(number[0])
    if index <= 0:
        return None
    return index - 1 if index <= n_steps else False


def _first_object(text: str) -> dict[str, Any] | None:
    decoder = json.JSONDecoder(strict=False)
    for match in itertools.islice(re.finditer(r"\{", text), 8):
        tail = text[match.start() :]
        tail = re.sub(r"\s*```\s*$", "", tail)
        for ending in ("", "}", '"}', "]}", '"]}'):
            for candidate in (tail + ending, re.sub(r",\s*(?=[}\]])", "", tail + ending)):
                try:
                    value, _ = decoder.raw_decode(candidate)
                except (ValueError, RecursionError):
                    continue
                if isinstance(value, dict):
                    return value
    return None


_FIRST_WRONG = re.compile(
    r"(?im)^[*_# \t-]{0,12}\"?first[ _]wrong[ _]step\"?[*_]*\s*(?:is|:)\s*[*_\"']*"
    r"(?:step\s*)?(?P<index>\d+|null|none|no\w*)"
)


def _read_plain(task: Task, text: str, n_steps: int) -> Revision | None:
    said = _FIRST_WRONG.search(text)
    if said is None:
        return None
    index = _index(None if said["index"].lower().startswith("n") else said["index"], n_steps)
    steps, answer = read_solution(task, text[said.end() :].partition("\n")[2])
    if index is False or not steps or answer is None:
        return None
    return Revision(index, steps, answer)
