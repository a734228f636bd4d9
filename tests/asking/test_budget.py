"""Caps: arithmetic of reservations, prices, bounds, and the property that no cap is ever exceeded."""

import asyncio
from decimal import Decimal

import pytest
from asking_helpers import ScriptedTeacher, VirtualLoop, question, reply
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.asking import Budget, Dispatcher, Journal, Prices
from hf_active_distill.asking.bounds import TOKENS_PER_CHAT, TOKENS_PER_MESSAGE, TOKENS_PER_PROMPT, byte_bound
from hf_active_distill.errors import (
    BudgetExhaustedError,
    ConfigurationError,
    TeacherGenerationError,
    TeacherOverloadedError,
)
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import GenerationParams, TeacherReply, TeacherRequest


def bound(prompt: int, completion: int) -> Usage:
    return Usage(1, prompt, completion, estimated=True)


def test_prices_follow_the_definition():
    prices = Prices(input=2.0, output=8.0, cached_input=0.5)
    usage = Usage(3, prompt_tokens=1000, completion_tokens=200, reasoning_tokens=150, cached_prompt_tokens=400)
    assert prices.cost(usage) == pytest.approx((600 * 2.0 + 400 * 0.5 + 200 * 8.0) / 1e6)
    assert Prices(2.0, 8.0).cost(usage) == pytest.approx((1000 * 2.0 + 200 * 8.0) / 1e6)
    assert Prices(2.0, 8.0, cached_input=3.0).worst_cost(bound(1000, 200)) == Decimal("0.0046")


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_prices_that_cannot_be_are_refused(price):
    with pytest.raises(ConfigurationError, match="per million"):
        Prices(1.0, price)


def test_a_cost_cap_needs_prices():
    with pytest.raises(ConfigurationError, match="prices="):
        Budget(max_cost=1.0)


def test_decimal_caps_are_met_exactly():
    # Three times 0.1 is above 0.3 in binary floating point.
    budget = Budget(max_cost=0.3, prices=Prices(input=100_000.0, output=0.0))
    for _ in range(3):
        reservation = budget.reserve(bound(1, 0))
        assert reservation is not None
        budget.settle(reservation, Usage(1, 1, 0))
    assert budget.cost == 0.3
    with pytest.raises(BudgetExhaustedError, match="max_cost"):
        budget.reserve(bound(1, 0))


def test_a_bound_that_does_not_fit_waits_for_calls_in_flight():
    budget = Budget(max_tokens=100)
    first = budget.reserve(bound(40, 20))
    assert first is not None
    assert budget.reserve(bound(40, 20)) is None  # the first may settle lower
    budget.settle(first, Usage(1, 30, 5))
    second = budget.reserve(bound(40, 20))
    assert second is not None and budget.reserved.total_tokens == 60
    budget.settle(second, None)
    assert budget.spent.total_tokens == 95 and budget.spent.estimated
    with pytest.raises(BudgetExhaustedError, match="max_tokens=100"):
        budget.reserve(bound(4, 2))


@pytest.mark.parametrize(
    ("caps", "name"),
    [
        ({"max_calls": 0}, "max_calls"),
        ({"max_tokens": 14}, "max_tokens"),
        ({"max_prompt_tokens": 9}, "max_prompt_tokens"),
        ({"max_completion_tokens": 4}, "max_completion_tokens"),
        ({"max_cost": 0.00001, "prices": Prices(1.0, 1.0)}, "max_cost"),
        ({"max_seconds": 0}, "max_seconds"),
    ],
)
def test_every_cap_holds(caps, name):
    with pytest.raises(BudgetExhaustedError, match=name):
        Budget(**caps).reserve(bound(10, 5))


def test_settling_twice_books_once():
    budget = Budget()
    reservation = budget.reserve(bound(10, 5))
    budget.settle(reservation, Usage(1, 3, 4))
    budget.settle(reservation, None)
    assert budget.spent == Usage(1, 3, 4)


@given(st.text(max_size=200), st.text(max_size=50))
def test_the_byte_bound_is_bytes_plus_the_stated_overhead(text, system):
    params = GenerationParams()
    chat = TeacherRequest.chat([{"role": "system", "content": system}, {"role": "user", "content": text}], params)
    size = sum(len(part.encode("utf-8", "surrogatepass")) for part in (text, system, "system", "user"))
    assert byte_bound(chat) == size + 2 * TOKENS_PER_MESSAGE + TOKENS_PER_CHAT
    plain = TeacherRequest.generate(text, params)
    assert byte_bound(plain) == len(text.encode("utf-8", "surrogatepass")) + TOKENS_PER_PROMPT


