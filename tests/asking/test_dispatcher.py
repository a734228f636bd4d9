"""The dispatcher at peace: order, concurrency, replay, dialogues, the end of the budget, interrupts."""

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import time

import pytest
from asking_helpers import ScriptedTeacher, ask_all, dialogue, dispatcher, question, reply, text_of, texts

from hf_active_distill.asking import Budget, Dispatcher, Journal, JournalReader, Prices
from hf_active_distill.errors import ConfigurationError, TeacherGenerationError
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import TeacherInfo, TeacherReply


def test_results_come_in_the_order_of_the_items_whatever_the_order_of_answers():
    async def answer(request, number):
        await asyncio.sleep(10.0 - number)
        return reply(f"answer to {text_of(request)}")

    teacher = ScriptedTeacher(answer)
    results = ask_all(dispatcher(teacher, max_concurrency=4), texts(10))
    assert [result.text for result in results] == [f"answer to q{index}" for index in range(10)]
    assert teacher.most_active == 4


def test_no_items_ask_for_the_facts_alone():
    desk = dispatcher(ScriptedTeacher(info=TeacherInfo("m", "r", max_concurrency=3)))
    assert desk.run_all([], lambda item: desk.ask(item)) == []
    assert desk.info == TeacherInfo("m", "r", max_concurrency=3)


def test_the_teacher_is_described_once_a_run_in_one_line(caplog):
    caplog.set_level(logging.INFO, logger="hf_active_distill")
    desk = dispatcher(ScriptedTeacher(info=TeacherInfo("m", "r", supports_logprobs=False)))
    for _ in range(3):
        ask_all(desk, texts(2))
    lines = [message for message in caplog.messages if message.startswith("Teacher: m@r")]
    assert len(lines) == 1 and "estimated from samples" in lines[0] and "\n" not in lines[0]


def test_what_the_server_takes_caps_the_concurrency():
    teacher = ScriptedTeacher(info=TeacherInfo("m", max_concurrency=2))
    ask_all(dispatcher(teacher, max_concurrency=16), texts(10))
    assert teacher.most_active == 2


def test_dialogues_are_pipelined():
    turns = [1, 8, 2, 5, 3, 1, 7, 4] * 4
    teacher = ScriptedTeacher(latency=1.0)
    desk = dispatcher(teacher, max_concurrency=4)
    results = desk.run_all(range(32), dialogue(desk, lambda index: turns[index]), progress=False)
    assert results == [f"{index}: {turns[index]} calls, {15 * turns[index]} tokens" for index in range(32)]
    # Four at a time and no waiting for one another: only the last dialogues can leave places empty.
    assert teacher.times[-1] + 1 <= sum(turns) / 4 + max(turns)
    assert teacher.most_active == 4


def test_waiting_calls_are_served_in_the_order_of_their_rows():
    teacher = ScriptedTeacher()
    desk = dispatcher(teacher, max_concurrency=3)
    desk.run_all(range(30), dialogue(desk, lambda index: 4), progress=False)
    asked = [text_of(request).split(".") for request in teacher.asked]
    opened = [int(row) for row, turn in asked if turn == "0"]
    ended = [int(row) for row, turn in asked if turn == "3"]
    assert opened == list(range(30))
    # Rows are finished nearly in order, never more than the open ones apart.
    assert all(abs(place - row) <= 3 for place, row in enumerate(ended))


