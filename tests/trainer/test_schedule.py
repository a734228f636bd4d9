"""Rounds, Trainer epochs and steps: every position is a function of the step, and no row is missed."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.records import Annotation, PoolRow
from hf_active_distill.trainer.schedule import RoundSampler, RoundSchedule, TrainingRows, restarting_lambda


schedules = st.builds(
    RoundSchedule,
    num_rounds=st.integers(1, 6),
    samples_per_round=st.integers(1, 20),
    seed_rows=st.integers(0, 15),
    pool_size=st.integers(1, 80),
    passes=st.sampled_from([0.5, 1.0, 2.0, 3.5]),
    batch_size=st.integers(1, 9),
)


@given(schedules)
@settings(max_examples=200, deadline=None)
def test_position_walks_through_all_rounds(schedule):
    walked = [schedule.position(step) for step in range(schedule.total_steps + 1)]
    expected = [(r, s) for r in range(schedule.num_rounds) for s in range(schedule.round_steps(r))]
    assert walked == expected + [(schedule.num_rounds, 0)]


@given(schedules)
@settings(max_examples=200, deadline=None)
def test_a_round_shows_at_least_the_promised_passes(schedule):
    for round_index in range(schedule.num_rounds):
        shown = schedule.round_steps(round_index) * schedule.batch_size
        promised = schedule.planned_rows(round_index) * schedule.passes
        one_segment = schedule.steps_per_segment * schedule.batch_size
        assert promised <= shown < promised + one_segment or shown == one_segment


def add(rows, count):
    """Rows of a round; what they hold is nothing to the sampler."""
    example = PoolRow("id", "prompt"), Annotation("id", "kind", "ok", "prompt")
    rows.add_round([{} for _ in range(count)], [example] * count)


@given(schedules, st.data())
@settings(max_examples=60, deadline=None)
def test_sampler_shows_every_row_and_resumes_anywhere(schedule, data):
    rows = TrainingRows()
    add(rows, schedule.seed_rows)
    step = 0
    sampler = RoundSampler(rows, schedule, seed=3, current_step=lambda: step)
    for round_index in range(schedule.num_rounds):
        missing = schedule.planned_rows(round_index) - len(rows)
        add(rows, data.draw(st.integers(int(len(rows) == 0), max(1, missing))))
        shown = []
        for _ in range(schedule.segments(round_index)):
            segment = list(sampler)
            assert len(segment) == len(sampler)
            # A resume inside the segment reads the same order and skips what was seen.
            inside = step + data.draw(st.integers(0, schedule.steps_per_segment - 1))
            assert list(RoundSampler(rows, schedule, 3, lambda inside=inside: inside)) == segment
            shown += segment
            step += schedule.steps_per_segment
        assert set(range(rows.new_from, len(rows))) <= set(shown) or len(shown) < len(rows) - rows.new_from
        if len(shown) >= len(rows):
            counts = [shown.count(index) for index in range(len(rows))]
            assert max(counts) - min(counts) <= 1


def test_order_differs_by_round_and_seed():
    schedule = RoundSchedule(2, 30, 0, 60, 1.0, 3)
    rows = TrainingRows()
    add(rows, 60)
    first = list(RoundSampler(rows, schedule, 0, lambda: 0))
    assert first != list(RoundSampler(rows, schedule, 1, lambda: 0))
    assert first != list(RoundSampler(rows, schedule, 0, lambda: schedule.round_steps(0)))
    assert first == list(RoundSampler(rows, schedule, 0, lambda: 0))


@given(schedules)
@settings(max_examples=50, deadline=None)
def test_restarting_learning_rate_is_a_fresh_schedule_in_every_round(schedule):
    def make_base(steps):
        return lambda step: max(0.0, 1 - step / steps)

    factor = restarting_lambda(schedule, make_base)
    step = 0
    for round_index in range(schedule.num_rounds):
        steps = schedule.round_steps(round_index)
        for inner in range(steps):
            assert math.isclose(factor(step), 1 - inner / steps)
            step += 1
    assert factor(step) == 0.0
