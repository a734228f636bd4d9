"""The journal's file: order of commits, one writer, readers, and everything a file or a disk can do to it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from asking_helpers import BOUND, call, record, reply
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.asking import Journal, JournalReader, disk
from hf_active_distill.asking.rows import redact, reply_from_json, reply_to_json
from hf_active_distill.errors import JournalError, TeacherGenerationError
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import TeacherReply, TopToken


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "folder" / "journal.sqlite"


def test_rows_are_there_for_others_when_the_methods_return(path):
    with Journal(path) as journal, JournalReader(path) as reader:
        call_id = journal.sending(call("q", run="r", row_id="7", round=2, kind="cot", turn=1), BOUND)
        (row,) = reader.rows()
        shown = (row.id, row.state, row.run, row.row_id, row.round, row.kind, row.turn)
        assert shown == (call_id, "sending", "r", "7", 2, "cot", 1)
        assert row.usage == BOUND and row.reply is None and reader.spent("r")[0] == BOUND
        journal.answered(call_id, reply("done"))
        (row,) = reader.rows()
        assert row.state == "answered" and row.reply == reply("done")
        assert reader.spent("r")[0] == Usage(1, 10, 5)
        other = journal.sending(call("p", run="r"), BOUND)
        journal.failed(other, TeacherGenerationError("broke"), BOUND)
        assert [row.state for row in reader.rows(run="r")] == ["answered", "failed"]
        assert next(reader.rows(id=other)).error == "TeacherGenerationError: broke"


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


@pytest.fixture
def syncs(monkeypatch):
    """The files that were synced, in order."""
    synced = []
    for name in ("fsync", "fdatasync"):
        sync = getattr(os, name)

        def note(fd, sync=sync):
            synced.append(os.readlink(f"/proc/self/fd/{fd}"))
            sync(fd)

        monkeypatch.setattr(os, name, note)
    monkeypatch.setattr(disk, "_sync_file", os.fdatasync)
    return synced


def test_answers_that_wait_for_the_disk_share_a_sync(path, syncs):
    async def write(journal: Journal) -> None:
        async def one(number: int) -> None:
            journal.answered(journal.sending(call(str(number)), BOUND), reply("a"))
            await journal.synced()

        await asyncio.gather(*(one(number) for number in range(50)))

    with Journal(path) as journal:
        asyncio.run(write(journal))
        assert [Path(name).name for name in syncs] == [path.parent.name, "journal.sqlite-wal"]
        assert len(list(journal.rows(state="answered"))) == 50


def test_who_comes_while_a_sync_is_under_way_waits_for_the_next_one(path, monkeypatch):
    begun, go, count = threading.Event(), threading.Event(), []

    def slow(fd: int) -> None:
        count.append(fd)
        begun.set()
        assert go.wait(20)

    async def write(journal: Journal) -> None:
        first = asyncio.ensure_future(journal.synced())
        await asyncio.to_thread(begun.wait, 20)
        journal.answered(journal.sending(call(), BOUND), reply("a"))  # the sync under way may have missed it
        second = asyncio.ensure_future(journal.synced())
        await asyncio.sleep(0)
        assert not first.done() and len(count) == 1
        go.set()
        await first
        await second
        assert len(count) == 2

    monkeypatch.setattr(disk, "_sync_file", slow)
    with Journal(path) as journal:
        asyncio.run(write(journal))


def test_the_log_is_moved_into_the_file_now_and_then(path, monkeypatch):
    monkeypatch.setattr(disk, "CHECKPOINT_BYTES", 100_000)

    async def write(journal: Journal) -> None:
        for number in range(50):
            journal.answered(journal.sending(call(f"{number}" + "x" * 2000), BOUND), reply("a"))
            await journal.synced()

    with Journal(path) as journal:
        asyncio.run(write(journal))
        log = path.with_name(path.name + "-wal").stat().st_size
        assert log < 1_000_000 < 50 * 2 * 3 * 4096  # what fifty rows would take
        assert path.stat().st_size > 100_000
    with JournalReader(path) as reader:
        assert reader.integrity() == "ok" and reader.states() == {"answered": 50}


def test_a_disk_that_fails_to_sync_stops_the_journal(path, monkeypatch):
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    async def write(journal: Journal) -> None:
        journal.answered(journal.sending(call(), BOUND), reply("a"))
        monkeypatch.setattr(disk, "_sync_file", broken)
        with pytest.raises(JournalError, match="check the disk"):
            await journal.synced()
        with pytest.raises(JournalError, match="check the disk"):
            journal.sending(call("next"), BOUND)

    with Journal(path) as journal:
        asyncio.run(write(journal))


def test_a_wait_that_was_interrupted_does_not_hold_up_the_next_loop(path):
    with Journal(path) as journal:
        journal.answered(journal.sending(call(), BOUND), reply("a"))
        loop = asyncio.new_event_loop()
        task = loop.create_task(journal.synced())
        loop.run_until_complete(asyncio.sleep(0))  # waits, and its loop stands still
        asyncio.run(asyncio.wait_for(journal.synced(), 20))
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
    with Journal(path) as journal:
        child = os.fork()
        if child == 0:
            try:
                journal.sending(call(), BOUND)
            except JournalError as error:
                os._exit(0 if "before a fork" in str(error) else 2)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_closed_journal_says_so(path):
    journal = Journal(path)
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="closed"):
        journal.sending(call(), BOUND)


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
        journal.sending(call("q1", run="r"), BOUND)
    with JournalReader(path) as reader:
        assert reader.export_parquet(tmp_path / "out.parquet") == 2
        rows = [row.to_dict() for row in reader.rows()]
    exported = pyarrow.parquet.read_table(tmp_path / "out.parquet").to_pylist()
    for row, out in zip(rows, exported, strict=True):
        assert {name: out[name] for name in row} == {**row, "estimated": bool(row["estimated"])}
    assert exported[0]["text"] == "a0" and exported[1]["text"] is None


def test_compacting_keeps_answers_and_what_was_spent(path):
    with Journal(path) as journal:
        call_id = journal.sending(call("q0", run="r"), BOUND)
        journal.failed(call_id, TeacherGenerationError("broke"), BOUND)
        journal.sending(call("open", run="r"), BOUND)
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

    with Journal(path, secrets=("my-own-secret",)) as journal:
        journal.failed(journal.sending(call(), BOUND), TeacherGenerationError(text), BOUND)
        (row,) = journal.rows()
    assert row.error == f"TeacherGenerationError: {clean}"


def test_ordinary_errors_are_left_as_they_are():
    text = (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 (task-1, disk-full)"
    )
    assert redact(text) == text


# --- ends


def test_who_waits_for_the_disk_is_told_when_the_journal_is_closed(path):
    async def write(journal: Journal) -> None:
        journal.answered(journal.sending(call(), BOUND), reply("a"), commit=False)
        waiting = asyncio.ensure_future(journal.synced())
        await asyncio.sleep(0)
        journal.close()
        await asyncio.wait_for(waiting, 10)

    asyncio.run(write(Journal(path)))
    with JournalReader(path) as reader:
        assert reader.states() == {"answered": 1}


def test_an_answer_that_is_found_is_committed(path):
    with Journal(path) as journal, JournalReader(path) as reader:
        journal.answered(journal.sending(call(), BOUND), reply("a"), commit=False)
        assert reader.states() == {"sending": 1}
        assert journal.lookup(call().key).text == "a"
        assert reader.states() == {"answered": 1}


def test_a_closed_journal_is_not_read(path):
    journal = Journal(path)
    record(journal)
    journal.close()
    for use in (lambda: journal.lookup(call().key), journal.spent, journal.rows):
        with pytest.raises(JournalError, match="is closed"):
            use()


def test_two_event_loops_at_once_are_refused(path):
    inside, over = threading.Event(), threading.Event()

    async def first(journal: Journal) -> None:
        await journal.synced()
        inside.set()
        await asyncio.to_thread(over.wait, 20)

    with Journal(path) as journal:
        other = threading.Thread(target=lambda: asyncio.run(first(journal)))
        other.start()
        try:
            assert inside.wait(20)
            with pytest.raises(JournalError, match="two event loops"):
                asyncio.run(journal.synced())
        finally:
            over.set()
            other.join()
        asyncio.run(journal.synced())
