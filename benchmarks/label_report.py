"""Tables of `classification.py`: means over seeds with 95% intervals, and differences paired by seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_active_distill.reports.statistics import mean_interval


CHOOSING_SEEDS = (0, 1, 2, 3, 4)
GATES = ("llkd", "teacher_gate", "student_gate")


def is_reference(arm: str) -> bool:
    """Whether an arm learns from the whole pool."""
    return arm.startswith("full_pool")


def cell(values: Sequence[float], digits: int = 3, sign: bool = False) -> str:
    if not values:
        return ""
    found = mean_interval(values)
    mean, width = found.value, (found.high - found.low) / 2
    form = f"{{:{'+' if sign else ''}.{digits}f}}"
    return form.format(mean) + (f" ± {width:.{digits}f}" if len(values) > 1 else "")


class Table:
    """Results of one regime and data set, by arm, calls and seed."""

    def __init__(self, rows: list[Any]):
        self.rows = rows
        self.by_cell: dict[tuple[str, int], dict[int, Any]] = defaultdict(dict)
        for row in rows:
            calls = -1 if is_reference(row.arm) else row.calls
            if row.arm in GATES and self._is_full(row):
                calls = -1
            self.by_cell[row.arm, calls][row.seed] = row
        self.arms = list(dict.fromkeys(row.arm for row in rows))
        self.budgets = sorted({calls for _, calls in self.by_cell if calls > 0})

    def _is_full(self, row: Any) -> bool:
        return row.calls == max(other.calls for other in self.rows if other.seed == row.seed)

    def values(self, arm: str, calls: int, metric: str = "macro_f1") -> list[float]:
        return [getattr(row, metric) for _, row in sorted(self.by_cell.get((arm, calls), {}).items())]

    def difference(self, arm: str, calls: int, other: str, other_calls: int, seeds: Sequence[int] | None = None):
        first, second = self.by_cell.get((arm, calls), {}), self.by_cell.get((other, other_calls), {})
        shared = [seed for seed in sorted(set(first) & set(second)) if seeds is None or seed in seeds]
        return [first[seed].macro_f1 - second[seed].macro_f1 for seed in shared]

    def curve(self, metric: str) -> list[str]:
        lines = ["| arm | " + " | ".join(map(str, self.budgets)) + " | all |"]
        lines.append("|---" * (len(self.budgets) + 2) + "|")
        for arm in self.arms:
            cells = [cell(self.values(arm, calls, metric)) for calls in (*self.budgets, -1)]
            lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
        return lines

    def shares(self) -> list[str]:
        """Rows that the gates trained on."""
        lines = ["| arm | calls | share of the labelled rows trained on | macro-F1 less its reference |"]
        lines.append("|---|---|---|---|")
        for arm in GATES:
            rows = self.by_cell.get((arm, -1), {}).values()
            if not rows:
                continue
            share = cell([row.trained_rows / row.calls for row in rows])
            reference = "full_pool_steps" if self.values("full_pool_steps", -1) else "full_pool"
            lines.append(f"| `{arm}` | all | {share} | {cell(self.difference(arm, -1, reference, -1), sign=True)} |")
        return lines

    def against(self, other: str, other_calls: int | None) -> list[str]:
        """Paired differences in macro-F1 against another arm, at the same calls where `other_calls` is `None`."""
        lines = ["| arm | " + " | ".join(map(str, self.budgets)) + " |", "|---" * (len(self.budgets) + 1) + "|"]
        for arm in self.arms:
            if arm == other or is_reference(arm):
                continue
            cells = [
                cell(self.difference(arm, calls, other, calls if other_calls is None else other_calls), sign=True)
                for calls in self.budgets
            ]
            lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
        return lines

    def times(self) -> list[str]:
        """Wall-clock seconds of an arm up to its largest number of calls."""
        lines = ["| arm | seconds |", "|---|---|"]
        for arm in self.arms:
            calls = max(calls for name, calls in self.by_cell if name == arm)
            lines.append(f"| `{arm}` | {cell(self.values(arm, calls, 'seconds'), digits=1)} |")
        return lines

    def gain(self, arm: str, base: str, seeds: Sequence[int]) -> float | None:
        """Mean over the budgets from 200 calls on of what an arm has over `base`; `None` where it was not run."""
        found = [self.difference(arm, calls, base, calls, seeds) for calls in self.budgets if calls >= 200]
        return float(np.mean([np.mean(values) for values in found])) if found and all(found) else None


def choice(tables: dict[str, Table]) -> list[str]:
    """
    One strategy for all sets, the best over `random` on the choosing seeds, and what it brings on the others. Arms
    with balanced class weights are compared with random rows and the same weights.
    """
    rest = sorted({row.seed for table in tables.values() for row in table.rows} - set(CHOOSING_SEEDS))
    lines: list[str] = []
    for base in ("random", "random+balanced"):
        gains = {}
        for arm in next(iter(tables.values())).arms:
            if is_reference(arm) or arm in (*GATES, base) or arm.partition("+")[2] != base.partition("+")[2]:
                continue
            values = [table.gain(arm, base, seeds) for seeds in (CHOOSING_SEEDS, rest) for table in tables.values()]
            if None not in values:
                gains[arm] = float(np.mean(values[: len(tables)]))
        if not gains:
            continue
        order = sorted(gains, key=gains.__getitem__, reverse=True)
        lines += [f"Mean macro-F1 over `{base}` from 200 calls on, seeds {list(CHOOSING_SEEDS)}:", ""]
        lines += [", ".join(f"`{arm}` {gains[arm]:+.3f}" for arm in order) + ".", ""]
        lines += [*_on_others(tables, order[0], base, rest), ""]
    if lines:
        lines += _on_others(tables, "random+balanced", "random", rest)
    return lines


def _on_others(tables: dict[str, Table], arm: str, base: str, seeds: Sequence[int]) -> list[str]:
    budgets = sorted({calls for table in tables.values() for calls in table.budgets if calls >= 200})
    lines = [f"`{arm}` less `{base}` at the same calls, on seeds {list(seeds)}:", ""]
    lines += ["| set | " + " | ".join(map(str, budgets)) + " |", "|---" * (len(budgets) + 1) + "|"]
    for name, table in tables.items():
        cells = [cell(table.difference(arm, calls, base, calls, seeds), sign=True) for calls in budgets]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def write_report(rows: list[Any], path: Path) -> None:
    """Everything in markdown."""
    lines: list[str] = []
    for regime in dict.fromkeys(row.regime for row in rows):
        tables = {}
        for data in dict.fromkeys(row.data for row in rows if row.regime == regime):
            part = [row for row in rows if row.regime == regime and row.data == data]
            table = tables[data] = Table(part)
            teacher = cell([row.teacher_accuracy for row in {row.seed: row for row in part}.values()])
            seeds = sorted({row.seed for row in part})
            lines += [f"## {data}, {regime}", "", f"Seeds {seeds}; the teacher is right on {teacher} of the pool.", ""]
            lines += ["Macro-F1 by teacher calls:", "", *table.curve("macro_f1"), ""]
            lines += ["Accuracy by teacher calls:", "", *table.curve("accuracy"), ""]
            lines += ["Macro-F1 less that of `random` at the same calls, paired by seed:", ""]
            lines += [*table.against("random", None), ""]
            lines += ["Macro-F1 less that of the full pool, paired by seed:", "", *table.against("full_pool", -1), ""]
            lines += [*table.shares(), ""]
            lines += ["Wall-clock of one run, on a machine that did other things beside it:", "", *table.times(), ""]
        lines += [f"## One strategy for all sets, {regime}", "", *choice(tables)]
    path.write_text("\n".join(lines), encoding="utf-8")
    print(f"{path} is written.")
