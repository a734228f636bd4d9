"""Strategies that look at all candidates at once, as arrays: what they are given, and what they give."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..errors import SelectionError
from .base import Candidate, SelectionContext, SelectionResult, SelectionStrategy, SignalRequest
from .ranking import best, refuse, require_finite


class Arrays:
    """
    Signals of all candidates, a row a candidate, stacked when they are asked for.

    Args:
        size (`int`): Candidates.
        signals (`Mapping[str, np.ndarray]`): By name of the signal, shape `(size, ...)`.
        labelled (`Mapping[str, np.ndarray]`, *optional*): The same of the rows that are labelled already.
        ids (`Sequence[str]`, *optional*): How an error names a row; its number otherwise.
    """

    def __init__(
        self,
        size: int,
        signals: Mapping[str, np.ndarray],
        labelled: Mapping[str, np.ndarray] | None = None,
        ids: Sequence[str] | None = None,
    ):
        self.size = size
        self.ids = ids
        self._signals = {name: _as_floats(values) for name, values in signals.items()}
        self._labelled = {name: _as_floats(values) for name, values in (labelled or {}).items()}
        for name, values in self._signals.items():
            if len(values) != size:
                raise SelectionError(f"The signal {name!r} has {len(values)} rows for {size} candidates.")

    @classmethod
    def of(
        cls,
        candidates: Sequence[Candidate],
        requests: Sequence[SignalRequest],
        labelled: Sequence[Candidate] = (),
        labelled_requests: Sequence[SignalRequest] = (),
    ) -> Arrays:
        """Stacks the signals of candidates."""
        signals = {request.name: _stack(candidates, request) for request in requests} if candidates else {}
        known = {request.name: _stack(labelled, request) for request in labelled_requests} if labelled else {}
        return cls(len(candidates), signals, known, [candidate.row_id for candidate in candidates])

    def part(self, rows: np.ndarray) -> Arrays:
        """Some of the candidates; the labelled rows stay."""
        found = object.__new__(Arrays)
        found.size, found.ids = len(rows), None if self.ids is None else [self.ids[i] for i in rows]
        found._signals = {name: values[rows] for name, values in self._signals.items()}
        found._labelled = self._labelled
        return found

    def signal(self, name: str) -> np.ndarray:
        """A signal of the candidates, shape `(size, ...)`, of finite numbers."""
        values = self._given(name)
        require_finite(values, f"its signal {name!r} has a NaN or an infinity", self.ids)
        return values

    def labelled(self, name: str) -> np.ndarray | None:
        """A signal of the labelled rows, of finite numbers; `None` where nothing is labelled yet."""
        values = self._labelled.get(name)
        if values is None or len(values) == 0:
            return None
        require_finite(values, f"its signal {name!r} has a NaN or an infinity (labelled rows)")
        return values

    def probabilities(self, *, multi_label: bool = False, name: str = "probabilities") -> np.ndarray:
        """A signal of probabilities over at least two classes; rows sum to 1 unless labels are independent."""
        values = self._given(name)
        axes = 3 if name.startswith("mc_") else 2
        if values.ndim != axes or (values.shape[-1] < 2 and not multi_label):
            raise SelectionError(
                f"The signal {name!r} has the shape {values.shape}; wanted are {axes} axes, the last with at least "
                "two classes."
            )
        if not _are_probabilities(values, multi_label):
            refuse(~np.isfinite(values), f"its signal {name!r} has a NaN or an infinity", self.ids)
            refuse((values < 0) | (values > HIGHEST), "a probability is outside of 0 to 1", self.ids)
            sums = np.abs(values.sum(axis=-1) - 1.0) > TOLERANCE
            refuse(
                sums,
                "its probabilities do not sum to 1 (where labels are independent: a strategy with `multi_label=True`)",
                self.ids,
            )
        return values

    def _given(self, name: str) -> np.ndarray:
        if name not in self._signals:
            raise SelectionError(f"The strategy reads the signal {name!r}, which was not given: pass it.")
        return self._signals[name]


#: How far rounding, in half precision too, may take probabilities and their sums.
TOLERANCE = 1e-3
HIGHEST = 1 + TOLERANCE


def _as_floats(values: np.ndarray) -> np.ndarray:
    """float32 and float64 as they are, half precision as float32, whole numbers as float64."""
    values = np.asarray(values)
    if values.dtype in (np.float32, np.float64):
        return values
    return values.astype(np.float32 if values.dtype == np.float16 else np.float64)


def _are_probabilities(values: np.ndarray, multi_label: bool) -> bool:
    """Whether all is in order, in one pass that takes no memory."""
    rows = values.reshape(-1, values.shape[-1])
    ones = np.ones(rows.shape[1], rows.dtype)
    for start in range(0, len(rows), 8192):
        block = rows[start : start + 8192]
        # Written so that a NaN fails. A product with ones is many times faster than a sum over a short axis.
        if not block.min() >= 0:
            return False
        if not (block.max() <= HIGHEST if multi_label else np.abs(block @ ones - 1.0).max() <= TOLERANCE):
            return False
    return True


def _stack(candidates: Sequence[Candidate], request: SignalRequest) -> np.ndarray:
    missing = [candidate.row_id for candidate in candidates if candidate.signals.get(request) is None]
    if missing:
        raise SelectionError(f"{len(missing)} rows have no signal {request.name!r}, {missing[0]!r} among them.")
    values: list[Any] = [np.asarray(candidate.signals[request]) for candidate in candidates]
    different = [i for i, value in enumerate(values) if value.shape != values[0].shape]
    if different:
        odd = different[0]
        raise SelectionError(
            f"The signal {request.name!r} of row {candidates[odd].row_id!r} has the shape {values[odd].shape}, the "
            f"first row's has {values[0].shape}: this strategy needs the same choices for every row."
        )
    return np.stack(values)


@dataclass
class Choice:
    """
    A choice in row numbers.

    Args:
        indices (`np.ndarray` of shape `(n,)`): Chosen rows, best first.
        scores (`np.ndarray` of shape `(N,)`): Every row's, higher = sooner; what it measures is the strategy's.
        reasons (`dict[int, str]`): Of chosen rows where it is another than the score.
        uniform (`frozenset[int]`): Chosen rows that were drawn from all rows alike.
    """

    indices: np.ndarray
    scores: np.ndarray
    reasons: dict[int, str] = field(default_factory=dict)
    uniform: frozenset[int] = frozenset()


class ArrayStrategy(SelectionStrategy):
    """
    Base of strategies that look at all candidates at once: say which `signals` are read, and choose from the stacked
    arrays. `score` of a single candidate has no meaning for most of them.
    """

    #: Read of every candidate, and of every labelled row.
    signals: ClassVar[tuple[SignalRequest, ...]] = ()
    labelled_signals: ClassVar[tuple[SignalRequest, ...]] = ()

    @property
    def needs_labelled(self) -> tuple[SignalRequest, ...]:
        return self.labelled_signals

    def requests(self) -> tuple[SignalRequest, ...]:
        return self.signals

    @abstractmethod
    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        """Chooses `n` rows of the pool, never more than it has."""

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        raise SelectionError(f"{self.name} weighs candidates against each other: use `select`.")

    def select(self, context: SelectionContext) -> SelectionResult:
        pool = Arrays.of(context.candidates, self.requests(), context.labelled, self.needs_labelled)
        n = min(context.n, pool.size)
        if n < 1:
            return SelectionResult([], dict.fromkeys((c.row_id for c in context.candidates), 0.0), {})
        return result_of(self.choose_rows(pool, n, context.generator), context.candidates, self.name)


def result_of(choice: Choice, candidates: Sequence[Candidate], name: str) -> SelectionResult:
    """A choice in row numbers as one in row ids. The reason is the score where there is none of its own."""
    ids = [candidate.row_id for candidate in candidates]
    chosen = choice.indices.tolist()
    return SelectionResult(
        [ids[i] for i in chosen],
        dict(zip(ids, choice.scores.tolist(), strict=True)),
        {ids[i]: choice.reasons.get(i, f"{name}={choice.scores[i]:.4g}") for i in chosen},
        frozenset(ids[i] for i in choice.uniform),
    )


class PointwiseStrategy(ArrayStrategy):
    """Base of strategies whose score of a row depends on that row alone."""

    @abstractmethod
    def scores(self, pool: Arrays) -> np.ndarray:
        """A score of every row, shape `(N,)`."""

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        pool = Arrays.of([candidate], self.requests(), context.labelled, self.needs_labelled)
        return float(self.scores(pool)[0])

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        scores = self.scores(pool)
        return Choice(best(scores, n, generator, ids=pool.ids), scores)
