"""Strategies over the token probabilities of the greedy explanation, and over what the student says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Candidate, SelectionContext, SelectionResult, SelectionStrategy, SignalRequest, TokenSignal
from .labels import OfProbabilities
from .measures import least_confidence
from .options import AGGREGATES, aggregate_values, clean_logprobs, require_choice, signal_of
from .registry import register_strategy


TOKENS = SignalRequest.of("tokens")


@register_strategy("max_entropy")
@dataclass
class MaxEntropy(SelectionStrategy):
    r"""
    Entropy of the next-token distributions along the greedy explanation y:

        U = mean_t H_t,   H_t = - sum_v p(v | x, y_<t) log p(v | x, y_<t)

    Entropy sampling (Shannon 1948; Settles and Craven, EMNLP 2008, "token entropy"); taking it over a generated
    explanation is our reading of the baseline "Maximum Entropy" in arXiv 2402.13098.

    Args:
        aggregate (`str`, *optional*, defaults to `"mean"`): `"mean"`, `"max"` or `"sum"` over the tokens.
    """

    name: ClassVar[str] = "max_entropy"
    aggregate: str = "mean"

    def __post_init__(self) -> None:
        require_choice("aggregate", self.aggregate, AGGREGATES)

    def requests(self) -> tuple[SignalRequest, ...]:
        return (TOKENS,)

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        tokens: TokenSignal | None = signal_of(candidate, TOKENS)
        return 0.0 if tokens is None else aggregate_values(tokens.entropies, self.aggregate)


@register_strategy("least_confidence")
@dataclass
class LeastConfidence(OfProbabilities):
    r"""
    How unlikely the student finds its own greedy explanation y, or its own label. By `over`:

        "sequence":   U = - sum_t log p(y_t | x, y_<t)     (order of 1 - p(y | x), without its underflow)
        "normalized": U = - mean_t log p(y_t | x, y_<t)
        "token":      U = - min_t log p(y_t | x, y_<t)     (the least certain token)
        "label":      U = 1 - max_k p(k | x)

    "sequence" is least-confidence sampling for sequences (Culotta and McCallum, AAAI 2005), "label" the form for
    classifiers (Lewis and Gale, SIGIR 1994); the other two are our reading.

    Args:
        over (`str`, *optional*, defaults to `"sequence"`): `"sequence"`, `"normalized"`, `"token"` or `"label"`.
        multi_label (`bool`, *optional*, defaults to `False`): With `"label"`: each label is a yes or no of its own;
            the mean over the labels is our reading.
    """

    name: ClassVar[str] = "least_confidence"
    over: str = "sequence"
    multi_label: bool = False

    def __post_init__(self) -> None:
        require_choice("over", self.over, ("sequence", "normalized", "token", "label"))

    def requests(self) -> tuple[SignalRequest, ...]:
        return self.signals if self.over == "label" else (TOKENS,)

    def measure(self, probabilities: np.ndarray) -> np.ndarray:
        return least_confidence(probabilities)

    def select(self, context: SelectionContext) -> SelectionResult:
        # Explanations differ in length: no array holds them.
        return super().select(context) if self.over == "label" else SelectionStrategy.select(self, context)

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        if self.over == "label":
            return super().score(candidate, context)
        tokens: TokenSignal | None = signal_of(candidate, TOKENS)
        if tokens is None:
            return 0.0
        aggregate = {"sequence": "sum", "normalized": "mean", "token": "max"}[self.over]
        return aggregate_values(-clean_logprobs(tokens.logprobs), aggregate)


def step_entropies(tokens: TokenSignal, within: str) -> np.ndarray:
    """Token entropies gathered within each step that has tokens, in order."""
    steps = [index for index in np.unique(tokens.step_of) if index >= 0]
    return np.array([aggregate_values(tokens.entropies[tokens.step_of == index], within) for index in steps])


@register_strategy("step_entropy")
@dataclass
class StepEntropy(SelectionStrategy):
    r"""
    Token entropy gathered step by step, the tokens between and after the steps left out:

        h_i = within_{t in step i} H_t,   U = aggregate_i h_i

    Our reading: the same idea as EGSS (uncertainty that sits in steps), read off the explanation itself.

    Args:
        within (`str`, *optional*, defaults to `"mean"`): `"mean"`, `"max"` or `"sum"` over the tokens of a step.
        aggregate (`str`, *optional*, defaults to `"mean"`): `"mean"`, `"max"` or `"sum"` over the steps.
    """

    name: ClassVar[str] = "step_entropy"
    within: str = "mean"
    aggregate: str = "mean"

    def __post_init__(self) -> None:
        require_choice("within", self.within, AGGREGATES)
        require_choice("aggregate", self.aggregate, AGGREGATES)

    def requests(self) -> tuple[SignalRequest, ...]:
        return (TOKENS,)

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        tokens: TokenSignal | None = signal_of(candidate, TOKENS)
        if tokens is None:
            return 0.0
        return aggregate_values(step_entropies(tokens, self.within), self.aggregate)


@register_strategy("self_confidence")
@dataclass
class SelfConfidence(SelectionStrategy):
    r"""
    How little the student trusts its own answer a: with the answer's tokens a_1..a_m behind question, steps and cue,

        c = exp( 1/m sum_j log p(a_j | x, steps, cue, a_<j) ),   U = 1 - c

    and U = 1/2 where it has no answer. The baseline "Self-Confidence" of arXiv 2402.13098, which gives no formula: the
    geometric mean probability of the answer is our reading.

    Args:
        form (`str`, *optional*, defaults to `"answer_probability"`): c as above, or with `"p_true"` the probability of
            yes against no when the student is asked whether its answer is right (arXiv 2207.05221), which needs a
            student that can be asked.
    """

    name: ClassVar[str] = "self_confidence"
    form: str = "answer_probability"

    def __post_init__(self) -> None:
        require_choice("form", self.form, ("answer_probability", "p_true"))

    def requests(self) -> tuple[SignalRequest, ...]:
        # The default form goes without an option, so that both spellings are one signal.
        options = {} if self.form == "answer_probability" else {"form": self.form}
        return (SignalRequest.of("self_confidence", **options),)

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        stated = signal_of(candidate, self.requests()[0])
        if stated is None or np.isnan(stated):
            return 0.5
        return 1.0 - float(np.clip(stated, 0.0, 1.0))
