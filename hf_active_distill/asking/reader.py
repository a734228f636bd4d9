"""Reading a journal, beside its writer or long after it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import JournalError
from ..records import Usage
from . import schema
from .rows import JournalRow


if TYPE_CHECKING:
    import pyarrow

FILTERS = ("id", "run", "row_id", "round", "kind", "state", "model", "key")
USAGE_COLUMNS = "calls, prompt_tokens, completion_tokens, reasoning_tokens, cached_prompt_tokens, estimated"
_COLUMNS = (
    "id, key, run, row_id, round, kind, turn, model, revision, sample_index, attempt, state, content, answer, error, "
    "bound_prompt_tokens, bound_completion_tokens, cost, latency, clock, sent_at, finished_at"
)


def spent(db: sqlite3.Connection, run: str) -> tuple[Usage, float]:
    """What a run has used so far and its seconds of asking: a sum over its rows."""
    query = (
        "SELECT total(calls), total(prompt_tokens), total(completion_tokens), total(reasoning_tokens), "
        "total(cached_prompt_tokens), coalesce(max(estimated), 0), coalesce(max(clock), 0.0) FROM calls WHERE run = ?"
    )
    *figures, seconds = db.execute(query, (run,)).fetchone()
    return usage_of([int(figure) for figure in figures]), seconds


def usage_of(figures: Sequence[int]) -> Usage:
    """The usage that stands in the columns [`USAGE_COLUMNS`]."""
    calls, prompt, completion, reasoning, cached, estimated = figures
    return Usage(calls, prompt, completion, reasoning, cached, bool(estimated))


def select(db: sqlite3.Connection, *, limit: int | None = None, **filters: Any) -> Iterator[JournalRow]:
    """The rows whose columns equal the filters, in the order of sending. `limit` takes the last ones."""
    unknown = set(filters) - set(FILTERS)
    if unknown:
        raise JournalError(f"A journal is filtered by {', '.join(FILTERS)}, not by {', '.join(sorted(unknown))}.")
    given = {name: value for name, value in filters.items() if value is not None}
    where = " AND ".join(f"{name} = ?" for name in given) or "1"
    query = f"SELECT {_COLUMNS}, {USAGE_COLUMNS} FROM calls WHERE {where} ORDER BY id"
    values: list[Any] = list(given.values())
    if limit is not None:
        query = f"SELECT * FROM ({query} DESC LIMIT ?) ORDER BY id"
        values.append(limit)
    names = _COLUMNS.split(", ")
    for row in db.execute(query, values):
        yield JournalRow(**dict(zip(names, row, strict=False)), usage=usage_of(row[len(names) :]))


class JournalReader:
    """
    A look into a journal that another process may be writing.

    Args:
        path (`str` or `Path`): The file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._db = schema.open_for_reading(self.path)

    def rows(self, *, limit: int | None = None, **filters: Any) -> Iterator[JournalRow]:
        """
        The rows in the order of sending.

        Args:
            limit (`int`, *optional*): Only the last so many.
            filters: Wanted values of `id`, `run`, `row_id`, `round`, `kind`, `state`, `model` or `key`.
        """
        try:
            yield from select(self._db, limit=limit, **filters)
        except sqlite3.Error as error:
            raise schema.explain(error, self.path) from error

    def runs(self) -> list[str]:
        """The runs that have rows, in the order of their first."""
        return [run for (run,) in self._query("SELECT run FROM calls GROUP BY run ORDER BY min(id)")]

    def spent(self, run: str = "") -> tuple[Usage, float]:
        """What a run has used so far and its seconds of asking."""
        return spent(self._db, run)

    def states(self, run: str | None = None) -> dict[str, int]:
        """How many rows are in each state."""
        where, values = ("", ()) if run is None else ("WHERE run = ?", (run,))
        return dict(self._query(f"SELECT state, count(*) FROM calls {where} GROUP BY state", values))

    def cost(self, run: str) -> float | None:
        """Money that a run's rows were booked at, `None` where no prices were known."""
        return self._query("SELECT sum(cost) FROM calls WHERE run = ?", (run,))[0][0]

    def integrity(self) -> str:
        """SQLite's own verdict over the whole file: `"ok"`, or what is wrong with it."""
        return "\n".join(line for (line,) in self._query("PRAGMA integrity_check"))

    def export_parquet(self, target: str | Path, **filters: Any) -> int:
        """Writes the filtered rows to a parquet file and returns their number."""
        import pyarrow.parquet

        rows = self.rows(**filters)
        count = 0
        with pyarrow.parquet.ParquetWriter(target, _arrow_schema()) as writer:
            while chunk := list(islice(rows, 1000)):
                writer.write_table(pyarrow.Table.from_pylist([_export(row) for row in chunk], schema=_arrow_schema()))
                count += len(chunk)
        return count

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _query(self, query: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, tuple(values)).fetchall()
        except sqlite3.Error as error:
            raise schema.explain(error, self.path) from error


def _export(row: JournalRow) -> dict[str, Any]:
    reply = row.reply
    text = {"text": reply.text, "reasoning": reply.reasoning, "finish_reason": reply.finish_reason} if reply else {}
    return {**row.to_dict(), **text}


def _arrow_schema() -> pyarrow.Schema:
    import pyarrow

    integers = (
        "id round turn sample_index attempt calls prompt_tokens completion_tokens reasoning_tokens "
        "cached_prompt_tokens bound_prompt_tokens bound_completion_tokens"
    )
    floats = "cost latency clock"
    strings = (
        "key run row_id kind model revision state content answer text reasoning finish_reason error sent_at "
        "finished_at"
    )
    types = {
        **dict.fromkeys(integers.split(), pyarrow.int64()),
        **dict.fromkeys(strings.split(), pyarrow.large_string()),
        **dict.fromkeys(floats.split(), pyarrow.float64()),
        "estimated": pyarrow.bool_(),
    }
    return pyarrow.schema(list(types.items()))
