"""The journal's file: order of commits, one writer, readers, and everything a file or a disk can do to it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from asking_helpers import BOUND, call, record, reply
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.asking import Journal, JournalReader
from hf_active_distill.asking.rows import redact, reply_from_json, reply_to_json
from hf_active_distill.errors import JournalError, TeacherGenerationError
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import TeacherReply, TopToken


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder" / "journal.sqlite"


def test_rows_are_there_for_others_when_the_coroutines_return(path):
    async def write(journal: Journal) -> None:
        with JournalReader(path) as reader:
            call_id = await journal.sending(call("q", run="r", row_id="7", round=2, kind="cot", turn=1), BOUND)
            (row,) = reader.rows()
            assert (row.id, row.state, row.run, row.row_id, row.round, row.kind, row.turn) == (
                call_id,
                "sending",
                "r",
                "7",
                2,
                "cot",
                1,
            )
            assert row.usage == BOUND and row.reply is None and reader.spent("r")[0] == BOUND
            await journal.answered(call_id, reply("done"))
            (row,) = reader.rows()
            assert row.state == "answered" and row.reply == reply("done")
            assert reader.spent("r")[0] == Usage(1, 10, 5)
            other = await journal.sending(call("p", run="r"), BOUND)
            await journal.failed(other, TeacherGenerationError("broke"), BOUND)
            assert [row.state for row in reader.rows(run="r")] == ["answered", "failed"]
            assert next(reader.rows(id=other)).error == "TeacherGenerationError: broke"

    with Journal(path) as journal:
        asyncio.run(write(journal))


def test_an_answer_is_found_again_by_its_key_alone(path):
    with Journal(path) as journal:
        record(journal, "q", "first", run="one")
        assert journal.lookup(call("q").key) == reply("first")
        assert journal.lookup(call("q").key, run="one") == reply("first")
        assert journal.lookup(call("q").key, run="two") is None
        assert journal.lookup(call("q", attempt=1).key) is None
        assert journal.lookup(call("q", sample_index=1).key) is None
        record(journal, "q", "second", run="two")
        assert journal.lookup(call("q").key) == reply("first")  # the first stays the answer
    with Journal(path) as journal:
        assert journal.lookup(call("q").key) == reply("first")


def test_concurrent_writes_share_commits(path):
    async def write(journal: Journal) -> None:
        ids = await asyncio.gather(*(journal.sending(call(str(i)), BOUND) for i in range(50)))
        await asyncio.gather(*(journal.answered(call_id, reply("a")) for call_id in ids))

    with Journal(path) as journal:
        statements: list[str] = []
        journal._db.set_trace_callback(statements.append)
        asyncio.run(write(journal))
        journal._db.set_trace_callback(None)
        assert statements.count("COMMIT") == 2
        assert len(list(journal.rows(state="answered"))) == 50


def test_an_answer_waits_for_the_disk_and_a_sending_row_does_not(path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd))[1])

    async def write(journal: Journal) -> None:
        call_id = await journal.sending(call(), BOUND)
        assert synced == []
        await journal.answered(call_id, reply("a"))
        assert synced[-1].endswith("journal.sqlite-wal") and str(path.parent) in synced

    with Journal(path) as journal:
        asyncio.run(write(journal))


def test_a_disk_that_fails_to_sync_stops_the_journal(path, monkeypatch):
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async def write(journal: Journal) -> None:
        call_id = await journal.sending(call(), BOUND)
        monkeypatch.setattr(os, "fsync", broken)
        with pytest.raises(JournalError, match="check the disk"):
            await journal.answered(call_id, reply("a"))
        with pytest.raises(JournalError, match="check the disk"):
            await journal.sending(call("next"), BOUND)

    with Journal(path) as journal:
        asyncio.run(write(journal))


def test_a_loop_that_was_interrupted_leaves_no_write_behind(path):
    with Journal(path) as journal:
        loop = asyncio.new_event_loop()
        task = loop.create_task(journal.sending(call("left"), BOUND))
        loop.run_until_complete(asyncio.sleep(0))  # queued, not yet committed
        record(journal, "next")  # on another loop
        assert [json.loads(row.content)["messages"][0]["content"] for row in journal.rows()] == ["left", "next"]
        task.cancel()
        loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.close()


TEXTS = st.text(st.characters(codec=None), max_size=30)
TOKENS = st.builds(TopToken, TEXTS, st.none() | st.floats(allow_nan=False), st.none() | st.integers(0, 2**31))


@given(
    st.builds(
        TeacherReply,
        text=TEXTS,
        finish_reason=st.sampled_from(["stop", "length"]),
        usage=st.just(Usage(1, 2, 3, 1, 1)),
        reasoning=st.none() | TEXTS,
        top_tokens=st.none() | st.lists(st.lists(TOKENS, max_size=3), max_size=3),
        prefill=st.none() | st.lists(TOKENS, max_size=3),
    )
)
def test_replies_come_back_as_they_went_in(answer):
    assert reply_from_json(reply_to_json(answer), answer.usage) == answer


@pytest.mark.parametrize("text", ["lone \ud800 surrogate", "zero \x00 byte", "", "x" * 10_000_000, "Grüße 你好 🎉"])
def test_any_text_is_stored(path, text):
    with Journal(path) as journal:
        record(journal, text, text, row_id=text[:20])
        assert journal.lookup(call(text).key) == reply(text)


# --- one writer, many readers


def test_a_second_writer_in_this_process_is_refused(path):
    with Journal(path), pytest.raises(JournalError, match="this very process"):
        Journal(path)
    Journal(path).close()


HOLDER = """
import sys, time
from hf_active_distill.asking import Journal
journal = Journal(sys.argv[1])
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def test_another_writer_is_named_and_its_death_frees_the_journal(path, holder):
    with pytest.raises(JournalError, match=rf"process {holder.pid} on .*one writer"):
        Journal(path)
    JournalReader(path).close()  # reading is possible meanwhile
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    Journal(path).close()


