"""Admission: order, limits per minute, the concurrency limit, pauses."""

import asyncio

import pytest
from asking_helpers import VirtualLoop
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.asking import Budget
from hf_active_distill.asking.gate import ConcurrencyLimit, Gate, SlidingMinute
from hf_active_distill.errors import BudgetExhaustedError
from hf_active_distill.records import Usage


def bound(tokens: int = 10) -> Usage:
    return Usage(1, tokens, 0, estimated=True)


def run(main):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


@given(
    st.floats(1, 100),
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 120), st.floats(0, 1)), min_size=1, max_size=40),
)
def test_no_sixty_seconds_hold_more_than_the_limit(limit, arrivals):
    window = SlidingMinute(limit)
    entered: list[list[float]] = []
    now = 0.0
    for gap, amount, used in arrivals:
        now += gap
        while (delay := window.delay(now, amount)) > 0:
            now += delay
        entry = window.enter(now, amount)
        window.correct(entry, amount * used)
        entered.append([now, amount * used])
        # The definition: every window of 60 seconds that ends with an entry, summed anew.
        inside = [one for time, one in entered if now - 60 + 1e-6 < time <= now]
        others = sum(inside) - amount * used
        assert others + amount <= limit * (1 + 1e-6) + 1e-6 or len(inside) == 1


def test_an_old_entry_is_not_corrected():
    window = SlidingMinute(10)
    entry = window.enter(0.0, 8)
    assert window.delay(61.0, 10) == 0.0
    window.correct(entry, 0)
    window.enter(61.0, 10)
    assert window.delay(61.0, 1) == 60.0


def test_the_limit_is_halved_once_a_round_and_grows_back():
    limit = ConcurrencyLimit(64)
    for _ in range(10):  # ten calls of one round are refused
        limit.shrink(now=5.0, admitted=1.0)
    assert int(limit) == 32
    limit.shrink(now=9.0, admitted=6.0)
    assert int(limit) == 16
    for _ in range(16):
        limit.grow()
    assert int(limit) == 16  # one more a round: sixteen answers make about one place
    limit.grow()
    assert int(limit) == 17
    for _ in range(5000):
        limit.grow()
    assert int(limit) == 64


def test_the_limit_never_falls_below_one():
    limit = ConcurrencyLimit(3)
    for now in range(10):
        limit.shrink(now=now + 0.5, admitted=float(now))
    assert int(limit) == 1


def test_after_a_probe_the_limit_comes_back_fast_to_half_of_what_it_was():
    limit = ConcurrencyLimit(64)
    limit.probe(now=1.0)
    assert int(limit) == 1
    for _ in range(31):
        limit.grow()
    assert int(limit) == 32


def test_a_server_that_takes_fewer_calls_lowers_the_cap():
    limit = ConcurrencyLimit(64)
    limit.cap(4)
    limit.grow()
    assert (int(limit), limit.most) == (4, 4)
    limit.cap(1000)
    assert limit.most == 4


def gate(**kwargs) -> Gate:
    return Gate(kwargs.pop("budget", Budget()), **{"max_concurrency": 1, **kwargs})


def test_the_queue_is_served_in_the_order_of_the_rows():
    async def main() -> list[int]:
        door = gate()
        served: list[int] = []
        first = await door.admit((0, 0), bound())

        async def one(row: int) -> None:
            ticket = await door.admit((0, row), bound())
            served.append(row)
            door.release(ticket, None)

        tasks = [asyncio.create_task(one(row)) for row in (5, 2, 9, 1, 2)]
        await asyncio.sleep(1)
        door.release(first, None)
        await asyncio.gather(*tasks)
        return served

    assert run(main()) == [1, 2, 2, 5, 9]


def test_nobody_overtakes_a_costly_call_that_waits_for_the_budget():
    async def main() -> list[str]:
        door = gate(budget=Budget(max_tokens=100), max_concurrency=8)
        events: list[str] = []
        first = await door.admit((0, 0), bound(60))

        async def one(row: int, tokens: int) -> None:
            try:
                ticket = await door.admit((0, row), bound(tokens))
            except BudgetExhaustedError:
                events.append(f"{row} refused")
            else:
                events.append(f"{row} passed")
                door.release(ticket, Usage(1, 1, 0))

        tasks = [asyncio.create_task(one(1, 50)), asyncio.create_task(one(2, 10)), asyncio.create_task(one(3, 101))]
        await asyncio.sleep(1)
        assert events == []
        door.release(first, Usage(1, 40, 0))
        await asyncio.gather(*tasks)
        return events

    assert sorted(run(main())) == ["1 passed", "2 passed", "3 refused"]


def test_a_cancelled_waiter_leaves_its_place_to_others():
    async def main() -> int:
        door = gate()
        first = await door.admit((0, 0), bound())
        waiting = [asyncio.create_task(door.admit((0, row), bound())) for row in (1, 2, 3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        door.release(first, None)
        waiting[1].cancel()  # admitted this very moment, not yet awake
        ticket = await waiting[2]
        door.release(ticket, Usage())
        return door.active

    assert run(main()) == 0


def test_limits_a_minute_space_the_calls():
    async def main(**limits) -> list[float]:
        door = gate(max_concurrency=100, **limits)
        loop = asyncio.get_running_loop()
        times = []
        for row in range(6):
            ticket = await door.admit((0, row), bound(10))
            times.append(loop.time())
            door.release(ticket, None)
        return times

    assert run(main(requests_per_minute=2)) == pytest.approx([0, 0, 60, 60, 120, 120])
    assert run(main(tokens_per_minute=35)) == pytest.approx([0, 0, 0, 60, 60, 60])
    assert run(main(tokens_per_minute=5)) == pytest.approx([0, 60, 120, 180, 240, 300])  # above the limit: alone


def test_a_pause_holds_everyone_and_ends_by_itself():
    async def main() -> float:
        door = gate()
        door.pause(30.0)
        door.pause(10.0)
        await door.admit((0, 0), bound())
        return asyncio.get_running_loop().time()

    assert run(main()) == pytest.approx(30.0)


def test_a_refusal_wakes_everyone_and_spares_calls_in_flight():
    async def main() -> None:
        door = gate()
        ticket = await door.admit((0, 0), bound())
        waiting = asyncio.create_task(door.admit((0, 1), bound()))
        sleeping = asyncio.create_task(door.sleep(1000))
        await asyncio.sleep(1)
        door.refuse(BudgetExhaustedError("over"))
        for task in (waiting, sleeping):
            with pytest.raises(BudgetExhaustedError, match="over"):
                await task
        with pytest.raises(BudgetExhaustedError, match="over"):
            await door.admit((0, 2), bound())
        assert asyncio.get_running_loop().time() == 1.0
        door.release(ticket, None)
        door.reopen()
        await door.admit((0, 3), bound())

    run(main())


def test_time_asking_counts_only_while_calls_are_in_flight():
    async def main() -> float:
        door = gate(max_concurrency=2)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(100)
        first = await door.admit((0, 0), bound())
        await asyncio.sleep(5)
        second = await door.admit((0, 1), bound())
        await asyncio.sleep(5)
        door.release(first, None)
        await asyncio.sleep(5)
        door.release(second, None)
        await asyncio.sleep(100)
        return door.asking_seconds(loop.time())

    assert run(main()) == pytest.approx(15.0)
