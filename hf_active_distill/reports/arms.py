"""The arms of a comparison: a run, what was run beside it, and how far one can trust the difference."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..rounds import BINDING_SETTINGS, RoundStore, measured_metrics
from .statistics import mean_interval
from .values import number


#: Drawn where there is no evaluation, and on request.
_RATES = ("accept_rate", "probe_accept_rate")
#: Settings that make another arm. The pool may be drawn by the seed, and the name says the selection.
_OF_THE_ARM = tuple(name for name in BINDING_SETTINGS if name not in ("pool", "seed", "selection"))
Z95 = 1.96


@dataclass
class Arm:
    """
    One run as a line of the learning curve.

    Args:
        folder (`Path`): Its `output_dir`.
        name (`str`): Its selection, and what else tells it from the others. Runs of one name are seeds of one arm.
        settings (`dict[str, Any]`): As in `rounds/run.json`.
        history (`list[dict[str, Any]]`): Figures of the student as it came, where it was evaluated, and of every
            finished round.
    """

    folder: Path
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Arm:
        """Reads the arm whose `output_dir` is `folder`."""
        store = RoundStore(folder)
        settings = store.settings()
        return cls(folder, str(settings.get("selection", folder.name)), settings, store.history(len(store)))

    def metrics(self) -> list[str]:
        """Names of the figures that can be drawn, the accuracy first."""
        names = {name for row in self.history for name, value in row.items() if number(value) is not None}
        return measured_metrics(self.history) + [name for name in _RATES if name in names]

    def points(self, metrics: Sequence[str]) -> list[dict[str, Any]]:
        """One point a round: what had been spent by then, and each metric with its standard error."""
        points, cost = [], 0.0
        for row in self.history:
            price = number(row.get("teacher_cost"))
            cost += price or 0.0
            values = {name: [number(row.get(name)), number(row.get(f"{name}_stderr"))] for name in metrics}
            points.append(
                {
                    "round": row["round"],
                    "tokens": number(row.get("total_teacher_tokens")) or 0,
                    "calls": number(row.get("total_teacher_calls")) or 0,
                    "cost": number(cost),
                    "values": {name: value for name, value in values.items() if value[0] is not None},
                }
            )
        return points


def read_arms(output_dir: Path, beside: Iterable[Path] = ()) -> list[Arm]:
    """The run, the ones that a recipe put into `compare-NAME` folders of it, and those named; each once."""
    folders = [output_dir, *sorted(output_dir.glob("compare-*")), *beside]
    unique = {folder.resolve(): folder for folder in reversed(folders)}
    ordered = sorted(unique.values(), key=folders.index)
    return named_apart([Arm.read(folder) for folder in ordered if (folder / "rounds").is_dir()])


def named_apart(arms: list[Arm]) -> list[Arm]:
    """Puts the settings in which arms differ into their names, so that only seeds share one."""
    for key in _OF_THE_ARM:
        values = [json.dumps(arm.settings.get(key), sort_keys=True) for arm in arms]
        if len(set(values)) > 1:
            for arm, value in zip(arms, values, strict=True):
                if value != "null":
                    arm.name += ", " + (value.strip('"') if key == "annotation" else f"{key}={value}")
    return arms


def measured(rows: Sequence[dict[str, Any]], metric: str) -> list[tuple[float, float | None, int]]:
    """(value, standard error, tokens) of the rows that hold the metric."""
    found = []
    for row in rows:
        value = number(row.get(metric))
        if value is not None:
            tokens = number(row.get("total_teacher_tokens")) or 0
            found.append((float(value), number(row.get(f"{metric}_stderr")), int(tokens)))
    return found


def gains(arms: Sequence[Arm], metric: str) -> list[dict[str, Any]]:
    """What each arm gained from its first evaluation to its last, with a 95% interval where errors are known."""
    out = []
    for arm in arms:
        values = measured(arm.history, metric)
        if values:
            first, last = values[0], values[-1]
            out.append(
                {
                    "arm": arm.name,
                    "seed": number(arm.settings.get("seed")),
                    "first": number(first[0]),
                    "last": number(last[0]),
                    "half": _half_width(last[1]),
                    "tokens": last[2],
                    "gain": number(last[0] - first[0]),
                    "gain_half": _half_width(first[1], last[1]) if len(values) > 1 else None,
                }
            )
    return out


def differences(arms: Sequence[Arm], metric: str) -> list[dict[str, Any]]:
    """The first arm against each of the others, at the end of both."""
    ends = [(arm, values[-1]) for arm in arms if (values := measured(arm.history, metric))]
    if not ends or ends[0][0] is not arms[0]:
        return []
    (_, own), *others = ends
    return [
        {
            "arm": arm.name,
            "seed": number(arm.settings.get("seed")),
            "difference": number(own[0] - other[0]),
            "half": _half_width(own[1], other[1]),
            "tokens": [own[2], other[2]],
        }
        for arm, other in others
    ]


def over_seeds(arms: Sequence[Arm], metric: str) -> list[dict[str, Any]]:
    """
    Mean, lowest and highest final value of every arm over the seeds that it was run with, and half of the mean's 95%
    interval by Student's t, where SciPy is there to give it.
    """
    finals: dict[str, dict[Any, float]] = {}
    for arm in arms:
        values = measured(arm.history, metric)
        if values:
            finals.setdefault(arm.name, {})[arm.settings.get("seed")] = values[-1][0]
    return [
        {
            "arm": name,
            "seeds": len(by_seed),
            "mean": number(statistics.fmean(by_seed.values())),
            "half": _reach(list(by_seed.values())),
            "low": number(min(by_seed.values())),
            "high": number(max(by_seed.values())),
        }
        for name, by_seed in finals.items()
    ]


def _reach(values: list[float]) -> float | int | None:
    try:
        found = mean_interval(values)
    except ConfigurationError:  # SciPy is an extra
        return None
    return number(found.high - found.value)


def _half_width(*errors: float | None) -> float | None:
    """
    Half of a 95% interval of a value, or of the difference of two. The two were measured on the same rows, which are
    as a rule hard or easy for both: the interval is wider than one that knew the rows.
    """
    known = [error for error in errors if error is not None]
    return number(Z95 * math.hypot(*known)) if len(known) == len(errors) else None
