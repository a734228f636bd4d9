"""Every point of every run: what was spent and what was measured, one row each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..rounds import RoundStore
from .config import Run


CLOCK_FILE = "clock.json"


def points_of(run: Run) -> list[dict[str, Any]]:
    """
    The points of a finished run; the first, round -1, is the student before any question.

    Costs are running totals: tokens and calls as the arm would have paid them alone, rows asked about with those that
    failed, and hours of scoring and training (wall clock, evaluation and waiting for the teacher left out).
    """
    store = RoundStore(run.folder)
    clock = _clock(run.folder)
    points, samples, seconds = [], 0, 0.0
    for figures in store.history(len(store)):
        index = int(figures["round"])
        samples += figures.get("annotated", 0) + figures.get("failed", 0)
        seconds += clock.get(str(index), 0.0)
        points.append(
            {
                "arm": run.arm,
                "seed": run.seed,
                "round": index,
                "selection": run.settings.get("selection"),
                "annotation": run.settings.get("annotation"),
                "teacher_tokens": figures["total_teacher_tokens"],
                "teacher_calls": figures.get("total_teacher_calls", 0),
                "samples": samples,
                "student_hours": seconds / 3600,
                "stop_reason": figures.get("stop_reason"),
                **{key: float(value) for key, value in figures.items() if _is_metric(key, value)},
            }
        )
    return points


def _is_metric(key: str, value: Any) -> bool:
    wanted = key.startswith("eval_") or key in ("accept_rate", "probe_accept_rate", "annotated", "train_rows")
    return wanted and isinstance(value, int | float)


def _clock(folder: Path) -> dict[str, float]:
    path = folder / CLOCK_FILE
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def write_points(points: Iterable[Mapping[str, Any]], path: str | Path) -> Path:
    """Writes points to a parquet file; a metric that a point lacks is null."""
    import pyarrow
    import pyarrow.parquet

    rows = list(points)
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    partial = Path(path).with_name(Path(path).name + ".partial")
    pyarrow.parquet.write_table(table, partial)
    partial.replace(path)
    return Path(path)


def read_points(path: str | Path) -> list[dict[str, Any]]:
    """
    Points as [`write_points`] wrote them.

    Raises:
        [`~errors.DataError`]: When there is no such file.
    """
    import pyarrow.parquet

    if not Path(path).is_file():
        raise DataError(f"There is no {path}: `hf-active-distill compare` writes it.")
    return pyarrow.parquet.read_table(path).to_pylist()
