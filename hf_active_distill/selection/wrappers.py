"""Around any strategy: fewer candidates, a share of random picks, and the check of what came back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..errors import SelectionError
from .base import Candidate, SelectionContext, SelectionResult, SelectionStrategy, Selector, SignalRequest
from .options import require_range
from .registry import StrategyLike, as_strategy, register_strategy


@register_strategy("random")
@dataclass
class RandomSelection(SelectionStrategy):
    """U = 0 for every row, so the seeded generator alone decides: each set of n rows is as likely as any other."""

    name: ClassVar[str] = "random"

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        return 0.0

    def select(self, context: SelectionContext) -> SelectionResult:
        result = super().select(context)
        return replace(result, reasons=dict.fromkeys(result.ids, "random"))


class Wrapper(SelectionStrategy):
    """Base of strategies around others: it asks for what they ask for."""

    def inner(self) -> tuple[SelectionStrategy, ...]:
        """The strategies inside."""
        raise NotImplementedError

    @property
    def needs_labelled(self) -> tuple[SignalRequest, ...]:
        return _once(request for strategy in self.inner() for request in strategy.needs_labelled)

    def requests(self) -> tuple[SignalRequest, ...]:
        return _once(request for strategy in self.inner() for request in strategy.requests())

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        return self.inner()[0].score(candidate, context)


def _once(requests: Iterable[SignalRequest]) -> tuple[SignalRequest, ...]:
    return tuple(dict.fromkeys(requests))


@register_strategy("random_share")
@dataclass
class RandomShare(Wrapper):
    """
    Any strategy with a share of its rows picked at random: a guard against what the student gets wrong with
    confidence, and an unbiased look at the pool. They are drawn first, from all candidates; they come last in the
    result, and their reason is "random".

    Args:
        strategy (`SelectionStrategy`, name or mapping): Chooses the rest.
        share (`float`): From 0 to 1. With n rows to choose, `round(share * n)` are picked at random (halves up).
    """

    name: ClassVar[str] = "random_share"
    strategy: StrategyLike
    share: float

    def __post_init__(self) -> None:
        require_range("share", self.share, 0, 1)
        self._strategy = as_strategy(self.strategy)

    def inner(self) -> tuple[SelectionStrategy, ...]:
        return (self._strategy,)

    def select(self, context: SelectionContext) -> SelectionResult:
        n_random = int(np.floor(self.share * context.n + 0.5))
        # Drawn before the strategy chooses: what is left after it would be a biased sample of the pool.
        drawn = set(context.generator.choice(len(context.candidates), size=n_random, replace=False).tolist())
        picks = [candidate.row_id for i, candidate in enumerate(context.candidates) if i in drawn]
        result = choose(self._strategy, replace(context, n=context.n))
        result = replace(result, ids=[row_id for row_id in result.ids if row_id not in set(picks)])
        result = replace(result, ids=result.ids[: context.n - n_random])
        reasons = {row_id: result.reasons[row_id] for row_id in result.ids} | dict.fromkeys(picks, "random")
        return SelectionResult(result.ids + picks, result.scores, reasons)


def draw_candidates(ids: Sequence[str], n: int | None, generator: np.random.Generator) -> list[str]:
    """
    The rows that are looked at in one round: `n` of `ids` at random, in the order of `ids`.

    Args:
        ids (`Sequence[str]`): What is left in the pool.
        n (`int` or `None`): How many; `None` is all.
        generator (`np.random.Generator`): Seeded by run and round.
    """
    if n is None or n >= len(ids):
        return list(ids)
    require_range("candidates_per_round", n, 1)
    return [ids[i] for i in sorted(generator.choice(len(ids), size=n, replace=False))]


def choose(strategy: Selector, context: SelectionContext) -> SelectionResult:
    """
    Runs a strategy and checks its result: `n` different ids of candidates, a score of every candidate that is a
    finite number, a reason for every choice. [`~errors.SelectionError`] says what is wrong.
    """
    result = strategy.select(context)
    known = {candidate.row_id for candidate in context.candidates}
    expected = min(context.n, len(known))
    foreign = [row_id for row_id in result.ids if row_id not in known]
    twice = [row_id for row_id, count in Counter(result.ids).items() if count > 1]
    unscored = [row_id for row_id in known if not np.isfinite(result.scores.get(row_id, np.nan))]
    if foreign:
        problem = f"chose {foreign[0]!r}, which is no candidate"
    elif twice:
        problem = f"chose {twice[0]!r} more than once"
    elif len(result.ids) != expected:
        problem = f"chose {len(result.ids)} rows where {expected} were wanted"
    elif unscored:
        problem = f"gave no finite number as the score of {len(unscored)} candidates, {min(unscored)!r} among them"
    else:
        return replace(result, reasons={row_id: result.reasons.get(row_id, strategy.name) for row_id in result.ids})
    raise SelectionError(f"Strategy {strategy!r} {problem}. Return different ids of the context's candidates.")
