"""What teachers do wrong: what is repeated, what it costs, how long is waited. Hours pass in virtual time."""

import asyncio

import pytest
from asking_helpers import ScriptedTeacher, VirtualLoop, question, reply, text_of

from hf_active_distill.asking import Budget, Dispatcher
from hf_active_distill.asking.health import BREAKER_FAILURES, HOPELESS_REFUSALS
from hf_active_distill.errors import (
    JournalError,
    TeacherAuthError,
    TeacherConnectionError,
    TeacherGenerationError,
    TeacherGoneError,
    TeacherInterruptedError,
    TeacherOverloadedError,
    TeacherProtocolError,
    TeacherRequestError,
)
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import TeacherInfo, TeacherReply


HOUR = 3600.0


def dispatcher(teacher, **kwargs) -> Dispatcher:
    return Dispatcher(teacher, **{"loop_factory": VirtualLoop, **kwargs})


def ask_all(desk: Dispatcher, count: int) -> list:
    """Results of `count` calls; errors that concern one row stand in its place."""

    async def work(index: int) -> object:
        try:
            return await desk.ask(question(f"q{index}"), row_id=str(index))
        except (TeacherRequestError, TeacherGenerationError, TeacherProtocolError, TeacherConnectionError) as error:
            return error

    return desk.run_all(range(count), work, progress=False)


def failing(errors: dict[int, Exception], *, latency: float = 0.1) -> ScriptedTeacher:
    """Fails with `errors[n]` at call n, answers every other one."""

    async def answer(request, number):
        await asyncio.sleep(latency)
        if number in errors:
            raise errors[number]
        return reply("a")

    return ScriptedTeacher(answer)


def bound_of(desk: Dispatcher, text: str) -> Usage:
    return desk._caller._bounds.of(question(text))


@pytest.mark.parametrize(
    ("error", "costs"),
    [
        (TeacherOverloadedError("busy", status=429), False),
        (TeacherOverloadedError("loading", status=503), False),
        (TeacherConnectionError("refused"), False),
        (TeacherInterruptedError("reset in mid-body"), True),
        (TeacherGenerationError("failed", status=424), True),
        (TeacherProtocolError("not JSON"), True),
    ],
)
def test_what_may_pass_is_repeated_and_booked_at_the_bound_if_the_model_was_reached(tmp_path, error, costs):
    teacher = failing({0: error})
    desk = dispatcher(teacher, journal=tmp_path / "journal.sqlite")
    (result,) = ask_all(desk, 1)
    assert isinstance(result, TeacherReply) and len(teacher.asked) == 2
    bound = bound_of(desk, "q0") if costs else Usage()
    assert desk.spent == bound + Usage(1, 10, 5) == desk.journal.spent()[0]
    first, second = desk.journal.rows()
    assert (first.state, first.usage.total_tokens) == ("failed", bound.total_tokens)
    assert first.error == f"{type(error).__name__}: {error}"
    assert second.state == "answered" and first.key == second.key
    assert 0.5 <= teacher.times[1] - teacher.times[0] - 0.1 <= 1.0  # backoff of 1 s with its jitter
    desk.close()


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_what_cannot_pass_is_not_repeated_and_costs_nothing(status):
    teacher = failing({0: TeacherRequestError("no", status=status)})
    desk = dispatcher(teacher, max_concurrency=1)
    results = ask_all(desk, 2)
    assert isinstance(results[0], TeacherRequestError) and isinstance(results[1], TeacherReply)
    assert len(teacher.asked) == 2 and desk.spent == Usage(1, 10, 5)


def test_a_poisonous_row_fails_alone_after_its_retries():
    async def answer(request, number):
        await asyncio.sleep(0.1)
        if text_of(request) == "q1":
            raise TeacherGenerationError("cannot", status=500)
        return reply("a")

    teacher = ScriptedTeacher(answer)
    desk = dispatcher(teacher, max_retries=3, max_concurrency=2)
    results = ask_all(desk, 6)
    assert [isinstance(result, TeacherReply) for result in results] == [True, False, True, True, True, True]
    assert sum(text_of(request) == "q1" for request in teacher.asked) == 4
    assert desk.spent.calls == 5 + 4


