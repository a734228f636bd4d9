"""A last look at what is about to be uploaded: no secret, no address with credentials, no path of this machine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet
from huggingface_hub import get_token

from ..errors import LeakError
from .layout import Changes


#: What can be nothing else than a token, and an address with a password. Looser patterns would find poetry.
_PATTERNS = {
    "something that looks like a Hugging Face token": re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b"),
    "something that looks like an API key": re.compile(r"\b(?:sk|gsk|xai|r8|nvapi)[-_][A-Za-z0-9_\-]{24,}\b"),
    "an address with credentials": re.compile(r"\b[a-z][a-z0-9+.\-]*://[^\s/@:\"'<>]*:[^\s/@\"'<>]+@", re.IGNORECASE),
}
_SECRET_VARIABLES = re.compile(r"(TOKEN|API_KEY|SECRET|PASSWORD)$")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib")
# Shorter ones ("EMPTY", "dummy") are words that an endpoint without a key is given.
_SHORTEST_SECRET = 6


@dataclass(frozen=True)
class Secrets:
    """
    What must not leave this machine.

    Args:
        texts (`tuple[str, ...]`): Tokens and passwords.
        paths (`tuple[str, ...]`): Absolute paths. Those of one level, such as `/tmp`, say nothing and are left out.
    """

    texts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    _pattern: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        found = [re.escape(text) for text in self.texts if len(text) >= _SHORTEST_SECRET]
        # A path ends where its name does: /home/ann is not /home/anna.
        ends = [rf"{re.escape(path)}(?![\w\-])" for path in self.paths if len(Path(path).parts) > 2]
        pattern = re.compile("|".join([*(f"(?P<s{i}>{text})" for i, text in enumerate(found)), *ends]) or r"(?!)")
        object.__setattr__(self, "_pattern", pattern)

    @classmethod
    def of_machine(cls, texts: Iterable[str], paths: Iterable[str | os.PathLike | None]) -> Secrets:
        """
        Those given, and those that a process knows: the stored login, environment variables that are named like a
        secret, the home and the working folder.
        """
        variables = (value for name, value in os.environ.items() if _SECRET_VARIABLES.search(name.upper()))
        known = {text for text in (*texts, get_token(), *variables) if text}
        own = (Path.home(), Path.cwd(), os.environ.get("HF_HOME"), *paths)
        places = {str(place) for path in own if path for place in (Path(path).absolute(), Path(path).resolve())}
        return cls(tuple(sorted(known, key=len, reverse=True)), tuple(sorted(places, key=len, reverse=True)))

    def found_in(self, text: str) -> str | None:
        """What of it stands in a text, in words that do not repeat it."""
        match = self._pattern.search(text)
        if match is not None:
            return "a secret of this machine" if match.lastgroup else f"a path of this machine ({match.group()})"
        return next((name for name, pattern in _PATTERNS.items() if pattern.search(text)), None)


def refuse_leaks(changes: Changes, secrets: Secrets, where: str) -> None:
    """
    Searches every file of a commit: text as it is, every text of a parquet file, the headers of safetensors.

    Raises:
        [`~errors.LeakError`]: When something was found, or a file is a pickle. It names the place, not the secret.
    """
    for path, file in changes.files.items():
        if path.endswith(_PICKLES):
            raise LeakError(f"{path} is a pickled file, and none is uploaded to {where}.")
        for place, text in [(None, path), *_texts(file)]:
            found = secrets.found_in(text)
            if found is not None:
                inside = f", {place}" if place else ""
                raise LeakError(
                    f"{path}{inside} holds {found}: nothing of this round was uploaded to {where}. Take it out of "
                    "your data and start anew (answers in the journal are not paid for again), or keep the rounds in "
                    "a folder (`lineage_dir`)."
                )


def _texts(file: Path) -> Iterator[tuple[str | None, str]]:
    """(place, text) of what a file says."""
    if file.suffix == ".parquet":
        yield from _texts_of_table(file)
    elif file.suffix == ".safetensors":
        with open(file, "rb") as opened:
            yield "header", opened.read(int.from_bytes(opened.read(8), "little")).decode("utf-8", "replace")
    else:
        yield None, file.read_text(encoding="utf-8", errors="replace")


def _texts_of_table(file: Path) -> Iterator[tuple[str | None, str]]:
    with pyarrow.parquet.ParquetFile(file) as table:
        metadata = table.schema_arrow.metadata or {}
        yield "metadata", " ".join(value.decode("utf-8", "replace") for value in metadata.values())
        for batch in table.iter_batches():
            for row in batch.to_pylist():
                for column, value in row.items():
                    for text in _strings(value):
                        place = f"column '{column}'"
                        yield (f"{place} of row '{row['row_id']}'" if row.get("row_id") else place), text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        if value.startswith(("{", "[", '"')) and "\\" in value:  # JSON in a column may hide a text behind escapes
            try:
                yield from _strings(json.loads(value))
            except ValueError:
                return
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _strings(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
