"""Strategies made of others."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, SelectionError
from hf_active_distill.records import Explanation, PoolRow
from hf_active_distill.selection import (
    Candidate,
    ClassBalance,
    EasyToHard,
    PerToken,
    RandomShare,
    SelectionContext,
    SelectionResult,
    SelectionStrategy,
    SignalRequest,
    Subsample,
    UncertaintyThenCoverage,
    as_strategy,
    choose,
    get_strategy,
    register_strategy,
    select_rows,
)


WRAPPERS = {
    "subsample": {"strategy": "k_center", "size": 12},
    "class_balance": {"strategy": "entropy"},
    "uncertainty_then_coverage": {"factor": 3},
    "per_token": {"strategy": "margin", "cost": lambda candidate: 1 + int(candidate.row_id) % 3},
    "easy_to_hard": {"rounds": 4},
    "random_share": {"strategy": "badge", "share": 0.3},
}


def arrays(size, seed=0):
    source = np.random.default_rng(seed)
    return {
        "probabilities": source.dirichlet(np.ones(3) / 2, size=size),
        "embeddings": source.normal(size=(size, 4)),
        "labelled_embeddings": source.normal(size=(3, 4)),
    }


@pytest.mark.parametrize(
    ("name", "options", "drawn"),
    [
        ("random", {}, 6),
        ("entropy", {}, 0),
        ("stratified_random", {}, 0),
        ("random_share", {"strategy": "entropy", "share": 0.5}, 3),
        ("subsample", {"strategy": "random", "size": 12}, 6),
        ("subsample", {"strategy": RandomShare("entropy", 0.5), "size": 12}, 3),
        ("class_balance", {"strategy": "random"}, 0),
        ("uncertainty_then_coverage", {"coverage": "random", "factor": 2}, 0),
        ("easy_to_hard", {"rounds": 3}, 0),
        ("easy_to_hard", {"rounds": 3, "round": 2}, 6),
    ],
    ids=str,
)
def test_rows_said_to_be_drawn_from_all_rows_are_so(name, options, drawn):
    """Each row is as likely to be one of them as any other; what was drawn in a chosen part is not among them."""
    counts = np.zeros(30)
    given = arrays(30)
    for seed in range(300):
        found = select_rows(name, 6, seed=seed, **given, **options)
        assert len(found.uniform) == drawn and found.uniform <= set(found.indices.tolist())
        counts[list(found.uniform)] += 1
    # Binomial: 300 draws at drawn / 30.
    p = drawn / 30
    assert abs(counts - 300 * p).max() <= 4.5 * math.sqrt(300 * p * (1 - p))


def test_a_reason_alone_does_not_make_a_row_one_of_them():
    def mine(context):
        ids = [candidate.row_id for candidate in context.candidates][: context.n]
        return SelectionResult(
            ids, dict.fromkeys([c.row_id for c in context.candidates], 0.0), dict.fromkeys(ids, "random")
        )

    found = select_rows(RandomShare(mine, 0.5), 4, embeddings=np.eye(9))
    assert len(found.uniform) == 2 and set(found.reasons.values()) == {"random"}


@pytest.mark.parametrize("name", WRAPPERS)
@given(size=st.integers(1, 30), seed=st.integers(0, 50), data=st.data())
@settings(deadline=None, max_examples=15)
def test_n_different_rows_a_score_of_all_and_the_same_again(name, size, seed, data):
    n = data.draw(st.integers(1, size))
    first, again = (select_rows(name, n, seed=seed, **arrays(size, seed), **WRAPPERS[name]) for _ in range(2))
    assert len(set(first.indices.tolist())) == n and set(first.reasons) <= set(first.indices.tolist())
    assert len(first.scores) == size and np.isfinite(first.scores).all()
    assert first.indices.tolist() == again.indices.tolist()


@pytest.mark.parametrize("name", WRAPPERS)
def test_signals_of_what_is_inside_are_asked_for_once(name):
    strategy = get_strategy(name, **WRAPPERS[name])
    assert len(set(strategy.requests())) == len(strategy.requests())
    around = UncertaintyThenCoverage("entropy", {"name": "contrastive", "neighbours": 2})
    assert around.requests() == (SignalRequest.of("probabilities"), SignalRequest.of("embedding"))
    assert around.needs_labelled == (SignalRequest.of("probabilities"), SignalRequest.of("embedding"))


def test_a_strategy_inside_is_given_by_name_with_options_or_made():
    made = get_strategy("k_center", normalize=False)
    for inside in (made, {"name": "k_center", "normalize": False}):
        assert as_strategy({"name": "subsample", "strategy": inside}).inner()[0] == made
    with pytest.raises(ConfigurationError, match="names no strategy"):
        Subsample({"normalize": False})
    with pytest.raises(ConfigurationError, match="has no option nomalize"):
        Subsample({"name": "k_center", "nomalize": False})


def test_a_sample_is_ranked_and_the_rest_has_the_lowest_score():
    given = arrays(40)
    found = select_rows("subsample", 5, strategy="entropy", size=10, **given)
    plain = select_rows("entropy", 40, **given)
    looked_at = np.flatnonzero(found.scores > found.scores.min())
    assert len(looked_at) == 9
    assert found.indices.tolist() == [i for i in plain.indices if i in looked_at][:5]
    np.testing.assert_array_equal(found.scores[looked_at], plain.scores[looked_at])
    whole = select_rows("subsample", 5, strategy="entropy", size=40, **given)
    assert whole.indices.tolist() == plain.indices[:5].tolist()
    assert len(select_rows("subsample", 20, strategy="entropy", size=10, **given).indices) == 20


def test_labels_take_turns():
    p = np.array([[0.5, 0.3, 0.2]] * 20 + [[0.1, 0.8, 0.1]] * 5 + [[0.02, 0.08, 0.9]] * 2)
    p += np.linspace(0, 0.01, len(p))[:, None] * [-1, 1, 0]
    found = select_rows("class_balance", 12, strategy="entropy", probabilities=p)
    labels = p.argmax(axis=1)[found.indices]
    assert Counter(labels.tolist()) == {0: 5, 1: 5, 2: 2}
    assert [set(labels[:3]), set(labels[3:6])] == [{0, 1, 2}] * 2
    for label in range(3):
        rows = np.flatnonzero(p.argmax(axis=1) == label)
        best = sorted(rows, key=lambda i: -found.scores[i])[: (labels == label).sum()]
        assert found.indices[labels == label].tolist() == best


def test_coverage_chooses_among_the_unsure():
    given = arrays(60)
    found = select_rows("uncertainty_then_coverage", 4, uncertainty="margin", factor=3, **given)
    unsure = select_rows("margin", 12, **given)
    assert set(found.indices) <= set(unsure.indices)
    np.testing.assert_array_equal(found.scores, unsure.scores)
    rows = np.sort(unsure.indices)
    inside = select_rows(
        "k_center", 4, embeddings=given["embeddings"][rows], labelled_embeddings=given["labelled_embeddings"]
    )
    assert found.indices.tolist() == rows[inside.indices].tolist()


CONFIDENCE = SignalRequest.of("self_confidence")


def candidate(row_id, confidence, characters=400, tokens=None, cost=None):
    explanation = None if tokens is None else Explanation(row_id, "t", [], None, num_tokens=tokens)
    prompt = "x" * characters
    return Candidate(PoolRow(row_id, prompt), explanation, {CONFIDENCE: confidence}, cost)


def context_of(candidates, n, round=0):
    return SelectionContext(candidates, n, np.random.default_rng(0), round=round)


def test_a_score_is_divided_by_what_the_row_is_expected_to_cost():
    rows = [
        candidate("long", 0.1, tokens=700),
        candidate("short", 0.4, tokens=100),
        candidate("given", 0.1, cost=2000.0),
    ]
    result = choose(PerToken("self_confidence"), context_of(rows, 3))
    # 200 of overhead, 400 characters, and what the student wrote.
    expected = {"long": 1000 * 0.9 / 1000, "short": 1000 * 0.6 / 400, "given": 1000 * 0.9 / 2000}
    assert result.scores == pytest.approx(expected)
    assert result.ids == ["short", "long", "given"]
    assert PerToken("self_confidence", output_weight=4).expected_cost(rows[0]) == 200 + 100 + 4 * 700
    assert PerToken("self_confidence", cost=lambda c: 50).expected_cost(rows[2]) == 50
    chat = Candidate(PoolRow("c", [{"role": "system", "content": "x" * 40}, {"role": "user", "content": "y" * 60}]))
    assert PerToken("self_confidence", overhead=0).expected_cost(chat) == 25
    assert PerToken("self_confidence").score(rows[0], context_of(rows, 1)) == pytest.approx(0.9)


def test_costs_of_rows_from_an_array():
    given, tokens = arrays(30), np.random.default_rng(1).integers(50, 500, 30)
    found = select_rows("per_token", 30, strategy="entropy", teacher_tokens=tokens, **given)
    values = 1000 * select_rows("entropy", 1, **given).scores / tokens
    np.testing.assert_allclose(found.scores, values)
    assert found.indices.tolist() == np.argsort(-values).tolist()
    inside = {"name": "per_token", "strategy": "entropy"}
    half = select_rows("class_balance", 6, strategy=inside, teacher_tokens=tokens, **given)
    np.testing.assert_allclose(half.scores, values)
    with pytest.raises(SelectionError, match="nothing to expect its cost from"):
        select_rows("per_token", 3, strategy="entropy", **given)


def test_a_users_own_strategy_over_candidates_works_on_arrays():
    @register_strategy("second_class", requests=(SignalRequest.of("probabilities"),))
    def second_class(context):
        return {c.row_id: c.signals[SignalRequest.of("probabilities")][1] for c in context.candidates}

    given = arrays(20)
    expected = np.argsort(-given["probabilities"][:, 1])
    assert select_rows("second_class", 5, **given).indices.tolist() == expected[:5].tolist()
    found = select_rows("subsample", 5, strategy="second_class", size=20, **given)
    assert found.indices.tolist() == expected[:5].tolist()
    assert found.reasons[int(expected[0])].startswith("second_class=")


class FarFromLabelled(SelectionStrategy):
    name = "far"
    needs_labelled = (SignalRequest.of("embedding"),)

    def requests(self):
        return self.needs_labelled

    def score(self, candidate, context):
        (request,) = self.requests()
        return min(np.linalg.norm(candidate.signals[request] - known.signals[request]) for known in context.labelled)


def test_a_users_own_strategy_sees_the_labelled_rows():
    given = arrays(20)
    found = select_rows(FarFromLabelled(), 1, **given)
    assert found.indices.tolist() == select_rows("k_center", 1, normalize=False, **given).indices.tolist()


@pytest.mark.parametrize("name", WRAPPERS)
def test_candidates_and_arrays_give_the_same_choice(name):
    given, strategy = arrays(30), get_strategy(name, **WRAPPERS[name])
    named = {"embedding": "embeddings"}

    def candidates(requests, prefix, size):
        signals = [{r: given[prefix + named.get(r.name, r.name)][i] for r in requests} for i in range(size)]
        return [Candidate(PoolRow(str(i), "q"), signals=found) for i, found in enumerate(signals)]

    context = SelectionContext(
        candidates(strategy.requests(), "", 30),
        6,
        np.random.default_rng(4),
        labelled=candidates(strategy.needs_labelled, "labelled_", 3),
    )
    assert choose(strategy, context).ids == [str(i) for i in select_rows(strategy, 6, seed=4, **given).indices]


def test_a_score_below_zero_or_a_cost_without_a_number_is_refused():
    with pytest.raises(SelectionError, match="cannot divide the score"):
        select_rows("per_token", 1, strategy="k_means", embeddings=arrays(9)["embeddings"])
    with pytest.raises(SelectionError, match="Row 'a' is expected to cost nan tokens"):
        choose(PerToken("self_confidence", cost=lambda c: math.nan), context_of([candidate("a", 0.5)], 1))


@pytest.mark.parametrize("pacing, shares", [("linear", [0.2, 0.6, 1.0, 1.0]), ("root", [0.2, 0.52**0.5, 1.0, 1.0])])
def test_the_pool_opens_from_easy_to_hard(pacing, shares):
    strategy = EasyToHard(rounds=3, strategy="random", difficulty="self_confidence", start=0.2, pacing=pacing)
    rows = [candidate(f"r{i}", 1 - i / 50) for i in range(50)]  # the later the harder
    for round, share in enumerate(shares):
        assert strategy.share(round) == pytest.approx(share)
        size = math.ceil(share * 50 - 1e-9)
        seen = {
            row_id
            for seed in range(60)
            for row_id in choose(strategy, SelectionContext(rows, 5, np.random.default_rng(seed), round=round)).ids
        }
        assert seen <= {f"r{i}" for i in range(size)} and len(seen) > 0.9 * size
    assert EasyToHard(rounds=1).share(0) == 1.0


def test_too_few_easy_rows_are_filled_up():
    strategy = EasyToHard(rounds=9, difficulty="self_confidence", start=0.01)
    rows = [candidate(f"r{i}", 1 - i / 20) for i in range(20)]
    assert sorted(choose(strategy, context_of(rows, 4)).ids) == ["r0", "r1", "r2", "r3"]


@pytest.mark.parametrize(
    "make, named",
    [
        (lambda: Subsample("entropy", size=0), "`size` must be at least 1"),
        (lambda: UncertaintyThenCoverage(factor=0.5), "`factor` must be at least 1"),
        (lambda: PerToken("entropy", overhead=-1), "`overhead` must be at least 0"),
        (lambda: EasyToHard(rounds=0), "`rounds` must be at least 1"),
        (lambda: EasyToHard(rounds=2, start=0), "`start` must be above 0"),
        (lambda: EasyToHard(rounds=2, pacing="x"), "linear, root"),
        (lambda: ClassBalance("entropie"), "Unknown selection strategy"),
        (lambda: RandomShare("entropy", 2), "`share`"),
    ],
)
def test_wrong_options_are_refused(make, named):
    with pytest.raises(ConfigurationError, match=named):
        make()
