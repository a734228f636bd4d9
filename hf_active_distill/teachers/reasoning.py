"""Telling what a model thinks aloud from what it says."""

from __future__ import annotations

import re


_TAG = r"(?:think|thinking|thought|reasoning)"
_OPENED = re.compile(rf"\s*<({_TAG})>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CLOSED_ONLY = re.compile(rf"(.*?)</{_TAG}>", re.DOTALL | re.IGNORECASE)


def split_reasoning(text: str) -> tuple[str, str | None]:
    """
    Splits a reply into (what is said, what is thought).

    Handles the usual forms: a block at the start, several blocks in a row, a block that the token limit cut open, and
    a block whose opening tag stands in the chat template, so that the reply begins inside it.
    """
    thoughts: list[str] = []
    match = _OPENED.match(text)
    if match is None:
        match_closed = _CLOSED_ONLY.match(text)
        if match_closed is None:
            return text, None
        if re.search(rf"<{_TAG}>", match_closed.group(1), re.IGNORECASE):
            # Opened somewhere in the middle: the model quotes the tags, it does not think in them.
            return text, None
        thoughts.append(match_closed.group(1).strip())
        text = text[match_closed.end() :]
        match = _OPENED.match(text)
    while match is not None:
        thoughts.append(match.group(2).strip())
        text = text[match.end() :]
        match = _OPENED.match(text)
    return text.lstrip(), "\n".join(thought for thought in thoughts if thought) or None
