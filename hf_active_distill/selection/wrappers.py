"""Random rows, alone or as a share around any strategy, and the draw of a round's candidates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arrays import Arrays, Choice, PointwiseStrategy
from .base import SelectionStrategy
from .options import require_range
from .registry import StrategyLike, as_strategy, register_strategy
from .views import PoolView, Wrapper


@register_strategy("random")
@dataclass
class RandomSelection(PointwiseStrategy):
    """U = 0 for every row, so the seeded generator alone decides: each set of n rows is as likely as any other."""

    name: ClassVar[str] = "random"

    def scores(self, pool: Arrays) -> np.ndarray:
        return np.zeros(pool.size)

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        # What `best` comes to where all scores are equal: the n smallest numbers, nearly always below this limit.
        noise = generator.random(pool.size)
        rows = np.flatnonzero(noise < (n + 6 * math.sqrt(n) + 9) / max(1, pool.size))
        if len(rows) < n:
            rows = np.arange(pool.size)
        chosen = rows[np.argsort(noise[rows])][:n]
        numbers = chosen.tolist()
        return Choice(chosen, np.zeros(pool.size), dict.fromkeys(numbers, "random"), frozenset(numbers))


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

    def choose_in(self, view: PoolView, n: int) -> Choice:
        n_random = int(np.floor(self.share * n + 0.5))
        # Drawn before the strategy chooses: what is left after it would be a biased sample of the pool.
        picks = np.sort(view.generator.choice(view.size, size=n_random, replace=False))
        found = view.choose(self._strategy, n)
        others = found.indices[~np.isin(found.indices, picks)][: n - n_random]
        reasons = {i: found.reasons[i] for i in others.tolist() if i in found.reasons}
        reasons |= dict.fromkeys(picks.tolist(), "random")
        return Choice(np.concatenate([others, picks]), found.scores, reasons, frozenset(picks.tolist()))


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
