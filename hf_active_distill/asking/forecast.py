"""What a run will cost, as ranges, with the assumption behind each figure. No call is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import ConfigurationError
from ..records import Usage
from ..teachers.base import TeacherRequest
from .bounds import byte_bound
from .budget import Budget, Prices


#: English text has about four bytes a token; the low end of an uncounted prompt is taken from that.
BYTES_PER_TOKEN = 4


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both possible."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = _number(self.low), _number(self.high)
        return low if low == high else f"{low} to {high}"

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def capped(self, cap: float | None) -> Range:
        """The same, with nothing over `cap`."""
        return self if cap is None else Range(min(self.low, cap), min(self.high, cap))


@dataclass(frozen=True)
class ForecastFigure:
    """
    Args:
        name (`str`): In words.
        foreseen ([`Range`]): Before the first call.
        spent (`float` or `None`): What it came to, where that is known.
        assumption (`str`): What the range was made from.
    """

    name: str
    foreseen: Range
    spent: float | None
    assumption: str


@dataclass(frozen=True)
class Forecast:
    """
    Args:
        rows (`int`): Rows to be asked about.
        calls ([`Range`]), prompt_tokens ([`Range`]), completion_tokens ([`Range`]), tokens ([`Range`]): Over all rows.
        cost ([`Range`] or `None`): Money, where prices are known.
        assumptions (`dict[str, str]`): Behind each figure, by its name.
    """

    rows: int
    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    tokens: Range
    cost: Range | None = None
    assumptions: dict[str, str] = field(default_factory=dict)

    def figures(self, spent: Usage | None = None, cost: float | None = None) -> list[ForecastFigure]:
        """The forecast figure by figure; with `spent`, what it came to stands beside it."""
        actual = {} if spent is None else _figures(spent, cost)
        names = ("calls", "prompt_tokens", "completion_tokens", "tokens", "cost")
        foreseen = {name: figure for name in names if (figure := getattr(self, name)) is not None}
        return [
            ForecastFigure(name.replace("_", " "), figure, actual.get(name), self.assumptions[name])
            for name, figure in foreseen.items()
        ]

    def lines(self, spent: Usage | None = None, cost: float | None = None) -> list[str]:
        """One line a figure; with `spent`, what it came to stands beside it."""
        out = []
        for figure in self.figures(spent, cost):
            came_to = "" if figure.spent is None else f"; spent {_number(figure.spent)}"
            out.append(f"{figure.name}: {figure.foreseen}{came_to} ({figure.assumption})")
        return out

    def to_dict(self) -> dict[str, Any]:
        """The forecast as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Forecast:
        """The forecast that [`to_dict`] gave."""
        ranges = {name: Range(**data[name]) for name in ("calls", "prompt_tokens", "completion_tokens", "tokens")}
        cost = None if data["cost"] is None else Range(**data["cost"])
        return cls(rows=data["rows"], cost=cost, assumptions=dict(data["assumptions"]), **ranges)


def forecast(
    plans: Sequence[Sequence[Sequence[TeacherRequest]]],
    *,
    rows: int | Sequence[float] | None = None,
    count: Callable[[TeacherRequest], int] | None = None,
    completion_tokens: tuple[float, float] | None = None,
    prices: Prices | None = None,
    budget: Budget | None = None,
) -> Forecast:
    """
    Adds up planned requests.

    Args:
        plans (`Sequence`): Per row, what [`~annotation.AnnotationMethod.plan`] gives: its requests at the fewest and
            at the most.
        rows (`int` or `Sequence[float]`, *optional*): Rows of the whole run where `plans` is a sample of them, or for
            each plan the rows that it stands for.
        count (`Callable`, *optional*): Prompt tokens of a request. Without it they lie between a quarter of the UTF-8
            bytes and the bound that the budget reserves.
        completion_tokens (`tuple[float, float]`, *optional*): Fewest and most tokens of an answer, where they are
            known from earlier calls. Without it they lie between 1 and `max_new_tokens`.
        prices ([`Prices`], *optional*): What the teacher charges.
        budget ([`Budget`], *optional*): Caps, which end the ranges, and prices where `prices` is not given.
    """
    if not plans:
        raise ConfigurationError("A forecast needs the planned requests of at least one row.")
    if any(len(plan) != 2 for plan in plans):
        raise ConfigurationError("The plan of a row is two lists of requests: the fewest and the most.")
    if rows is None or isinstance(rows, int):
        rows = [(len(plans) if rows is None else rows) / len(plans)] * len(plans)
    if len(rows) != len(plans):
        raise ConfigurationError(f"There are {len(plans)} plans: say of as many how many rows each stands for.")
    total = round(sum(rows))
    prices = prices if prices is not None else budget.prices if budget is not None else None
    low = _total([plan[0] for plan in plans], rows, count, completion_tokens, most=False)
    high = _total([plan[1] for plan in plans], rows, count, completion_tokens, most=True)
    cost = None if prices is None else Range(prices.cost(low), prices.cost(high))
    ranges = {
        "calls": Range(low.calls, high.calls),
        "prompt_tokens": Range(low.prompt_tokens, high.prompt_tokens),
        "completion_tokens": Range(low.completion_tokens, high.completion_tokens),
        "tokens": Range(low.total_tokens, high.total_tokens),
    }
    assumptions = _assumptions(plans, total, count is not None, completion_tokens, prices)
    if budget is not None:
        cost = _apply_caps(ranges, cost, budget, assumptions)
    return Forecast(total, cost=cost, assumptions=assumptions, **ranges)


