"""Candidate draws, the random share, user functions, and the check of what a strategy returns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, SelectionError
from hf_active_distill.records import PoolRow
from hf_active_distill.selection import (
    Candidate,
    FunctionStrategy,
    RandomShare,
    SelectionContext,
    SelectionResult,
    SelectionStrategy,
    SelfConfidence,
    SignalRequest,
    as_strategy,
    choose,
    draw_candidates,
    get_strategy,
    register_strategy,
)


CONFIDENCE = SignalRequest.of("self_confidence")


def pool(size):
    """Candidate i states a confidence that falls with i, so the last ones are asked first."""
    return [Candidate(PoolRow(f"r{i}", "q"), signals={CONFIDENCE: 1 - i / size}) for i in range(size)]


def context_of(size, n, seed=0):
    return SelectionContext(pool(size), n, np.random.default_rng(seed))


@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 99), st.data())
def test_random_share_keeps_the_best_and_fills_up(size, share, seed, data):
    n = data.draw(st.integers(0, size))
    result = choose(RandomShare(SelfConfidence(), share), context_of(size, n, seed))
    n_random = int(np.floor(share * n + 0.5))
    drawn = set(result.ids[n - n_random :])
    best = [row_id for i in reversed(range(size)) if (row_id := f"r{i}") not in drawn][: n - n_random]
    assert result.ids[: n - n_random] == best
    assert [result.reasons[row_id] for row_id in result.ids[n - n_random :]] == ["random"] * n_random
    assert result.uniform == drawn
    assert all(result.reasons[row_id].startswith("self_confidence=") for row_id in best)
    assert len(set(result.ids)) == n
    assert len(result.scores) == size


def test_random_picks_are_a_fair_sample_of_all_candidates():
    """They serve as a probe of the pool: each candidate is as likely as any other, the strategy's favourites too."""
    counts = dict.fromkeys((f"r{i}" for i in range(10)), 0)
    for seed in range(2000):
        result = choose(RandomShare(SelfConfidence(), 0.4), context_of(10, 5, seed))
        for row_id in result.ids[3:]:
            counts[row_id] += 1
    # 2 of 10 drawn 2,000 times: 400 expected, standard deviation 18.
    assert all(abs(count - 400) < 90 for count in counts.values())


def test_random_share_asks_for_the_signals_of_its_strategy():
    assert RandomShare(SelfConfidence(), 0.5).requests() == (CONFIDENCE,)
    assert RandomShare(SelfConfidence(), 0.5).needs_labelled == ()


def test_a_strategy_may_ask_about_the_rows_labelled_so_far():
    class FarFromLabelled(SelfConfidence):
        @property
        def needs_labelled(self):
            return (CONFIDENCE,)

        def score(self, candidate, context):
            return abs(candidate.signals[CONFIDENCE] - context.labelled[0].signals[CONFIDENCE])

    strategy = RandomShare(FarFromLabelled(), 0.0)
    assert strategy.needs_labelled == (CONFIDENCE,)
    context = context_of(5, 1)
    context.labelled, context.labels = [Candidate(PoolRow("old", "q"), signals={CONFIDENCE: 0.1})], {"old": "yes"}
    assert choose(strategy, context).ids == ["r0"]


