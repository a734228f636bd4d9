"""
Foreign text in a Markdown file: shown as it is, and nothing else.

What a pool or a teacher wrote may hold Markdown, HTML, code fences, front matter, marks that turn the direction of
writing, and secrets that somebody pasted.
"""

from __future__ import annotations

import re
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeGuard

from huggingface_hub import get_token


#: Longest text in a table or a list.
MOST_CHARACTERS = 300

_CREDENTIALS = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.\-]*://)[^\s/@`]+@", re.IGNORECASE)
_TOKENS = re.compile(r"\b(?:hf|api_org|sk|gsk|xai|r8|nvapi|ghp|glpat)[-_][A-Za-z0-9][\w\-]{15,}")
_BEARER = re.compile(r"\bBearer\s+[\w.~+/=\-]+")
_REPO_ID = re.compile(r"[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?")


def plain(text: object, most: int | None = None) -> str:
    """
    Text without what a reader cannot see: control characters and marks of direction appear as `\\u202e`. Line breaks
    stay.

    Args:
        text: Anything with a `str`.
        most (`int`, *optional*): Cut after so many characters.
    """
    shown = str(text).replace("\r\n", "\n").replace("\r", "\n")
    if most is not None and len(shown) > most:
        shown = shown[:most] + "..."
    return "".join(letter if _visible(letter) else f"\\u{ord(letter):04x}" for letter in shown)


def _visible(letter: str) -> bool:
    # Cc: control, Cf: format (direction, zero width), Cs: half a surrogate pair, Zl and Zp: line and paragraph marks.
    return letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def code(text: object) -> str:
    """A code span, in which nothing is Markdown, HTML or a link. It fits into a table."""
    shown = " ".join(plain(text, MOST_CHARACTERS).split())
    if not shown:
        return ""
    ticks = "`" * (_longest_run(shown, "`") + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    # A table splits its cells before it sees code.
    return f"{ticks}{space}{shown}{space}{ticks}".replace("|", "\\|")


def fenced(text: object, language: str = "") -> str:
    """A block of code, whose fence no line of the text can close."""
    shown = plain(text)
    fence = "`" * max(3, _longest_run(shown, "`") + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    A table of cells that are Markdown already. A column that is empty in every row is left out; without rows there is
    no table.
    """
    rows = [list(row) for row in rows]
    if not rows:
        return ""
    kept = [index for index in range(len(head)) if any(row[index] for row in rows)]
    lines = [[head[index] for index in kept], ["---"] * len(kept), *([row[index] for index in kept] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def is_repo_id(name: str | None) -> TypeGuard[str]:
    """Whether a name can be one on the Hub. Only such a name stands in front matter: the Hub refuses others."""
    return bool(name and _REPO_ID.fullmatch(name) and ".." not in name and "--" not in name and len(name) <= 96)


def link(name: str, kind: str = "") -> str:
    """
    A link to a repository of the Hub, or code where the name cannot be one.

    Args:
        name (`str`): The repository.
        kind (`str`, *optional*): `"datasets/"` for a data set.
    """
    return f"[`{name}`](https://huggingface.co/{kind}{name})" if is_repo_id(name) else code(name)


def scrubbed(text: str, private: Iterable[str] = ()) -> str:
    """
    Text without credentials, tokens and paths of this machine.

    Args:
        text (`str`): A whole card.
        private (`Iterable[str]`, *optional*): Further texts that must not be in it, such as the run's folder.
    """
    # The words put in their place mean nothing in YAML, for a card is scrubbed as a whole.
    text = _CREDENTIALS.sub(r"\g<scheme>", text)
    text = _BEARER.sub("(secret)", _TOKENS.sub("(secret)", text))
    own = {str(Path.home()), str(Path.cwd()), tempfile.gettempdir(), get_token() or "", *private} - {"", "/"}
    for secret in sorted(own, key=len, reverse=True):
        text = text.replace(secret, "(private)")
    return text


def _longest_run(text: str, letter: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(letter)}+", text)), default=0)
