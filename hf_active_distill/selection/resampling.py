"""Step re-sampling: at every step boundary the student writes the next step again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .base import Candidate, ResampleSignal, SelectionContext, SelectionStrategy, SignalRequest
from .options import AGGREGATES, aggregate_values, require_choice, require_range, signal_of
from .registry import register_strategy


@register_strategy("step_resampling")
@dataclass
class StepResampling(SelectionStrategy):
    r"""
    Share of re-sampled next steps that differ from the greedy one. With s_1..s_n the greedy steps and t_ij, j = 1..m,
    samples of step i given the question and s_1..s_{i-1}:

        u_i = 1/m sum_j 1[t_ij != s_i],   U = aggregate_i u_i

    Texts are compared up to white space. Our variant of the idea behind EGSS: it looks at the same boundaries, but at
    whether the way is stable rather than whether the answer has moved, so a step that every answer needs counts
    nothing as long as the student is sure of it.

    Args:
        samples (`int`, *optional*, defaults to `3`): Re-sampled steps at each boundary (m).
        temperature (`float`, *optional*, defaults to `1.0`): Their temperature.
        aggregate (`str`, *optional*, defaults to `"mean"`): `"mean"`, `"max"` or `"sum"` over the steps.
    """

    name: ClassVar[str] = "step_resampling"
    samples: int = 3
    temperature: float = 1.0
    aggregate: str = "mean"

    def __post_init__(self) -> None:
        require_range("samples", self.samples, 1)
        require_range("temperature", self.temperature, 0, open_below=True)
        require_choice("aggregate", self.aggregate, AGGREGATES)

    def requests(self) -> tuple[SignalRequest, ...]:
        return (SignalRequest.of("resamples", samples=self.samples, temperature=self.temperature),)

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        signal: ResampleSignal | None = signal_of(candidate, self.requests()[0])
        return 0.0 if signal is None else aggregate_values(shares_changed(signal), self.aggregate)


def shares_changed(signal: ResampleSignal) -> np.ndarray:
    """The share of changed re-samples of each step."""
    return np.array([_share_changed(step, again) for step, again in zip(signal.greedy, signal.steps, strict=True)])


def _share_changed(step: str, again: list[str]) -> float:
    """Share of `again` that is not `step`; NaN where nothing was re-sampled."""
    if not again:
        return float("nan")
    return sum(other.split() != step.split() for other in again) / len(again)
