"""Where sentences end."""

from __future__ import annotations

import re


_END = re.compile(r"[.!?\u3002\uff01\uff1f]+[\"')\]\u201d\u2019*_]*(?=\s|$)")
_OPENER = re.compile(r"\s+[\"'(\[\u201c\u2018*_$\\-]*[A-Z0-9\u00c0-\u00de\u0370-\uffff]")
# Abbreviations, and the number of a list item.
_NO_END = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|approx|e\.g|i\.e|Fig|Eq|resp|cf)"
    r"|\d\s*(?:in|ft|lb|lbs|oz)"
    r"|(?:\A|\n|[.!?]\s)\s*(?:[Ss]tep\s*)?\d{1,2})\.\Z"
)
_WINDOW = 16


def _ends_at(text: str, match: re.Match[str]) -> bool:
    """Whether this mark ends a sentence: not an abbreviation or a list number, and what follows opens a new one."""
    if not text[match.end() :].strip():
        return True
    if match[0].startswith("."):
        begin = match.start() - _WINDOW
        before = text[: match.start() + 1] if begin <= 0 else "\0" + text[begin : match.start() + 1]
        if _NO_END.search(before):
            return False
    return _OPENER.match(text, match.end()) is not None


def sentence_end(text: str) -> int:
    """Position behind the first sentence of `text`."""
    for match in _END.finditer(text):
        if _ends_at(text, match):
            return match.end()
    return len(text)


def sentence_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """`(start, end)` of every sentence of `text[start:end]`, spaces around it left out."""
    stop = len(text) if end is None else end
    piece, spans, begin = text[start:stop], [], 0
    ends = [match.end() for match in _END.finditer(piece) if _ends_at(piece, match)]
    for position in [*ends, len(piece)]:
        sentence = piece[begin:position]
        if sentence.strip():
            left = begin + len(sentence) - len(sentence.lstrip())
            spans.append((start + left, start + begin + len(sentence.rstrip())))
        begin = position
    return spans
