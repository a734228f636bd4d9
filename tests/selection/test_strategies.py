"""Every strategy against a reference written from its definition, and what all strategies have in common."""

import inspect
import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError
from hf_active_distill.records import Explanation, PoolRow
from hf_active_distill.selection import (
    Candidate,
    Disagreement,
    LeastConfidence,
    MaxEntropy,
    ResampleSignal,
    SelectionContext,
    SelfConfidence,
    SignalRequest,
    StepEntropy,
    StepResampling,
    TokenSignal,
    available_strategies,
    get_strategy,
)


BUILT_IN = (
    "agreement",
    "disagreement",
    "egss",
    "least_confidence",
    "max_entropy",
    "random",
    "self_confidence",
    "step_entropy",
    "step_resampling",
)


def context_of(candidates=(), n=0, seed=0, answers_equal=None):
    return SelectionContext(list(candidates), n, np.random.default_rng(seed), answers_equal=answers_equal)


def score(strategy, value, answers_equal=None, row_id="a"):
    (request,) = strategy.requests()
    candidate = Candidate(PoolRow(row_id, "q"), signals={request: value})
    return strategy.score(candidate, context_of([candidate], 1, answers_equal=answers_equal))


def tokens_of(logprobs, entropies=None, step_of=None):
    n = len(logprobs)
    return TokenSignal(
        np.array(logprobs, dtype=float),
        np.array(entropies if entropies is not None else [0.0] * n, dtype=float),
        np.array(step_of if step_of is not None else [0] * n, dtype=int),
    )


def samples_of(answers):
    return [Explanation("a", "t", [], answer, sample_index=i + 1) for i, answer in enumerate(answers)]


positive = st.floats(0, 12, allow_nan=False)
rows_of_tokens = st.lists(st.tuples(positive, positive, st.integers(-1, 4)), min_size=1, max_size=20)


@given(rows_of_tokens)
def test_token_strategies_follow_their_formulas(rows):
    surprise, entropies, step_of = (list(column) for column in zip(*rows, strict=True))
    signal = tokens_of([-value for value in surprise], entropies, step_of)
    assert score(MaxEntropy(), signal) == pytest.approx(sum(entropies) / len(entropies))
    assert score(MaxEntropy(aggregate="max"), signal) == max(entropies)
    assert score(MaxEntropy(aggregate="sum"), signal) == pytest.approx(sum(entropies))
    assert score(LeastConfidence(), signal) == pytest.approx(sum(surprise))
    assert score(LeastConfidence(over="normalized"), signal) == pytest.approx(sum(surprise) / len(surprise))
    assert score(LeastConfidence(over="token"), signal) == max(surprise)


@given(rows_of_tokens, st.sampled_from(["mean", "max", "sum"]), st.sampled_from(["mean", "max", "sum"]))
def test_step_entropy_gathers_within_steps_then_over_steps(rows, within, aggregate):
    reduce = {"mean": lambda v: sum(v) / len(v), "max": max, "sum": sum}
    by_step = {}
    for _, entropy, step in rows:
        if step >= 0:
            by_step.setdefault(step, []).append(entropy)
    expected = reduce[aggregate]([reduce[within](values) for values in by_step.values()]) if by_step else 0.0
    signal = tokens_of([0.0] * len(rows), [row[1] for row in rows], [row[2] for row in rows])
    assert score(StepEntropy(within=within, aggregate=aggregate), signal) == pytest.approx(expected)


def test_sequence_confidence_orders_like_one_minus_probability():
    likely, unlikely = tokens_of([-0.1, -0.2]), tokens_of([-0.1, -0.9])
    probability = [math.exp(signal.logprobs.sum()) for signal in (likely, unlikely)]
    scores = [score(LeastConfidence(), signal) for signal in (likely, unlikely)]
    assert (1 - probability[0] < 1 - probability[1]) and (scores[0] < scores[1])


def test_impossible_and_unreadable_tokens_give_finite_scores():
    assert math.isfinite(score(LeastConfidence(), tokens_of([-math.inf, -1.0])))
    assert score(LeastConfidence(), tokens_of([math.nan, -1.0])) == 1.0
    assert score(MaxEntropy(), tokens_of([0.0, 0.0], [math.nan, 3.0])) == 3.0


@pytest.mark.parametrize("stated, expected", [(0.25, 0.75), (1.5, 0.0), (-1.0, 1.0), (math.nan, 0.5), (None, 0.5)])
def test_self_confidence(stated, expected):
    assert score(SelfConfidence(), stated) == expected


def reference_disagreement(answers, form):
    """From the definition, for plain string equality."""
    k = len(answers)
    counts = [answers.count(answer) for answer in {a for a in answers if a is not None}] + [1] * answers.count(None)
    if form == "entropy":
        return sum(-c / k * math.log(c / k) for c in counts)
    if form == "unique":
        return (len(counts) - 1) / k
    p = max(counts) / k
    return 1 - p if form == "majority" else p * (1 - p)


@given(
    st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=8),
    st.sampled_from(["entropy", "unique", "majority", "agreement"]),
)
def test_disagreement_follows_its_formula(answers, form):
    expected = reference_disagreement(answers, form)
    found = score(Disagreement(form=form), samples_of(answers))
    assert found == pytest.approx(expected)
    assert found >= 0.0