def test_repetitions_wait_longer_each_time_up_to_the_most_and_are_reproducible():
    def times() -> list[float]:
        errors = {number: TeacherConnectionError("refused") for number in range(BREAKER_FAILURES - 1)}
        teacher = failing(errors, latency=0.0)
        ask_all(dispatcher(teacher, max_concurrency=1, max_backoff=20.0, seed=3), 1)
        return teacher.times

    first = times()
    gaps = [after - before for before, after in zip(first, first[1:], strict=False)]
    for number, gap in enumerate(gaps):
        most = min(20.0, 2.0**number)
        assert most / 2 <= gap <= most + 1e-9
    assert times() == first


def test_retry_after_holds_everyone():
    teacher = failing({2: TeacherOverloadedError("busy", status=429, retry_after=45.0)})
    desk = dispatcher(teacher, max_concurrency=1)
    ask_all(desk, 6)
    assert teacher.times[3] - teacher.times[2] == pytest.approx(45.1)
    assert teacher.times[4] - teacher.times[3] == pytest.approx(0.1, abs=0.01)


def test_a_longer_retry_after_than_the_outage_that_is_allowed_ends_the_run():
    teacher = failing({0: TeacherOverloadedError("quota", status=429, retry_after=2 * HOUR)})
    with pytest.raises(TeacherGoneError, match="asks to wait 7200 s more.*max_outage"):
        ask_all(dispatcher(teacher, max_concurrency=1), 6)
    assert len(teacher.asked) == 1


def test_concurrency_shrinks_to_what_an_overloaded_server_takes():
    refused = 0

    async def answer(request, number):
        nonlocal refused
        if teacher.active > 4:
            refused += 1
            raise TeacherOverloadedError("busy", status=429)
        await asyncio.sleep(1.0)
        return reply("a")

    teacher = ScriptedTeacher(answer)
    desk = dispatcher(teacher, max_concurrency=32)
    results = ask_all(desk, 200)
    assert all(isinstance(result, TeacherReply) for result in results)
    # Without shrinking, each of the fifty rounds would see 28 refusals.
    assert refused < 200
    assert desk.spent.calls == 200
    assert teacher.times[-1] < 200 / 4 * 2.5


def outage(start: float, end: float, error: type[TeacherConnectionError] = TeacherConnectionError) -> ScriptedTeacher:
    """A server that is away for a while."""

    async def answer(request, number):
        loop = asyncio.get_running_loop()
        if start <= loop.time() < end:
            raise error("connection refused")
        await asyncio.sleep(1.0)
        return reply("a")

    return ScriptedTeacher(answer)


def test_four_hours_of_outage_end_in_a_clean_stop(tmp_path):
    teacher = outage(10.5, 4 * HOUR)
    desk = dispatcher(teacher, journal=tmp_path / "journal.sqlite", max_concurrency=4, max_outage=600)
    with pytest.raises(
        TeacherGoneError, match=r"not answered for 6\d\d s .*Last error: connection refused.*max_outage"
    ):
        ask_all(desk, 100)
    assert 600 <= teacher.times[-1] - 10.5 <= 700
    answered = [row for row in desk.journal.rows() if row.state == "answered"]
    assert len(answered) == 44 and desk.spent == Usage(44, 440, 220)  # what was in flight landed
    assert not list(desk.journal.rows(state="sending"))
    desk.close()
    again = ScriptedTeacher()
    desk = dispatcher(again, journal=tmp_path / "journal.sqlite")
    assert all(isinstance(result, TeacherReply) for result in ask_all(desk, 100))
    assert len(again.asked) == 56
    desk.close()


