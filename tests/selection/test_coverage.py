"""Choices over embeddings against slow, obvious ones."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from hf_active_distill.selection import coverage, distances, labelled
from hf_active_distill.selection.badge import badge


def far(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def drawn(size, d, seed):
    return np.random.default_rng(seed).normal(size=(size, d))


sizes = st.tuples(st.integers(1, 14), st.integers(1, 4), st.integers(0, 10_000))


def slow_k_center(points, n, centers, first):
    chosen, picked = [], []
    for position in range(n):
        if position == 0 and not len(centers):
            chosen.append(first)
            picked.append(None)
            continue
        placed = [*centers, *(points[i] for i in chosen)]
        gaps = [-1 if i in chosen else min(far(x, c) for c in placed) for i, x in enumerate(points)]
        chosen.append(int(np.argmax(gaps)))
        picked.append(max(gaps))
    return chosen, picked


@given(sizes, st.integers(0, 3), st.data())
@settings(deadline=None)
def test_k_center_takes_the_farthest_row_each_time(size, centers, data):
    points, known = drawn(*size), drawn(centers, size[1], size[2] + 1)
    n = data.draw(st.integers(1, len(points)))
    found = coverage.k_center(points, n, np.random.default_rng(7), labelled=known if centers else None)
    chosen, picked = slow_k_center(points, n, known, int(found.indices[0]))
    assert found.indices.tolist() == chosen
    if centers:
        np.testing.assert_allclose(found.scores[found.indices], picked, rtol=1e-6, atol=1e-9)
    placed = [*known, *points[chosen]]
    for i in set(range(len(points))) - set(chosen):
        assert found.scores[i] == pytest.approx(min(far(points[i], c) for c in placed), abs=1e-6)


def test_k_center_on_a_line():
    points = np.array([[0.0], [1.0], [5.0], [9.0]])
    found = coverage.k_center(points, 3, np.random.default_rng(0), labelled=np.array([[0.0]]))
    assert found.indices.tolist() == [3, 2, 1]
    np.testing.assert_allclose(found.scores, [0, 1, 4, 9], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_k_center_in_single_precision_chooses_as_in_double_far_from_the_origin(seed):
    points = drawn(300, 16, seed) + 50
    single, double = (
        coverage.k_center(points.astype(dtype), 40, np.random.default_rng(1)).indices for dtype in ("f4", "f8")
    )
    assert single.tolist() == double.tolist()


def test_k_center_among_equal_rows_repeats_none():
    found = coverage.k_center(np.ones((6, 2)), 6, np.random.default_rng(0))
    assert sorted(found.indices) == list(range(6))


def test_blocks_of_distances_are_the_whole_matrix(monkeypatch):
    rows, columns = drawn(23, 3, 0), drawn(11, 3, 1)
    monkeypatch.setattr(distances, "BLOCK_ENTRIES", 40)
    found = np.concatenate([block for _, block in distances.distance_blocks(rows, columns)])
    np.testing.assert_allclose(found, [[far(a, b) ** 2 for b in columns] for a in rows], atol=1e-9)
    assert max(len(block) for _, block in distances.distance_blocks(rows, columns)) == 3


@pytest.mark.parametrize("index", ["exact", "faiss"])
def test_neighbours(index):
    points, queries = drawn(30, 4, 0).astype("f4"), drawn(5, 4, 1).astype("f4")
    found, rows = distances.nearest(points, queries, 3, index=index)
    for query, gaps, chosen in zip(queries, found, rows, strict=True):
        expected = sorted(range(30), key=lambda i: far(query, points[i]))[:3]
        assert chosen.tolist() == expected
        np.testing.assert_allclose(gaps, [far(query, points[i]) for i in expected], rtol=1e-4)


def test_a_row_of_zeros_has_no_direction():
    np.testing.assert_allclose(distances.normalized(np.array([[3.0, 4.0], [0.0, 0.0]])), [[0.6, 0.8], [0.0, 0.0]])


def blobs(seed=0, counts=(12, 8, 4)):
    """Far apart; the first is the largest."""
    generator = np.random.default_rng(seed)
    centers = [[10.0, 0.0], [0.0, 10.0], [-10.0, -10.0]]
    parts = [generator.normal(size=(count, 2)) * 0.5 + c for count, c in zip(counts, centers, strict=True)]
    return np.concatenate(parts), np.repeat(np.arange(3), counts)


def test_k_means_takes_the_row_nearest_to_each_mean_and_the_largest_cluster_first():
    points, truth = blobs()
    found = coverage.k_means(points, 3, np.random.default_rng(0))
    expected = []
    for blob in range(3):
        members = np.flatnonzero(truth == blob)
        mean = points[members].mean(axis=0)
        expected.append(min(members, key=lambda i: far(points[i], mean)))
    assert found.indices.tolist() == expected
    mean = points[truth == 0].mean(axis=0)
    assert found.scores[0] == pytest.approx(-far(points[0], mean))


@pytest.mark.parametrize("mini_batch", [False, True])
def test_k_means_among_equal_rows_fills_up(mini_batch):
    points = np.repeat([[0.0, 1.0], [5.0, 5.0]], 4, axis=0)
    found = coverage.k_means(points, 5, np.random.default_rng(0), mini_batch=mini_batch)
    assert len(set(found.indices.tolist())) == 5
    assert len({tuple(points[i]) for i in found.indices[:2]}) == 2


@given(st.lists(st.integers(0, 3), min_size=1, max_size=25), st.integers(1, 6), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_typicality_is_the_inverse_mean_distance_within_the_cluster(clusters, k, seed):
    assigned, points = np.array(clusters), drawn(len(clusters), 3, seed)
    expected = []
    for i, own in enumerate(assigned):
        gaps = sorted(far(points[i], points[j]) for j in range(len(points)) if j != i and assigned[j] == own)[:k]
        expected.append(len(gaps) / sum(gaps) if gaps else 0.0)
    np.testing.assert_allclose(coverage.typicality(points, assigned, neighbours=k), expected, rtol=1e-5)


@pytest.mark.parametrize("index", ["exact", "faiss"])
def test_typicality_of_a_large_cluster_is_that_of_a_small_one(index):
    points = drawn(1500, 4, 0).astype("f4")
    found = coverage.typicality(points, np.zeros(1500, dtype=int), neighbours=3, index=index)
    for i in (0, 700):
        gaps = sorted(far(points[i], x) for x in points)[1:4]
        assert found[i] == pytest.approx(3 / sum(gaps), rel=1e-4)


def slow_typical_rows(scores, assigned, n, labelled_clusters, smallest):
    chosen = []
    sizes = {c: list(assigned).count(c) + list(labelled_clusters).count(c) for c in set(assigned)}
    while len(chosen) < n:

        def rank(c):
            covered = list(labelled_clusters).count(c) + sum(assigned[i] == c for i in chosen)
            return (sizes[c] < smallest, covered, -sizes[c], c)

        left = [i for i in range(len(scores)) if i not in chosen]
        cluster = min({assigned[i] for i in left}, key=rank)
        chosen.append(max((i for i in left if assigned[i] == cluster), key=lambda i: scores[i]))
    return chosen


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20), st.lists(st.integers(0, 6), max_size=6), st.data())
def test_typical_rows_come_from_the_largest_cluster_with_the_fewest_labels(clusters, others, data):
    scores = np.random.default_rng(len(clusters)).permutation(len(clusters)).astype(float)
    n = data.draw(st.integers(1, len(clusters)))
    smallest = data.draw(st.integers(1, 4))
    found = coverage.typical_rows(scores, np.array(clusters), n, np.array(others, dtype=int), smallest=smallest)
    assert found.tolist() == slow_typical_rows(scores, clusters, n, others, smallest)


def slow_cover(points, n, radius, known):
    covered = {j for j, x in enumerate(points) if any(far(x, c) <= radius for c in known)}
    chosen, gains = [], []
    while len(chosen) < n:
        new = [
            -1 if i in chosen else sum(far(x, y) <= radius and j not in covered for j, y in enumerate(points))
            for i, x in enumerate(points)
        ]
        if max(new) <= 0:
            break
        chosen.append(int(np.argmax(new)))
        gains.append(max(new))
        covered |= {j for j, y in enumerate(points) if far(points[chosen[-1]], y) <= radius}
    return chosen, gains


@given(sizes, st.integers(0, 2), st.floats(0.3, 3), st.data())
@settings(deadline=None)
def test_probability_cover_takes_the_ball_with_the_most_uncovered_rows(size, centers, radius, data):
    points, known = drawn(*size), drawn(centers, size[1], size[2] + 1)
    n = data.draw(st.integers(1, len(points)))
    found = coverage.probability_cover(points, n, radius, np.random.default_rng(0), labelled=known)
    chosen, gains = slow_cover(points, n, radius, known)
    assert found.indices[: len(chosen)].tolist() == chosen
    assert found.scores[chosen].tolist() == gains
    assert len(set(found.indices.tolist())) == n
    assert all("random" in found.reasons[i] for i in found.indices[len(chosen) :].tolist())


@given(st.integers(0, 500), st.sampled_from([0.5, 0.8, 0.95, 1.0]))
@settings(deadline=None, max_examples=40)
def test_the_radius_is_the_largest_that_leaves_enough_balls_pure(seed, purity):
    points, assigned = drawn(20, 2, seed), np.random.default_rng(seed).integers(0, 3, 20)
    if len(set(assigned.tolist())) < 2:
        assigned[0] = 1 - min(assigned[0], 1)
    radius = coverage.purity_radius(points, assigned, purity, np.random.default_rng(0))

    def pure(delta):
        balls = [
            all(assigned[i] == assigned[j] for j in range(20) if far(points[i], points[j]) <= delta) for i in range(20)
        ]
        return sum(balls) / 20

    # Purity falls at distances between rows alone: the radius lies just below the first one that is too large.
    too_large = [gap for a, b in itertools.combinations(points, 2) if pure((gap := far(a, b)) * (1 + 1e-9)) < purity]
    assert pure(radius) >= purity
    assert radius == (pytest.approx(min(too_large), rel=1e-6) if too_large else math.inf)


def slow_badge(probabilities, embeddings, n, generator):
    """With the gradients written out."""
    one_hot = np.eye(probabilities.shape[1])[probabilities.argmax(axis=1)]
    gradients = np.stack(
        [np.outer(p - e, h).ravel() for p, e, h in zip(probabilities, one_hot, embeddings, strict=True)]
    )
    chosen = [int(np.argmax([g @ g for g in gradients]))]
    while len(chosen) < n:
        weights = np.array([min(((g - gradients[j]) ** 2).sum() for j in chosen) for g in gradients])
        weights[chosen] = 0
        shares = np.cumsum(weights) / weights.sum()
        chosen.append(int(np.searchsorted(shares, generator.random(), side="right")))
    return chosen


@pytest.mark.parametrize("seed", range(20))
def test_badge_draws_what_the_written_out_gradients_draw(seed):
    source = np.random.default_rng(seed)
    probabilities, embeddings = source.dirichlet(np.ones(4), size=40), source.normal(size=(40, 6))
    found = badge(probabilities, embeddings, 12, np.random.default_rng(seed + 100))
    assert found.indices.tolist() == slow_badge(probabilities, embeddings, 12, np.random.default_rng(seed + 100))
    assert len(found.scores) == 40 and (found.scores >= 0).all()


def test_badge_with_equal_gradients_repeats_none():
    probabilities, embeddings = np.tile([0.7, 0.3], (5, 1)), np.ones((5, 3), dtype=np.float32)
    found = badge(probabilities, embeddings, 5, np.random.default_rng(0))
    assert sorted(found.indices) == list(range(5))
    certain = badge(np.tile([1.0, 0.0], (3, 1)), np.ones((3, 2)), 3, np.random.default_rng(0))
    assert sorted(certain.indices) == list(range(3))


@given(sizes, st.integers(1, 6), st.integers(1, 4))
@settings(deadline=None, max_examples=40)
def test_contrastive_is_the_mean_divergence_from_the_nearest_labelled_rows(size, known, k):
    points, centers = drawn(*size), drawn(known, size[1], size[2] + 1)
    source = np.random.default_rng(size[2])
    p, q = source.dirichlet(np.ones(3), size=len(points)), source.dirichlet(np.ones(3), size=known)
    expected = []
    for x, own in zip(points, p, strict=True):
        close = sorted(range(known), key=lambda j: far(x, centers[j]))[:k]
        expected.append(sum(sum(q[j] * np.log(q[j] / own)) for j in close) / len(close))
    found = labelled.contrastive(p, points, q, centers, neighbours=k)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_discriminative_in_one_batch_is_a_ranking_by_the_classifier():
    points, known = drawn(60, 4, 0), drawn(20, 4, 1) + 1.5
    found = labelled.discriminative(points, 8, np.random.default_rng(0), labelled=known, batches=1, most=None)
    scaled = [(x - points.mean(axis=0)) / points.std(axis=0) for x in (known, points)]
    model = LogisticRegression(class_weight="balanced", max_iter=200)
    model.fit(np.concatenate(scaled), [0] * 20 + [1] * 60)
    expected = np.argsort(-model.predict_proba(scaled[1])[:, 1])[:8]
    assert found.indices.tolist() == expected.tolist()


def test_discriminative_in_several_batches_does_not_stay_in_one_place():
    """Two far places are not labelled. What is taken in one of them counts as labelled for the next batch."""
    generator = np.random.default_rng(0)
    known = generator.normal(size=(40, 2)) * 0.3
    near = generator.normal(size=(40, 2)) * 0.3
    places = [generator.normal(size=(40, 2)) * 0.3 + place for place in ([9.0, 0.5], [0.0, 8.0])]
    points = np.concatenate([near, *places])
    found = labelled.discriminative(points, 20, np.random.default_rng(0), labelled=known, batches=10)
    assert {int(i) // 40 for i in found.indices} == {1, 2}


def test_discriminative_starts_at_random_where_nothing_is_labelled():
    found = labelled.discriminative(drawn(50, 3, 0), 10, np.random.default_rng(0), batches=5)
    assert sum("random" in reason for reason in found.reasons.values()) == 2
    assert len(set(found.indices.tolist())) == 10
