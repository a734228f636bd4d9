"""What a run's folder says, gathered into the one object that the page shows."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..asking import read_spending
from ..errors import ActiveDistillError, DataError
from ..evaluation import wilson_interval
from ..records import Annotation, Usage
from ..rounds import RoundRecord, RoundStore
from .arms import Arm, differences, gains, over_seeds, read_arms
from .labels import evaluation_review, kept_shares, label_review
from .rows import PageRows
from .values import clip, number


BINS = 30
MAX_SETTING = 300


def gather(output_dir: str | Path, *, beside: Iterable[str | Path] = (), max_bytes: int) -> dict[str, Any]:
    """
    Reads a run, finished or not.

    Args:
        output_dir (`str` or `Path`): The run's folder.
        beside (`Iterable`, *optional*): Folders of other runs: arms or seeds to compare with.
        max_bytes (`int`): Room for the rows, as JSON. Texts are cut as far as they must be, and the oldest rows are
            left out where that is not enough.

    Raises:
        [`~errors.DataError`]: When the folder holds no round.
    """
    folder = Path(output_dir)
    records = RoundStore(folder).records()
    if not records:
        raise DataError(f"{folder} holds no round yet: name the `output_dir` of a run that has asked its teacher.")
    arms = read_arms(folder, map(Path, beside))
    metrics = arms[0].metrics()
    finished = {row["round"]: row for row in arms[0].history}
    last = finished.get(records[-1].round, {})
    return {
        "name": folder.resolve().name,
        "version": __version__,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": _settings(arms[0]),
        "planned_rounds": number(arms[0].settings.get("num_rounds")),
        "stop_reason": last.get("stop_reason"),
        "metrics": metrics,
        "arms": [
            {"name": arm.name, "seed": number(arm.settings.get("seed")), "points": arm.points(metrics)} for arm in arms
        ],
        "forecast": _forecast(folder),
        "rounds": [_round(record, finished.get(record.round)) for record in records],
        "spent": spent_on(records),
        "scores": score_histograms(records),
        "probe": [row for record in records for row in probe_rows(record)],
        "gains": gains(arms, metrics[0]) if metrics else [],
        "differences": differences(arms, metrics[0]) if metrics else [],
        "review": label_review(folder),
        "eval_review": evaluation_review(folder),
        "kept_shares": kept_shares(arms[0].history),
        "seeds": over_seeds(arms, metrics[0]) if metrics else [],
        **fitting_rows(records, max_bytes),
    }


def _settings(arm: Arm) -> list[list[str]]:
    given = {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in arm.settings.items()
        if value is not None
    }
    return [[name, clip(value, MAX_SETTING)] for name, value in given.items()]


def _forecast(folder: Path) -> list[dict[str, Any]]:
    try:
        spending = read_spending(folder)
    except ActiveDistillError:  # a run that could not be foreseen, or whose journal stands elsewhere
        return []
    return [
        {
            "name": figure.name,
            "low": number(figure.foreseen.low),
            "high": number(figure.foreseen.high),
            "spent": number(figure.spent),
            "assumption": figure.assumption,
        }
        for figure in spending.forecast.figures(spending.usage, spending.cost)
    ]


def _round(record: RoundRecord, metrics: dict[str, Any] | None) -> dict[str, Any]:
    figures = {**record.figures(), **(metrics or {})}
    return {
        **{name: value for name, value in figures.items() if number(value) is not None},
        "trained": metrics is not None,
        "seconds": {name: number(value) for name, value in record.seconds.items()},
    }


def spent_on(records: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    """What the teacher's tokens went into: rows that are trained on, rows that failed, and why."""
    groups: dict[str, list[Annotation]] = {"used": []}
    for record in records:
        for annotation in record.annotations:
            name = "used" if annotation.status == "ok" else f"failed: {annotation.reason or 'unknown'}"
            groups.setdefault(name, []).append(annotation)
    rows = [
        _spent(name, len(group), sum((a.usage for a in group), Usage()), [a.cost for a in group])
        for name, group in groups.items()
    ]
    unfinished = sum(len(record.unfinished_ids) for record in records)
    if unfinished:
        usage = sum((record.unfinished_usage for record in records), Usage())
        rows.append(_spent("not reached by the budget", unfinished, usage, []))
    return rows