def test_recorded_answers_are_replayed_and_cost_nothing_again(tmp_path):
    path = tmp_path / "journal.sqlite"
    prices = Prices(1.0, 2.0)
    first = dispatcher(ScriptedTeacher(), journal=path, run="one", budget=Budget(prices=prices))
    before = ask_all(first, texts(5))
    assert first.spent == Usage(5, 50, 25) and first.cost == pytest.approx(5 * 20 / 1e6)
    first.close()

    teacher = ScriptedTeacher()
    again = dispatcher(teacher, journal=path, run="one", budget=Budget(prices=prices))
    assert again.spent == first.spent and again.cost == pytest.approx(first.cost)
    asks = []

    async def work(text: str) -> TeacherReply:
        asks.append(again.bind(row_id=text))
        return await asks[-1](question(text))

    assert again.run_all(texts(7), work, progress=False)[:5] == before
    assert [text_of(request) for request in teacher.asked] == ["q5", "q6"]
    assert again.replayed == 5 and again.spent == Usage(7, 70, 35)
    # An annotation records the same figures, replayed or not.
    assert {(ask.usage.total_tokens, ask.cost) for ask in asks} == {(15, 20 / 1e6)}
    assert asks[0].info == TeacherInfo("scripted", "r1")
    again.close()

    # Another run: what is new is paid, what is old is not counted; by choice nothing is reused.
    other = dispatcher(teacher, journal=path, run="two")
    ask_all(other, texts(8))
    assert other.spent == Usage(1, 10, 5)
    other.close()
    own = dispatcher(teacher, journal=path, run="three", reuse="run")
    ask_all(own, texts(3))
    assert own.spent == Usage(3, 30, 15)
    own.close()


def test_another_model_or_revision_is_asked_anew(tmp_path):
    for facts in (TeacherInfo("m", "r1"), TeacherInfo("m", "r2"), TeacherInfo("m"), TeacherInfo("n")):
        teacher = ScriptedTeacher(info=facts)
        desk = dispatcher(teacher, journal=tmp_path / "journal.sqlite")
        ask_all(desk, texts(1))
        desk.close()
        assert len(teacher.asked) == 1


def test_identical_calls_in_flight_are_made_once():
    teacher = ScriptedTeacher()
    desk = dispatcher(teacher)
    results = ask_all(desk, ["same"] * 6 + ["other"])
    assert len(teacher.asked) == 2 and desk.spent.calls == 2
    assert len({result.text for result in results[:6]}) == 1


