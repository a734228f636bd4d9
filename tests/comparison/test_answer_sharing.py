"""One journal for many processes: nothing is paid twice, figures and errors arrive as they were."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from counting_teacher import CountingTeacher
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.asking import Budget, Dispatcher, JournalReader
from hf_active_distill.comparison import AnswerServer, SharedTeacher
from hf_active_distill.comparison.sharing import forget_calls_in_flight, pack_request, unpack_error, unpack_request
from hf_active_distill.errors import JournalError, TeacherAuthError, TeacherConnectionError, TeacherGoneError
from hf_active_distill.teachers import GenerationParams, TeacherRequest, load_teacher


ASKER = """
import asyncio, json, sys
from hf_active_distill.asking import Dispatcher
from hf_active_distill.comparison import SharedTeacher
from hf_active_distill.teachers import GenerationParams, TeacherRequest

address, journal, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
with Dispatcher(SharedTeacher(**address), journal=journal, max_concurrency=8) as dispatcher:
    async def work(number):
        messages = [{"role": "user", "content": f"Problem:\\nHow much is {number} and 1?"}]
        reply = await dispatcher.bind(row_id=str(number))(TeacherRequest.chat(messages, GenerationParams()))
        return reply.text, reply.usage.total_tokens
    found = dispatcher.run_all(range(count), work, progress=False)
    print(json.dumps([found, dispatcher.spent.total_tokens]))
