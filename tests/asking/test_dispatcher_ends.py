"""How a run ends before its time: the budget, Ctrl-C, errors. What is in flight lands, nothing is lost."""

import asyncio
import os
import signal
import threading
import time

import pytest
from asking_helpers import ScriptedTeacher, ask_all, dialogue, dispatcher, question, reply, text_of, texts

from hf_active_distill.asking import Budget, Dispatcher, Journal, JournalReader
from hf_active_distill.errors import BudgetExhaustedError, ConfigurationError, TeacherAuthError, TeacherGenerationError
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import TeacherReply


# --- the end of the budget


def test_at_the_end_of_the_budget_what_is_in_flight_lands_and_the_rest_is_marked(tmp_path):
    teacher = ScriptedTeacher()
    desk = dispatcher(teacher, journal=tmp_path / "journal.sqlite", budget=Budget(max_calls=7), max_concurrency=4)
    results = desk.run_all(range(12), dialogue(desk, lambda index: 2), progress=False)
    done = {text_of(request).split(".")[0] for request in teacher.asked if text_of(request).endswith(".1")}
    for index, result in enumerate(results):
        if str(index) in done:
            assert result == f"{index}: 2 calls, 30 tokens"
        else:
            assert isinstance(result, BudgetExhaustedError) and "max_calls=7" in str(result)
    # Dialogues that were begun come before new rows.
    assert len(done) == 3 and len(teacher.asked) == 7 == desk.spent.calls
    assert len(list(desk.journal.rows(state="answered"))) == 7
    desk.close()


def test_what_the_journal_holds_is_replayed_after_the_end_of_the_budget(tmp_path):
    path = tmp_path / "journal.sqlite"

    async def answer(request, number):
        await asyncio.sleep(10.0 if text_of(request) == "q0" else 0.1)
        if text_of(request) == "q0":
            raise TeacherGenerationError("broke", status=500)
        return reply("a")

    first = dispatcher(
        ScriptedTeacher(answer), journal=path, budget=Budget(max_calls=4), max_concurrency=4, max_retries=9
    )
    results = ask_all(first, texts(4))
    assert [isinstance(result, BudgetExhaustedError) for result in results] == [True, False, False, False]
    first.close()
    teacher = ScriptedTeacher()
    again = dispatcher(teacher, journal=path, budget=Budget(max_calls=4))
    resumed = ask_all(again, texts(4))
    # The first row meets the end at once; the others were paid for and are given.
    assert isinstance(resumed[0], BudgetExhaustedError) and resumed[1:] == results[1:]
    assert teacher.asked == []
    again.close()


def test_a_call_waits_for_others_to_settle_rather_than_give_up():
    # Bounds allow one call at a time, figures allow four.
    one = question("q0")
    bound = Dispatcher(ScriptedTeacher())._caller._bounds.of(one).total_tokens
    teacher = ScriptedTeacher()
    desk = dispatcher(teacher, budget=Budget(max_tokens=bound + 3 * 15), max_concurrency=4)
    results = ask_all(desk, texts(6))
    assert [isinstance(result, TeacherReply) for result in results] == [True] * 4 + [False] * 2
    assert teacher.most_active == 1 and desk.spent.total_tokens == 60


def test_a_new_run_may_go_on_where_smaller_calls_fit():
    desk = dispatcher(ScriptedTeacher(), budget=Budget(max_tokens=1000))
    (large,) = ask_all(desk, ["x" * 2000])
    (small,) = ask_all(desk, ["x" * 200])
    assert isinstance(large, BudgetExhaustedError) and isinstance(small, TeacherReply)


# --- interrupts


def test_ctrl_c_lets_calls_in_flight_land_and_starts_no_other(tmp_path):
    path = tmp_path / "journal.sqlite"

    async def answer(request, number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0.3)
        return reply("a")

    teacher = ScriptedTeacher(answer)
    desk = Dispatcher(teacher, journal=path, max_concurrency=4)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask_all(desk, texts(50))
    assert time.monotonic() - started < 5
    assert len(teacher.asked) == 4 and teacher.active == 0
    assert len(list(desk.journal.rows(state="answered"))) == 4
    results = ask_all(desk, texts(6))  # and it can go on
    assert len(results) == 6 and len(teacher.asked) == 6
    desk.close()


def test_calls_that_do_not_land_in_time_count_at_their_bound(tmp_path):
    path = tmp_path / "journal.sqlite"

    async def answer(request, number):
        if number == 1:
            desk.stop(SystemExit(143))
        await asyncio.sleep(10_000)
        return reply("never")

    desk = dispatcher(ScriptedTeacher(answer), journal=path, landing_timeout=5.0, request_timeout=20_000)
    with pytest.raises(SystemExit):
        ask_all(desk, texts(2))
    assert desk.spent.estimated and desk.spent.calls == 2
    folded = desk.spent
    desk.close()
    again = dispatcher(ScriptedTeacher(), journal=path)
    assert again.spent == folded
    assert [row.state for row in again.journal.rows()] == ["sending", "sending"]
    results = ask_all(again, texts(2))
    assert all(isinstance(result, TeacherReply) for result in results)
    assert again.spent == folded + Usage(2, 20, 10)
    again.close()


