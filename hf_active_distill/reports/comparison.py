"""What a comparison says: the metric at each budget, the price of targets, paired tests; as text, pictures, a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DataError
from .statistics import (
    Curve,
    Interval,
    PairedTest,
    Price,
    area_under_curve,
    curve_at,
    holm,
    mean_interval,
    paired_test,
    price_of_target,
)


Point = Mapping[str, Any]
#: Instead of a price, where the student is at the target before anything is asked.
AT_START = "at its start"


@dataclass(frozen=True)
class Question:
    """
    What is asked of the points of a comparison.

    Args:
        budgets (`Sequence[int]`): Teacher tokens at which arms are compared, in rising order.
        reference (`str`): The arm that the others are compared with.
        metric (`str`, *optional*, defaults to `"accuracy"`): Metric of the evaluation.
        targets (`Sequence[float | str]`, *optional*): Metrics whose price is asked for; an arm's name stands for what
            it has at the last budget. Defaults to the reference.
        greater_is_better (`bool`, *optional*, defaults to `True`): Whether a greater metric is better.
        arms (`Sequence[str]`, *optional*): Arms and their order; by default all, as they come.
    """

    budgets: Sequence[int]
    reference: str
    metric: str = "accuracy"
    targets: Sequence[float | str] = ()
    greater_is_better: bool = True
    arms: Sequence[str] = ()


@dataclass
class ArmSummary:
    """
    One arm.

    Args:
        arm (`str`): Its name.
        seeds (`list[int]`): Seeds that are finished.
        at_budget (`list[Interval]`): The metric at each budget.
        area (`Interval`): Its mean on the way to the last budget.
        rise (`Interval`): From its first point to the last budget, seed by seed.
        spent (`dict[str, float]`): Mean of each cost at the end.
        against (`list[PairedTest | None]`): Against the reference at each budget, over common seeds.
        area_against (`PairedTest` or `None`): The same for the mean on the way.
        holm (`list[float | None]`): p of the paired t tests at each budget, adjusted for the number of arms.
        prices (`list[Price | None]`): Of each target.
    """

    arm: str
    seeds: list[int]
    at_budget: list[Interval]
    area: Interval
    rise: Interval
    spent: dict[str, float]
    against: list[PairedTest | None] = field(default_factory=list)
    area_against: PairedTest | None = None
    holm: list[float | None] = field(default_factory=list)
    prices: list[Price | None] = field(default_factory=list)


#: What a point costs: column of the points, and its name in pictures.
COSTS = {
    "teacher_tokens": "teacher tokens",
    "teacher_calls": "teacher calls",
    "samples": "rows asked about",
    "student_hours": "hours of the student",
}


def curves_of(points: Sequence[Point], arm: str, metric: str, cost: str = "teacher_tokens") -> dict[int, Curve]:
    """The curve of every seed of an arm."""
    by_seed: dict[int, list[Point]] = {}
    for point in points:
        if point["arm"] == arm and point.get(f"eval_{metric}") is not None:
            by_seed.setdefault(int(point["seed"]), []).append(point)
    for rows in by_seed.values():
        rows.sort(key=lambda row: row["round"])
    return {
        seed: ([float(row[cost]) for row in rows], [float(row[f"eval_{metric}"]) for row in rows])
        for seed, rows in sorted(by_seed.items())
    }


def arms_of(points: Sequence[Point], question: Question) -> list[str]:
    """The arms with points, in the order that is asked for."""
    found = list(dict.fromkeys(str(point["arm"]) for point in points))
    return [arm for arm in question.arms or found if arm in found]


def summarise(points: Sequence[Point], question: Question) -> list[ArmSummary]:
    """
    Answers a question from the points of finished runs.

    Raises:
        [`~errors.DataError`]: When no point holds the metric.
    """
    curves = {arm: curves_of(points, arm, question.metric) for arm in arms_of(points, question)}
    curves = {arm: of_seeds for arm, of_seeds in curves.items() if of_seeds}
    if not curves:
        metrics = sorted({key.removeprefix("eval_") for point in points for key in point if key.startswith("eval_")})
        raise DataError(f"No point holds the metric {question.metric!r}: there are {', '.join(metrics) or 'none'}.")
    limit = float(question.budgets[-1])
    summaries = [_of_arm(arm, points, curves, question, limit) for arm in curves]
    for place in range(len(question.budgets)):
        tested = [s for s in summaries if s.against and (test := s.against[place]) and test.t_test is not None]
        adjusted = iter(holm([s.against[place].t_test for s in tested]))  # type: ignore[union-attr, misc]
        for summary in summaries:
            summary.holm.append(next(adjusted) if summary in tested else None)
    return summaries


def _of_arm(
    arm: str, points: Sequence[Point], curves: Mapping[str, Mapping[int, Curve]], question: Question, limit: float
) -> ArmSummary:
    own = curves[arm]
    at = {seed: curve_at(curve, question.budgets) for seed, curve in own.items()}
    areas = {seed: area_under_curve(curve, limit) for seed, curve in own.items()}
    last = [[p for p in points if p["arm"] == arm and p["seed"] == seed][-1] for seed in own]
    summary = ArmSummary(
        arm=arm,
        seeds=list(own),
        at_budget=[mean_interval([values[place] for values in at.values()]) for place in range(len(question.budgets))],
        area=mean_interval(list(areas.values())),
        rise=mean_interval([at[seed][-1] - values[0] for seed, (_, values) in own.items()]),
        spent={cost: float(sum(p[cost] for p in last) / len(last)) for cost in COSTS},
        prices=[_price(target, own, curves, question, limit) for target in question.targets or [question.reference]],
    )
    reference = curves.get(question.reference, {})
    common = [seed for seed in own if seed in reference]
    if arm != question.reference and common:
        theirs = {seed: curve_at(reference[seed], question.budgets) for seed in common}
        sizes = (abs(value) for _, values in own.values() for value in values)
        scale = max((size for size in sizes if math.isfinite(size)), default=0.0)
        for place in range(len(question.budgets)):
            gains = [at[seed][place] - theirs[seed][place] for seed in common]
            summary.against.append(paired_test(gains, scale=scale))
        gains = [areas[seed] - area_under_curve(reference[seed], limit) for seed in common]
        summary.area_against = paired_test(gains, scale=scale)
    return summary


def _price(
    target: float | str,
    own: Mapping[int, Curve],
    curves: Mapping[str, Mapping[int, Curve]],
    question: Question,
    limit: float,
) -> Price | None:
    sign = 1.0 if question.greater_is_better else -1.0

    def turned(curve: Curve) -> Curve:
        return curve[0], [sign * value for value in curve[1]]

    if not isinstance(target, str):
        return price_of_target([turned(curve) for curve in own.values()], sign * target, limit=limit)
    theirs = curves.get(target, {})
    common = [seed for seed in own if seed in theirs]
    if not common:
        return None
    goals = [sign * float(curve_at(theirs[seed], [limit])[0]) for seed in common]
    price = price_of_target([turned(own[seed]) for seed in common], goals, limit=limit)
    return Price(price.value, price.low, price.high, price.n, price.reached, sign * price.target)


# ---------------------------------------------------------------------- text


def markdown(summaries: Sequence[ArmSummary], question: Question) -> str:
    """The tables of a comparison in Markdown."""
    return "\n\n".join(f"## {title}\n\n{note}\n\n{table(rows)}" for title, note, rows in tables(summaries, question))


def tables(summaries: Sequence[ArmSummary], question: Question) -> list[tuple[str, str, list[list[str]]]]:
    """(title, what it means, rows with a head) of every table."""
    return [
        (
            f"{question.metric.capitalize()} at equal teacher tokens",
            "Mean over seeds ± half of the 95% interval (Student's t). Straight lines between rounds; a run that "
            "spends less keeps its last value. The last columns: mean on the way to the largest budget, and what "
            "was spent at the end.",
            budget_table(summaries, question),
        ),
        (
            f"Teacher tokens to a target {question.metric}",
            "Where the mean curve over seeds first reaches the target; in brackets a 95% bootstrap interval over "
            "seeds. Shares of the largest budget follow. In square brackets: the seeds that an arm has in common "
            "with the target's, where these are not all of both, and the target over them."
            + _flat(summaries, question),
            price_table(summaries, question),
        ),
        (
            f"Against {question.reference}, seed by seed",
            "Mean difference ± half of its 95% interval; p of the paired t test, the same adjusted for the number of "
            "arms (Holm), and p of the sign-flip test, which cannot be below 2 / 2^n for n seeds.",
            difference_table(summaries, question),
        ),
    ]


def budget_table(summaries: Sequence[ArmSummary], question: Question) -> list[list[str]]:
    head = ["arm", "seeds", *(f"{budget:,} tokens" for budget in question.budgets), "on the way", "tokens", "rows"]
    rows = [
        [
            summary.arm,
            str(len(summary.seeds)),
            *(show_interval(interval) for interval in summary.at_budget),
            show_interval(summary.area),
            f"{summary.spent['teacher_tokens']:,.0f}",
            f"{summary.spent['samples']:,.0f}",
        ]
        for summary in summaries
    ]
    return [head, *rows]


def _flat(summaries: Sequence[ArmSummary], question: Question) -> str:
    """What is to be said of prices where the reference learns nothing that could be told from chance."""
    rise = next((summary.rise for summary in summaries if summary.arm == question.reference), None)
    sign = 1.0 if question.greater_is_better else -1.0
    worst = math.nan if rise is None else sign * (rise.low if sign > 0 else rise.high)
    if rise is None or (sign * rise.value > 0 and not worst <= 0):
        return ""
    return (
        f" {question.reference} does not rise above its start by more than its interval "
        f"({show_interval(rise, '+')}): what it costs to reach its level says little. Train it more first."
    )


def price_table(summaries: Sequence[ArmSummary], question: Question) -> list[list[str]]:
    targets = question.targets or [question.reference]
    names = [t if isinstance(t, str) else f"{t:g}" for t in targets]
    head = ["arm", *(name for title in names for name in (f"to {title}", "share"))]
    limit = question.budgets[-1]
    seeds = {summary.arm: len(summary.seeds) for summary in summaries}
    rows = []
    for summary in summaries:
        rows.append([summary.arm])
        for target, price in zip(targets, summary.prices, strict=True):
            whole = max(seeds[summary.arm], seeds.get(target, 0) if isinstance(target, str) else 0)
            partly = price is not None and price.n < whole
            rows[-1].append(show_price(price) + (f" [{_common(price)}]" if price is not None and partly else ""))
            rows[-1].append("" if price is not None and price.value == 0 else show_share(price, limit))
    return [head, *rows]


def _common(price: Price) -> str:
    return f"{price.n} seed{'s' if price.n > 1 else ''}, to {price.target:.3f}"


def difference_table(summaries: Sequence[ArmSummary], question: Question) -> list[list[str]]:
    head = ["arm", "tokens", "seeds", "difference", "p (t)", "p (Holm)", "p (sign flip)"]
    rows = [head]
    for summary in summaries:
        tests = zip(question.budgets, summary.against, summary.holm, strict=False)
        named = [(f"{budget:,}", test, adjusted) for budget, test, adjusted in tests]
        for name, test, adjusted in [*named, ("on the way", summary.area_against, None)]:
            if test is not None:
                figures = [show_p(test.t_test), show_p(adjusted), show_p(test.sign_flip)]
                rows.append([summary.arm, name, str(test.difference.n), show_interval(test.difference, "+"), *figures])
    return rows


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def show_interval(interval: Interval, sign: str = "") -> str:
    """`0.683 ± 0.030`; without `±` where one seed alone tells nothing of it."""
    value = f"{interval.value:{sign}.3f}"
    return value if math.isnan(interval.low) else f"{value} ± {(interval.high - interval.low) / 2:.3f}"


def show_price(price: Price | None) -> str:
    """`8,100 (6,900 to 9,400)`, with "not reached" where so, and "at its start" where nothing had to be paid."""
    if price is None:
        return "no common seed"
    if math.isnan(price.low) or price.low == price.high == price.value == 0:
        return _cost(price.value)
    if price.value == 0:
        return f"{AT_START} (to {_cost(price.high)})"
    return f"{_cost(price.value)} ({_cost(price.low)} to {_cost(price.high)})"


def show_share(price: Price | None, limit: float) -> str:
    """The price as a share of the largest budget."""
    if price is None or not math.isfinite(price.value):
        return ""
    return AT_START if price.value == 0 else f"{price.value / limit:.2f}"


def show_p(p: float | None) -> str:
    return "" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _cost(value: float) -> str:
    return AT_START if value == 0 else f"{value:,.0f}" if math.isfinite(value) else "not reached"