def test_a_grammar_counts_in_the_bound():
    schema = {"type": "json", "value": {"properties": {"answer": {"type": "string"}}}}
    plain = TeacherRequest.generate("q", GenerationParams())
    assert byte_bound(TeacherRequest.generate("q", GenerationParams(grammar=schema))) > byte_bound(plain) + 50


# What the model really does with one call: its tokens as a share of the bound, how long it takes, how it ends.
CALLS = st.lists(
    st.tuples(
        st.integers(0, 400),  # bytes of the prompt
        st.integers(1, 60),  # max_new_tokens
        st.floats(0, 1),  # share of the bound that is used
        st.floats(0.01, 3),  # latency
        st.sampled_from(["answered", "answered", "answered", "silent", "overloaded", "broken"]),
    ),
    min_size=1,
    max_size=25,
)
CAPS = st.fixed_dictionaries(
    {},
    optional={
        "max_calls": st.integers(0, 12),
        "max_tokens": st.integers(0, 4000),
        "max_prompt_tokens": st.integers(0, 4000),
        "max_completion_tokens": st.integers(0, 400),
        "max_cost": st.floats(0, 0.01),
    },
)
PRICES = Prices(input=1.5, output=6.0, cached_input=0.3)


class Ledger:
    """An independent account of what the model really spent, compared with the caps after every event."""

    def __init__(self, caps, calls):
        self.caps = caps
        self.calls = calls
        self.true = Usage()
        self.tries = {}

    def check(self, budget: Budget) -> None:
        amounts = {
            "max_calls": self.true.calls,
            "max_tokens": self.true.total_tokens,
            "max_prompt_tokens": self.true.prompt_tokens,
            "max_completion_tokens": self.true.completion_tokens,
            "max_cost": PRICES.cost(self.true) - 1e-12,
        }
        for name, cap in self.caps.items():
            assert amounts[name] <= cap, f"{name}: the model spent {amounts[name]}"
        # What is booked is never below what was really spent.
        booked = budget.spent + budget.reserved
        assert booked.total_tokens >= self.true.total_tokens and booked.calls >= self.true.calls

    async def answer(self, request: TeacherRequest, budget: Budget) -> TeacherReply:
        index = int(request.prompt.split(":")[0])
        _, max_new_tokens, share, latency, ending = self.calls[index]
        self.tries[index] = self.tries.get(index, 0) + 1
        if ending == "overloaded" and self.tries[index] == 1:
            await asyncio.sleep(latency)
            raise TeacherOverloadedError("busy", status=429)
        used = Usage(1, int(share * byte_bound(request)), int(share * max_new_tokens))
        self.true = self.true + used
        self.check(budget)
        await asyncio.sleep(latency)
        if ending == "broken" and self.tries[index] == 1:
            raise TeacherGenerationError("broke", status=500)
        if ending == "silent":
            return TeacherReply("no figures", usage=Usage(calls=1))
        return TeacherReply("text" if used.completion_tokens else "", usage=used)


def spend(caps, calls, concurrency, journal=None):
    """Runs the calls in virtual time; returns the dispatcher, the ledger and the results."""
    budget = Budget(prices=PRICES, **caps)
    ledger = Ledger(caps, calls)

    async def answer(request: TeacherRequest, number: int) -> TeacherReply:
        return await ledger.answer(request, budget)

    dispatcher = Dispatcher(
        ScriptedTeacher(answer),
        budget=budget,
        journal=journal,
        max_concurrency=concurrency,
        loop_factory=VirtualLoop,
    )

    async def work(index: int) -> TeacherReply:
        size, max_new_tokens, *_ = calls[index]
        request = TeacherRequest.generate(f"{index}:{'x' * size}", GenerationParams(max_new_tokens=max_new_tokens))
        try:
            return await dispatcher.bind(row_id=str(index))(request)
        except BudgetExhaustedError as error:
            ledger.check(budget)
            raise error

    results = dispatcher.run_all(range(len(calls)), work, progress=False)
    dispatcher.close()
    ledger.check(budget)
    return dispatcher, ledger, results


@settings(deadline=None, max_examples=150)
@given(CAPS, CALLS, st.integers(1, 8))
def test_no_cap_is_exceeded_by_one_call(caps, calls, concurrency):
    dispatcher, _, results = spend(caps, calls, concurrency)
    assert dispatcher.budget.reserved == Usage(estimated=dispatcher.budget.reserved.estimated)
    first = next((i for i, result in enumerate(results) if isinstance(result, BudgetExhaustedError)), None)
    if not caps:
        assert first is None
    elif first is not None:
        # It was not given up too early: at least one of the calls that were not made does not fit what is left.
        refused = [i for i, result in enumerate(results) if isinstance(result, BudgetExhaustedError)]
        requests = [
            TeacherRequest.generate(f"{i}:{'x' * calls[i][0]}", GenerationParams(max_new_tokens=calls[i][1]))
            for i in refused
        ]
        bounds = [bound(byte_bound(request), request.params.max_new_tokens) for request in requests]
        assert not all(dispatcher.budget.fits(one) for one in bounds)