def test_random_share_is_seeded():
    first, again, other = (
        choose(RandomShare(SelfConfidence(), 0.5), context_of(40, 20, seed)).ids for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_outside_of_zero_to_one_is_refused(share):
    with pytest.raises(ConfigurationError, match="`share` must be at least 0 and at most 1"):
        RandomShare(SelfConfidence(), share)


def test_candidates_are_drawn_in_pool_order_and_seeded():
    ids = [f"r{i:02d}" for i in range(50)]
    drawn = draw_candidates(ids, 10, np.random.default_rng(5))
    assert drawn == sorted(drawn) and len(set(drawn)) == 10
    assert drawn == draw_candidates(ids, 10, np.random.default_rng(5))
    assert drawn != draw_candidates(ids, 10, np.random.default_rng(6))
    assert draw_candidates(ids, None, np.random.default_rng(5)) == ids
    assert draw_candidates(ids, 99, np.random.default_rng(5)) == ids
    with pytest.raises(ConfigurationError, match="candidates_per_round"):
        draw_candidates(ids, 0, np.random.default_rng(5))


def test_every_row_can_be_drawn():
    ids = [str(i) for i in range(6)]
    seen = {row_id for seed in range(30) for row_id in draw_candidates(ids, 2, np.random.default_rng(seed))}
    assert seen == set(ids)


def test_a_function_may_return_ids_scores_or_a_result():
    def last_first(context):
        return [c.row_id for c in reversed(context.candidates)]

    by_ids = choose(as_strategy(last_first), context_of(4, 2))
    assert by_ids.ids == ["r3", "r2"]
    assert by_ids.scores == {"r3": 0.0, "r2": -1.0, "r1": -2.0, "r0": -2.0}
    assert by_ids.reasons == {"r3": "last_first", "r2": "last_first"}

    scored = choose(
        as_strategy(lambda context: {c.row_id: int(c.row_id[1]) % 3 for c in context.candidates}), context_of(4, 1)
    )
    assert scored.ids == ["r2"] and scored.scores["r3"] == 0.0

    whole = SelectionResult(["r0"], {f"r{i}": 0.0 for i in range(4)}, {"r0": "because"})
    assert choose(as_strategy(lambda context: whole), context_of(4, 1)) == whole
    drawn = SelectionResult(["r0"], {f"r{i}": 0.0 for i in range(4)}, {}, ["r0"])
    assert choose(as_strategy(lambda context: drawn), context_of(4, 1)).uniform == {"r0"}


def test_a_registered_function_is_found_by_name_with_its_signals():
    @register_strategy("least_sure_first", requests=(CONFIDENCE,))
    def least_sure_first(context):
        return {c.row_id: -c.signals[CONFIDENCE] for c in context.candidates}

    strategy = get_strategy("least_sure_first")
    assert strategy.requests() == (CONFIDENCE,)
    assert choose(strategy, context_of(5, 2)).ids == ["r4", "r3"]
    with pytest.raises(ConfigurationError, match="It takes: none"):
        get_strategy("least_sure_first", share=1)


def test_a_registered_class_takes_options():
    @register_strategy("shifted")
    class Shifted(SelectionStrategy):
        name = "shifted"

        def __init__(self, by=1.0):
            self.by = by

        def score(self, candidate, context):
            return self.by

    assert choose(as_strategy("shifted", by=2.0), context_of(3, 1)).scores["r0"] == 2.0


def test_as_strategy_refuses_what_is_none():
    assert isinstance(as_strategy("random"), SelectionStrategy)
    assert as_strategy(strategy := SelfConfidence()) is strategy
    with pytest.raises(ConfigurationError, match="Options go with"):
        as_strategy(SelfConfidence(), k=3)
    for wrong in (3, SelfConfidence):
        with pytest.raises(ConfigurationError, match="no selection strategy"):
            as_strategy(wrong)


@pytest.mark.parametrize(
    "returned, problem",
    [
        (["r0", "r9"], "'r9', which is no candidate"),
        (["r0", "r0"], "'r0' more than once"),
        (["r0"], "chose 1 rows where 2 were wanted"),
        ({"r0": 1.0}, "no score for 2 candidates"),
        ({"r0": 1.0, "r1": float("nan"), "r2": 0.0}, "'r1' cannot be ranked: its score is not a finite number"),
        ({"r0": 1.0, "r1": 0.0, "r2": float("-inf")}, "'r2' cannot be ranked: its score is not a finite number"),
        (
            SelectionResult(["r0", "r1"], {"r0": 1.0, "r1": 0.0, "r2": float("inf")}, {}),
            "no finite number as the score of 1 candidates, 'r2' among them",
        ),
        (
            SelectionResult(["r0", "r1"], dict.fromkeys(["r0", "r1", "r2"], 0.0), {}, frozenset({"r2"})),
            "'r2' as drawn from all rows and did not choose it",
        ),
    ],
)
def test_a_wrong_result_says_what_is_wrong(returned, problem):
    with pytest.raises(SelectionError, match=problem):
        choose(FunctionStrategy(lambda context: returned, name="mine"), context_of(3, 2))


def test_all_rows_are_chosen_where_fewer_are_left():
    assert sorted(choose(get_strategy("random"), context_of(3, 3)).ids) == ["r0", "r1", "r2"]
