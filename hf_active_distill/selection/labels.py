"""Strategies over the student's probabilities of labels: a classifier's, or a generator's over its answer choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from . import measures
from .arrays import Arrays, ArrayStrategy, Choice, PointwiseStrategy, best
from .base import SignalRequest
from .options import require_choice, require_range
from .registry import register_strategy


PROBABILITIES = SignalRequest.of("probabilities")
EMBEDDING = SignalRequest.of("embedding")


@dataclass
class OfProbabilities(PointwiseStrategy):
    """A measure of the probabilities, averaged over the labels where a row may have several."""

    signals: ClassVar[tuple[SignalRequest, ...]] = (PROBABILITIES,)
    multi_label: bool = False

    def measure(self, probabilities: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def scores(self, pool: Arrays) -> np.ndarray:
        name = self.requests()[0].name
        probabilities = pool.probabilities(multi_label=self.multi_label, name=name)
        if self.multi_label:
            return measures.mean_over_labels(self.measure, probabilities)
        return self.measure(probabilities)


@register_strategy("margin")
@dataclass
class Margin(OfProbabilities):
    r"""
    How close the two likeliest labels are, "breaking ties":

        U = 1 - (p_(1) - p_(2))

    Scheffer et al., IDA 2001; Luo et al., JMLR 2005.

    Args:
        multi_label (`bool`, *optional*, defaults to `False`): Each label is a yes or no of its own; the mean over the
            labels is our reading.
    """

    name: ClassVar[str] = "margin"

    def measure(self, probabilities: np.ndarray) -> np.ndarray:
        return measures.margin(probabilities)


@register_strategy("entropy")
@dataclass
class Entropy(OfProbabilities):
    r"""
    Entropy of the predicted label:

        U = - sum_k p_k log p_k

    Shannon 1948; as a query strategy Settles, "Active Learning Literature Survey", 2009, section 3.1. The entropy
    along a written explanation is [`MaxEntropy`].

    Args:
        multi_label (`bool`, *optional*, defaults to `False`): Each label is a yes or no of its own; the mean over the
            labels is our reading.
    """

    name: ClassVar[str] = "entropy"

    def measure(self, probabilities: np.ndarray) -> np.ndarray:
        return measures.entropy(probabilities)


@register_strategy("bald")
@dataclass
class BALD(OfProbabilities):
    r"""
    How much the label would tell about the weights, with T passes under dropout as samples of the weights:

        U = H(mean_t p_t) - mean_t H(p_t)

    Houlsby et al., arXiv 1112.5745; with dropout Gal, Islam and Ghahramani, arXiv 1703.02910. Rows are ranked one by
    one, not as a batch.

    Args:
        samples (`int`, *optional*, defaults to `10`): Passes (T). A student without dropout layers gives 0 everywhere.
        multi_label (`bool`, *optional*, defaults to `False`): Each label is a yes or no of its own; the mean over the
            labels is our reading.
    """

    name: ClassVar[str] = "bald"
    samples: int = 10

    def __post_init__(self) -> None:
        require_range("samples", self.samples, 2)

    def requests(self) -> tuple[SignalRequest, ...]:
        return (SignalRequest.of("mc_probabilities", samples=self.samples),)

    def measure(self, probabilities: np.ndarray) -> np.ndarray:
        return measures.bald(probabilities)


@register_strategy("expected_gradient_length")
@dataclass
class ExpectedGradientLength(PointwiseStrategy):
    r"""
    How far the last layer would move, over the labels that the student expects:

        U = sum_k p_k || (p - e_k) h^T ||

    Settles, Craven and Ray, NeurIPS 2007. Only the last layer, from p and the embedding h: no backward pass (the
    restriction is that of the EGL-sm variant of Zhang, Lease and Wallace, AAAI 2017).
    """

    name: ClassVar[str] = "expected_gradient_length"
    one_label: ClassVar[bool] = True
    signals: ClassVar[tuple[SignalRequest, ...]] = (PROBABILITIES, EMBEDDING)

    def scores(self, pool: Arrays) -> np.ndarray:
        return measures.expected_gradient_length(pool.probabilities(), pool.signal("embedding"))


@register_strategy("llkd_gate")
@dataclass
class LLKDGateRanking(ArrayStrategy):
    r"""
    The student's half of LLKD's gate, before anything is paid: how far a row's uncertainty lies above the threshold of
    the class that the student predicts.

        u_i = H(p_i) / log K,   U = u_i - tau_S(argmax_k p_ik)

    arXiv 2411.08028 labels the whole pool and gates while it trains; asking last, the thresholds
    ([`~selection.measures.gate_thresholds`]) and the use as a ranking are our reading. They are those of this round's
    candidates, without memory of earlier rounds. The teacher's half of the gate acts on what comes back.

    Args:
        class_factor (`str`, *optional*, defaults to `"max_norm"`): What a class makes of the threshold: `"max_norm"`,
            `"mean_norm"`, `"own"` or `"none"`, as in [`~losses.LLKDGate`].
    """

    name: ClassVar[str] = "llkd_gate"
    one_label: ClassVar[bool] = True
    signals: ClassVar[tuple[SignalRequest, ...]] = (PROBABILITIES,)
    class_factor: str = "max_norm"

    def __post_init__(self) -> None:
        require_choice("class_factor", self.class_factor, measures.CLASS_FACTORS)

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        probabilities = pool.probabilities()
        num_classes = probabilities.shape[1]
        uncertainty = measures.entropy(probabilities) / np.log(num_classes)
        classes = probabilities.argmax(axis=1)
        thresholds = measures.gate_thresholds(uncertainty, classes, num_classes, self.class_factor)
        scores = uncertainty - thresholds[classes]
        return Choice(best(scores, n, generator, ids=pool.ids), scores)


def balanced_quotas(available: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """
    How many of `n` rows each class gets: as even as the rows of the classes allow. What cannot be shared evenly goes
    to classes drawn at random, so that no class waits for the others in every round.

    Args:
        available (`np.ndarray` of shape `(K,)`): Rows a class.
        n (`int`): Rows in all, at most as many as there are.
        generator (`np.random.Generator`): Draws the classes.
    """
    quotas = np.zeros(len(available), dtype=np.int64)
    while (left := n - quotas.sum()) > 0:
        unfilled = np.flatnonzero(quotas < available)
        if left < len(unfilled):
            quotas[generator.choice(unfilled, size=left, replace=False)] += 1
        else:
            room = (available - quotas)[unfilled]
            quotas[unfilled] += np.minimum(room, left // len(unfilled))
    return quotas


@register_strategy("stratified_random")
@dataclass
class StratifiedRandom(ArrayStrategy):
    r"""
    Random rows, as many from each label that the student predicts (U = 0 for every row). With few rows to choose, a
    rare label is seen sooner than by plain chance.

    Stratified sampling (Neyman 1934); strata by predicted label are our reading.

    Args:
        allocation (`str`, *optional*, defaults to `"equal"`): `"equal"` as even as the rows allow, `"proportional"` in
            the shares of the candidates.
    """

    name: ClassVar[str] = "stratified_random"
    one_label: ClassVar[bool] = True
    signals: ClassVar[tuple[SignalRequest, ...]] = (PROBABILITIES,)
    allocation: str = "equal"

    def __post_init__(self) -> None:
        require_choice("allocation", self.allocation, ("equal", "proportional"))

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        classes = pool.probabilities().argmax(axis=1)
        order = generator.permutation(pool.size)
        available = np.bincount(classes)
        if self.allocation == "equal":
            quotas = balanced_quotas(available, n, generator)
        else:
            exact = available * (n / pool.size)
            quotas = np.floor(exact).astype(np.int64)
            # Largest remainders, so that the quotas sum to n.
            quotas[np.argsort(quotas - exact, kind="stable")[: n - quotas.sum()]] += 1
        ranks = within_class_ranks(classes[order])
        taken = ranks < quotas[classes[order]]
        chosen = order[taken][np.argsort(ranks[taken], kind="stable")]
        reasons = {int(i): f"random of label {classes[i]}" for i in chosen}
        return Choice(chosen, np.zeros(pool.size), reasons)


def within_class_ranks(classes: np.ndarray) -> np.ndarray:
    """How many earlier rows have the same class, for each row."""
    order = np.argsort(classes, kind="stable")
    counts = np.bincount(classes)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    ranks = np.empty(len(classes), dtype=np.int64)
    ranks[order] = np.arange(len(classes)) - starts
    return ranks
