"""What the tables of a comparison say of prices that mix seeds, cost nothing, or mean little."""

from __future__ import annotations

import math

import pytest

from hf_active_distill.reports.comparison import (
    Question,
    markdown,
    price_table,
    show_p,
    show_price,
    show_share,
    summarise,
)
from hf_active_distill.reports.statistics import Price


def points(arm: str, ends: dict[int, float], start: float = 0.4) -> list[dict]:
    """Straight lines from `start` to each seed's end, over 1,000 tokens."""
    costs = {"teacher_calls": 1, "samples": 1, "student_hours": 0.1}
    return [
        {"arm": arm, "seed": seed, "round": place - 1, "teacher_tokens": 1000 * place, "eval_accuracy": value, **costs}
        for seed, end in ends.items()
        for place, value in enumerate((start, end))
    ]


def rows_of(points: list[dict], **changes) -> dict[str, list[str]]:
    question = Question([1000], "random", **changes)
    return {row[0]: row[1:] for row in price_table(summarise(points, question), question)}


def test_a_price_over_some_seeds_says_which_target_it_is_the_price_of():
    given = [*points("random", {0: 0.6, 1: 0.6, 2: 0.9}), *points("egss", {0: 0.8, 1: 0.8})]
    rows = rows_of(given)
    # random has 0.700 over its three seeds and 0.600 over the two that egss has too: there after half of its way.
    assert rows["egss"] == ["500 (500 to 500) [2 seeds, to 0.600]", "0.50"]
    assert rows["random"][0].startswith("1,000 (") and "[" not in rows["random"][0]
    assert rows_of([*given, *points("egss", {2: 0.8})])["egss"][0].count("[") == 0
    # The other way round: the reference has fewer seeds than the arm.
    assert "[1 seed, to 0.600]" in rows_of([*points("random", {0: 0.6}), *points("egss", {0: 0.8, 1: 0.8})])["egss"][0]
    # A number is the same target for all.
    assert rows_of(given, targets=[0.5])["egss"][0] == "250 (250 to 250)"


def test_a_level_that_an_arm_begins_at_has_no_price():
    rows = rows_of([*points("random", {0: 0.4, 1: 0.4}), *points("egss", {0: 0.8, 1: 0.8})])
    assert rows["egss"] == ["at its start", ""]
    assert show_price(Price(0.0, 0.0, 560.0, 5, 1.0, 0.4)) == "at its start (to 560)"
    assert show_price(Price(0.0, 0.0, math.inf, 5, 0.9, 0.4)) == "at its start (to not reached)"
    assert show_price(Price(200.0, 0.0, 560.0, 5, 1.0, 0.4)) == "200 (at its start to 560)"
    # Where a share stands alone, nothing there means "not reached".
    assert show_share(Price(0.0, 0.0, 0.0, 5, 1.0, 0.4), 1000) == "at its start"
    assert show_share(Price(math.inf, math.inf, math.inf, 5, 0.0, 0.4), 1000) == ""


@pytest.mark.parametrize(
    ("ends", "better", "said"),
    [
        ({0: 0.6, 1: 0.62, 2: 0.61}, True, False),
        ({0: 0.3, 1: 0.62, 2: 0.41}, True, True),  # rises, but not in every resample of the seeds
        ({0: 0.3, 1: 0.32, 2: 0.31}, True, True),
        ({0: 0.3, 1: 0.32, 2: 0.31}, False, False),  # a loss that falls
        ({0: 0.6, 1: 0.62, 2: 0.61}, False, True),
        ({0: 0.5}, True, False),  # one seed has no interval
        ({0: 0.4}, True, True),
    ],
)
def test_a_reference_that_learns_nothing_is_named(ends, better, said):
    question = Question([1000], "random", greater_is_better=better)
    text = markdown(summarise(points("random", ends), question), question)
    assert ("random does not rise above its start" in text) is said


def test_a_metric_that_is_no_number_is_not_significant():
    given = [*points("random", {0: 0.6, 1: 0.6}), *points("egss", {0: 0.8, 1: math.nan})]
    given += points("cheap", {0: 0.7, 1: 0.75})
    question = Question([1000], "random")
    _, egss, cheap = summarise(given, question)
    assert egss.against[0].t_test is None and egss.holm == [None]
    assert cheap.holm == [cheap.against[0].t_test], "one test is left to be adjusted for"
    assert show_p(None) == ""
    assert "< 0.001" not in markdown([egss], question)
