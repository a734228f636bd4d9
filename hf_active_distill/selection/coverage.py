"""Choices that spread over embeddings, as functions of arrays. Ties go to the row that comes first."""

from __future__ import annotations

import warnings

import numpy as np

from .arrays import Choice
from .distances import distance_blocks, nearest, nearest_squared, require_scikit_learn, squared_lengths


def k_center(
    points: np.ndarray, n: int, generator: np.random.Generator, *, labelled: np.ndarray | None = None
) -> Choice:
    r"""
    Greedy k-center, the core-set choice of Sener and Savarese (ICLR 2018, algorithm 1): again and again the row that
    is farthest from all that is chosen or labelled,

        argmax_i min_{j in chosen or labelled} || x_i - x_j ||

    Each pick updates the distance to the nearest center, so `n` picks take O(n N d) and no distance matrix.

    Args:
        points (`np.ndarray` of shape `(N, d)`): Embeddings.
        n (`int`): Rows to choose, at most N.
        generator (`np.random.Generator`): Draws the first row where nothing is labelled yet.
        labelled (`np.ndarray` of shape `(M, d)`, *optional*): Centers that stand already.

    Returns:
        [`Choice`]: Scores are the distance to the nearest center, when the row was picked or at the end. A first row
        drawn at random has the distance of the second.
    """
    # Distances do not change with the origin, and around the mean float32 loses least.
    center = points.mean(axis=0)
    points = points - center
    squares = squared_lengths(points)
    closest = nearest_squared(points, None if labelled is None else labelled - center)
    open_distance = np.empty_like(closest)
    chosen = np.empty(n, dtype=np.int64)
    picked = np.empty(n, dtype=closest.dtype)
    first_drawn = not np.isfinite(closest[0])
    for position in range(n):
        if position == 0 and first_drawn:
            pick = int(generator.integers(len(points)))
        else:
            pick = int(closest.argmax())
        chosen[position], picked[position] = pick, closest[pick]
        np.dot(points, points[pick], out=open_distance)
        open_distance *= -2.0
        open_distance += squares
        open_distance += squares[pick]
        np.minimum(closest, open_distance, out=closest)
        # Chosen rows stay out, also among duplicates at distance 0.
        closest[chosen[: position + 1]] = -1.0
    reasons = {}
    if first_drawn:
        picked[0] = picked[1] if n > 1 else np.maximum(open_distance, 0).max()
        reasons[int(chosen[0])] = "k_center: random start"
    closest[chosen] = picked
    return Choice(chosen, np.sqrt(np.maximum(closest, 0.0)), reasons)


