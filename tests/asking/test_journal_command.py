"""`hf-active-distill journal`, as it is called from a shell."""

import argparse
import json

import pytest
from asking_helpers import ScriptedTeacher, VirtualLoop, question

from hf_active_distill.asking import Budget, Dispatcher, Journal, Prices
from hf_active_distill.cli import journal as command
from hf_active_distill.errors import ConfigurationError, JournalError, TeacherRequestError
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import TeacherReply


def call(*words) -> int:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers(dest="command", required=True))
    return command.run(parser.parse_args(["journal", *map(str, words)]))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "journal.sqlite"

    async def answer(request, number):
        if number == 2:
            raise TeacherRequestError("`inputs` must have less than 4096 tokens", status=422)
        return TeacherReply("Yes.\x1b[31m It holds.", usage=Usage(1, 10, 5), reasoning="thinking")

    desk = Dispatcher(
        ScriptedTeacher(answer),
        journal=path,
        budget=Budget(prices=Prices(1000.0, 2000.0)),
        run="demo",
        max_concurrency=1,
        loop_factory=VirtualLoop,
    )

    async def work(index: int) -> None:
        try:
            await desk.bind(row_id=f"row-{index}", round=index % 2, kind="clear")(question(f"Is step {index} right?"))
        except TeacherRequestError:
            return

    desk.run_all(range(4), work, progress=False)
    desk.close()
    return path


def test_list_shows_calls_and_what_was_spent(path, capsys):
    assert call("list", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert "answered" in lines[1] and "row-0" in lines[1] and "15" in lines[1] and "It holds." in lines[1]
    assert "\x1b" not in "".join(lines)  # what a teacher wrote does not colour the terminal
    assert "failed" in lines[3] and lines[3].endswith("TeacherRequestError: `inputs` must have less than 4096 to...")
    assert lines[5] == "run 'demo': calls=3, tokens=45, cost=0.06, asking 0 s; 3 answered, 1 failed"


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        (["--state", "failed"], ["row-2"]),
        (["--row", "row-1"], ["row-1"]),
        (["--round", "1", "--run", "demo"], ["row-1", "row-3"]),
        (["--kind", "cot"], []),
        (["--limit", "2"], ["row-2", "row-3"]),
        (["--limit", "0"], ["row-0", "row-1", "row-2", "row-3"]),
    ],
)
def test_list_filters_and_writes_json(path, capsys, words, rows):
    assert call("list", path, "--json", *words) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["row_id"] for record in records] == rows
    assert all(json.loads(record["content"])["messages"] for record in records)


def test_show_prints_one_exchange(path, capsys):
    assert call("show", path, 1) == 0
    shown = capsys.readouterr().out
    for part in ("row_id: row-0", "--- user\nIs step 0 right?", "--- reasoning\nthinking", "It holds.", "cost: 0.02"):
        assert part in shown
    assert call("show", path, 3) == 0
    assert "--- error\nTeacherRequestError" in capsys.readouterr().out
    with pytest.raises(ConfigurationError, match="no call 99"):
        call("show", path, 99)


def test_export_writes_parquet(path, tmp_path, capsys):
    import pyarrow.parquet

    assert call("export", path, tmp_path / "out.parquet", "--state", "answered") == 0
    assert "3 calls written" in capsys.readouterr().out
    table = pyarrow.parquet.read_table(tmp_path / "out.parquet")
    assert table.column("row_id").to_pylist() == ["row-0", "row-1", "row-3"]
    assert set(table.column("reasoning").to_pylist()) == {"thinking"}


def test_compact_keeps_the_answers(path, capsys):
    assert call("compact", path) == 0
    assert "bytes, now" in capsys.readouterr().out
    with Journal(path) as journal:
        assert journal.spent("demo")[0].calls == 3
        assert [bool(row.content) for row in journal.rows()] == [True, True, False, True]
    assert call("show", path, 3) == 0


def test_a_missing_journal_is_named(tmp_path):
    with pytest.raises(JournalError, match="no journal at"):
        call("list", tmp_path / "none.sqlite")
    with pytest.raises(ConfigurationError, match="no journal at"):
        call("compact", tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())