def test_samples_and_attempts_are_calls_of_their_own():
    teacher = ScriptedTeacher()
    desk = dispatcher(teacher)

    async def work(index: int) -> TeacherReply:
        return await desk.ask(question("same", sample_index=index // 2, attempt=index % 2))

    desk.run_all(range(4), work, progress=False)
    assert len(teacher.asked) == 4


def test_answers_are_committed_before_anyone_gets_them(tmp_path):
    path = tmp_path / "journal.sqlite"
    with JournalReader(_created(path)) as reader:

        async def answer(request, number):
            row = next(reader.rows(row_id=text_of(request)))
            assert row.state == "sending" and row.usage.estimated
            await asyncio.sleep(0.1)
            return reply("a")

        desk = dispatcher(ScriptedTeacher(answer), journal=path)

        async def work(text: str) -> str:
            await desk.ask(question(text), row_id=text)
            return next(reader.rows(row_id=text)).state

        assert desk.run_all(texts(20), work, progress=False) == ["answered"] * 20
        desk.close()


def _created(path):
    Journal(path).close()
    return path


# --- where it runs


def test_it_works_inside_a_running_loop():
    desk = Dispatcher(ScriptedTeacher(latency=0.01))

    async def notebook() -> list:
        return ask_all(desk, texts(5))

    assert len(asyncio.run(notebook())) == 5
    assert len(ask_all(desk, texts(5))) == 5  # and outside of one, on the same loop
    desk.close()


def test_ctrl_c_reaches_a_run_inside_a_running_loop():
    main_thread = threading.main_thread()

    async def answer(request, number):
        assert threading.current_thread() is not main_thread
        if number == 1:
            signal.pthread_kill(main_thread.ident, signal.SIGINT)
        await asyncio.sleep(0.2)
        return reply("a")

    teacher = ScriptedTeacher(answer)
    desk = Dispatcher(teacher, max_concurrency=2)

    async def notebook() -> None:
        # asyncio.run has its own handler for Ctrl-C; a notebook leaves Python's in place.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with pytest.raises(KeyboardInterrupt):
            ask_all(desk, texts(50))

    asyncio.run(notebook())
    assert len(teacher.asked) == 2 and teacher.active == 0
    desk.close()


def test_all_runs_share_one_loop_and_close_releases_the_teacher(tmp_path):
    loops = []

    async def answer(request, number):
        loops.append(asyncio.get_running_loop())
        return reply("a")

    teacher = ScriptedTeacher(answer)
    with Dispatcher(teacher, journal=tmp_path / "journal.sqlite") as desk:
        ask_all(desk, ["a"])
        ask_all(desk, ["b"])
    assert loops[0] is loops[1] and loops[0].is_closed()
    assert teacher.closed == 1
    Journal(tmp_path / "journal.sqlite").close()  # released too


def test_asynchronous_code_asks_without_the_facade(tmp_path):
    async def main() -> list[str]:
        desk = Dispatcher(ScriptedTeacher(latency=0.01), journal=tmp_path / "journal.sqlite")
        one = await desk.ask(question("alone"))
        many = await desk.map(texts(3), lambda text: desk.ask(question(text)), progress=False)
        await desk.aclose()
        return [one.text, *(result.text for result in many)]

    assert asyncio.run(main()) == ["answer to alone", "answer to q0", "answer to q1", "answer to q2"]


def test_two_runs_at_once_are_refused():
    desk = dispatcher(ScriptedTeacher())

    async def work(text: str) -> list:
        return await desk.map(texts(1), lambda text: desk.ask(question(text)), progress=False)

    with pytest.raises(ConfigurationError, match="one set of items after the other"):
        desk.run_all(texts(1), work, progress=False)


@pytest.mark.parametrize(
    "options",
    [{"max_concurrency": 0}, {"reuse": "all"}, {"max_retries": -1}, {"request_timeout": 0}, {"total_timeout": -1}],
)
def test_options_are_checked(options):
    with pytest.raises(ConfigurationError):
        Dispatcher(ScriptedTeacher(), **options)


def test_the_bar_shows_calls_tokens_and_cost(capsys):
    desk = dispatcher(ScriptedTeacher(), budget=Budget(prices=Prices(1000.0, 2000.0)))
    desk.run_all(texts(3), lambda text: desk.ask(question(text)), progress=True, description="asking (cot)")
    shown = capsys.readouterr().err
    assert "asking (cot)" in shown and "3/3" in shown and "calls=3, tokens=45, cost=0.06" in shown
    desk.run_all(texts(3), lambda text: desk.ask(question(text)))
    assert capsys.readouterr().err == ""  # no terminal, no bar


def test_a_jumping_wall_clock_changes_nothing(tmp_path, monkeypatch):
    jumps = iter([1e9, -1e9] * 1000)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    desk = Dispatcher(
        ScriptedTeacher(latency=0.01),
        journal=tmp_path / "journal.sqlite",
        budget=Budget(max_seconds=60),
        requests_per_minute=1000,
        request_timeout=5.0,
    )
    results = ask_all(desk, texts(20))
    assert all(isinstance(result, TeacherReply) for result in results)
    assert 0 < desk.budget.seconds < 30
    assert all(0 <= row.latency < 5 for row in desk.journal.rows())
    desk.close()


def test_no_secret_is_left_anywhere(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "hf_" + "s3cr3tS3cr3t" * 2

    async def answer(request, number):
        if number % 2 == 0:
            raise TeacherGenerationError(f"upstream refused Authorization: Bearer {secret}", status=500)
        return reply("a")

    desk = dispatcher(ScriptedTeacher(answer), journal=tmp_path / "journal.sqlite", max_retries=10)
    ask_all(desk, texts(5))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3  # the log is still beside the file
    assert not [path for path in files if secret.encode() in path.read_bytes()]
    desk.close()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert secret not in caplog.text and "[secret]" in caplog.text


def test_asking_needs_no_torch():
    heavy = "{'torch', 'transformers', 'datasets'}"
    code = f"import sys, hf_active_distill.asking; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
