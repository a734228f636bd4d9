"""Strategies made of others: a part of the pool, even classes, unsure and differing, value for money, easy first."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ..errors import SelectionError
from .arrays import Choice
from .base import Candidate, SelectionContext, SelectionStrategy, SignalRequest
from .labels import PROBABILITIES, balanced_quotas
from .options import require_choice, require_range
from .ranking import best
from .registry import StrategyLike, as_strategy, register_strategy
from .views import PoolView, Wrapper


def _within(view: PoolView, strategy: SelectionStrategy, rows: np.ndarray, n: int, part: str = "") -> Choice:
    """
    Lets a strategy choose among some of the rows, which have a name (`part`) unless they were drawn at random. The
    others get the lowest score that it gave.
    """
    found = view.part(rows).choose(strategy, n)
    scores = np.full(view.size, found.scores.min())
    scores[rows] = found.scores
    if len(rows) == view.size:
        part = ""
    uniform = frozenset(rows[list(found.uniform)].tolist()) if found.uniform and not part else frozenset()
    return Choice(rows[found.indices], scores, _renumbered(found, strategy, rows, part), uniform)


def _renumbered(found: Choice, strategy: SelectionStrategy, rows: np.ndarray, part: str) -> dict[int, str]:
    """Reasons of a choice in a part, by their number in the whole, with the name of who chose, and of the part."""
    reasons = {i: found.reasons.get(i, f"{strategy.name}={found.scores[i]:.4g}") for i in found.indices.tolist()}
    return {int(rows[i]): f"{reason} {part}".strip() for i, reason in reasons.items()}


@register_strategy("subsample")
@dataclass
class Subsample(Wrapper):
    r"""
    A strategy on a random part of the candidates, for strategies whose choice itself takes long. (Signals of all
    candidates are computed before: to save those, draw fewer with `candidates_per_round`.)

        U = the strategy's; the lowest one for rows that were not drawn

    Args:
        strategy (`SelectionStrategy`, name or mapping): Chooses among the rows drawn.
        size (`int`, *optional*, defaults to `4096`): How many are drawn; never fewer than rows to choose.
    """

    name: ClassVar[str] = "subsample"
    strategy: StrategyLike
    size: int = 4096

    def __post_init__(self) -> None:
        require_range("size", self.size, 1)
        self._strategy = as_strategy(self.strategy)

    def inner(self) -> tuple[SelectionStrategy, ...]:
        return (self._strategy,)

    def choose_in(self, view: PoolView, n: int) -> Choice:
        size = min(max(self.size, n), view.size)
        rows = np.arange(view.size)
        if size < view.size:
            rows = np.sort(view.generator.choice(view.size, size=size, replace=False, shuffle=False))
        return _within(view, self._strategy, rows, n)


@register_strategy("class_balance")
@dataclass
class ClassBalance(Wrapper):
    r"""
    A strategy in each predicted label by itself, as many rows from each as the candidates allow; what is left over
    goes to labels drawn at random. Guards against a strategy that spends all on one label.

        U = the strategy's, among the rows of the same predicted label

    Stratified choice; by predicted label it is our reading. The labels take turns, so that every beginning of the
    choice is balanced too.

    Args:
        strategy (`SelectionStrategy`, name or mapping): Chooses within a label.
    """

    name: ClassVar[str] = "class_balance"
    one_label: ClassVar[bool] = True
    strategy: StrategyLike

    def __post_init__(self) -> None:
        self._strategy = as_strategy(self.strategy)

    def inner(self) -> tuple[SelectionStrategy, ...]:
        return (self._strategy,)

    def requests(self) -> tuple[SignalRequest, ...]:
        return tuple(dict.fromkeys((*super().requests(), PROBABILITIES)))

    def choose_in(self, view: PoolView, n: int) -> Choice:
        classes = view.probabilities().argmax(axis=1)
        quotas = balanced_quotas(np.bincount(classes), n, view.generator)
        scores = np.empty(view.size)
        chosen: list[np.ndarray] = []
        turns: list[np.ndarray] = []
        reasons: dict[int, str] = {}
        for label in np.unique(classes):
            rows = np.flatnonzero(classes == label)
            # At least one, because every row has a score, those of a label without a quota included.
            found = view.part(rows).choose(self._strategy, max(int(quotas[label]), 1))
            scores[rows] = found.scores
            taken = replace(found, indices=found.indices[: quotas[label]])
            chosen.append(rows[taken.indices])
            turns.append(np.arange(len(taken.indices)))
            reasons |= _renumbered(taken, self._strategy, rows, f"of label {label}")
        order = np.argsort(np.concatenate(turns), kind="stable")
        return Choice(np.concatenate(chosen)[order], scores, reasons)


@register_strategy("uncertainty_then_coverage")
@dataclass
class UncertaintyThenCoverage(Wrapper):
    r"""
    The `factor * n` rows that one strategy finds most worth asking, and among them the n that another spreads out.

        U = the first strategy's

    Prefiltering as in Zhdanov, "Diverse mini-batch Active Learning", arXiv 1901.05954, there with k-means.

    Args:
        uncertainty (`SelectionStrategy`, name or mapping, *optional*, defaults to `"entropy"`): Filters.
        coverage (`SelectionStrategy`, name or mapping, *optional*, defaults to `"k_center"`): Chooses.
        factor (`float`, *optional*, defaults to `10`): How many times n rows pass the filter.
    """

    name: ClassVar[str] = "uncertainty_then_coverage"
    uncertainty: StrategyLike = "entropy"
    coverage: StrategyLike = "k_center"
    factor: float = 10

    def __post_init__(self) -> None:
        require_range("factor", self.factor, 1)
        self._uncertainty, self._coverage = as_strategy(self.uncertainty), as_strategy(self.coverage)

    def inner(self) -> tuple[SelectionStrategy, ...]:
        return (self._uncertainty, self._coverage)

    def choose_in(self, view: PoolView, n: int) -> Choice:
        passing = min(math.ceil(self.factor * n - 1e-9), view.size)
        filtered = view.choose(self._uncertainty, passing)
        rows = np.sort(filtered.indices)
        return replace(_within(view, self._coverage, rows, n, "among the most unsure"), scores=filtered.scores)


@register_strategy("per_token")
@dataclass
class PerToken(Wrapper):
    r"""
    Value for money: a strategy's score for every thousand teacher tokens that a row is expected to cost.

        U_i = 1000 * score_i / cost_i
        cost_i = overhead + characters of the prompt / 4 + output_weight * tokens of the student's explanation

    A long explanation is dear to have corrected; where two rows are as unsure, the short one is asked. The cost is the
    candidate's own where one is given (`Candidate.cost`); the formula above, which takes the length of the student's
    explanation for that of the teacher's answer, is our reading. Meant for strategies that score row by row, with
    scores of at least 0.

    Args:
        strategy (`SelectionStrategy`, name or mapping): Gives the scores.
        overhead (`float`, *optional*, defaults to `200`): Tokens of a call that do not depend on the row: instructions
            and examples.
        output_weight (`float`, *optional*, defaults to `1`): Price of a written token over that of a read one.
        cost (`Callable`, *optional*): Your own estimate for a candidate, in place of both.
    """

    name: ClassVar[str] = "per_token"
    strategy: StrategyLike
    overhead: float = 200
    output_weight: float = 1
    cost: Callable[[Candidate], float] | None = None

    def __post_init__(self) -> None:
        require_range("overhead", self.overhead, 0)
        require_range("output_weight", self.output_weight, 0)
        self._strategy = as_strategy(self.strategy)

    def inner(self) -> tuple[SelectionStrategy, ...]:
        return (self._strategy,)

    def expected_cost(self, candidate: Candidate) -> float:
        """Expected teacher tokens of a row, at least 1."""
        if self.cost is not None:
            tokens = self.cost(candidate)
        elif candidate.cost is not None:
            tokens = candidate.cost
        else:
            read, explanation = _characters(candidate) / 4, candidate.explanation
            if not read and explanation is None:
                raise SelectionError(
                    f"Row {candidate.row_id!r} has no prompt and no explanation, so nothing to expect its cost from: "
                    "give `Candidate.cost`, or `teacher_tokens` beside arrays."
                )
            written = 0 if explanation is None else explanation.num_tokens
            tokens = self.overhead + read + self.output_weight * written
        if not 0 <= tokens < math.inf:
            raise SelectionError(
                f"Row {candidate.row_id!r} is expected to cost {tokens} tokens: give a finite number."
            )
        return max(float(tokens), 1.0)

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        return self._value(candidate, self._strategy.score(candidate, context))

    def choose_in(self, view: PoolView, n: int) -> Choice:
        found = view.choose(self._strategy, n).scores
        values = np.array([self._value(view.candidate(row), score) for row, score in enumerate(found.tolist())])
        return Choice(best(values, n, view.generator), values)

    def _value(self, candidate: Candidate, score: float) -> float:
        if score < 0:
            raise SelectionError(
                f"`per_token` cannot divide the score {score:.4g} of row {candidate.row_id!r}: a dear row would look "
                f"better. Wrap a strategy whose scores are at least 0, not {self._strategy.name!r}."
            )
        return 1000 * score / self.expected_cost(candidate)


def _characters(candidate: Candidate) -> int:
    prompt = candidate.row.prompt
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(str(message.get("content") or "")) for message in prompt)


@register_strategy("easy_to_hard")
@dataclass
class EasyToHard(Wrapper):
    r"""
    A curriculum over the rounds: in round r only the easiest share of the candidates is open to the strategy.

        share(r) = start + (1 - start) r / (rounds - 1)                    pacing="linear"
        share(r) = sqrt( start^2 + (1 - start^2) r / (rounds - 1) )        pacing="root"
        U = the strategy's; the lowest one for rows that are not open yet

    and all of them from the last round on. Competence-based curriculum: Platanios et al., NAACL 2019 (arXiv
    1903.09848), there for training; easy-to-hard data for distillation in CLPD, arXiv 2605.11260. Opening the pool to
    an active choice in this way is our reading.

    Args:
        rounds (`int`): Rounds until all is open.
        strategy (`SelectionStrategy`, name or mapping, *optional*, defaults to `"random"`): Chooses among the open.
        difficulty (`SelectionStrategy`, name or mapping, *optional*, defaults to `"entropy"`): Its score is how hard a
            row is.
        start (`float`, *optional*, defaults to `0.25`): Share that is open in round 0.
        pacing (`str`, *optional*, defaults to `"linear"`): `"linear"` or `"root"` (opens faster at first).
    """

    name: ClassVar[str] = "easy_to_hard"
    rounds: int
    strategy: StrategyLike = "random"
    difficulty: StrategyLike = "entropy"
    start: float = 0.25
    pacing: str = "linear"

    def __post_init__(self) -> None:
        require_range("rounds", self.rounds, 1)
        require_range("start", self.start, 0, 1, open_below=True)
        require_choice("pacing", self.pacing, ("linear", "root"))
        self._strategy, self._difficulty = as_strategy(self.strategy), as_strategy(self.difficulty)

    def inner(self) -> tuple[SelectionStrategy, ...]:
        return (self._strategy, self._difficulty)

    def share(self, round: int) -> float:
        """Share of the candidates that is open in a round."""
        power = 1 if self.pacing == "linear" else 2
        passed = 1.0 if self.rounds == 1 else min(round / (self.rounds - 1), 1.0)
        return (self.start**power + (1 - self.start**power) * passed) ** (1 / power)

    def choose_in(self, view: PoolView, n: int) -> Choice:
        difficulty = view.choose(self._difficulty, n).scores
        # Less a little, so that 0.6 of 50 is 30.
        size = min(max(math.ceil(self.share(view.round) * view.size - 1e-9), n), view.size)
        rows = best(-difficulty, size, view.generator)
        return _within(view, self._strategy, np.sort(rows), n, "among the easiest")
