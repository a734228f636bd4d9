"""Strategies over embeddings: rows that differ from each other, are typical, or are unlike what is labelled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from . import coverage, labelled
from .arrays import Arrays, ArrayStrategy, Choice
from .badge import badge
from .base import SignalRequest
from .distances import normalized
from .labels import EMBEDDING, PROBABILITIES
from .options import require_choice, require_range
from .ranking import best
from .registry import register_strategy


INDEXES = ("exact", "faiss")


def _points(pool: Arrays, normalize: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Embeddings of the candidates and of the labelled rows, at length 1 where wanted."""
    points, known = pool.signal("embedding"), pool.labelled("embedding")
    if known is not None:
        known = known.astype(points.dtype, copy=False)
    if normalize:
        points, known = normalized(points), None if known is None else normalized(known)
    return points, known


@register_strategy("badge")
@dataclass
class BADGE(ArrayStrategy):
    r"""
    Unsure and differing rows: k-means++ over the gradients g_i = (p_i - e_{argmax p_i}) h_i^T of the last layer.

        U = min_{j chosen} || g_i - g_j ||^2

    is the weight that a row is drawn with. Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient
    Lower Bounds", ICLR 2020 (arXiv 1906.03671). Computed without the gradients: [`~selection.badge.badge`].
    """

    name: ClassVar[str] = "badge"
    one_label: ClassVar[bool] = True
    signals: ClassVar[tuple[SignalRequest, ...]] = (PROBABILITIES, EMBEDDING)

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        return badge(pool.probabilities(), pool.signal("embedding"), n, generator)


@register_strategy("k_center")
@dataclass
class KCenter(ArrayStrategy):
    r"""
    Core-set: again and again the row farthest from all that is chosen or labelled.

        U = min_{j chosen or labelled} || h_i - h_j ||

    Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018
    (arXiv 1708.00489), the greedy algorithm 1.

    Args:
        normalize (`bool`, *optional*, defaults to `True`): Embeddings at length 1, so that angles count.
    """

    name: ClassVar[str] = "k_center"
    signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    labelled_signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    normalize: bool = True

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        points, known = _points(pool, self.normalize)
        return coverage.k_center(points, n, generator, labelled=known)


@register_strategy("k_means")
@dataclass
class KMeans(ArrayStrategy):
    r"""
    n clusters, and of each the row nearest to the center m of its cluster.

        U = - || h_i - m_{cluster(i)} ||

    Bodo, Minier and Csato, 2011; over language models Yuan, Lin and Boyd-Graber, EMNLP 2020 (arXiv 2010.09535).

    Args:
        normalize (`bool`, *optional*, defaults to `True`): Embeddings at length 1, so that angles count.
        mini_batch (`bool`, *optional*): Whether k-means goes by mini-batches; from 20,000 rows on by default.
    """

    name: ClassVar[str] = "k_means"
    signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    normalize: bool = True
    mini_batch: bool | None = None

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        points, _ = _points(pool, self.normalize)
        return coverage.k_means(points, n, generator, mini_batch=self.mini_batch)


@register_strategy("typicality")
@dataclass
class Typicality(ArrayStrategy):
    r"""
    For the cold start: the most typical row of each cluster that has no labelled row yet.

        U = ( 1/K sum_{j in K nearest of i in its cluster} || h_i - h_j || )^-1

    TypiClust: Hacohen, Dekel and Weinshall, "Active Learning on a Budget", ICML 2022 (arXiv 2202.02794). There are as
    many clusters as labelled rows and rows to choose together.

    Args:
        neighbours (`int`, *optional*, defaults to `20`): K.
        max_clusters (`int`, *optional*, defaults to `500`): Most clusters.
        smallest (`int`, *optional*, defaults to `5`): Smallest cluster that counts while others have rows.
        normalize (`bool`, *optional*, defaults to `True`): Embeddings at length 1, as in the paper.
        mini_batch (`bool`, *optional*): Whether k-means goes by mini-batches; from 20,000 rows on by default.
        index (`str`, *optional*, defaults to `"exact"`): Neighbours by scikit-learn, or with `"faiss"` by faiss.
    """

    name: ClassVar[str] = "typicality"
    signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    labelled_signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    neighbours: int = 20
    max_clusters: int = 500
    smallest: int = 5
    normalize: bool = True
    mini_batch: bool | None = None
    index: str = "exact"

    def __post_init__(self) -> None:
        require_range("neighbours", self.neighbours, 1)
        require_range("max_clusters", self.max_clusters, 1)
        require_range("smallest", self.smallest, 1)
        require_choice("index", self.index, INDEXES)

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        points, known = _points(pool, self.normalize)
        together = points if known is None else np.concatenate([points, known])
        clusters = min(n + len(together) - len(points), self.max_clusters, len(together))
        seed = int(generator.integers(2**31))
        assigned, _ = coverage.cluster(together, clusters, seed, mini_batch=self.mini_batch)
        scores = coverage.typicality(together, assigned, neighbours=self.neighbours, index=self.index)[: len(points)]
        own, others = assigned[: len(points)], assigned[len(points) :]
        return Choice(coverage.typical_rows(scores, own, n, others, smallest=self.smallest), scores)


