"""The same choice as small-text and scikit-activeml on the same probabilities and embeddings."""

import numpy as np
import pytest
from skactiveml.base import SkactivemlClassifier
from skactiveml.classifier import SklearnClassifier
from skactiveml.pool import (
    Badge,
    ContrastiveAL,
    CoreSet,
    DiscriminativeAL,
    ProbCover,
    TypiClust,
    UncertaintySampling,
    uncertainty_scores,
)
from skactiveml.pool._badge import _d_2
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from small_text.query_strategies.bayesian import BALD, _bald
from small_text.query_strategies.coresets import greedy_coreset
from small_text.query_strategies.strategies import (
    BreakingTies,
    DiscriminativeActiveLearning,
    EmbeddingKMeans,
    LeastConfidence,
    PredictionEntropy,
)

from hf_active_distill.selection import coverage, labelled, measures, select_rows
from hf_active_distill.selection.distances import normalized


N = 12
SEEDS = range(4)


def drawn(seed, size=200, known=15, d=6, classes=4):
    """Probabilities, embeddings and embeddings of labelled rows."""
    source = np.random.default_rng(seed)
    embeddings = source.normal(size=(size, d)) + 3 * source.integers(0, 3, size=(size, 1))
    return source.dirichlet(np.ones(classes), size=size), embeddings, source.normal(size=(known, d))


class Given:
    """A classifier of small-text that knows its answer."""

    def __init__(self, probabilities):
        self.probabilities = probabilities

    def predict_proba(self, dataset, dropout_sampling=None):
        return self.probabilities


class Linear(SkactivemlClassifier):
    """A classifier of scikit-activeml with the weights of a seed."""

    def __init__(self, classes=None, missing_label=np.nan, cost_matrix=None, random_state=None):
        super().__init__(
            classes=classes, missing_label=missing_label, cost_matrix=cost_matrix, random_state=random_state
        )

    def fit(self, X, y, sample_weight=None):
        return self

    def predict_proba(self, X):
        logits = X @ np.random.default_rng(5).normal(size=(X.shape[1], 4))
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)


def together(embeddings, known):
    """As scikit-activeml wants it: all rows, and a label where there is one."""
    labels = np.full(len(embeddings) + len(known), np.nan)
    labels[len(embeddings) :] = np.arange(len(known)) % 4
    return np.concatenate([embeddings, known]), labels


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name, options, small, active",
    [
        ("least_confidence", {"over": "label"}, LeastConfidence, "least_confident"),
        ("margin", {}, BreakingTies, "margin_sampling"),
        ("entropy", {}, PredictionEntropy, "entropy"),
    ],
)
def test_uncertainty(name, options, small, active, seed):
    p, _, _ = drawn(seed)
    found = select_rows(name, N, probabilities=p, **options)
    theirs = small().query(Given(p), p, np.arange(len(p)), np.array([], dtype=int), np.array([]), n=N)
    assert set(found.indices.tolist()) == set(theirs.tolist())
    np.testing.assert_allclose(found.scores, uncertainty_scores(p, method=active), atol=1e-9)


def test_uncertainty_in_the_same_order():
    _, embeddings, known = drawn(0)
    X, y = together(embeddings, known)
    model = Linear(classes=range(4))
    theirs = UncertaintySampling(method="entropy", random_state=0).query(X, y, model, fit_clf=False, batch_size=N)
    found = select_rows("entropy", N, probabilities=model.predict_proba(embeddings))
    assert found.indices.tolist() == theirs.tolist()


