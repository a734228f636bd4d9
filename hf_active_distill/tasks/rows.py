"""From a data set's example to a pool row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ..errors import DataError
from ..records import PoolRow, Prompt


PROMPT_COLUMNS = ("prompt", "question", "messages", "input", "problem", "text")
REFERENCE_COLUMNS = ("reference", "answer", "target", "label", "ground_truth", "final_answer")


def row_from_example(
    example: Mapping[str, Any],
    *,
    prompt_column: str | None = None,
    reference_column: str | None = None,
    id_column: str | None = None,
) -> PoolRow:
    """
    One example of a data set as a pool row.

    Args:
        example (`Mapping`): One example.
        prompt_column (`str`, *optional*): Column with the question, text or a conversation; by default the first of
            `prompt`, `question`, `messages`, `input`, `problem`, `text` that is there.
        reference_column (`str`, *optional*): Column with the gold answer; by default the first of `reference`,
            `answer`, `target`, `label`, `ground_truth`, `final_answer`, and it may be missing.
        id_column (`str`, *optional*): Column with a stable id; by default the id is a hash of the prompt.
    """
    prompt_name = _column(example, prompt_column, PROMPT_COLUMNS, "prompt_column", needed=True)
    reference_name = _column(example, reference_column, REFERENCE_COLUMNS, "reference_column", needed=False)
    if id_column is not None:
        _column(example, id_column, (), "id_column", needed=True)
    assert prompt_name is not None
    prompt = _prompt(example[prompt_name], prompt_name)
    reference = example[reference_name] if reference_name is not None else None
    taken = {prompt_name, reference_name, id_column}
    return PoolRow(
        row_id=str(example[id_column]) if id_column is not None else prompt_id(prompt),
        prompt=prompt,
        reference=None if reference is None else str(reference),
        columns={name: value for name, value in example.items() if name not in taken},
    )


def prompt_id(prompt: Prompt) -> str:
    """Stable id of a prompt: a hash of its text, or of the turns of a conversation."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _column(
    example: Mapping[str, Any], name: str | None, usual: tuple[str, ...], option: str, *, needed: bool
) -> str | None:
    if name is None:
        name = next((column for column in usual if example.get(column) is not None), None)
        if name is not None or not needed:
            return name
        wanted = f"none of the usual columns ({', '.join(usual)})"
    elif name in example:
        return name
    else:
        wanted = f"no column {name!r}"
    found = ", ".join(sorted(map(str, example))) or "no columns at all"
    raise DataError(f"The data set has {wanted}. It has: {found}. Name the right one with {option}, or rename it.")


def _prompt(value: Any, column: str) -> Prompt:
    if isinstance(value, str):
        if not value.strip():
            raise DataError(f"An empty prompt stands in column {column!r}: filter such rows out.")
        return value
    if not isinstance(value, list) or not all(isinstance(turn, Mapping) for turn in value):
        raise DataError(
            f"Column {column!r} holds {type(value).__name__}: it must be text or a list of role/content turns."
        )
    messages = [_turn(turn, column) for turn in value]
    last = max((i for i, turn in enumerate(messages) if turn["role"] == "user"), default=None)
    if last is None:
        raise DataError(f"A conversation in column {column!r} has no user turn, so nothing is asked.")
    return messages[: last + 1]


def _turn(turn: Mapping[str, Any], column: str) -> dict[str, str]:
    role, content = turn.get("role"), turn.get("content")
    if isinstance(content, list):  # typed parts: the text ones
        content = "\n".join(str(part["text"]) for part in content if isinstance(part, Mapping) and part.get("text"))
    if not isinstance(role, str) or not isinstance(content, str):
        raise DataError(f"A turn in column {column!r} has no role or no text content: {sorted(map(str, turn))}.")
    return {"role": role, "content": content}
