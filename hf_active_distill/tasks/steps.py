"""Splitting an explanation into steps: without thinking tags, without its answer line, without invented questions."""

from __future__ import annotations

import re

from .answers import AnswerFormat, canonical_answer, find_answer
from .base import StepSpan
from .numbers import parse_number
from .sentences import sentence_spans


# Runs of blanks are bounded wherever a pattern may start at each of them: a page of line breaks stays linear.
_INVENTED = re.compile(
    r"\n[ \t]{0,8}\n\s{0,8}(?:\*\*|#+ )?(?:Q|Question|Problem|Input|Human|User)(?:\s*\d+)?(?:\*\*)?\s*[:.]"
)
_SAYS_ANSWER = re.compile(
    r"(?i)^[\s*_#>$-]*(?:(?:so|thus|therefore|hence|and|then|finally)\b[,:]?\s+)*(?:(?:the|my|our)\s+)?"
    r"(?:final\s+|correct\s+)?answer\b[*_\s]*(?:\([^()]{0,40}\)\s*)?(?:is\b|was\b|[:=]|$)"
)
_BOX_ALONE = re.compile(r"^[\s$\\\[\](*_]*\\(?:boxed|fbox)\s*\{.*\}[\s$\\\[\])*_.]*$")
_HEADING_ALONE = re.compile(r"(?i)^[#*_\s]*(?:the\s+)?(?:final\s+)?answer[*_\s]*(?:is)?[*_\s]*:?[*_\s]*$")


def own_text_end(text: str) -> int:
    """Where the explanation ends and an invented next question begins."""
    match = _INVENTED.search(text)
    return match.start() if match else len(text)


def is_answer_line(line: str, own: AnswerFormat) -> bool:
    """Whether a line says nothing but the final answer."""
    line = line.strip()
    bare = line.strip("*_ ")
    if own.prefix and (line.startswith(own.prefix) or bare.startswith(own.prefix)):
        return True
    if bare.startswith("####") or _SAYS_ANSWER.match(line) or _BOX_ALONE.match(line):
        return True
    return line.startswith("A:") and _is_short_answer(line[2:])


def _is_short_answer(text: str) -> bool:
    answer = canonical_answer(text)
    if answer is None:
        return False
    return parse_number(answer) is not None or len(answer) == 1 or answer.lower() in ("yes", "no", "true", "false")


def step_spans(text: str, own: AnswerFormat, mode: str) -> list[StepSpan]:
    """
    The steps of `text`. `mode` is `"line"` (one step a line), `"sentence"`, or `"auto"`: lines where the text has
    more than one, else sentences.
    """
    end = own_text_end(text)
    body = text[:end]
    lines = [(m.start(), m.end()) for m in re.finditer(r"[^\n]+", body) if m[0].strip()]
    spans: list[tuple[int, int]] = []
    for start, stop in lines:
        if mode == "sentence" or (mode == "auto" and len(lines) == 1):
            spans += sentence_spans(text, start, stop)
        else:
            piece = text[start:stop]
            spans.append((start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())))
    pieces = [StepSpan(start, stop, text[start:stop]) for start, stop in spans]
    return _without_answer(pieces, own)


def _without_answer(pieces: list[StepSpan], own: AnswerFormat) -> list[StepSpan]:
    """Drops the final answer line; where the model wrote on after it, what it wrote is no step either."""
    if not pieces:
        return []
    if is_answer_line(pieces[-1].text, own):
        return pieces[:-1]
    if len(pieces) > 1 and _HEADING_ALONE.match(pieces[-2].text):
        return pieces[:-2]
    for index in range(len(pieces) - 1, -1, -1):
        text = pieces[index].text
        if text.startswith("A:") and own.prefix != "A:":
            continue  # within an explanation this is a name, not a mark
        if is_answer_line(text, own) and _is_short_answer(find_answer(text, own) or ""):
            return pieces[:index]
    return pieces


def merge_tail(text: str, spans: list[StepSpan], limit: int) -> list[StepSpan]:
    """At most `limit` steps: the rest joins the last one."""
    if len(spans) <= limit:
        return spans
    start, end = spans[limit - 1].start, spans[-1].end
    return [*spans[: limit - 1], StepSpan(start, end, text[start:end])]


def one_line(text: str) -> str:
    """A step as one line."""
    return re.sub(r"\s*\n\s*", " ", text).strip()