def test_forked_children_do_not_hold_the_lock_of_a_killed_writer(path):
    code = (
        "import os, sys, time\n"
        "from hf_active_distill.asking import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "print('ready', flush=True)\n"
        "os.waitpid(child, 0)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    Journal(path).close()
    process.stdin.close()  # lets the child end
    process.stdout.close()


def test_a_fork_may_not_write(path):
    async def write(journal: Journal) -> str:
        try:
            await journal.sending(call(), BOUND)
        except JournalError as error:
            return str(error)
        return "written"

    with Journal(path) as journal:
        child = os.fork()
        if child == 0:
            os._exit(0 if "before a fork" in asyncio.run(write(journal)) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_closed_journal_says_so(path):
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        asyncio.run(journal.sending(call(), BOUND))


def test_readers_see_what_a_killed_writer_committed(path, tmp_path):
    code = (
        "import asyncio, os, signal, sys\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from asking_helpers import *\n"
        "journal = Journal(sys.argv[1])\n"
        "record(journal, 'kept')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), str(Path(__file__).parent)], check=False)
    assert done.returncode == -signal.SIGKILL
    with JournalReader(path) as reader:
        assert reader.states() == {"answered": 1} and reader.integrity() == "ok"


# --- what readers do


def test_filters_and_the_last_rows(path):
    with Journal(path) as journal:
        for index in range(6):
            record(journal, f"q{index}", run="ab"[index % 2], row_id=str(index), round=index // 3, kind="cot")
    with JournalReader(path) as reader:
        assert [row.row_id for row in reader.rows()] == list("012345")
        assert [row.row_id for row in reader.rows(run="b")] == list("135")
        assert [row.row_id for row in reader.rows(round=1, limit=2)] == list("45")
        assert [row.row_id for row in reader.rows(run="a", row_id="3")] == []
        assert reader.runs() == ["a", "b"]
        assert reader.states("a") == {"answered": 3} and reader.cost("a") == pytest.approx(0.75)
        with pytest.raises(JournalError, match="filtered by"):
            list(reader.rows(colour="red"))


def test_parquet_export_holds_every_column(path, tmp_path):
    import pyarrow.parquet

    with Journal(path) as journal:
        record(journal, "q0", "a0", run="r", row_id="0")
        asyncio.run(journal.sending(call("q1", run="r"), BOUND))
    with JournalReader(path) as reader:
        assert reader.export_parquet(tmp_path / "out.parquet") == 2
        rows = [row.to_dict() for row in reader.rows()]
    exported = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for row, out in zip(rows, exported, strict=True):
        assert {name: out[name] for name in row} == {**row, "estimated": bool(row["estimated"])}
    assert exported[0]["text"] == "a0" and exported[1]["text"] is None


def test_compacting_keeps_answers_and_what_was_spent(path):
    async def fail(journal: Journal) -> None:
        call_id = await journal.sending(call("q0", run="r"), BOUND)
        await journal.failed(call_id, TeacherGenerationError("broke"), BOUND)
        await journal.sending(call("open", run="r"), BOUND)

    with Journal(path) as journal:
        asyncio.run(fail(journal))
        record(journal, "q0", "a0", run="r")
        before = journal.spent("r")
        journal.compact()
        assert journal.spent("r") == before
        assert [bool(row.content) for row in journal.rows()] == [False, True, True]
        assert journal.lookup(call("q0").key) == reply("a0")
        record(journal, "later")
    with JournalReader(path) as reader:
        assert reader.integrity() == "ok" and len(list(reader.rows())) == 4


@pytest.mark.parametrize(
    "text",
    [
        "Invalid token hf_abcdefghijklmnop given",
        "Authorization: Bearer verysecrettoken",
        "https://user:verysecrettoken@host/path",
        "GET /v1?api_key=verysecrettoken&x=1",
        "Incorrect API key provided: sk-proj-verysecrettoken",
        "my-own-secret was refused",
    ],
)
def test_secrets_are_taken_out_of_errors(path, text):
    clean = redact(text, ("my-own-secret",))
    assert "[secret]" in clean
    assert not any(part in clean for part in ("verysecrettoken", "abcdefghijklmnop", "my-own-secret"))

    async def fail(journal: Journal) -> None:
        await journal.failed(await journal.sending(call(), BOUND), TeacherGenerationError(text), BOUND)

    with Journal(path, secrets=("my-own-secret",)) as journal:
        asyncio.run(fail(journal))
        (row,) = journal.rows()
    assert row.error == f"TeacherGenerationError: {clean}"


def test_ordinary_errors_are_left_as_they_are():
    text = (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 (task-1, disk-full)"
    )
    assert redact(text) == text