def test_four_hours_of_outage_are_sat_out_by_configuration(tmp_path):
    teacher = outage(10.5, 4 * HOUR)
    desk = dispatcher(teacher, journal=tmp_path / "journal.sqlite", max_concurrency=4, max_outage=5 * HOUR)
    results = ask_all(desk, 100)
    assert all(isinstance(result, TeacherReply) for result in results)
    assert 4 * HOUR < teacher.times[-1] < 4 * HOUR + 200
    assert desk.spent == Usage(100, 1000, 500)  # waiting cost nothing
    away = sum(10.5 <= time < 4 * HOUR for time in teacher.times)
    assert away < 4 * 60 * 3  # one probe at a time, not four callers each on its own
    desk.close()


def test_an_open_breaker_lets_one_call_at_a_time_try():
    teacher = outage(0.0, 300.0)
    inner = teacher._answer

    async def slow(request, number):
        await asyncio.sleep(0.5)
        return await inner(request, number)

    teacher._answer = slow
    desk = dispatcher(teacher, max_concurrency=16)
    results = ask_all(desk, 40)
    assert all(isinstance(result, TeacherReply) for result in results)
    probes = [time for time in teacher.times if 20.0 < time < 299.0]
    assert probes and all(after - before >= 0.5 for before, after in zip(probes, probes[1:], strict=False))
    # Back at once, and back to full width soon: forty calls of 1.5 s would take a minute one by one.
    assert max(teacher.times) < 300.0 + 60.0 + 20.0


def test_a_server_that_breaks_every_call_is_given_up_and_few_rows_are_paid_for():
    async def answer(request, number):
        await asyncio.sleep(0.1)
        raise TeacherGenerationError("CUDA error", status=500)

    teacher = ScriptedTeacher(answer)
    desk = dispatcher(teacher, max_concurrency=8, max_outage=600)
    with pytest.raises(TeacherGoneError, match="CUDA error"):
        ask_all(desk, 1000)
    assert len(teacher.asked) < 60


def test_a_set_up_at_fault_is_noticed_before_every_row_has_failed():
    async def answer(request, number):
        raise TeacherRequestError("model `gpt` does not exist", status=404)

    teacher = ScriptedTeacher(answer)
    with pytest.raises(TeacherGoneError, match="all refused.*does not exist.*model name"):
        ask_all(dispatcher(teacher, max_concurrency=1), 1000)
    assert len(teacher.asked) == HOPELESS_REFUSALS


def test_refused_rows_among_good_ones_do_not_end_the_run():
    teacher = failing({number: TeacherRequestError("too long", status=422) for number in range(1, 60)})
    results = ask_all(dispatcher(teacher, max_concurrency=1), 70)
    assert sum(isinstance(result, TeacherRequestError) for result in results) == 59


def test_a_stalled_answer_is_given_up_and_asked_again():
    async def answer(request, number):
        await asyncio.sleep(10_000.0 if number == 0 else 1.0)
        return reply("a")

    teacher = ScriptedTeacher(answer)
    desk = dispatcher(teacher, request_timeout=30.0)
    (result,) = ask_all(desk, 1)
    assert isinstance(result, TeacherReply)
    assert 30.0 <= teacher.times[1] <= 31.0
    assert desk.spent == bound_of(desk, "q0") + Usage(1, 10, 5)


def test_a_server_that_always_stalls_ends_the_row_not_the_patience():
    async def answer(request, number):
        await asyncio.sleep(10_000.0)

    teacher = ScriptedTeacher(answer)
    (result,) = ask_all(dispatcher(teacher, request_timeout=30.0, max_retries=2), 1)
    assert isinstance(result, TeacherInterruptedError) and "request_timeout=30" in str(result)
    assert len(teacher.asked) == 3


