"""Tables of `classification.py`: means over seeds with 95% intervals, and differences paired by seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_active_distill.reports.statistics import mean_interval


CHOOSING_SEEDS = (0, 1)
REFERENCES = ("full_pool", "full_pool_steps")


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
            calls = -1 if row.arm in REFERENCES else row.calls
            if row.arm in ("llkd", "teacher_gate", "student_gate", "full_pool_steps") and self._is_full(row):
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
        for arm in ("llkd", "teacher_gate", "student_gate"):
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
            if arm == other or arm in REFERENCES:
                continue
            cells = [
                cell(self.difference(arm, calls, other, calls if other_calls is None else other_calls), sign=True)
                for calls in self.budgets
            ]
            lines.append(f"| `{arm}` | " + " | ".join(cells) + " |")
        return lines

    def best(self) -> list[str]:
        """The best strategy from 200 calls on by the choosing seeds, against random on the other ones."""
        others = [arm for arm in self.arms if arm not in REFERENCES and arm not in ("random", "llkd")]
        others = [arm for arm in others if not arm.endswith("_gate") or arm == "llkd_gate"]
        budgets = [calls for calls in self.budgets if calls >= 200]
        gains = {}
        for arm in others:
            found = [self.difference(arm, calls, "random", calls, CHOOSING_SEEDS) for calls in budgets]
            if all(found):
                gains[arm] = float(np.mean([np.mean(values) for values in found]))
        if not gains:
            return []
        best = max(gains, key=gains.__getitem__)
        rest = [seed for seed in {row.seed for row in self.rows} if seed not in CHOOSING_SEEDS]
        lines = [
            f"Chosen on seeds {list(CHOOSING_SEEDS)}: `{best}` ({gains[best]:+.3f} over random on average). On seeds "
            f"{sorted(rest)}, less random at the same calls:",
            "",
            "| calls | macro-F1 less random | seeds |",
            "|---|---|---|",
        ]
        for calls in budgets:
            values = self.difference(best, calls, "random", calls, rest)
            lines.append(f"| {calls} | {cell(values, sign=True)} | {len(values)} |")
        return lines


def write_report(rows: list[Any], path: Path) -> None:
    """Everything in markdown."""
    lines: list[str] = []
    for regime in dict.fromkeys(row.regime for row in rows):
        for data in dict.fromkeys(row.data for row in rows if row.regime == regime):
            part = [row for row in rows if row.regime == regime and row.data == data]
            table = Table(part)
            teacher = cell([row.teacher_accuracy for row in {row.seed: row for row in part}.values()])
            seeds = sorted({row.seed for row in part})
            lines += [f"## {data}, {regime}", "", f"Seeds {seeds}; the teacher is right on {teacher} of the pool.", ""]
            lines += ["Macro-F1 by teacher calls:", "", *table.curve("macro_f1"), ""]
            lines += ["Accuracy by teacher calls:", "", *table.curve("accuracy"), ""]
            lines += ["Macro-F1 less that of `random` at the same calls, paired by seed:", ""]
            lines += [*table.against("random", None), ""]
            lines += ["Macro-F1 less that of the full pool, paired by seed:", "", *table.against("full_pool", -1), ""]
            lines += [*table.shares(), "", *table.best(), ""]
    path.write_text("\n".join(lines), encoding="utf-8")
    print(f"{path} is written.")
