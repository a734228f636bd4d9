"""`rounds`, `diff`, `restore` and `forget`, on a Hub and in a folder."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest
from card_facts import label
from frozen_rounds import ROWS, SETTINGS, frozen_round, record

from hf_active_distill.asking import JournalReader
from hf_active_distill.cli.main import main
from hf_active_distill.errors import LineageError
from hf_active_distill.hub import LineageFolder, Secrets, open_store, push_waiting, restore_round
from hf_active_distill.hub.forget import forget_in_run, forget_row
from hf_active_distill.pool import fingerprint_of
from hf_active_distill.reports import write_report
from hf_active_distill.rounds import RoundStore
from hf_active_distill.tables import annotations_to_dataset


def command(*words: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(words)
    return code, said.getvalue()


def push(output_dir: str, target: str) -> None:
    push_waiting(open_store(target, create=True), LineageFolder(output_dir), Secrets(), wait=lambda s: True)


def here(function, *args):
    return function(*args)


@pytest.fixture(params=["folder", "hub"])
def lineage(request, tmp_path):
    """(where it is, a way to call a function that reaches it): three rounds, pushed."""
    for index in range(3):
        frozen_round(tmp_path / "run", index)
    if request.param == "folder":
        target, call = str(tmp_path / "lineage"), here
    else:
        request.getfixturevalue("hub")
        target, call = "me/tiny", request.getfixturevalue("hub_client")
    call(push, str(tmp_path / "run"), target)
    return target, call


def test_rounds_are_listed_with_their_figures(lineage):
    target, call = lineage
    code, said = call(command, "rounds", target)
    lines = [line.split() for line in said.splitlines()]
    assert code == 0
    assert lines[0] == ["round", "selected", "used", "accepted", "calls", "tokens", "cost", "accuracy", "commit"]
    assert [line[0] for line in lines[1:4]] == ["round-000", "round-001", "round-002"]
    assert lines[2][1:8] == ["3", "2", "0%", "3", "120", "0.7500", "0.200"]
    code, said = call(command, "rounds", target, "--json")
    assert [json.loads(line)["round"] for line in said.splitlines()] == [0, 1, 2]


def test_two_rounds_are_compared(lineage):
    target, call = lineage
    code, said = call(command, "diff", target, "0", "round-001", "--json")
    found = json.loads(said)
    assert code == 0
    assert [a["row_id"] for a in found["added"]] == ["row-4", "row-2", "row-3"]
    assert found["figures"]["eval_accuracy"] == [0.1, 0.2]
    # Row 2 had failed, and was asked about again.
    assert [[old["answer"], new["answer"]] for old, new in found["changed"]] == [[None, "4"]]
    assert {row[0]: pytest.approx(row[2] - row[1]) for row in found["moved"]} == {row.row_id: -1.0 for row in ROWS}
    code, said = call(command, "diff", target, "0", "1")
    assert "3 annotations added, 2 of them used" in said and "eval_accuracy: 0.1 -> 0.2" in said
    assert "0 of 2 steps of the student accepted; 2 rows revised" in said and "adding gives 6" in said
    assert "12 rows scored in both rounds; their score moved by -1.000" in said


def test_labels_are_compared(tmp_path):
    names = [["good", "bad", "good"], ["bad", "bad", "[b]bad"]]
    records = [
        replace(record(r), annotations=[label(f"row-{2 * r + k}", r, name) for k, name in enumerate(names[r])])
        for r in range(2)
    ]
    records[1].annotations[1] = replace(records[1].annotations[1], status="failed", reason="abstained", label=None)
    records[1].annotations[2].confidence = 0.5
    for index in range(2):
        frozen_round(tmp_path / "run", index, records=records[: index + 1])
    push(str(tmp_path / "run"), str(tmp_path / "lineage"))
    code, said = command("diff", str(tmp_path / "lineage"), "0", "1")
    assert code == 0 and "labels: bad 1, [b]bad 1; 1 failed" in said
    assert "row row-4: [b]bad (50% sure): The battery died." in said
    assert "row row-3: abstained (75% sure): The battery died." in said
    assert said.index("row row-4: ") < said.index("row row-2: ")
    assert "row row-2, asked again: good -> bad" in said
    assert (
        "row row-2: " not in command("diff", str(tmp_path / "lineage"), "0", "1", "--limit", "1")[1].split("moved")[0]
    )


def test_what_is_not_there_is_said(lineage, tmp_path):
    target, call = lineage
    assert call(command, "diff", target, "0", "9")[0] == 7
    assert (
        "has no round `round-009`. It has: round-000, round-001, round-002"
        in call(command, "diff", target, "0", "9")[1]
    )
    assert call(command, "restore", target, "first", "--output_dir", str(tmp_path / "new"))[0] == 2
    nowhere = "me/nobody" if target == "me/tiny" else str(tmp_path)
    code, said = call(command, "rounds", nowhere)
    assert (code, said.split(":")[0]) == (7, "hf-active-distill rounds")
    assert "me/nobody is not there" in said or "holds no lineage" in said


def test_every_round_comes_back_as_it_was(lineage, tmp_path):
    target, call = lineage
    for index in range(3):
        folder = tmp_path / f"from-{index}"
        code, said = call(command, "restore", target, str(index), "--output_dir", str(folder))
        assert code == 0 and f"round-{index:03d} of {target}" in said
        assert (folder / f"checkpoint-{4 * (index + 1)}/optimizer.pt").is_file()
        assert pyarrow.parquet.read_table(folder / "pool.parquet").num_rows == len(ROWS)
        assert RoundStore(folder).records() == [record(r) for r in range(index + 1)]
        assert json.loads((folder / "rounds/run.json").read_text()).items() >= SETTINGS.items()
        with JournalReader(folder / "journal.sqlite") as journal:
            assert journal.spent("train")[0].calls == 3 * (index + 1)
            assert all(row.reply.text == "No" for row in journal.rows())


def restored(target: str, tag: str, folder: str) -> dict:
    return restore_round(open_store(target), tag, folder).info


def tables(store, part: str, revision: str) -> dict[str, list[dict]]:
    paths = [path for path in store.files(part, revision) if path.endswith(".parquet")]
    return {
        path: pyarrow.parquet.read_table(file).to_pylist() for path, file in store.fetch(part, revision, paths).items()
    }


def seen_everywhere(target: str, text: str) -> list[str]:
    """Places that hold a text, at every tag and at the head of every part."""
    store, places = open_store(target), []
    for part in ("pool", "annotations", "student"):
        for revision in [*store.tags(part), store.head(part)]:
            for path in store.files(part, revision):
                if not path.endswith((".parquet", ".png", ".safetensors")):
                    if text in store.fetch(part, revision, [path])[path].read_text():
                        places.append(f"{part}/{revision}/{path}")
            places += [p for p, rows in tables(store, part, revision).items() if text in json.dumps(rows)]
    return places


def linked(target: str) -> bool:
    """Whether the student of every round names the commits that the tags of the others stand on."""
    store = open_store(target)
    return all(
        store.round_info("student", tag)["commits"] == {p: store.tags(p)[tag] for p in ("pool", "annotations")}
        for tag in store.round_tags()
    )


@pytest.mark.parametrize("squash", [False, True])
def test_a_row_is_deleted_everywhere(squash, lineage, tmp_path):
    target, call = lineage
    assert call(seen_everywhere, target, "row-2") and call(seen_everywhere, target, "How much is 2 and 2?")
    before = call(heads, target)
    code, said = call(command, "forget", target, "row-2", "--run_dir", str(tmp_path / "run"), *["--squash"] * squash)
    assert code == 0 and "tables of 3 rounds were written anew" in said
    for text in ("row-2", "How much is 2 and 2?", "adding gives 4"):
        assert call(seen_everywhere, target, f'"{text}' if text == "row-2" else text) == []
    assert call(linked, target)
    assert call(old_commits_lead_somewhere, target, before) is not squash
    # What the calls had cost is still counted, and a run restored from it knows the pool by its new hash.
    info = call(restored, target, "round-002", str(tmp_path / "again"))
    assert info["settings"]["pool"] == fingerprint_of([row for row in ROWS if row.row_id != "row-2"])
    with JournalReader(tmp_path / "again/journal.sqlite") as journal:
        assert journal.spent("train")[0].calls == 9
    assert call(command, "forget", target, "row-2")[0] == 7


def heads(target: str) -> dict[str, list[str]]:
    store = open_store(target)
    return {part: [store.head(part), *store.tags(part).values()] for part in ("pool", "annotations")}


def old_commits_lead_somewhere(target: str, before: dict[str, list[str]]) -> bool:
    """Whether some commit of before is an ancestor of what a branch or tag stands on."""
    store = open_store(target)
    if Path(target).exists():
        return any((Path(target) / part / "commits" / c).exists() for part, found in before.items() for c in found)
    from huggingface_hub import HfApi

    reached: set[str] = set()
    for part in before:
        for revision in ["main", *store.tags(part)]:
            name = store.where(part)
            reached |= {c.commit_id for c in HfApi().list_repo_commits(name, repo_type="dataset", revision=revision)}
    return any(commit in reached for found in before.values() for commit in found)


def test_a_row_goes_from_a_runs_folder_too(tmp_path):
    run = tmp_path / "run"
    store = RoundStore(run)
    store.begin({**SETTINGS}, resuming=False, overwrite=False)
    for index in range(2):
        store.write(record(index))
        store.write_metrics(index, {"round": index})
        frozen_round(run, index)
    for folder in (run, run / "compare-random"):
        annotations_to_dataset([a for r in range(2) for a in record(r).annotations]).to_parquet(
            str(folder / "annotations.parquet")
        )
        write_report(run, path=folder / "report/index.html")
    RoundStore(run / "compare-random").write(record(0))
    lines = [json.dumps({"row_id": f"row-{i}", "text": f"How much is {i} and {i}?"}) for i in (1, 2, 3)]
    (run / "disagreements.jsonl").write_text("\n".join(lines) + "\n")
    settings = {"pool": "new"}
    assert forget_in_run(run, "row-2", settings) >= 5
    texts = [path.read_text() for path in (run / "rounds").rglob("*") if path.is_file()]
    assert (run / "disagreements.jsonl").read_text().split("\n") == [lines[0], lines[2], ""]
    texts += [path.read_text() for path in run.rglob("index.html")]
    texts += [str(pyarrow.parquet.read_table(path).to_pylist()) for path in run.rglob("annotations.parquet")]
    assert [text for text in texts if '"row-2"' in text or "2 and 2?" in text] == []
    assert all("1 and 1?" in text for text in texts[-4:])
    assert store.read_metrics(1) == {"round": 1} and json.loads((run / "rounds/run.json").read_text())["pool"] == "new"
    raw = (run / "journal.sqlite").read_bytes()
    assert b"row-2" not in raw and b"row-3" in raw
    assert sqlite3.connect(run / "journal.sqlite").execute("SELECT sum(calls) FROM calls").fetchone() == (6,)
    push(str(run), str(tmp_path / "lineage"))
    assert seen_everywhere(str(tmp_path / "lineage"), '"row-2"') == []
    with pytest.raises(LineageError, match="No round of .* holds a row 'row-2'"):
        forget_row(open_store(tmp_path / "lineage"), "row-2")
