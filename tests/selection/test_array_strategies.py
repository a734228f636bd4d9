"""What the strategies over labels and embeddings have in common, and how they treat what they are given."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, SelectionError
from hf_active_distill.records import PoolRow
from hf_active_distill.selection import (
    Candidate,
    SelectionContext,
    SignalRequest,
    available_strategies,
    choose,
    get_strategy,
    select_rows,
)
from hf_active_distill.selection.labels import balanced_quotas, within_class_ranks


OPTIONS = {"least_confidence": {"over": "label"}, "bald": {"samples": 3}}
#: A row's score depends on that row alone, or on the set of rows but not on their order.
RANKINGS = ("least_confidence", "margin", "entropy", "bald", "expected_gradient_length", "llkd_gate", "contrastive")
CHOICES = ("badge", "k_center", "k_means", "typicality", "probcover", "discriminative", "stratified_random")
ALL = RANKINGS + CHOICES


def arrays(size, seed=0, known=4):
    """Everything that a strategy may read; no two rows are alike."""
    source = np.random.default_rng(seed)
    return {
        "probabilities": source.dirichlet(np.ones(3), size=size),
        "mc_probabilities": source.dirichlet(np.ones(3), size=(size, 3)),
        "embeddings": source.normal(size=(size, 4)).astype(np.float32),
        "labelled_probabilities": source.dirichlet(np.ones(3), size=known),
        "labelled_embeddings": source.normal(size=(known, 4)).astype(np.float32),
    }


def made(name):
    return get_strategy(name, **OPTIONS.get(name, {}))


def signals_of(given, i, requests, prefix=""):
    named = {"embedding": "embeddings"}
    return {request: given[prefix + named.get(request.name, request.name)][i] for request in requests}


def context_of(strategy, given, n, seed=0):
    """The same rows as the trainer hands them over."""
    size, known = len(given["probabilities"]), len(given["labelled_embeddings"])
    candidates = [
        Candidate(PoolRow(f"r{i}", "q"), signals=signals_of(given, i, strategy.requests())) for i in range(size)
    ]
    labelled = [
        Candidate(PoolRow(f"l{i}", "q"), signals=signals_of(given, i, strategy.needs_labelled, "labelled_"))
        for i in range(known)
    ]
    return SelectionContext(candidates, n, np.random.default_rng(seed), labelled=labelled)


@pytest.mark.parametrize("name", ALL)
@given(size=st.integers(1, 25), seed=st.integers(0, 99), known=st.integers(0, 4), data=st.data())
@settings(deadline=None, max_examples=12)
def test_n_different_rows_a_finite_score_of_all_and_a_reason_of_each(name, size, seed, known, data):
    n = data.draw(st.integers(0, size))
    strategy = made(name)
    given = arrays(size, seed, known)
    result = choose(strategy, context_of(strategy, given, n, seed))
    assert len(result.ids) == len(set(result.ids)) == n
    assert len(result.scores) == size and np.isfinite(list(result.scores.values())).all()
    assert set(result.reasons) == set(result.ids) and all(result.reasons.values())
    if n:
        from_arrays = select_rows(strategy, n, seed=seed, **given)
        assert [f"r{i}" for i in from_arrays.indices] == result.ids


@pytest.mark.parametrize("name", ALL)
def test_the_same_seed_gives_the_same_choice(name):
    given = arrays(60)
    first, again = (select_rows(made(name), 10, seed=3, **given) for _ in range(2))
    assert first.indices.tolist() == again.indices.tolist()
    np.testing.assert_array_equal(first.scores, again.scores)


@pytest.mark.parametrize("name", (*RANKINGS, "k_center"))
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_pool_does_not_matter(name, seed):
    given = arrays(40, seed)
    order = np.random.default_rng(seed).permutation(40)
    moved = {key: values if key.startswith("labelled") else values[order] for key, values in given.items()}
    plain, other = select_rows(made(name), 8, **given), select_rows(made(name), 8, **moved)
    np.testing.assert_allclose(other.scores, plain.scores[order], rtol=1e-5, atol=1e-7)
    assert order[other.indices].tolist() == plain.indices.tolist()


@pytest.mark.parametrize("name", RANKINGS)
def test_ties_are_drawn_by_the_generator(name):
    given = arrays(1)
    same = {key: np.repeat(values, 12, axis=0) if not key.startswith("l") else values for key, values in given.items()}
    orders = {tuple(select_rows(made(name), 4, seed=seed, **same).indices) for seed in range(20)}
    assert len(orders) > 10


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_value_that_is_no_number_names_the_row(name, wrong):
    strategy = made(name)
    for request in strategy.requests():
        key = "embeddings" if request.name == "embedding" else request.name
        given = arrays(9)
        given[key][5] = wrong
        with pytest.raises(SelectionError, match=rf"Row 5 cannot be ranked: its signal '{request.name}' has a NaN"):
            select_rows(strategy, 2, **given)
        with pytest.raises(SelectionError, match="Row 'r5' cannot be ranked"):
            strategy.select(context_of(strategy, given, 2))


@pytest.mark.parametrize("name", ("margin", "badge", "llkd_gate", "stratified_random"))
def test_rows_that_are_no_distributions_are_named(name):
    given = arrays(6)
    given["probabilities"][4] *= 0.5
    with pytest.raises(SelectionError, match="Row 4 cannot be ranked: its probabilities do not sum to 1"):
        select_rows(name, 2, **given)
    given["probabilities"][2] = [1.5, -0.5, 0.0]
    with pytest.raises(SelectionError, match="Row 2 cannot be ranked: a probability is outside"):
        select_rows(name, 2, **given)
    with pytest.raises(SelectionError, match="at least two classes"):
        select_rows(name, 1, probabilities=np.ones((3, 1)), embeddings=np.ones((3, 2)))


def test_independent_labels_need_not_sum_to_one():
    p = np.array([[0.9, 0.9, 0.1], [0.5, 0.5, 0.5], [0.99, 0.01, 0.99]])
    for name in ("entropy", "margin", "least_confidence"):
        found = select_rows(name, 3, probabilities=p, multi_label=True, **OPTIONS.get(name, {}))
        assert found.indices.tolist() == [1, 0, 2]


def test_signals_that_do_not_fit_together_are_named():
    margin = made("margin")
    (request,) = margin.requests()
    context = context_of(margin, arrays(5), 2)
    context.candidates[3].signals = {}
    with pytest.raises(SelectionError, match="1 rows have no signal 'probabilities', 'r3' among them"):
        margin.select(context)
    context.candidates[3].signals = {request: np.array([0.5, 0.5])}
    with pytest.raises(SelectionError, match=r"of row 'r3' has the shape \(2,\), the first row's has \(3,\)"):
        margin.select(context)


@pytest.mark.parametrize(
    "strategy, given, problem",
    [
        ("badge", {"probabilities": np.full((3, 2), 0.5)}, "'badge' needs `embeddings`"),
        ("egss", {"probabilities": np.full((3, 2), 0.5)}, "reads the student's 'tokens', which no array holds"),
        ("least_confidence", {"probabilities": np.full((3, 2), 0.5)}, "over='label'"),
        ("badge", {"probabilities": np.full((3, 2), 0.5), "embeddings": np.ones((4, 2))}, "one row for every"),
        ("random", {}, "have no rows"),
    ],
)
def test_arrays_that_are_missing_are_named(strategy, given, problem):
    with pytest.raises((ConfigurationError, SelectionError), match=problem):
        select_rows(strategy, 2, **given)
    with pytest.raises(ConfigurationError, match="at least one"):
        select_rows("random", 0, probabilities=np.full((3, 2), 0.5))


def test_a_choice_from_arrays_by_name():
    p = np.array([[0.98, 0.02], [0.55, 0.45], [0.7, 0.3]])
    found = select_rows("margin", 2, probabilities=p)
    assert found.indices.tolist() == [1, 2]
    np.testing.assert_allclose(found.scores, [0.04, 0.9, 0.6])
    assert sorted(select_rows("random", 9, probabilities=p).indices) == [0, 1, 2]


def test_the_gate_ranks_by_the_students_own_class():
    """A class on which the student is sure has a low threshold, so the least sure row of it comes first."""
    p = np.array([[0.9, 0.1], [0.97, 0.03], [0.4, 0.6], [0.45, 0.55]])
    by_class = select_rows("llkd_gate", 4, probabilities=p, class_factor="own")
    plain = select_rows("llkd_gate", 4, probabilities=p, class_factor="none")
    assert plain.indices.tolist() == select_rows("entropy", 4, probabilities=p).indices.tolist() == [3, 2, 0, 1]
    assert by_class.indices.tolist() == [0, 3, 2, 1]
    assert (by_class.scores > 0).tolist() == [True, False, False, True]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=6).filter(any), st.integers(0, 99), st.data())
def test_quotas_are_as_even_as_the_rows_allow(available, seed, data):
    n = data.draw(st.integers(0, sum(available)))
    quotas = balanced_quotas(np.array(available), n, np.random.default_rng(seed))
    assert quotas.sum() == n and (quotas <= available).all() and (quotas >= 0).all()
    # Whoever has rows left is at most one behind the fullest.
    assert all(quotas[k] >= quotas.max() - 1 for k in range(len(available)) if quotas[k] < available[k])


def test_no_class_waits_for_the_others_in_every_round():
    drawn = {int(balanced_quotas(np.full(5, 9), 1, np.random.default_rng(seed)).argmax()) for seed in range(60)}
    assert drawn == set(range(5))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=20))
def test_ranks_within_classes(classes):
    expected = [classes[:i].count(label) for i, label in enumerate(classes)]
    assert within_class_ranks(np.array(classes)).tolist() == expected


def test_stratified_random_takes_as_many_of_each_label():
    p = np.eye(3)[[0] * 30 + [1] * 6 + [2] * 4] * 0.8 + 0.2 / 3
    labels = p.argmax(axis=1)
    even = select_rows("stratified_random", 9, probabilities=p)
    assert np.bincount(labels[even.indices]).tolist() == [3, 3, 3]
    assert sorted(labels[even.indices[:3]]) == [0, 1, 2]
    assert set(even.reasons.values()) == {f"random of label {k}" for k in range(3)}
    shares = select_rows("stratified_random", 20, probabilities=p, allocation="proportional")
    assert np.bincount(labels[shares.indices]).tolist() == [15, 3, 2]
    others = {tuple(select_rows("stratified_random", 3, probabilities=p, seed=s).indices) for s in range(20)}
    assert len(others) > 10


@pytest.mark.parametrize("name", ALL)
def test_formulas_name_their_source(name):
    text = inspect.getdoc(type(made(name)))
    assert "U =" in text or "U(x) =" in text or "U_i" in text
    assert any(word in text for word in ("arXiv", "ICLR", "EMNLP", "JMLR", "NeurIPS", "SIGIR", "Settles", "Neyman"))
    assert name in available_strategies()


@pytest.mark.parametrize(
    "name, options, named",
    [
        ("bald", {"samples": 1}, "at least 2"),
        ("llkd_gate", {"class_factor": "x"}, "max_norm, mean_norm, own, none"),
        ("stratified_random", {"allocation": "x"}, "equal, proportional"),
        ("typicality", {"neighbours": 0}, "at least 1"),
        ("typicality", {"index": "x"}, "exact, faiss"),
        ("probcover", {"radius": 0}, "above 0"),
        ("probcover", {"purity": 1.5}, "at most 1"),
        ("probcover", {"clusters": 1}, "at least 2"),
        ("discriminative", {"batches": 0}, "at least 1"),
        ("discriminative", {"most": 0}, "at least 1"),
        ("contrastive", {"neighbours": 0}, "at least 1"),
        ("least_confidence", {"over": "x"}, "sequence, normalized, token, label"),
    ],
)
def test_wrong_options_are_refused(name, options, named):
    with pytest.raises(ConfigurationError, match=named):
        get_strategy(name, **options)


def test_a_single_candidate_has_a_score_where_it_stands_alone():
    entropy, k_center = made("entropy"), made("k_center")
    given = arrays(3)
    context = context_of(entropy, given, 1)
    assert entropy.score(context.candidates[1], context) == pytest.approx(select_rows("entropy", 1, **given).scores[1])
    with pytest.raises(SelectionError, match="weighs candidates against each other"):
        k_center.score(context.candidates[0], context)
    assert made("bald").requests() == (SignalRequest.of("mc_probabilities", samples=3),)


def test_selection_imports_nothing_heavy():
    code = (
        "import sys, hf_active_distill.selection\n"
        "print([m for m in ('torch', 'sklearn', 'scipy', 'faiss', 'datasets') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