def _spent(name: str, rows: int, usage: Usage, costs: Sequence[float | None]) -> dict[str, Any]:
    known = [cost for cost in costs if cost is not None]
    return {
        "what": clip(name, MAX_SETTING),
        "rows": rows,
        "calls": usage.calls,
        "prompt": usage.prompt_tokens,
        "completion": usage.completion_tokens,
        "reasoning": usage.reasoning_tokens,
        "tokens": usage.total_tokens,
        "cost": number(sum(known)) if known else None,
        "estimated": usage.estimated,
    }


def score_histograms(records: Sequence[RoundRecord]) -> dict[str, Any] | None:
    """Candidates and chosen rows of each round by score, over bins that all rounds share."""
    finite = {
        record.round: {key: value for key, value in record.scores.items() if number(value) is not None}
        for record in records
    }
    everything = [value for scores in finite.values() for value in scores.values()]
    if not everything:
        return None
    edges = np.histogram_bin_edges(np.array(everything, dtype=np.float64), bins=BINS)
    rounds = []
    for record in records:
        scores = finite[record.round]
        random = set(record.random_ids)
        chosen = [scores[key] for key in record.selected_ids if key in scores and key not in random]
        rounds.append(
            {
                "round": record.round,
                "all": np.histogram(list(scores.values()), edges)[0].tolist(),
                "chosen": np.histogram(chosen, edges)[0].tolist(),
                "median": number(float(np.median(list(scores.values())))) if scores else None,
                "chosen_median": number(float(np.median(chosen))) if chosen else None,
                "without": len(record.scores) - len(scores),
            }
        )
    return {"edges": [number(float(edge)) for edge in edges], "rounds": rounds}


def probe_rows(record: RoundRecord) -> list[dict[str, Any]]:
    """
    How the student did on the rows of a round that were drawn at random, beside those that were chosen. Rows are the
    units: the steps of one row stand and fall together.
    """
    random = set(record.random_ids)
    out = []
    for group, wanted in (("random", True), ("chosen", False)):
        found = [a for a in record.annotations if (a.row_id in random) is wanted]
        judged = [a for a in found if a.judged_steps]
        whole = sum(a.accepted_steps == a.judged_steps for a in judged)
        answered = [pair for a in found if a.status == "ok" and None not in (pair := answers(a))]
        agreed = sum(student == teacher for student, teacher in answered)
        if found:
            out.append(
                {
                    "round": record.round,
                    "group": group,
                    "rows": len(found),
                    "accepted": _share(whole, len(judged)),
                    "agreed": _share(agreed, len(answered)),
                }
            )
    return out


def answers(annotation: Annotation) -> tuple[str | None, str | None]:
    """The student's answer and the teacher's; of a task that classifies, their labels."""
    student = annotation.student.answer if annotation.student is not None else None
    return student, annotation.label if annotation.label is not None else annotation.answer


def _share(count: int, total: int) -> list[float | int | None] | None:
    """[count, of, low, high] with Wilson's 95% interval."""
    if not total:
        return None
    low, high = wilson_interval(count, total)
    return [count, total, number(low), number(high)]


#: Longest text of a row, tried one after the other until the page is small enough.
LIMITS = (4000, 2000, 1000, 500, 250, 120)


def fitting_rows(records: Sequence[RoundRecord], max_bytes: int) -> dict[str, Any]:
    """The rows of all rounds, with texts as long as `max_bytes` allows; at the least, the newest rows."""
    for limit in LIMITS:
        maker = PageRows(limit)
        rows = [row for record in records for row in maker.of_round(record)]
        sizes = [_size(row) for row in rows]
        room = max_bytes - _size(maker.shared)
        if sum(sizes) <= room:
            break
    kept, first = 0, len(rows)
    while first > 0 and kept + sizes[first - 1] <= room:
        first -= 1
        kept += sizes[first]
    return {"rows": rows[first:], "left_out": first, "text_limit": limit, **maker.shared}


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")) + 1
