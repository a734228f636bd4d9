"""Recorded answers as rows of question and text, from the kinds of files in which people keep them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ConfigurationError
from ..records import Prompt


_TEXTS = ("reply", "text", "completion", "response", "output", "solution", "answer")
_QUESTIONS = ("messages", "prompt", "question", "input", "instruction", "problem")


@dataclass
class Recorded:
    """
    One recorded answer.

    Args:
        text (`str`): What the teacher wrote.
        question (`str`, `list[dict]` or `None`): What it was asked, as text or as a conversation.
        content (`str` or `None`): The whole request as canonical JSON, where it was recorded.
        sample_index (`int`), attempt (`int`): Which of several answers to one request.
        finish_reason (`str`), reasoning (`str` or `None`): As in a reply.
    """

    text: str
    question: Prompt | None = None
    content: str | None = None
    sample_index: int = 0
    attempt: int = 0
    finish_reason: str = "stop"
    reasoning: str | None = None


@dataclass
class RecordedSource:
    """Rows, and the name and revision under which answers made of them are recorded."""

    rows: list[Recorded]
    model: str
    revision: str | None = None


def read_recordings(path: str, *, split: str = "train") -> RecordedSource:
    """
    Reads recorded answers.

    Args:
        path (`str`):
            A journal, a `.jsonl`, `.json` or `.parquet` file, a data set folder, or a data set's id on the Hub.
        split (`str`, *optional*, defaults to `"train"`):
            Split of a data set that has several.
    """
    file = Path(path).expanduser()
    if file.is_file():
        if file.read_bytes()[:16].startswith(b"SQLite format 3"):
            return _read_journal(file)
        rows = list(rows_of(_read_file(file), where=str(path)))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        return RecordedSource(rows, f"replay:{file.name}", digest[:12])
    return RecordedSource(list(rows_of(_read_data_set(file, path, split), where=path)), f"replay:{path}")


def _read_file(file: Path) -> Iterable[Any]:
    if file.suffix == ".parquet":
        import pyarrow.parquet

        return pyarrow.parquet.read_table(file).to_pylist()
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            data = json.loads(text)
            if not isinstance(data, Mapping):
                return data
            return [{"question": question, "text": answer} for question, answer in data.items()]
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ConfigurationError(
            f"The recorded answers in {file} cannot be read ({error}): give a journal, or a .jsonl, .json or .parquet "
            "file."
        ) from None


def _read_data_set(folder: Path, path: str, split: str) -> Iterable[Any]:
    import datasets

    try:
        if folder.is_dir():
            loaded = datasets.load_from_disk(str(folder))
        elif path.count("/") == 1:
            loaded = datasets.load_dataset(path)
        else:
            raise FileNotFoundError("no such file or folder")
    except Exception as error:  # the library raises many kinds, of the network and of the file system
        raise ConfigurationError(
            f"There are no recorded answers at {path!r} ({type(error).__name__}: {error}). Give a journal, a .jsonl, "
            ".json or .parquet file, a data set folder, or the id of a data set on the Hub."
        ) from None
    if isinstance(loaded, Mapping):
        if split not in loaded:
            raise ConfigurationError(f"{path!r} has no split {split!r}. It has: {', '.join(map(str, loaded))}.")
        loaded = loaded[split]
    return loaded


def rows_of(rows: Iterable[Any], *, where: str) -> Iterator[Recorded]:
    """Rows of dicts as recorded answers; failed annotations and rows without text are left out."""
    found = False
    names: list[str] = []
    for row in rows:
        if not isinstance(row, Mapping):
            raise ConfigurationError(f"The recorded answers in {where} are not rows with named columns.")
        names = list(row)
        recorded = _row(row)
        if recorded is not None:
            found = True
            yield recorded
    if not found:
        raise ConfigurationError(
            f"No recorded answers in {where}: a row needs a question ({', '.join(_QUESTIONS)}) and a text "
            f"({', '.join(_TEXTS)}). It has the columns: {', '.join(names) or 'none'}."
        )


def _row(row: Mapping[str, Any]) -> Recorded | None:
    question = next((row[name] for name in _QUESTIONS if row.get(name)), None)
    text = next((row[name] for name in _TEXTS if row.get(name) is not None), None)
    if isinstance(text, list) and text and isinstance(text[-1], Mapping):
        text = text[-1].get("content")
    if text is None and isinstance(question, list) and question and question[-1].get("role") == "assistant":
        # A conversation with its answer: the last turn is what is recorded.
        question, text = question[:-1], question[-1].get("content")
    content = row.get("content") if isinstance(row.get("content"), str) else None
    if not isinstance(text, str) or (question is None and content is None):
        return None
    return Recorded(
        text=text,
        question=question,
        content=content,
        sample_index=int(row.get("sample_index") or 0),
        attempt=int(row.get("attempt") or 0) if content is not None else 0,
        finish_reason=row.get("finish_reason") or "stop",
        reasoning=row.get("reasoning") or row.get("thinking"),
    )


def _read_journal(file: Path) -> RecordedSource:
    try:
        db = sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True)
        try:
            calls = db.execute(
                "SELECT content, sample_index, attempt, answer, model, revision FROM calls WHERE state = 'answered'"
            ).fetchall()
        finally:
            db.close()
    except sqlite3.Error as error:
        raise ConfigurationError(f"{file} is not a journal that can be replayed ({error}).") from None
    rows = []
    for content, sample_index, attempt, answer, _, _ in calls:
        if not content or not answer:
            continue  # superseded rows of a compacted journal
        reply, asked = json.loads(answer), json.loads(content)
        rows.append(
            Recorded(
                text=reply["text"],
                question=asked.get("messages") or asked.get("prompt"),
                content=content,
                sample_index=sample_index,
                attempt=attempt,
                finish_reason=reply.get("finish_reason", "stop"),
                reasoning=reply.get("reasoning"),
            )
        )
    if not rows:
        raise ConfigurationError(f"The journal {file} holds no answers.")
    teachers = {(model, revision) for *_, model, revision in calls}
    # One teacher's journal stands for that teacher; of several, no single one can be named.
    model, revision = teachers.pop() if len(teachers) == 1 else (f"replay:{file.name}", None)
    return RecordedSource(rows, model, revision)