@pytest.mark.parametrize("seed", SEEDS)
def test_bald(seed):
    passes = np.random.default_rng(seed).dirichlet(np.ones(4), size=(200, 5))
    found = select_rows("bald", N, mc_probabilities=passes)
    theirs = BALD(5).query(Given(passes), passes, np.arange(200), np.array([], dtype=int), np.array([]), n=N)
    assert set(found.indices.tolist()) == set(theirs.tolist())
    # They count in bits.
    np.testing.assert_allclose(found.scores / np.log(2), _bald(passes), atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_k_center(seed):
    _, embeddings, known = drawn(seed)
    X, y = together(embeddings, known)
    found = coverage.k_center(embeddings, N, np.random.default_rng(0), labelled=known).indices.tolist()
    assert found == CoreSet(random_state=0).query(X, y, batch_size=N).tolist()
    rows = np.arange(len(X))
    small = greedy_coreset(X, rows[:200], rows[200:], N, distance_metric="euclidean")
    assert found == small.tolist()
    directions = normalized(X)
    small = greedy_coreset(
        directions, rows[: len(embeddings)], rows[len(embeddings) :], N, distance_metric="euclidean"
    )
    assert select_rows("k_center", N, embeddings=embeddings, labelled_embeddings=known).indices.tolist() == (
        small.tolist()
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_badge(seed):
    """
    With the distances of scikit-activeml over written-out gradients. Its own loop counts the origin among the centers,
    which neither the paper nor the authors' code does: there the first distances are to the first row alone.
    """
    _, embeddings, known = drawn(seed)
    X, y = together(embeddings, known)
    model = Linear(classes=range(4))
    first = Badge(random_state=seed).query(X, y, model, fit_clf=False, batch_size=1)
    p = model.predict_proba(embeddings)
    gradients = ((p - np.eye(4)[p.argmax(axis=1)])[:, :, None] * embeddings[:, None, :]).reshape(len(p), -1)
    draws, weights, chosen = np.random.default_rng(seed), np.full(len(p), np.inf), [int(first[0])]
    for _ in range(N - 1):
        weights = _d_2(gradients, [chosen[-1]], weights)
        chosen.append(int(np.searchsorted(np.cumsum(weights) / weights.sum(), draws.random(), side="right")))
    found = select_rows("badge", N, probabilities=p, embeddings=embeddings, seed=seed)
    assert found.indices.tolist() == chosen


@pytest.mark.parametrize("seed", SEEDS)
def test_k_means_on_the_same_centers(seed):
    _, embeddings, _ = drawn(seed)
    points = normalized(embeddings)
    found = select_rows("k_means", 5, embeddings=embeddings, seed=seed, mini_batch=False)
    state = int(np.random.default_rng(seed).integers(2**31))
    fitted = KMeans(5, n_init=1, random_state=state).fit(points)
    theirs = EmbeddingKMeans._get_nearest_to_centers(fitted.cluster_centers_, points)
    assert set(found.indices.tolist()) == set(theirs.tolist())


@pytest.mark.parametrize("seed", SEEDS)
def test_typicality(seed):
    _, embeddings, known = drawn(seed)
    X, y = together(embeddings, known)
    theirs = TypiClust(cluster_algo_dict={"n_init": 1}, random_state=seed, k=5).query(X, y, batch_size=N)
    assigned, _ = coverage.cluster(X, N + len(known), seed)
    scores = coverage.typicality(X, assigned, neighbours=5)
    size = len(embeddings)
    found = coverage.typical_rows(scores[:size], assigned[:size], N, assigned[size:], smallest=1)
    # Where two clusters are as large, theirs is drawn.
    sizes = np.bincount(assigned)
    assert [sizes[assigned[i]] for i in found] == [sizes[assigned[i]] for i in theirs]
    last = sizes[assigned[theirs[-1]]]
    assert {i for i in found.tolist() if sizes[assigned[i]] > last} == {
        i for i in theirs.tolist() if sizes[assigned[i]] > last
    }


@pytest.mark.filterwarnings("ignore:The maximum purity")
@pytest.mark.parametrize("seed", SEEDS)
def test_probability_cover(seed):
    """Ties are drawn there. So a row at a time, with what was chosen before counted as labelled."""
    _, embeddings, known = drawn(seed)
    found = coverage.probability_cover(embeddings, N, 2.0, np.random.default_rng(0), labelled=known)
    X, y = together(embeddings, known)
    for pick in found.indices.tolist():
        strategy = ProbCover(deltas=[2.0], random_state=0)
        _, utilities = strategy.query(X, y, return_utilities=True)
        assert found.scores[pick] == utilities[0][pick] == np.nanmax(utilities)
        y[pick] = 0


@pytest.mark.parametrize("seed", SEEDS)
def test_contrastive(seed):
    _, embeddings, known = drawn(seed)
    X, y = together(embeddings, known)
    model = Linear(classes=range(4))
    strategy = ContrastiveAL(nearest_neighbors_dict={"n_neighbors": 7}, random_state=0)
    theirs, utilities = strategy.query(X, y, model, fit_clf=False, batch_size=N, return_utilities=True)
    found = select_rows(
        "contrastive",
        N,
        probabilities=model.predict_proba(embeddings),
        embeddings=embeddings,
        labelled_probabilities=model.predict_proba(known),
        labelled_embeddings=known,
        neighbours=7,
        normalize=False,
    )
    assert found.indices.tolist() == theirs.tolist()
    np.testing.assert_allclose(found.scores, utilities[0][: len(embeddings)], atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_discriminative(seed):
    _, embeddings, known = drawn(seed)
    # Standardised beforehand: ours does it itself.
    mean, spread = embeddings.mean(axis=0), embeddings.std(axis=0)
    points, centers = (embeddings - mean) / spread, (known - mean) / spread
    X, y = together(points, centers)
    inner = SklearnClassifier(LogisticRegression(class_weight="balanced", max_iter=200), classes=[0, 1])
    theirs = DiscriminativeAL(greedy_selection=True, random_state=0).query(X, y, inner, batch_size=N)
    found = labelled.discriminative(embeddings, N, np.random.default_rng(0), labelled=known, batches=1, most=None)
    assert found.indices.tolist() == theirs.tolist()


def test_the_parts_of_a_discriminative_choice_add_up_as_theirs():
    assert sum(labelled._parts(53, 10)) == sum(DiscriminativeActiveLearning._get_query_sizes(10, 53)) == 53


def test_the_measures_of_certain_rows():
    p = np.array([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(measures.entropy(p), uncertainty_scores(p, method="entropy"), atol=1e-12)
