"""
Strategies around others, and what they divide: a pool of candidates, or of arrays, in which others choose.

A wrapper is written once, on row numbers, for both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..records import PoolRow
from .arrays import Arrays, ArrayStrategy, Choice, result_of
from .base import Candidate, SelectionContext, SelectionResult, SelectionStrategy, SignalRequest
from .checked import choose


class PoolView(ABC):
    """
    Rows by number.

    Attributes:
        size (`int`): How many.
        round (`int`): 0-based.
        generator (`np.random.Generator`): The only source of randomness.
    """

    size: int
    round: int
    generator: np.random.Generator

    @abstractmethod
    def part(self, rows: np.ndarray) -> PoolView:
        """Some of the rows, by number, as a pool of their own."""

    @abstractmethod
    def choose(self, strategy: SelectionStrategy, n: int) -> Choice:
        """What a strategy chooses here; `n` is cut to the rows there are."""

    @abstractmethod
    def probabilities(self) -> np.ndarray:
        """The signal `"probabilities"`, shape `(size, K)`."""

    @abstractmethod
    def candidate(self, row: int) -> Candidate:
        """A row as a candidate."""


class CandidateView(PoolView):
    """The candidates of a context."""

    def __init__(self, context: SelectionContext):
        self.context = context
        self.size, self.round, self.generator = len(context.candidates), context.round, context.generator

    def part(self, rows: np.ndarray) -> PoolView:
        return CandidateView(replace(self.context, candidates=[self.context.candidates[i] for i in rows.tolist()]))

    def choose(self, strategy: SelectionStrategy, n: int) -> Choice:
        result = choose(strategy, replace(self.context, n=min(n, self.size)))
        position = {candidate.row_id: i for i, candidate in enumerate(self.context.candidates)}
        scores = np.array([result.scores[row_id] for row_id in position], dtype=np.float64)
        chosen = [position[row_id] for row_id in result.ids]
        reasons = {position[row_id]: reason for row_id, reason in result.reasons.items()}
        uniform = frozenset(position[row_id] for row_id in result.uniform)
        return Choice(np.array(chosen, dtype=np.int64), scores, reasons, uniform)

    def probabilities(self) -> np.ndarray:
        return Arrays.of(self.context.candidates, (SignalRequest.of("probabilities"),)).probabilities()

    def candidate(self, row: int) -> Candidate:
        return self.context.candidates[row]


class ArrayView(PoolView):
    """
    Rows of arrays.

    Args:
        pool (`Arrays`): The signals.
        generator (`np.random.Generator`): For draws and ties.
        round (`int`, *optional*, defaults to `0`): 0-based.
        costs (`np.ndarray` of shape `(size,)`, *optional*): Expected teacher tokens of each row.
    """

    def __init__(self, pool: Arrays, generator: np.random.Generator, round: int = 0, costs: np.ndarray | None = None):
        self.pool, self.costs = pool, costs
        self.size, self.round, self.generator = pool.size, round, generator

    def part(self, rows: np.ndarray) -> PoolView:
        costs = None if self.costs is None else self.costs[rows]
        return ArrayView(self.pool.part(rows), self.generator, self.round, costs)

    def choose(self, strategy: SelectionStrategy, n: int) -> Choice:
        n = min(n, self.size)
        if isinstance(strategy, Wrapper):
            return strategy.choose_in(self, n)
        if isinstance(strategy, ArrayStrategy):
            return strategy.choose_rows(self.pool, n, self.generator)
        # A strategy of a user's own that looks at one candidate after the other.
        candidates = [self.candidate(row) for row in range(self.size)]
        for request in strategy.requests():
            for candidate, value in zip(candidates, self.pool.signal(request.name), strict=True):
                candidate.signals[request] = value
        labelled = self._labelled(strategy.needs_labelled)
        context = SelectionContext(candidates, n, self.generator, round=self.round, labelled=labelled)
        return CandidateView(context).choose(strategy, n)

    def probabilities(self) -> np.ndarray:
        return self.pool.probabilities()

    def candidate(self, row: int) -> Candidate:
        return Candidate(
            PoolRow(row_id=str(row), prompt=""), cost=None if self.costs is None else float(self.costs[row])
        )

    def _labelled(self, requests: Sequence[SignalRequest]) -> list[Candidate]:
        found: list[Candidate] = []
        for request in requests:
            for i, value in enumerate(self._known(request)):
                if i == len(found):
                    found.append(Candidate(PoolRow(row_id=f"labelled {i}", prompt="")))
                found[i].signals[request] = value
        return found

    def _known(self, request: SignalRequest) -> Sequence[Any] | np.ndarray:
        values = self.pool.labelled(request.name)
        return () if values is None else values


class Wrapper(SelectionStrategy):
    """Base of strategies around others: it asks for what they ask for, and lets them choose in parts of the pool."""

    @abstractmethod
    def inner(self) -> tuple[SelectionStrategy, ...]:
        """The strategies inside."""

    @abstractmethod
    def choose_in(self, view: PoolView, n: int) -> Choice:
        """Chooses `n` rows of a pool, never more than it has."""

    @property
    def needs_labelled(self) -> tuple[SignalRequest, ...]:
        return tuple(dict.fromkeys(request for part in self.inner() for request in part.needs_labelled))

    def requests(self) -> tuple[SignalRequest, ...]:
        return tuple(dict.fromkeys(request for part in self.inner() for request in part.requests()))

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        return self.inner()[0].score(candidate, context)

    def select(self, context: SelectionContext) -> SelectionResult:
        choice = self.choose_in(CandidateView(context), min(context.n, len(context.candidates)))
        return result_of(choice, context.candidates, self.name)
