"""What a strategy is given and what it returns. NumPy only: no torch, no HTTP."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from ..records import Explanation, PoolRow
from .ranking import best


@dataclass(frozen=True)
class SignalRequest:
    """
    One thing a strategy wants to know of every candidate. `name` is a signal that
    [`~hf_active_distill.students.Student`] can compute, `options` its parameters as sorted (key, value) pairs.
    """

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, name: str, **options: Any) -> SignalRequest:
        return cls(name, tuple(sorted(options.items())))


@dataclass
class TokenSignal:
    """
    Signal `"tokens"`: the greedy explanation token by token. `logprobs[t]` is log p of the written token,
    `entropies[t]` the entropy of the whole next-token distribution (nats), `step_of[t]` the 0-based step it belongs
    to, -1 outside.
    """

    logprobs: np.ndarray
    entropies: np.ndarray
    step_of: np.ndarray


@dataclass
class BoundarySignal:
    """
    Signal `"boundaries"` (options `removal`, `answers`, `distribution`): the student's answer with part of its steps.

    With `removal="prefix"` position i = 0..n stands for the first i steps (0 is the bare question); with
    `"leave_one_out"` position i = 0..n-1 for all steps but i and position n for the full explanation.

    Args:
        final_logprobs (`np.ndarray` of shape `(positions,)`): log p(final answer | question, those steps, cue).
        answers (`list[str | None]` or `None`): Forced greedy answers, canonical; with `answers=True`.
        distributions (`np.ndarray` or `None`): Over the row's `answer_choices`, or over the candidate answers seen at
            any position where the set is open, shape `(positions, choices)`, rows sum to 1; with `distribution=True`.
    """

    final_logprobs: np.ndarray
    answers: list[str | None] | None = None
    distributions: np.ndarray | None = None


@dataclass
class ResampleSignal:
    """
    Signal `"resamples"` (options `samples`, `temperature`): at every step boundary the next step written again.

    `steps[i]` are the re-sampled wordings of step i, `greedy[i]` the one that stands in the explanation.
    """

    greedy: list[str]
    steps: list[list[str]]


@dataclass
class Candidate:
    """
    One scored row. `signals` maps each `SignalRequest` to its value: `TokenSignal`, `BoundarySignal`,
    `ResampleSignal`, `list[Explanation]` for `"samples"` (options `k`, `temperature`), `float` for
    `"self_confidence"`, 1-d array for `"embedding"` and `"probabilities"` (a class an entry), `(T, K)` array for
    `"mc_probabilities"` (options `samples`).
    """

    row: PoolRow
    explanation: Explanation | None = None
    signals: dict[SignalRequest, Any] = field(default_factory=dict)
    cost: float | None = None

    @property
    def row_id(self) -> str:
        return self.row.row_id


@dataclass
class SelectionContext:
    """
    Args:
        candidates (`list[Candidate]`): In pool order.
        n (`int`): How many to choose; never more than there are candidates.
        generator (`np.random.Generator`): Seeded by (run seed, round): the only randomness a strategy may use.
        round (`int`): 0-based.
        answers_equal (`Callable`): The task's equality, for strategies that compare answers.
        labelled_ids (`list[str]`): Rows annotated so far.
        labelled (`list[Candidate]`): Those rows with the signals that the strategy's `needs_labelled` names, computed
            with the current weights; empty where it names none, and in the first round.
        labels (`dict[str, str]`): The teacher's label of each row of `labelled`, by row id, where it gave one.
    """

    candidates: list[Candidate]
    n: int
    generator: np.random.Generator
    round: int = 0
    answers_equal: Any = None
    labelled_ids: list[str] = field(default_factory=list)
    labelled: list[Candidate] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass
class SelectionResult:
    """
    Args:
        ids (`list[str]`): The chosen rows, best first.
        scores (`dict[str, float]`): Of every candidate; higher means: ask sooner.
        reasons (`dict[str, str]`): A few words for each choice.
        uniform (`frozenset[str]`, *optional*):
            Those of `ids` that were drawn from all candidates alike: an unbiased look at the pool, on which audits and
            the probe of a round rely.
    """

    ids: list[str]
    scores: dict[str, float]
    reasons: dict[str, str]
    uniform: frozenset[str] = frozenset()


class Selector(Protocol):
    """Whatever chooses: a strategy, or a callback in its place."""

    @property
    def name(self) -> str: ...

    def select(self, context: SelectionContext) -> SelectionResult: ...


class SelectionStrategy(ABC):
    """
    Base of all strategies. Most only say what they need (`requests`) and how it becomes one number (`score`);
    `select` then takes the best `n`, ties broken by `tie_breaker` and after that by the context's generator.
    """

    name: ClassVar[str]
    #: Whether it takes the probabilities of a row for one distribution over the labels, of which one holds.
    one_label: ClassVar[bool] = False

    @property
    def needs_labelled(self) -> tuple[SignalRequest, ...]:
        """Signals to be computed for every row annotated so far, to be found in `context.labelled`."""
        return ()

    def requests(self) -> tuple[SignalRequest, ...]:
        """Signals to be computed for every candidate."""
        return ()

    @abstractmethod
    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        """Higher means: ask the teacher sooner. NaN and infinities are not allowed."""

    def tie_breaker(self, candidate: Candidate, context: SelectionContext) -> float:
        """Second key among equal scores."""
        return 0.0

    def select(self, context: SelectionContext) -> SelectionResult:
        """Chooses `context.n` candidates."""
        names = [candidate.row_id for candidate in context.candidates]
        scores = np.array([self.score(candidate, context) for candidate in context.candidates], dtype=np.float64)
        second = np.array([self.tie_breaker(candidate, context) for candidate in context.candidates])
        order = best(scores, context.n, context.generator, second=second, ids=names)
        ids = [names[i] for i in order]
        by_id = dict(zip(names, scores.tolist(), strict=True))
        return SelectionResult(ids, by_id, {row_id: f"{self.name}={by_id[row_id]:.4g}" for row_id in ids})
