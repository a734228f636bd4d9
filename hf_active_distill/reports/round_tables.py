"""The rows of a round as plain tables, for trackers and terminals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..rounds import RoundRecord
from .rows import PageRows


class RoundTable(NamedTuple):
    """
    Args:
        columns (`list[str]`): Their names.
        rows (`list[list[Any]]`): One value a column: a text, a number or `None`.
    """

    columns: list[str]
    rows: list[list[Any]]

    def markdown(self) -> str:
        """The table as Markdown in which every cell stands for itself, whatever it holds."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


Column = Callable[[Mapping[str, Any]], Any]

_SELECTED: dict[str, Column] = {
    "round": lambda row: row["round"],
    "rank": lambda row: row.get("rank"),
    "row_id": lambda row: row["id"],
    "question": lambda row: row.get("prompt"),
    "score": lambda row: row.get("score"),
    "why": lambda row: "random" if row.get("random") else row.get("why"),
    "status": lambda row: row["status"],
    "reason": lambda row: row.get("reason"),
    "tokens": lambda row: row["tokens"],
}
_REVISED: dict[str, Column] = {
    "round": lambda row: row["round"],
    "row_id": lambda row: row["id"],
    "question": lambda row: row.get("prompt"),
    "student": lambda row: "\n".join(row.get("student", [])),
    "teacher": lambda row: "\n".join(row.get("steps", [])),
    "rejected_step": lambda row: _first_rejected(row),
    "student_answer": lambda row: row.get("student_answer"),
    "teacher_answer": lambda row: _teacher_answer(row),
    "confidence": lambda row: row.get("confidence"),
}


def round_tables(record: RoundRecord, *, limit: int = 1000, max_rows: int = 200) -> dict[str, RoundTable]:
    """
    What was chosen in a round, and what the teacher changed in it.

    Args:
        record (`RoundRecord`): The round, asked.
        limit (`int`, *optional*, defaults to `1000`): Longest text, in characters.
        max_rows (`int`, *optional*, defaults to `200`): Most rows of a table.

    Returns:
        `dict[str, RoundTable]`: `selected`, and `revised` with the rows of which the teacher rejected a step or the
        label.
    """
    rows = PageRows(limit).of_round(record)
    groups = {"selected": (_SELECTED, rows), "revised": (_REVISED, [row for row in rows if _is_revised(row)])}
    return {
        name: RoundTable(list(columns), [[_plain(get(row)) for get in columns.values()] for row in found[:max_rows]])
        for name, (columns, found) in groups.items()
    }


def _first_rejected(row: Mapping[str, Any]) -> int | None:
    """1-based, as a person counts."""
    return next((index + 1 for index, judged, *_ in row.get("verdicts", []) if judged == 0), None)


def _is_revised(row: Mapping[str, Any]) -> bool:
    if row["status"] != "ok":
        return False
    labelled, student = row["kind"] == "label" or "label" in row, row.get("student_answer")
    return _first_rejected(row) is not None or (labelled and student not in (None, _teacher_answer(row)))


def _teacher_answer(row: Mapping[str, Any]) -> str | None:
    """Where several labels can hold, the answer names them all."""
    return row.get("label", row.get("answer"))


def _plain(value: Any) -> Any:
    """Text that every tracker can store: no lone surrogates, no NUL."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


_MARKUP = {ord(sign): f"&#{ord(sign)};" for sign in "\\`*_{}[]()<>#+-.!|&~\"'=:$^"} | {
    ord("\n"): "<br>",
    ord("\r"): " ",
    ord("\t"): " ",
}


def _cell(value: Any) -> str:
    if isinstance(value, str) and value != "---":
        return value.translate(_MARKUP)
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
