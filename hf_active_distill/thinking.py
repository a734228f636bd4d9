"""Telling what a model thinks aloud from what it says: teachers' replies and students' explanations alike."""

from __future__ import annotations

import re


_TAG = r"(?:think|thinking|thought|reasoning)"
_BLOCK = re.compile(rf"<({_TAG})>(.*?)(?:</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_OPENING = re.compile(rf"<{_TAG}>", re.IGNORECASE)
_CLOSING = re.compile(rf"</{_TAG}>", re.IGNORECASE)


def split_thinking(text: str) -> tuple[str | None, str]:
    """
    What is thought, and the visible rest.

    A text thinks where it begins with a tag, or where a closing tag comes first, because the chat template wrote the
    opening one. Then every block in it is thought; one that the token limit cut open swallows all behind it. Tags in
    the midst of a text that began without are quoted, and stay.
    """
    thoughts = []
    if _BLOCK.match(text.lstrip()) is None:
        end, start = _CLOSING.search(text), _OPENING.search(text)
        if end is None or (start is not None and start.start() < end.start()):
            return None, text
        thoughts.append(text[: end.start()])
        text = text[end.end() :]
    thoughts += [match[2] for match in _BLOCK.finditer(text)]
    return "\n".join(part.strip() for part in thoughts if part.strip()) or None, _BLOCK.sub("", text).lstrip()