"""


def ask(number: int) -> TeacherRequest:
    content = f"Problem:\nHow much is {number} and 1?"
    return TeacherRequest.chat([{"role": "user", "content": content}], GenerationParams())


def test_processes_that_ask_the_same_at_the_same_time_pay_once(tmp_path):
    with CountingTeacher() as teacher:
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "shared.sqlite") as server:
            address = json.dumps(server.address)
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", ASKER, address, str(tmp_path / f"{index}.sqlite"), "40"],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for index in range(3)
            ]
            outputs = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
            paid = server.paid
        assert len(teacher.requests) == 40 and set(Counter(teacher.requests).values()) == {1}
        # Every process books what the answers would have cost it alone.
        assert outputs[0] == outputs[1] == outputs[2]
        assert outputs[0][1] == sum(tokens for _, tokens in outputs[0][0]) == paid.total_tokens > 0
        # And a later one, with the same journal, pays nothing.
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "shared.sqlite") as server:
            with Dispatcher(SharedTeacher(**server.address)) as dispatcher:
                replies = dispatcher.run_all([ask(n) for n in range(40)], dispatcher.ask, progress=False)
            assert server.replayed == 40
        assert [reply.text for reply in replies] == [text for text, _ in outputs[0][0]]
        assert len(teacher.requests) == 40
    with JournalReader(tmp_path / "shared.sqlite") as journal:
        assert journal.states() == {"answered": 40}


params = st.builds(
    GenerationParams,
    max_new_tokens=st.integers(1, 100),
    temperature=st.floats(0, 2),
    stop=st.lists(st.text(), max_size=3).map(tuple),
    seed=st.none() | st.integers(0, 2**40),
    grammar=st.none() | st.just({"type": "json", "value": {"properties": {"é": {}}}}),
    extra=st.lists(st.tuples(st.text(), st.integers() | st.lists(st.text())), max_size=2).map(tuple),
)
messages = st.lists(st.fixed_dictionaries({"role": st.text(), "content": st.text()}), min_size=1, max_size=4)


@given(params, messages, st.text(), st.booleans(), st.integers(0, 9), st.integers(0, 9))
def test_a_request_arrives_under_the_same_key(params, messages, prompt, chat, sample, attempt):
    make = (
        (lambda **o: TeacherRequest.chat(messages, params, **o))
        if chat
        else (lambda **o: TeacherRequest.generate(prompt, params, **o))
    )
    request = make(sample_index=sample, attempt=attempt)
    arrived = unpack_request(json.loads(json.dumps(pack_request(request))))
    assert arrived.key("m", "r") == request.key("m", "r")


def test_the_teachers_facts_and_token_counts_arrive(tmp_path):
    with (
        CountingTeacher() as teacher,
        AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite") as server,
    ):
        shared = SharedTeacher(**server.address)

        async def look():
            info = await shared.info()
            count = await shared.count_tokens(ask(1))
            await shared.aclose()
            return info, count

        info, count = asyncio.run(look())
        assert (info.model, info.revision, info.max_total_tokens) == ("counting", "1", 200000)
        assert count is None  # this server has no tokenizer to ask
        # A second event loop opens a connection of its own.
        assert asyncio.run(look())[0] == info


def test_who_does_not_know_the_secret_is_not_answered(tmp_path):
    with (
        CountingTeacher() as teacher,
        AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite") as server,
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as stranger:
            question = {"id": 0, "do": "ask", "request": pack_request(ask(1))}
            stranger.sendall(b'{"token": "guess"}\n' + json.dumps(question).encode() + b"\n")
            assert stranger.makefile().read() == ""
        assert teacher.requests == []


def test_errors_arrive_as_what_they_are_and_are_not_tried_again(tmp_path):
    with (
        CountingTeacher(status=422) as teacher,
        AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite") as server,
    ):
        with Dispatcher(SharedTeacher(**server.address)) as dispatcher:
            with pytest.raises(Exception, match="refused") as caught:
                dispatcher.run_all([1], lambda n: dispatcher.ask(ask(n)), progress=False)
        assert type(caught.value).__name__ == "TeacherRequestError"
        assert len(teacher.requests) == 1
    lost = unpack_error({"kind": "TeacherAuthError", "text": "no", "reached_model": False})
    assert isinstance(lost, TeacherAuthError) and not lost.retryable
    assert isinstance(unpack_error({"kind": "KeyError", "text": "x", "reached_model": False}), TeacherGoneError)


def test_the_cap_on_all_runs_ends_a_run_without_being_its_budget(tmp_path):
    with CountingTeacher() as teacher:
        budget = Budget(max_calls=2)
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite", budget=budget) as server:
            with Dispatcher(SharedTeacher(**server.address)) as dispatcher:
                with pytest.raises(TeacherGoneError, match="max_paid_tokens"):
                    dispatcher.run_all(range(4), lambda n: dispatcher.ask(ask(n)), progress=False)
        assert len(teacher.requests) == 2


def test_a_server_that_is_gone_is_no_connection(tmp_path):
    with CountingTeacher() as teacher:
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite") as server:
            address = server.address
    with pytest.raises(TeacherConnectionError, match="comparison"):
        asyncio.run(SharedTeacher(**address).ask(ask(1)))


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=30).close()
    except OSError:
        return True
    return False


def test_what_is_in_flight_at_the_end_lands_and_what_waits_is_not_sent(tmp_path):
    ended = threading.Event()

    def before_answer(number: int) -> None:
        if number == 1:  # held back until the server listens to nobody any more
            assert ended.wait(60)
            while not _refuses(server.port):
                time.sleep(0.01)

    async def leave_with_open_questions(address):
        shared = SharedTeacher(**address)
        asked = [asyncio.create_task(shared.ask(ask(number))) for number in (1, 2)]
        while not teacher.requests:
            await asyncio.sleep(0.01)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await shared.aclose()

    with CountingTeacher(before_answer) as teacher:
        options = {"max_concurrency": 1, "request_timeout": 60.0}
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite", **options) as server:
            asyncio.run(leave_with_open_questions(server.address))
            ended.set()
        with JournalReader(tmp_path / "j.sqlite") as journal:
            assert journal.states() == {"answered": 1}
        assert len(teacher.requests) == 1
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite") as server:
            with Dispatcher(SharedTeacher(**server.address)) as dispatcher:
                dispatcher.run_all([1], lambda n: dispatcher.ask(ask(n)), progress=False)
            assert server.replayed == 1
        assert len(teacher.requests) == 1


def test_a_server_that_ends_hears_no_further_question(tmp_path):
    """A process that is still there and goes on asking does not keep it from ending."""
    with CountingTeacher() as teacher:
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite") as server:
            client = socket.create_connection(("127.0.0.1", server.port), timeout=30)
            lines = client.makefile("rw")
            lines.write(json.dumps({"token": server.token, "who": "x"}) + "\n")
            lines.write(json.dumps({"id": 0, "do": "ask", "request": pack_request(ask(1))}) + "\n")
            lines.flush()
            assert "reply" in json.loads(lines.readline())
        assert lines.readline() == ""  # closed by the server
        client.close()


def test_a_shared_journal_has_one_server(tmp_path):
    with CountingTeacher() as teacher:
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite"):
            with pytest.raises(JournalError), AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite"):
                pass
        with pytest.raises(
            TeacherConnectionError
        ):  # raised where the server is started, and the journal is free again
            with AnswerServer(lambda: load_teacher("http://127.0.0.1:9"), tmp_path / "j.sqlite"):
                pass
        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "j.sqlite"):
            pass


def test_calls_that_were_cut_off_do_not_count_against_a_resumed_arm(tmp_path):
    journal = tmp_path / "journal.sqlite"
    forget_calls_in_flight(journal)
    assert not journal.exists()

    script = (
        "import os, sys, asyncio\n"
        "from hf_active_distill.asking import Dispatcher\n"
        "from hf_active_distill.teachers import GenerationParams, TeacherRequest\n"
        "calls = []\n"
        "def teacher(messages):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2: os.kill(os.getpid(), 9)\n"
        "    return 'yes'\n"
        "from hf_active_distill.teachers import load_teacher\n"
        "d = Dispatcher(load_teacher(teacher), journal=sys.argv[1], max_concurrency=1)\n"
        "ask = lambda n: d.ask(TeacherRequest.generate(str(n), GenerationParams()))\n"
        "d.run_all(range(3), ask, progress=False)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(journal)], check=False)
    with JournalReader(journal) as reader:
        assert reader.states() == {"answered": 1, "sending": 1}
    forget_calls_in_flight(journal)
    with JournalReader(journal) as reader:
        assert reader.states() == {"answered": 1}
        assert reader.spent()[0].calls == 1
