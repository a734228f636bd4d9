"""The forecast against sums written out by hand, and against what a run then spends."""

import pytest
from asking_helpers import ScriptedTeacher, VirtualLoop, question

from hf_active_distill.asking import Budget, Dispatcher, Prices, Range, forecast
from hf_active_distill.asking.bounds import byte_bound
from hf_active_distill.errors import ConfigurationError
from hf_active_distill.records import Usage


FEW = [question("x" * 40)]
MANY = [question("x" * 40), question("x" * 80, max_new_tokens=30)]


def test_ranges_add_up_the_plans():
    made = forecast([[FEW, MANY], [FEW, FEW]])
    assert made.rows == 2
    assert made.calls == Range(2, 3)
    assert made.prompt_tokens == Range(2 * 10, 2 * byte_bound(FEW[0]) + byte_bound(MANY[1]))
    assert made.completion_tokens == Range(2, 20 + 30 + 20)
    assert made.tokens == Range(22, made.prompt_tokens.high + 70)
    assert made.cost is None
    assert set(made.assumptions) == {"calls", "prompt_tokens", "completion_tokens", "tokens"}


def test_a_counter_prices_and_measured_answers_sharpen_it():
    made = forecast(
        [[FEW, MANY]], rows=100, count=lambda request: 12, completion_tokens=(4, 25), prices=Prices(1.0, 10.0)
    )
    assert made.calls == Range(100, 200) and made.prompt_tokens == Range(1200, 2400)
    assert made.completion_tokens == Range(400, 100 * (20 + 25))  # 25 are known, the first may write 20 at most
    assert made.cost.low == pytest.approx((1200 + 4000) / 1e6)
    assert made.cost.high == pytest.approx((2400 + 45000) / 1e6)
    assert "1 of 100 rows, scaled up" in made.assumptions["calls"]
    assert "counted by the tokenizer" in made.assumptions["prompt_tokens"]
    assert "1 in and 10 out a million" in made.assumptions["cost"]


def test_caps_end_the_ranges_and_say_so():
    budget = Budget(max_calls=150, max_tokens=3000, max_cost=0.01, prices=Prices(1.0, 10.0))
    made = forecast([[FEW, MANY]], rows=100, count=lambda request: 12, budget=budget)
    assert made.calls == Range(100, 150) and made.tokens == Range(1300, 3000) and made.cost == Range(0.0022, 0.01)
    assert "ends at the cap of 150" in made.assumptions["calls"]
    assert "ends at the cap of 0.01" in made.assumptions["cost"]
    assert "cap" not in made.assumptions["prompt_tokens"]


def test_what_was_spent_stands_beside_what_was_foreseen():
    made = forecast([[FEW, MANY]], count=lambda request: 1200, prices=Prices(1.0, 1.0))
    before = made.lines()
    assert before[0].startswith("calls: 1 to 2 (") and before[1].startswith("prompt tokens: 1,200 to 2,400 (")
    after = made.lines(spent=Usage(2, 2300, 40), cost=0.00234)
    assert "calls: 1 to 2; spent 2 (" in after[0] and "; spent 0.00234 (" in after[4]


def test_a_run_ends_within_its_forecast():
    plans = [[[question(f"{row}")], [question(f"{row}"), question(f"{row} again")]] for row in range(10)]
    made = forecast(plans)
    desk = Dispatcher(ScriptedTeacher(), loop_factory=VirtualLoop)

    async def work(row: int) -> None:
        for request in plans[row][row % 2]:
            await desk.ask(request)

    desk.run_all(range(10), work, progress=False)
    assert desk.spent.calls in made.calls and desk.spent.total_tokens in made.tokens


@pytest.mark.parametrize("plans", [[], [[FEW]]])
def test_plans_are_checked(plans):
    with pytest.raises(ConfigurationError):
        forecast(plans)


def test_each_plan_may_stand_for_rows_of_its_own():
    made = forecast([[FEW, MANY], [FEW, FEW]], rows=[90, 10], count=lambda request: 12)
    assert made.rows == 100 and made.calls == Range(100, 190)
    assert made.prompt_tokens == Range(1200, 12 * 190)
    with pytest.raises(ConfigurationError, match="2 plans"):
        forecast([[FEW, MANY], [FEW, FEW]], rows=[90])