def test_disagreement_uses_the_tasks_equality():
    def equal(first, second):
        return float(first) == float(second)

    assert score(Disagreement(), samples_of(["3", "3.0", "3"]), equal) == 0.0
    assert score(Disagreement(), samples_of(["3", "3.0", "3"])) > 0.0
    assert score(get_strategy("agreement", k=4), samples_of(["1", "1.0", "2", "2.0"]), equal) == 0.25


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from(["a", " a ", "b", "c"]), min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    )
)
def test_step_resampling_follows_its_formula(rows):
    shares = [sum(other.strip() != greedy for other in again) / len(again) for greedy, again in rows]
    signal = ResampleSignal([row[0] for row in rows], [row[1] for row in rows])
    assert score(StepResampling(), signal) == pytest.approx(sum(shares) / len(shares))
    assert score(StepResampling(aggregate="sum"), signal) == pytest.approx(sum(shares))
    assert score(StepResampling(aggregate="max"), signal) == max(shares)


def test_step_resampling_leaves_out_a_boundary_without_samples():
    signal = ResampleSignal(["s", "t"], [[], ["t", "u"]])
    assert score(StepResampling(), signal) == 0.5


@pytest.mark.parametrize("name", BUILT_IN)
def test_rows_without_explanation_have_a_score(name):
    strategy = get_strategy(name)
    bare = Candidate(PoolRow("a", "q"))
    context = context_of([bare], 1)
    assert math.isfinite(strategy.score(bare, context))
    assert math.isfinite(strategy.tie_breaker(bare, context))


@pytest.mark.parametrize("name", BUILT_IN)
def test_formulas_name_their_source_and_requests_are_hashable(name):
    strategy = get_strategy(name)
    text = inspect.getdoc(type(strategy))
    assert re.search(r"\bU +=", text) or "[`Disagreement`]" in text
    assert len(set(strategy.requests())) == len(strategy.requests())
    assert all(isinstance(request, SignalRequest) for request in strategy.requests())


@pytest.mark.parametrize(
    "name, options, named",
    [
        ("max_entropy", {"aggregate": "median"}, "mean, max, sum"),
        ("least_confidence", {"over": "words"}, "sequence, normalized, token"),
        ("step_entropy", {"within": "x"}, "mean, max, sum"),
        ("disagreement", {"form": "x"}, "entropy, unique, majority, agreement"),
        ("disagreement", {"k": 1}, "at least 2"),
        ("disagreement", {"temperature": 0}, "above 0"),
        ("step_resampling", {"samples": 0}, "at least 1"),
        ("egss", {"measure": "x"}, "step_entropy, step_resampling, answer_shift"),
        ("egss", {"removal": "suffix"}, "prefix, leave_one_out"),
        ("egss", {"distance": "l2"}, "hard, soft, tv, js"),
        ("egss", {"early_discount": 1.5}, "at most 1"),
        ("egss", {"inter_weight": math.nan}, "at least 0"),
        ("egss", {"lambda_": 1}, "inter_weight"),
        ("entropie", {}, "max_entropy"),
    ],
)
def test_wrong_options_are_refused_with_the_choices(name, options, named):
    with pytest.raises(ConfigurationError, match=named):
        get_strategy(name, **options)


def test_all_names_are_there():
    assert set(BUILT_IN) <= set(available_strategies())


class Fixed(MaxEntropy):
    """Scores from the row's columns."""

    def requests(self):
        return ()

    def score(self, candidate, context):
        return candidate.row.columns["score"]

    def tie_breaker(self, candidate, context):
        return candidate.row.columns.get("second", 0.0)


def rows_scored(scores, seconds=None):
    seconds = seconds or [0.0] * len(scores)
    pairs = zip(scores, seconds, strict=True)
    return [Candidate(PoolRow(f"r{i}", "q", columns={"score": s, "second": t})) for i, (s, t) in enumerate(pairs)]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.integers(0, 1000))
@settings(max_examples=50)
def test_the_best_are_taken_and_all_scores_kept(scores, seed):
    candidates = rows_scored(scores)
    n = len(scores) // 2
    result = Fixed().select(context_of(candidates, n, seed))
    assert sorted((result.scores[row_id] for row_id in result.ids), reverse=True) == sorted(scores, reverse=True)[:n]
    assert result.scores == {c.row_id: c.row.columns["score"] for c in candidates}
    assert set(result.reasons) == set(result.ids)


def test_ties_go_to_the_second_key_then_to_the_seed():
    by_second = Fixed().select(context_of(rows_scored([1, 1, 1], [0.1, 0.3, 0.2]), 3))
    assert by_second.ids == ["r1", "r2", "r0"]
    orders = {tuple(Fixed().select(context_of(rows_scored([1] * 4), 4, seed)).ids) for seed in range(40)}
    assert len(orders) > 10


def test_the_same_seed_gives_the_same_choice():
    candidates = rows_scored([1.0] * 20)
    first, again, other = (get_strategy("random").select(context_of(candidates, 5, seed)).ids for seed in (3, 3, 4))
    assert first == again != other


def test_random_reaches_every_pair_of_rows():
    candidates = rows_scored([0.0, 5.0, 9.0])
    pairs = {frozenset(get_strategy("random").select(context_of(candidates, 2, seed)).ids) for seed in range(60)}
    assert pairs == {frozenset(pair) for pair in itertools.combinations(["r0", "r1", "r2"], 2)}