def test_the_total_time_of_a_call_is_limited():
    teacher = outage(0.0, HOUR)
    (result,) = ask_all(dispatcher(teacher, total_timeout=20.0, max_concurrency=1), 1)
    assert isinstance(result, TeacherConnectionError)
    assert teacher.times[-1] <= 20.0


def test_limits_a_minute_hold_over_the_whole_run():
    teacher = ScriptedTeacher(latency=0.5)
    ask_all(dispatcher(teacher, requests_per_minute=30, max_concurrency=16), 100)
    for time in teacher.times:
        assert sum(time - 60 + 1e-6 < other <= time for other in teacher.times) <= 30
    assert teacher.times[-1] == pytest.approx(180.0, abs=1.0)


def test_tokens_a_minute_are_counted_by_figures_once_they_are_known():
    teacher = ScriptedTeacher(latency=0.5)
    desk = dispatcher(teacher, max_concurrency=1)
    bound = bound_of(desk, "q0").total_tokens
    ask_all(dispatcher(teacher, tokens_per_minute=bound + 60, max_concurrency=1), 9)
    # By bounds one call a minute would pass; by figures of 15 tokens five do.
    assert sum(time < 60 for time in teacher.times) == 5


def test_the_start_waits_for_a_server_that_loads():
    class Loading(ScriptedTeacher):
        async def info(self) -> TeacherInfo:
            if asyncio.get_running_loop().time() < 90.0:
                raise TeacherConnectionError("connection refused")
            return self.facts

    assert len(ask_all(dispatcher(Loading(), wait_for_teacher=120.0), 3)) == 3
    with pytest.raises(TeacherConnectionError, match="refused"):
        ask_all(dispatcher(Loading()), 3)
    with pytest.raises(TeacherConnectionError, match="refused"):
        ask_all(dispatcher(Loading(), wait_for_teacher=60.0), 3)


def test_a_start_without_access_does_not_wait():
    class Closed(ScriptedTeacher):
        async def info(self) -> TeacherInfo:
            raise TeacherAuthError("no token", status=401)

    with pytest.raises(TeacherAuthError):
        ask_all(dispatcher(Closed(), wait_for_teacher=1e9), 1)


def test_a_start_that_stalls_is_given_up():
    class Stalled(ScriptedTeacher):
        async def info(self) -> TeacherInfo:
            await asyncio.sleep(1e9)
            return self.facts

    with pytest.raises(TeacherConnectionError, match="in time"):
        ask_all(dispatcher(Stalled()), 1)


def test_an_error_outside_the_protocol_ends_the_run_and_counts_at_the_bound(tmp_path):
    desk = dispatcher(failing({0: ValueError("a bug")}), journal=tmp_path / "journal.sqlite")
    with pytest.raises(ValueError, match="a bug"):
        ask_all(desk, 1)
    assert desk.spent == bound_of(desk, "q0") == desk.journal.spent()[0]
    desk.close()


def test_a_tokenizer_that_fails_leaves_the_byte_bound():
    class NoCount(ScriptedTeacher):
        async def count_tokens(self, request):
            raise TeacherConnectionError("refused")

    desk = dispatcher(NoCount(), budget=Budget(max_tokens=5))
    (result,) = desk.run_all([0], lambda _: desk.ask(question("q0")), progress=False)
    assert "max_tokens=5" in str(result)


def test_a_full_disk_stops_before_the_next_call(tmp_path):
    teacher = ScriptedTeacher()
    desk = dispatcher(teacher, journal=tmp_path / "journal.sqlite", max_concurrency=2)
    (pages,) = desk.journal._db.execute("PRAGMA page_count").fetchone()
    desk.journal._db.execute(f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(JournalError, match="disk is full"):
        ask_all(desk, 1000)
    made = len(teacher.asked)
    rows = list(desk.journal.rows())
    # Every call that was made has its row, and at most those in flight lost their answers.
    assert len(rows) == made and sum(row.state == "sending" for row in rows) <= 2
    desk.close()
