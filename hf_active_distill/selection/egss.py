"""Explanation-guided sample selection: how unsure the student is in the steps of its own explanation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..records import Explanation
from .base import BoundarySignal, Candidate, SelectionContext, SelectionStrategy, SignalRequest
from .confidence import TOKENS, step_entropies
from .disagreement import disagreement
from .options import (
    AGGREGATES,
    aggregate_values,
    clean_logprobs,
    require_choice,
    require_range,
    signal_of,
    vote,
)
from .registry import register_strategy
from .resampling import shares_changed


MEASURES = ("step_entropy", "step_resampling", "answer_shift")
REMOVALS = ("prefix", "leave_one_out")
DISTANCES = ("hard", "soft", "tv", "js")


def total_variation(p: np.ndarray, q: np.ndarray) -> float:
    """Half the sum of absolute differences."""
    return 0.5 * float(np.abs(p - q).sum())


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Jensen-Shannon divergence in nats: at most log 2."""
    middle = 0.5 * (p + q)

    def divergence(a: np.ndarray) -> float:
        positive = a > 0
        return float((a[positive] * np.log(a[positive] / middle[positive])).sum())

    # Rounding can leave a divergence of equal distributions just below zero.
    return max(0.5 * divergence(p) + 0.5 * divergence(q), 0.0)