def _total(
    plans: Sequence[Sequence[TeacherRequest]],
    weights: Sequence[float],
    count: Callable[[TeacherRequest], int] | None,
    completion_tokens: tuple[float, float] | None,
    *,
    most: bool,
) -> Usage:
    calls = prompt = completion = 0.0
    for requests, weight in zip(plans, weights, strict=True):
        for request in requests:
            calls += weight
            if count is not None:
                prompt += weight * count(request)
            else:
                prompt += weight * (byte_bound(request) if most else _few_tokens(request))
            if completion_tokens is not None:
                completion += weight * min(completion_tokens[most], request.params.max_new_tokens)
            else:
                completion += weight * (request.params.max_new_tokens if most else 1)
    return Usage(round(calls), round(prompt), round(completion))


def _few_tokens(request: TeacherRequest) -> int:
    texts = [request.prompt or ""] if request.messages is None else [dict(m)["content"] for m in request.messages]
    return max(1, sum(len(text.encode("utf-8", "surrogatepass")) for text in texts) // BYTES_PER_TOKEN)


def _assumptions(
    plans: Sequence[Sequence[Sequence[TeacherRequest]]],
    rows: int,
    counted: bool,
    completion_tokens: tuple[float, float] | None,
    prices: Prices | None,
) -> dict[str, str]:
    per_row = [[len(requests) for requests in plan] for plan in plans]
    few, many = min(fewest for fewest, _ in per_row), max(most for _, most in per_row)
    base = "all rows" if rows == len(plans) else f"{len(plans)} of {rows} rows, scaled up"
    notes = {
        "calls": f"{few} to {many} calls a row, planned on {base}; calls repeated after failures are not in it",
        "prompt_tokens": "counted by the tokenizer; replies that return in later turns at their planned length"
        if counted
        else f"from {BYTES_PER_TOKEN} bytes a token to the bound that the budget reserves",
        "completion_tokens": "from 1 token a reply to max_new_tokens"
        if completion_tokens is None
        else f"{completion_tokens[0]:.0f} to {completion_tokens[1]:.0f} tokens a reply, as in earlier calls",
        "tokens": "prompt and completion tokens together",
    }
    if prices is not None:
        notes["cost"] = f"{prices.input:g} in and {prices.output:g} out a million tokens, nothing read from a cache"
    return notes


def _apply_caps(
    ranges: dict[str, Range], cost: Range | None, budget: Budget, assumptions: dict[str, str]
) -> Range | None:
    caps = {
        "calls": budget.max_calls,
        "prompt_tokens": budget.max_prompt_tokens,
        "completion_tokens": budget.max_completion_tokens,
        "tokens": budget.max_tokens,
    }
    for name, cap in caps.items():
        if cap is not None and ranges[name].high > cap:
            ranges[name] = ranges[name].capped(cap)
            assumptions[name] += f"; ends at the cap of {_number(cap)}"
    if cost is not None and budget.max_cost is not None and cost.high > budget.max_cost:
        assumptions["cost"] += f"; ends at the cap of {_number(budget.max_cost)}"
        return cost.capped(budget.max_cost)
    return cost


def _figures(spent: Usage, cost: float | None) -> dict[str, float | None]:
    return {
        "calls": spent.calls,
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.completion_tokens,
        "tokens": spent.total_tokens,
        "cost": cost,
    }


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,.4g}"