def cluster(
    points: np.ndarray, clusters: int, seed: int, *, mini_batch: bool | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """
    k-means by scikit-learn.

    Args:
        points (`np.ndarray` of shape `(N, d)`): Embeddings.
        clusters (`int`): How many; at most N.
        seed (`int`): Seed of the first centers.
        mini_batch (`bool`, *optional*): Whether to use mini-batches of 4,096 rows, which is faster by far and a little
            less tight; from 20,000 rows on by default.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Each row's cluster `(N,)` and the centers `(clusters, d)`.
    """
    require_scikit_learn("clusters")
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    model: KMeans | MiniBatchKMeans
    if mini_batch if mini_batch is not None else len(points) >= 20_000:
        model = MiniBatchKMeans(clusters, batch_size=4096, n_init=1, random_state=seed)
    else:
        model = KMeans(clusters, n_init=1, random_state=seed)
    with warnings.catch_warnings():
        # Fewer different rows than clusters: clusters stay empty, and the callers fill up.
        warnings.simplefilter("ignore", ConvergenceWarning)
        assigned = model.fit_predict(points)
    return assigned, model.cluster_centers_


def k_means(points: np.ndarray, n: int, generator: np.random.Generator, *, mini_batch: bool | None = None) -> Choice:
    """
    k-means with `n` clusters, and of each the row nearest to its center (Bodo, Minier and Csato, 2011; for language
    models "BERT-KM" in Yuan et al., EMNLP 2020). The largest cluster comes first. Where rows are the same and clusters
    stay empty, the remaining rows nearest to a center fill up.

    Args:
        points (`np.ndarray` of shape `(N, d)`): Embeddings.
        n (`int`): Rows to choose, at most N.
        generator (`np.random.Generator`): Seeds k-means.
        mini_batch (`bool`, *optional*): See [`cluster`].

    Returns:
        [`Choice`]: Scores are minus the distance to the center of the row's own cluster.
    """
    assigned, centers = cluster(points, n, int(generator.integers(2**31)), mini_batch=mini_batch)
    scores = -np.sqrt(distance_to_own(points, assigned, centers))
    return Choice(representatives(scores, assigned, n), scores)


def distance_to_own(points: np.ndarray, assigned: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Squared distance of each row to the center of its cluster, a block of rows at a time."""
    found = np.empty(len(points), dtype=points.dtype)
    for start in range(0, len(points), 8192):
        part = slice(start, start + 8192)
        found[part] = squared_lengths(points[part] - centers[assigned[part]])
    return found


def representatives(scores: np.ndarray, assigned: np.ndarray, n: int) -> np.ndarray:
    """The best row of each cluster, the largest cluster first; then the best of the rest, up to `n`."""
    order = np.lexsort((-scores, assigned))
    clusters, starts, sizes = np.unique(assigned[order], return_index=True, return_counts=True)
    first = order[starts][np.argsort(-sizes, kind="stable")][:n]
    if len(first) == n:
        return first
    others = np.setdiff1d(np.arange(len(scores)), first)
    return np.concatenate([first, others[np.argsort(-scores[others], kind="stable")][: n - len(first)]])


def typicality(points: np.ndarray, assigned: np.ndarray, *, neighbours: int = 20, index: str = "exact") -> np.ndarray:
    r"""
    Typicality within clusters (TypiClust, Hacohen, Dekel and Weinshall, ICML 2022, equation 4):

        typicality(x) = ( 1/K sum_{x' in K nearest of x} || x - x' || )^-1

    with the neighbours taken from the row's own cluster, and fewer than K where it is smaller. A row alone has 0.

    Args:
        points (`np.ndarray` of shape `(N, d)`): Embeddings.
        assigned (`np.ndarray` of shape `(N,)`): Clusters.
        neighbours (`int`, *optional*, defaults to `20`): K.
        index (`str`, *optional*, defaults to `"exact"`): See [`~selection.distances.nearest`].

    Returns:
        `np.ndarray` of shape `(N,)`.
    """
    scores = np.zeros(len(points))
    order = np.argsort(assigned, kind="stable")
    _, starts = np.unique(assigned[order], return_index=True)
    for members in np.split(order, starts[1:]):
        k = min(neighbours, len(members) - 1)
        if k < 1:
            continue
        mean = _mean_distances(points[members], k, index)
        scores[members] = 1.0 / np.maximum(mean, 1e-9)
    return scores


def _mean_distances(points: np.ndarray, k: int, index: str) -> np.ndarray:
    """Mean distance of each point to the `k` nearest others."""
    if len(points) > 1024:
        # The first neighbour is the row itself, or one at the same place.
        return nearest(points, points, k + 1, index=index)[0][:, 1:].mean(axis=1)
    # Many small clusters: a library's own checks would take longer than the distances.
    points = points - points.mean(axis=0)
    found = np.empty(len(points), dtype=points.dtype)
    for part, block in distance_blocks(points, points):
        block[np.arange(len(block)), np.arange(len(points))[part]] = np.inf
        found[part] = np.sqrt(np.partition(block, k - 1, axis=1)[:, :k]).mean(axis=1)
    return found


def typical_rows(
    scores: np.ndarray, assigned: np.ndarray, n: int, labelled: np.ndarray, *, smallest: int = 5
) -> np.ndarray:
    """
    TypiClust's order (algorithm 1): clusters with the fewest labelled rows first, among them the largest, and of each
    its most typical row; clusters of fewer than `smallest` rows are left out while others have rows.

    Args:
        scores (`np.ndarray` of shape `(N,)`): Typicality of the candidates.
        assigned (`np.ndarray` of shape `(N,)`): Their clusters.
        n (`int`): Rows to choose, at most N.
        labelled (`np.ndarray` of shape `(M,)`): Clusters of the labelled rows.
        smallest (`int`, *optional*, defaults to `5`): Smallest cluster that counts, labelled rows included.

    Returns:
        `np.ndarray` of shape `(n,)`.
    """
    count = int(max(assigned.max(), labelled.max(initial=0))) + 1
    covered = np.bincount(labelled, minlength=count)
    sizes = np.bincount(assigned, minlength=count) + covered
    order = np.lexsort((-scores, assigned))
    ends = np.cumsum(np.bincount(assigned, minlength=count))
    heads = ends - np.bincount(assigned, minlength=count)
    chosen: list[int] = []
    small = sizes < smallest
    while len(chosen) < n:
        left = np.flatnonzero(heads < ends)
        best = left[np.lexsort((-sizes[left], covered[left], small[left]))[0]]
        chosen.append(int(order[heads[best]]))
        heads[best] += 1
        covered[best] += 1
    return np.array(chosen, dtype=np.int64)


def purity_radius(
    points: np.ndarray, assigned: np.ndarray, purity: float, generator: np.random.Generator, *, sample: int = 2000
) -> float:
    r"""
    ProbCover's radius (Yehuda et al., NeurIPS 2022, section 4.2): the largest delta at which a share of at least
    `purity` of the balls of radius delta holds rows of one cluster only. A ball around x is pure as long as delta is
    below the distance of x to the nearest row of another cluster, so that delta is a quantile of those distances: no
    search over a grid is needed.

    Args:
        points (`np.ndarray` of shape `(N, d)`): Embeddings.
        assigned (`np.ndarray` of shape `(N,)`): Clusters in place of classes.
        purity (`float`): alpha in the paper, there 0.95.
        generator (`np.random.Generator`): Draws the sample.
        sample (`int`, *optional*, defaults to `2000`): Balls looked at, against all rows.

    Returns:
        `float`.
    """
    rows = np.arange(len(points))
    if len(points) > sample:
        rows = np.sort(generator.choice(len(points), size=sample, replace=False))
    other = np.empty(len(rows), dtype=np.float64)
    for part, block in distance_blocks(points[rows], points):
        block[assigned[rows[part], None] == assigned[None, :]] = np.inf
        other[part] = block.min(axis=1)
    other = np.sort(np.sqrt(other))
    # A ball is pure at delta if its distance is above: delta stays just below the first that must be pure.
    impure = len(other) - int(np.ceil(purity * len(other) - 1e-9))
    limit = other[impure] if impure < len(other) else np.inf
    return float(np.nextafter(np.float32(limit), np.float32(0))) if np.isfinite(limit) else float("inf")


def probability_cover(
    points: np.ndarray,
    n: int,
    radius: float,
    generator: np.random.Generator,
    *,
    labelled: np.ndarray | None = None,
) -> Choice:
    r"""
    ProbCover (Yehuda, Dekel, Hacohen and Weinshall, NeurIPS 2022, algorithm 1): again and again the row whose ball of
    `radius` holds the most rows that no ball of a chosen or labelled row holds yet.

    The graph of the paper is not kept: who is within reach is computed a block at a time, once to count, and once more
    for each row at the time it is covered. So memory is linear in N, and time O(N^2 d) for any radius.

    Args:
        points (`np.ndarray` of shape `(N, d)`): Embeddings.
        n (`int`): Rows to choose, at most N.
        radius (`float`): delta.
        generator (`np.random.Generator`): Draws the rest where all rows are covered.
        labelled (`np.ndarray` of shape `(M, d)`, *optional*): Embeddings of labelled rows.

    Returns:
        [`Choice`]: Scores are the rows that a row would newly cover, when it was picked or at the end.
    """
    reach = np.asarray(radius, dtype=points.dtype) ** 2
    covered = nearest_squared(points, labelled) <= reach
    gains = _count_within(points, points[~covered], reach)
    taken = np.zeros(len(points), dtype=bool)
    chosen: list[int] = []
    picked: list[int] = []
    while len(chosen) < n:
        gains[taken] = -1
        pick = int(gains.argmax())
        if gains[pick] <= 0:
            break
        chosen.append(pick)
        picked.append(int(gains[pick]))
        taken[pick] = True
        within = _distances_to(points, points[pick]) <= reach
        new = within & ~covered
        covered |= within
        gains -= _count_within(points, points[new], reach)
    reasons = {}
    rest = generator.permutation(np.flatnonzero(~taken))[: n - len(chosen)]
    if len(rest):
        reasons = {int(i): "probcover: all rows are covered, random" for i in rest}
    scores = np.maximum(gains, 0).astype(np.float64)
    scores[chosen] = picked
    return Choice(np.concatenate([np.array(chosen, dtype=np.int64), rest]), scores, reasons)


def _distances_to(points: np.ndarray, point: np.ndarray) -> np.ndarray:
    found = np.empty(len(points), dtype=points.dtype)
    for part, block in distance_blocks(points, point[None]):
        found[part] = block[:, 0]
    return found


def _count_within(points: np.ndarray, others: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """How many of `others` are within reach of each point."""
    counts = np.zeros(len(points), dtype=np.int64)
    # A block of points against a block of others: both stay in the cache.
    for start in range(0, len(others), 4096):
        for part, block in distance_blocks(points, others[start : start + 4096]):
            counts[part] += np.count_nonzero(block <= reach, axis=1)
    return counts