@register_strategy("egss")
@dataclass
class EGSS(SelectionStrategy):
    r"""
    Explanation-guided sample selection. arXiv 2402.13098 says it in words: pick the rows on which the student's
    reasoning is most uncertain, by the uncertainty of the steps within one explanation and, as a second aspect,
    between explanations. Every formula here is our reading.

        w_i     = early_discount^(n - i), i = 1..n
        U_intra = sum w_i u_i / sum w_i | max w_i u_i | sum w_i u_i      aggregate="mean" | "max" | "sum"
        U       = U_intra + inter_weight * U_inter

    What u_i, the uncertainty in step i, is, says `measure`:

        "step_entropy"     mean entropy of the next-token distributions inside of step i (as in [`StepEntropy`])
        "step_resampling"  share of re-samples of step i that differ from it (as in [`StepResampling`])
        "answer_shift"     how far the answer moves with step i, d_i; the plain reading of the abstract:

            a_i: the student's answer given the question and steps 1..i, i = 0..n ("prefix"),
            b_i: its answer given the question and all steps but the i-th ("leave_one_out"); a_n with all steps

            d_i = d(a_{i-1}, a_i)        removal="prefix"
                  d(b_i, a_n)            removal="leave_one_out"

            d   = 1[answers differ, by the task's equality]          distance="hard"
                  |log p(a_n | first) - log p(a_n | second)|         distance="soft"
                  total variation of the answer distributions        distance="tv"
                  Jensen-Shannon divergence of them, in nats         distance="js"

    The default is the measure that told known from unknown rows best (`benchmarks/selection_signals.py`). Where an
    answer needs every step, it moves at every boundary whether the student is sure or not, and "answer_shift" does no
    better than random.

    U_inter is the vote entropy of the answers of k sampled explanations; it is computed only when `inter_weight` is
    not 0. A row without steps has U_intra = 0. Equal scores are common with "hard": they are told apart by the same
    formula with "soft", then by the context's generator.

    Args:
        measure (`str`, *optional*, defaults to `"step_entropy"`): `"step_entropy"`, `"step_resampling"` or
            `"answer_shift"`.
        aggregate (`str`, *optional*, defaults to `"mean"`): `"mean"`, `"max"` or `"sum"` over the steps.
        early_discount (`float`, *optional*, defaults to `1.0`): Below 1, early steps count less: with "answer_shift"
            the first ones move nearly every answer.
        removal (`str`, *optional*, defaults to `"prefix"`): `"prefix"` or `"leave_one_out"`, for "answer_shift".
        distance (`str`, *optional*, defaults to `"hard"`): `"hard"`, `"soft"`, `"tv"` or `"js"`, for "answer_shift".
        samples (`int`, *optional*, defaults to `3`): Re-sampled steps at each boundary, for "step_resampling".
        step_temperature (`float`, *optional*, defaults to `1.0`): Their temperature.
        inter_weight (`float`, *optional*, defaults to `0.0`): Weight of the disagreement between sampled explanations.
        k (`int`, *optional*, defaults to `4`): Sampled explanations, where `inter_weight` is not 0.
        temperature (`float`, *optional*, defaults to `0.7`): Their temperature.
    """

    name: ClassVar[str] = "egss"
    measure: str = "step_entropy"
    aggregate: str = "mean"
    early_discount: float = 1.0
    removal: str = "prefix"
    distance: str = "hard"
    samples: int = 3
    step_temperature: float = 1.0
    inter_weight: float = 0.0
    k: int = 4
    temperature: float = 0.7

    def __post_init__(self) -> None:
        require_choice("measure", self.measure, MEASURES)
        require_choice("removal", self.removal, REMOVALS)
        require_choice("distance", self.distance, DISTANCES)
        require_choice("aggregate", self.aggregate, AGGREGATES)
        require_range("early_discount", self.early_discount, 0, 1, open_below=True)
        require_range("samples", self.samples, 1)
        require_range("step_temperature", self.step_temperature, 0, open_below=True)
        require_range("inter_weight", self.inter_weight, 0)
        require_range("k", self.k, 2)
        require_range("temperature", self.temperature, 0, open_below=True)

    def step_request(self) -> SignalRequest:
        """What is asked of the student about its steps."""
        if self.measure == "step_entropy":
            return TOKENS
        if self.measure == "step_resampling":
            return SignalRequest.of("resamples", samples=self.samples, temperature=self.step_temperature)
        return SignalRequest.of(
            "boundaries",
            removal=self.removal,
            answers=self.distance == "hard",
            distribution=self.distance in ("tv", "js"),
        )

    def sample_request(self) -> SignalRequest:
        """The sampled explanations for the term between explanations."""
        return SignalRequest.of("samples", k=self.k, temperature=self.temperature)

    def requests(self) -> tuple[SignalRequest, ...]:
        return (self.step_request(), *((self.sample_request(),) if self.inter_weight else ()))

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        score = self._intra(candidate, context, self.distance)
        if self.inter_weight:
            samples: list[Explanation] | None = signal_of(candidate, self.sample_request())
            groups = vote([sample.answer for sample in samples or ()], context.answers_equal)
            score += self.inter_weight * disagreement(groups, "entropy")
        return score

    def tie_breaker(self, candidate: Candidate, context: SelectionContext) -> float:
        return self._intra(candidate, context, "soft") if self.measure == "answer_shift" else 0.0

    def _intra(self, candidate: Candidate, context: SelectionContext, distance: str) -> float:
        signal = signal_of(candidate, self.step_request())
        if signal is None:
            return 0.0
        if self.measure == "step_entropy":
            each = step_entropies(signal, "mean")
        elif self.measure == "step_resampling":
            each = shares_changed(signal)
        else:
            each = self._shifts(signal, context, distance)
        weights = self.early_discount ** np.arange(len(each) - 1, -1, -1, dtype=np.float64)
        return aggregate_values(each, self.aggregate, weights)

    def _shifts(self, signal: BoundarySignal, context: SelectionContext, distance: str) -> np.ndarray:
        last = len(signal.final_logprobs) - 1
        pairs = [(i, i + 1 if self.removal == "prefix" else last) for i in range(last)]
        return np.array([self._moved(signal, first, second, context, distance) for first, second in pairs])

    def _moved(
        self, signal: BoundarySignal, first: int, second: int, context: SelectionContext, distance: str
    ) -> float:
        """How far the answers of two positions are apart; NaN where it cannot be known."""
        if distance == "soft":
            logprobs = clean_logprobs(signal.final_logprobs)
            return float(abs(logprobs[first] - logprobs[second]))
        if distance == "hard":
            answers = signal.answers or [None] * len(signal.final_logprobs)
            return float(len(vote([answers[first], answers[second]], context.answers_equal)) > 1)
        if signal.distributions is None:
            return float("nan")
        p, q = signal.distributions[first], signal.distributions[second]
        if np.isnan(p).any() or np.isnan(q).any():
            return float("nan")
        return total_variation(p, q) if distance == "tv" else jensen_shannon(p, q)