@settings(deadline=None, max_examples=15)
@given(CAPS, CALLS, st.integers(1, 8))
def test_what_is_spent_is_a_fold_over_the_journal(tmp_path_factory, caps, calls, concurrency):
    path = tmp_path_factory.mktemp("fold") / "journal.sqlite"
    with Journal(path) as journal:
        dispatcher, _, results = spend(caps, calls, concurrency, journal)
        folded, seconds = journal.spent()
        assert folded == dispatcher.spent
        assert seconds == pytest.approx(dispatcher.budget.seconds)
        replies = [result for result in results if isinstance(result, TeacherReply)]
        assert sum(row.state == "answered" for row in journal.rows()) == len(replies)
        # A later process starts from there.
        assert Dispatcher(ScriptedTeacher(), journal=journal).spent == folded


def test_the_tokenizer_of_the_server_is_asked_where_bytes_do_not_fit():
    class Counting(ScriptedTeacher):
        counted = 0

        async def count_tokens(self, request):
            self.counted += 1
            return 12

    teacher = Counting()
    dispatcher = Dispatcher(teacher, budget=Budget(max_tokens=60), loop_factory=VirtualLoop)
    assert byte_bound(question("x" * 100)) > 60
    (result,) = dispatcher.run_all([0], lambda _: dispatcher.ask(question("x" * 100)), progress=False)
    assert result.usage == Usage(1, 10, 5) and teacher.counted == 1
    roomy = Dispatcher(teacher, budget=Budget(max_tokens=10_000), loop_factory=VirtualLoop)
    roomy.run_all([0], lambda _: roomy.ask(question("x" * 100)), progress=False)
    assert teacher.counted == 1  # bytes fitted: no extra request


@pytest.mark.parametrize(
    ("given_usage", "booked"),
    [
        (Usage(1, 0, 0), "prompt and completion"),
        (Usage(1, 7, 0), "completion"),
        (Usage(1, 0, 4), "prompt"),
        (Usage(1, 7, 4, estimated=True), "prompt and completion"),
        (Usage(1, 7, 4, reasoning_tokens=9), ""),
    ],
)
def test_figures_that_the_server_left_out_are_booked_at_the_bound(given_usage, booked):
    async def answer(request, number):
        return TeacherReply("text", usage=given_usage)

    dispatcher = Dispatcher(ScriptedTeacher(answer), loop_factory=VirtualLoop)
    (result,) = dispatcher.run_all([0], lambda _: dispatcher.ask(question("how many?")), progress=False)
    usage = dispatcher.spent
    assert usage.prompt_tokens == (byte_bound(question("how many?")) if "prompt" in booked else 7)
    # Hidden reasoning is part of the completion, also where a server counts it apart.
    assert usage.completion_tokens == (20 if "completion" in booked else max(4, given_usage.reasoning_tokens))
    assert usage.estimated == bool(booked)
    assert result.usage == usage


def test_a_server_that_counts_more_than_the_bound_raises_later_bounds(caplog):
    async def answer(request, number):
        return reply("text", prompt=1000, completion=5)

    dispatcher = Dispatcher(
        ScriptedTeacher(answer), budget=Budget(max_tokens=2500), max_concurrency=1, loop_factory=VirtualLoop
    )
    results = dispatcher.run_all(range(3), lambda i: dispatcher.ask(question(f"q{i}")), progress=False)
    assert dispatcher.spent.total_tokens == 2010
    assert isinstance(results[2], BudgetExhaustedError)  # 2010 + 1000 + 20 is over the cap: known by now
    assert "system prompt of its own" in caplog.text


def test_time_spent_asking_is_capped_and_goes_on_over_restarts(tmp_path):
    def run(cap: float) -> tuple[list, Dispatcher]:
        dispatcher = Dispatcher(
            ScriptedTeacher(latency=10.0),
            journal=tmp_path / "journal.sqlite",
            budget=Budget(max_seconds=cap),
            max_concurrency=1,
            loop_factory=VirtualLoop,
        )
        results = dispatcher.run_all(range(9), lambda i: dispatcher.ask(question(f"q{i}")), progress=False)
        dispatcher.close()
        return results, dispatcher

    results, _ = run(25.0)
    assert [isinstance(result, BudgetExhaustedError) for result in results] == [False] * 3 + [True] * 6
    results, dispatcher = run(45.0)
    assert dispatcher.replayed == 3
    assert [isinstance(result, BudgetExhaustedError) for result in results] == [False] * 5 + [True] * 4
    assert dispatcher.budget.seconds == pytest.approx(50.0)
