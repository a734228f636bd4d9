"""Disagreement of the final answers of several sampled explanations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..records import Explanation
from .base import Candidate, SelectionContext, SelectionStrategy, SignalRequest
from .options import require_choice, require_range, signal_of, vote
from .registry import register_strategy


FORMS = ("entropy", "unique", "majority", "agreement")


def disagreement(groups: Sequence[int], form: str) -> float:
    """How far votes are apart, from the sizes of the groups of equal answers; formulas at [`Disagreement`]."""
    k = sum(groups)
    if k == 0:
        return 0.0
    if form == "unique":
        return (len(groups) - 1) / k
    if form == "entropy":
        # Equal votes give -0.0.
        return abs(sum(size / k * math.log(size / k) for size in groups))
    largest = max(groups) / k
    return 1.0 - largest if form == "majority" else largest * (1.0 - largest)


@register_strategy("disagreement")
@dataclass
class Disagreement(SelectionStrategy):
    r"""
    Disagreement of the answers of k sampled explanations. With groups of answers that the task holds equal, c_g
    their sizes and p the share of the largest, by `form`:

        "entropy":   U = - sum_g c_g / k log(c_g / k)      (vote entropy: Dagan and Engelson, ICML 1995)
        "unique":    U = (number of groups - 1) / k        (Active-Prompt, arXiv 2302.12246, shifted to start at 0)
        "majority":  U = 1 - p
        "agreement": U = p (1 - p)                         (PACED, arXiv 2603.11178, where p is the pass rate;
                                                            the majority in place of a gold answer is our reading)

    A missing answer equals nothing, not even another missing one. "agreement" is also registered under its own name.

    Args:
        k (`int`, *optional*, defaults to `4`): Sampled explanations a row.
        temperature (`float`, *optional*, defaults to `0.7`): Their temperature.
        form (`str`, *optional*, defaults to `"entropy"`): One of the four above.
    """

    name: ClassVar[str] = "disagreement"
    k: int = 4
    temperature: float = 0.7
    form: str = "entropy"

    def __post_init__(self) -> None:
        require_range("k", self.k, 2)
        require_range("temperature", self.temperature, 0, open_below=True)
        require_choice("form", self.form, FORMS)

    def requests(self) -> tuple[SignalRequest, ...]:
        return (SignalRequest.of("samples", k=self.k, temperature=self.temperature),)

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        samples: list[Explanation] | None = signal_of(candidate, self.requests()[0])
        groups = vote([sample.answer for sample in samples or ()], context.answers_equal)
        return disagreement(groups, self.form)


@register_strategy("agreement")
@dataclass
class Agreement(Disagreement):
    """[`Disagreement`] with `form="agreement"`, p (1 - p): neither the settled rows nor the hopeless ones."""

    name: ClassVar[str] = "agreement"
    form: str = "agreement"