@register_strategy("probcover")
@dataclass
class ProbCover(ArrayStrategy):
    r"""
    Again and again the row whose ball of radius delta holds the most rows that are not covered yet.

        U = #{ j not covered : || h_i - h_j || <= delta }

    Yehuda, Dekel, Hacohen and Weinshall, "Active Learning Through a Covering Lens", NeurIPS 2022 (arXiv 2205.11320).

    Args:
        radius (`float`, *optional*): delta. By default the largest one at which a share of `purity` of the balls lies
            within one cluster of k-means.
        purity (`float`, *optional*, defaults to `0.95`): alpha of the paper.
        clusters (`int`, *optional*): Clusters that stand in for classes; the paper takes the number of classes. By
            default as many as rows to choose.
        normalize (`bool`, *optional*, defaults to `True`): Embeddings at length 1, as in the paper.
    """

    name: ClassVar[str] = "probcover"
    signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    labelled_signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    radius: float | None = None
    purity: float = 0.95
    clusters: int | None = None
    normalize: bool = True

    def __post_init__(self) -> None:
        require_range("purity", self.purity, 0, 1, open_below=True)
        if self.radius is not None:
            require_range("radius", self.radius, 0, open_below=True)
        if self.clusters is not None:
            require_range("clusters", self.clusters, 2)

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        points, known = _points(pool, self.normalize)
        radius = self.radius
        if radius is None:
            clusters = min(self.clusters or max(n, 2), len(points))
            assigned, _ = coverage.cluster(points, clusters, int(generator.integers(2**31)))
            radius = coverage.purity_radius(points, assigned, self.purity, generator)
        return coverage.probability_cover(points, n, radius, generator, labelled=known)


@register_strategy("discriminative")
@dataclass
class Discriminative(ArrayStrategy):
    r"""
    Rows that a classifier tells most clearly from the labelled ones.

        U = log p(unlabelled | h_i) / p(labelled | h_i)

    DAL: Gissin and Shalev-Shwartz, "Discriminative Active Learning", arXiv 1907.06347. Ours is logistic regression on
    standardised embeddings; [`~selection.labelled.discriminative`].

    Args:
        batches (`int`, *optional*, defaults to `10`): Parts in which the rows are taken.
        most (`int`, *optional*, defaults to `10`): Unlabelled rows to train on for each labelled one; `None` is all.
    """

    name: ClassVar[str] = "discriminative"
    signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    labelled_signals: ClassVar[tuple[SignalRequest, ...]] = (EMBEDDING,)
    batches: int = 10
    most: int | None = 10

    def __post_init__(self) -> None:
        require_range("batches", self.batches, 1)
        if self.most is not None:
            require_range("most", self.most, 1)

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        points, known = _points(pool, normalize=False)
        return labelled.discriminative(points, n, generator, labelled=known, batches=self.batches, most=self.most)


@register_strategy("contrastive")
@dataclass
class Contrastive(ArrayStrategy):
    r"""
    Rows predicted otherwise than the labelled rows around them.

        U = 1/k sum_{l in k nearest labelled of i} KL( p(.|x_l) || p(.|x_i) )

    CAL: Margatina, Vernikos, Barrault and Aletras, EMNLP 2021 (arXiv 2109.03764). Where nothing is labelled yet, U = 0
    and the choice is random.

    Args:
        neighbours (`int`, *optional*, defaults to `10`): k.
        normalize (`bool`, *optional*, defaults to `True`): Embeddings at length 1, so that angles count.
        index (`str`, *optional*, defaults to `"exact"`): Neighbours by scikit-learn, or with `"faiss"` by faiss.
    """

    name: ClassVar[str] = "contrastive"
    one_label: ClassVar[bool] = True
    signals: ClassVar[tuple[SignalRequest, ...]] = (PROBABILITIES, EMBEDDING)
    labelled_signals: ClassVar[tuple[SignalRequest, ...]] = (PROBABILITIES, EMBEDDING)
    neighbours: int = 10
    normalize: bool = True
    index: str = "exact"

    def __post_init__(self) -> None:
        require_range("neighbours", self.neighbours, 1)
        require_choice("index", self.index, INDEXES)

    def choose_rows(self, pool: Arrays, n: int, generator: np.random.Generator) -> Choice:
        probabilities, known_probabilities = pool.probabilities(), pool.labelled("probabilities")
        points, known = _points(pool, self.normalize)
        scores = np.zeros(pool.size)
        if known is not None and known_probabilities is not None:
            scores = labelled.contrastive(
                probabilities, points, known_probabilities, known, neighbours=self.neighbours, index=self.index
            )
        return Choice(best(scores, n, generator, ids=pool.ids), scores)