def test_stop_from_another_thread_ends_the_run_with_its_error():
    class Terminated(BaseException):
        pass

    async def answer(request, number):
        if number == 5:
            threading.Thread(target=desk.stop, args=(Terminated(),)).start()
        await asyncio.sleep(0.05)
        return reply("a")

    teacher = ScriptedTeacher(answer)
    desk = Dispatcher(teacher, max_concurrency=2)
    with pytest.raises(Terminated):
        ask_all(desk, texts(200))
    assert len(teacher.asked) < 20 and teacher.active == 0
    desk.stop(Terminated())  # nothing runs: nothing happens
    desk.close()


def test_the_call_of_a_cancelled_asker_lands_and_is_committed(tmp_path):
    desk = dispatcher(ScriptedTeacher(latency=10.0), journal=tmp_path / "journal.sqlite")

    async def work(text: str) -> str:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(desk.ask(question(text)), timeout=1.0)
        return "impatient"

    assert desk.run_all(texts(2), work, progress=False) == ["impatient"] * 2
    assert len(list(desk.journal.rows(state="answered"))) == 2
    desk.close()


def test_an_error_in_the_work_ends_the_run_after_landing(tmp_path):
    desk = dispatcher(ScriptedTeacher(), journal=tmp_path / "journal.sqlite", max_concurrency=4)

    async def work(text: str) -> TeacherReply:
        if text == "q2":
            await asyncio.sleep(0.01)
            raise ZeroDivisionError
        return await desk.ask(question(text))

    with pytest.raises(ZeroDivisionError):
        desk.run_all(texts(100), work, progress=False)
    states = [row.state for row in desk.journal.rows()]
    assert set(states) == {"answered"} and len(states) <= 8
    desk.close()


def test_work_that_cancels_itself_is_no_silent_gap():
    desk = dispatcher(ScriptedTeacher())

    async def work(text: str) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        desk.run_all(texts(3), work, progress=False)


def test_fatal_errors_are_raised_even_where_the_work_hides_them(tmp_path):
    async def answer(request, number):
        await asyncio.sleep(0.1 * (number + 1))
        if number == 1:
            raise TeacherAuthError("token refused", status=401)
        return reply("a")

    teacher = ScriptedTeacher(answer)
    desk = dispatcher(teacher, journal=tmp_path / "journal.sqlite", max_concurrency=4)

    async def work(text: str) -> object:
        try:
            return await desk.ask(question(text))
        except TeacherAuthError as error:
            return error

    with pytest.raises(TeacherAuthError, match="token refused"):
        desk.run_all(texts(50), work, progress=False)
    # Four were in flight, and one more took the place of the first answer.
    assert len(teacher.asked) == 5
    assert sorted(row.state for row in desk.journal.rows()) == ["answered"] * 4 + ["failed"]
    assert desk.spent == Usage(4, 40, 20)  # a refused token costs nothing
    desk.close()


def test_arguments_that_are_refused_leave_no_journal_open(tmp_path):
    path = tmp_path / "journal.sqlite"
    for mistake in ({"max_retries": -1}, {"max_concurrency": 0}, {"reuse": "all"}):
        with pytest.raises(ConfigurationError):
            dispatcher(ScriptedTeacher(), journal=path, **mistake)
    dispatcher(ScriptedTeacher(), journal=path).close()


def test_an_answer_on_its_way_to_the_disk_is_committed_before_another_dispatcher_gets_it(tmp_path):
    path = tmp_path / "journal.sqlite"

    async def main(journal: Journal) -> list[str]:
        one, other = (Dispatcher(ScriptedTeacher(latency=0), journal=journal) for _ in range(2))
        await other.start()
        landing = asyncio.ensure_future(one.ask(question("q")))
        while not list(journal_states(journal)):
            await asyncio.sleep(0)
        await other.ask(question("q"))
        with JournalReader(path) as reader:
            states = list(reader.states())
        await landing
        return states

    def journal_states(journal: Journal):
        return journal._db.execute("SELECT id FROM calls WHERE state = 'answered'")

    with Journal(path) as journal:
        assert asyncio.run(main(journal)) == ["answered"]


# --- settled, for a loop that serves others


def test_settled_lets_calls_land_sends_no_other_and_cuts_off_what_is_late(tmp_path):
    async def answer(request, number):
        await asyncio.sleep(1e6 if text_of(request) == "slow" else 0)
        return reply("a")

    async def end(*asked: str) -> tuple[list[str], dict[str, int]]:
        teacher = ScriptedTeacher(answer)
        desk = Dispatcher(teacher, journal=tmp_path / f"{asked[0]}.sqlite", max_concurrency=1)
        await desk.start()
        tasks = [asyncio.ensure_future(desk.ask(question(text))) for text in asked]
        while not teacher.asked:
            await asyncio.sleep(0)
        await desk.settled(0.0 if "slow" in asked else None)
        assert (await asyncio.gather(tasks[1], return_exceptions=True))[0].__class__ is asyncio.CancelledError
        await desk.settled()  # nothing is left to wait for
        await desk.aclose()
        with JournalReader(tmp_path / f"{asked[0]}.sqlite") as journal:
            return [text_of(request) for request in teacher.asked], journal.states()

    assert asyncio.run(end("quick", "waiting")) == (["quick"], {"answered": 1})
    # What is late counts at its bound: the teacher may have answered.
    assert asyncio.run(end("slow", "waiting")) == (["slow"], {"sending": 1})
