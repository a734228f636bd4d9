"""`hf-active-distill compare`: nothing paid twice, killed and resumed, the files that it leaves."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from counting_teacher import CountingTeacher, rule

from hf_active_distill.asking import JournalReader
from hf_active_distill.cli.compare import question_of
from hf_active_distill.cli.main import main
from hf_active_distill.comparison import AnswerServer, read_comparison, read_points, run_side_by_side
from hf_active_distill.comparison.claims import is_finished
from hf_active_distill.reports.comparison import summarise
from hf_active_distill.teachers import load_teacher


COMPARISON = {
    "teacher_concurrency": 2,
    # Room for all: which of several dialogues a cap cuts off depends on when their answers come.
    "budgets": [600, 6000],
    "seeds": [3, 4],
    "targets": [0.01, 2.0, "random+cot"],
    "base": {
        "dataset_name": "synthetic:arithmetic_skewed",
        "dataset_test_split": "eval",
        "pool_size": 40,
        "eval_size": 8,
        "num_rounds": 3,
        "samples_per_round": 4,
        "candidates_per_round": 8,
        "random_share": 0.25,
        "max_new_tokens": 40,
        "teacher_max_new_tokens": 64,
        "teacher_concurrency": 1,
        "per_device_scoring_batch_size": 8,
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "learning_rate": 1e-3,
    },
    "per_annotation": {"clear": {"samples_per_round": 3}},
    "arms": [
        {"selection": ["random", "least_confidence"], "annotation": "cot"},
        {"selection": "random", "annotation": "clear"},
    ],
}


def write(folder: Path, url: str, **changes) -> Path:
    path = folder / "compare.yaml"
    path.write_text(yaml.safe_dump({"output_dir": str(folder / "out"), "teacher": url, **COMPARISON, **changes}))
    return path


def start(config: Path, *words: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "hf_active_distill.cli.main", "compare", str(config), "--processes", "2", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def compare(config: Path, *words: str) -> tuple[int, str, str]:
    """The command in this process: exit code, and what it printed on both streams."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["compare", str(config), "--processes", "2", *words])
    return code, out.getvalue(), err.getvalue()


def points_of(folder: Path) -> list[dict]:
    """All points, without the one figure that is a time."""
    points = read_points(folder / "out" / "points.parquet")
    return [{key: value for key, value in point.items() if key != "student_hours"} for point in points]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A comparison that nobody disturbed: its folder, the teacher's requests, what was printed."""
    folder = tmp_path_factory.mktemp("whole")

    def before_answer(number: int) -> None:
        if number == 2:  # edited meanwhile, or gone: what was read at the start holds
            (folder / "compare.yaml").write_bytes(b"\xff")

    with CountingTeacher(before_answer) as teacher:
        address = teacher.url.replace("http://", "http://user:pass@")
        code, out, err = compare(write(folder, address))
        assert code == 0, err
        asked = list(teacher.requests)
        headers = {"X-Api-Key": "a-secret", "Authorization": "Token a-secret"}
        again, repeated, _ = compare(write(folder, teacher.url, teacher_kwargs={"headers": headers}))
        assert again == 0 and "6 of 6 runs are finished" in repeated
        assert teacher.requests == asked  # finished runs are kept
    return folder, asked, out + err


def test_nothing_is_paid_twice_and_every_arm_books_what_it_would_have_cost_alone(whole):
    folder, asked, _ = whole
    assert set(Counter(asked).values()) == {1}
    points = points_of(folder)
    last = [
        max((p for p in points if p["arm"] == arm and p["seed"] == seed), key=lambda p: p["round"])
        for arm in ("random+cot", "least_confidence+cot", "random+clear")
        for seed in (3, 4)
    ]
    with JournalReader(folder / "out" / "journal.sqlite") as journal:
        paid = journal.spent("comparison")[0]
    assert paid.calls == len(asked)
    # Arms over a pool of 40 rows meet in some: together they book more than was paid.
    assert sum(point["teacher_calls"] for point in last) > paid.calls
    for point in last:
        run = folder / "out" / "runs" / point["arm"] / f"seed-{point['seed']}"
        with JournalReader(run / "journal.sqlite") as own:
            assert own.spent("train")[0].total_tokens == point["teacher_tokens"] <= 6000


def test_points_hold_every_round_with_its_costs(whole):
    folder, _, _ = whole
    points = read_points(folder / "out" / "points.parquet")
    for arm in ("random+cot", "least_confidence+cot", "random+clear"):
        for seed in (3, 4):
            rows = [point for point in points if (point["arm"], point["seed"]) == (arm, seed)]
            assert [row["round"] for row in rows] == list(range(-1, len(rows) - 1))
            assert rows[0]["teacher_tokens"] == rows[0]["samples"] == 0 == rows[0]["student_hours"]
            for cost in ("teacher_tokens", "teacher_calls", "samples", "student_hours"):
                values = [row[cost] for row in rows]
                assert values == sorted(values) and values[-1] > 0
            assert all(0 <= row["eval_accuracy"] <= 1 for row in rows)
            assert rows[-1]["selection"] == arm.split("+")[0]
    # Same seed, same rows, same student: arms begin at the same place.
    first = {(p["seed"], p["eval_accuracy"]) for p in points if p["round"] == -1}
    assert len(first) == 2


def test_the_report(whole):
    folder, _, printed = whole
    text = (folder / "out" / "comparison.md").read_text()
    assert text.count("\n| random+cot |") >= 2 and "± " in text and "not reached" in text
    assert "Teacher tokens to a target accuracy" in printed and "runs, " in printed
    page = (folder / "out" / "comparison.html").read_text()
    assert page.count("<svg") == 4 and "least_confidence+cot" in page and "samples_per_round" in page
    assert not re.findall(r"(?:src|href)=\"(?!#)", page.replace('xlink:href="#', "")), "nothing is loaded"
    for file in folder.glob("out/**/*.*"):  # the password of the teacher's address is in none of them
        assert b"user:pass@" not in file.read_bytes() and b"a-secret" not in file.read_bytes(), file
    assert "[secret]" in page
    assert (folder / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    config = read_comparison(folder / "compare.yaml")
    summaries = summarise(read_points(folder / "out" / "points.parquet"), question_of(config))
    assert [summary.arm for summary in summaries] == ["random+cot", "least_confidence+cot", "random+clear"]
    assert summaries[0].against == [] and len(summaries[1].against) == 2
    assert summaries[0].prices[1].value == float("inf")


def children_of(pid: int) -> set[int]:
    found, fresh = set(), {pid}
    while fresh:
        parents, fresh = fresh, set()
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit() and int(folder.name) not in found:
                try:
                    fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                if int(fields[1]) in parents:
                    fresh.add(int(folder.name))
        found |= fresh
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_killed_and_run_again_it_ends_as_if_nothing_had_happened(whole, tmp_path):
    process: subprocess.Popen | None = None
    family: set[int] = set()
    kill_at = None

    def before_answer(number: int) -> None:
        if number == kill_at and process is not None:
            family.update(children_of(process.pid))
            os.kill(process.pid, signal.SIGKILL)

    with CountingTeacher(before_answer) as teacher:
        config = write(tmp_path, teacher.url)
        for share in (0.2, 0.6):
            kill_at = int(share * len(whole[1]))
            process = start(config)
            process.communicate(timeout=300)
            assert process.returncode == -signal.SIGKILL
            # Its runs do not outlive it, or they would still be writing when it is started again.
            deadline = time.monotonic() + 60
            while any(alive(pid) for pid in family):
                assert time.monotonic() < deadline, "the runs outlive the comparison"
                time.sleep(0.05)
        kill_at = None
        process = start(config)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        asked = Counter(teacher.requests)
    assert set(asked) == set(whole[1])
    assert sum(asked.values()) - len(asked) <= 2 * 2  # two kills, two calls in flight at most
    assert points_of(tmp_path) == points_of(whole[0])


def test_runs_that_are_asked_to_end_save_themselves(whole, tmp_path):
    with CountingTeacher() as teacher:
        config = read_comparison(write(tmp_path, teacher.url))
        runs = [run for run in config.runs() if run.arm == "random+cot"]
        function = "hf_active_distill.cli.compare_run:make_run"

        def interrupt(outcome, active):
            if active and (runs[0].folder / "rounds" / "round-000").is_dir():
                raise KeyboardInterrupt

        with AnswerServer(lambda: load_teacher(teacher.url), tmp_path / "journal.sqlite") as server:
            with pytest.raises(KeyboardInterrupt):
                run_side_by_side(runs, function, server.address, processes=1, on_change=interrupt)
            assert not is_finished(runs[0]) and not runs[1].folder.exists()
            outcome = run_side_by_side(runs, function, server.address, processes=1)
        assert outcome.finished == runs and not outcome.left and not outcome.failed
        assert set(Counter(teacher.requests).values()) == {1}
    assert [p for run in runs for p in _rows(run)] == [row for run in runs for row in _rows(run, whole[0] / "out")]


def _rows(run, out: Path | None = None) -> list[str]:
    folder = run.folder if out is None else out / "runs" / run.arm / f"seed-{run.seed}"
    return (folder / "metrics.jsonl").read_text().splitlines()


def test_a_time_limit_ends_the_comparison_and_says_so(tmp_path):
    with CountingTeacher() as teacher:
        config = write(tmp_path, teacher.url)
        code, out, _ = compare(config, "--max_minutes", "0")
        assert code == 143 and "0 of 6 runs are finished" in out
        assert teacher.requests == []
    code, out, _ = compare(config, "--list", "--arms", "random+cot")
    assert code == 0 and out.splitlines() == ["to do     random+cot seed 3", "to do     random+cot seed 4"]


def test_mistakes_are_told_before_anything_runs(whole, tmp_path):
    arms = [{"selection": "random", "annotation": "cot", "samples_per_rnd": 3}]
    code, _, err = compare(write(tmp_path, "http://127.0.0.1:9", arms=arms))
    assert code == 2 and "samples_per_rnd" in err and "random+cot" in err
    for name, value in (("eval_on_start", False), ("eval_strategy", "no")):
        base = {**COMPARISON["base"], name: value}
        code, _, err = compare(write(tmp_path, "http://127.0.0.1:9", base=base))
        assert code == 2 and name in err
    code, _, err = compare(write(tmp_path, "nowhere:teacher"))
    assert code == 2 and "nowhere:teacher" in err
    code, _, err = compare(write(tmp_path, "http://127.0.0.1:9"), "--arms", "nobody")
    assert code == 2 and "random+cot" in err
    code, _, err = compare(write(tmp_path, "http://127.0.0.1:9"))
    assert code == 4, err
    with CountingTeacher() as teacher:  # another experiment in the same folder
        base = {**COMPARISON["base"], "learning_rate": 0.5}
        changed = write(tmp_path, teacher.url, base=base, output_dir=str(whole[0] / "out"))
        code, _, err = compare(changed)
        assert code == 6 and "learning_rate" in err and teacher.requests == []


def test_another_teacher_is_noticed_and_the_report_names_the_one_that_taught(whole, tmp_path):
    out = whole[0] / "out"
    seed = json.loads((out / "runs" / "random+cot" / "seed-3" / "comparison.json").read_text())
    assert seed["teacher"] == {"model": "counting", "revision": "1", "kwargs": {}}
    same = {"output_dir": str(out), "arms": COMPARISON["arms"][:1]}
    added = [*COMPARISON["arms"], {"name": "new", "selection": "random", "annotation": "cot", "random_share": 0.5}]
    with CountingTeacher(model="another") as teacher:
        for words in ((), ("--arms", "new")):  # the finished arms would stand in one report with the new one
            code, _, err = compare(write(tmp_path, teacher.url, output_dir=str(out), arms=added), *words)
            assert code == 6 and "model counting before, another now" in err and "output_dir" in err
        assert teacher.requests == [] and not (out / "runs" / "new").exists()
    # Nobody is asked: the claims say who taught.
    config = write(tmp_path, "scripted:arithmetic_balanced", **same)
    code, printed, err = compare(config, "--list", "--arms", "random+cot")
    assert code == 0 and "finished  random+cot seed 3, teacher counting@1" in printed
    code, _, _ = compare(config, "--report")
    assert code == 0 and "4 of 4 runs, teacher counting@1." in (out / "comparison.md").read_text()
    # Options are known without asking. How the teacher is reached may change.
    code, _, err = compare(write(tmp_path, "scripted:x", **same, teacher_kwargs={"error_rate": 0.1}), "--report")
    assert code == 6 and "error_rate" in err
    assert compare(write(tmp_path, "scripted:x", **same, teacher_kwargs={"timeout": 3}), "--report")[0] == 0


def test_a_run_that_fails_does_not_take_the_others_with_it(tmp_path):
    """Nor does one of whose answers none is of use, though that is an error of the teacher too."""
    fails = [{"name": "hopeless", "teacher_temperature": 0.5}, {"name": "short", "max_length": 2}]
    arms = [{"selection": "random", "annotation": "cot", **arm} for arm in fails]

    def answer(body: dict) -> str:
        return "" if body.get("temperature") else rule(body["messages"])

    with CountingTeacher(answer=answer) as teacher:
        changes = {"arms": [*arms, COMPARISON["arms"][1]], "seeds": [3], "reference": "random+clear", "targets": []}
        code, out, err = compare(write(tmp_path, teacher.url, **changes))
    assert code in (1, 2) and "short seed 3 ended with exit code 2" in err and "1 of 3 runs are finished" in out
    assert "hopeless seed 3 ended with exit code 1" in err
    folder = tmp_path / "out" / "runs"
    assert "Error" in (folder / "short" / "seed-3" / "log.txt").read_text()
    assert "can be trained on" in (folder / "hopeless" / "seed-3" / "log.txt").read_text()
    assert json.loads((folder / "short" / "seed-3" / "comparison.json").read_text())["finished"] is False


@pytest.mark.slow
def test_students_that_classify_are_compared_by_a_metric_of_theirs(tmp_path):
    base = {
        "dataset_name": "synthetic:support_messages",
        "dataset_test_split": "eval",
        "task": "classification",
        "teacher_max_new_tokens": 8,
        "pool_size": 40,
        "eval_size": 12,
        "num_rounds": 2,
        "samples_per_round": 4,
        "candidates_per_round": 8,
        "num_train_epochs": 1,
        "teacher_concurrency": 1,
        "per_device_scoring_batch_size": 8,
        "per_device_train_batch_size": 4,
    }
    arms = [
        {"selection": ["random", "margin"], "annotation": "label"},
        {"name": "random+soft", "selection": "random", "annotation": "label", "soft_labels": True},
    ]
    given = {"budgets": [500, 1000], "seeds": [3], "targets": [0.01], "metric": "macro_f1", "per_annotation": {}}
    code, out, err = compare(write(tmp_path, "scripted:support_messages", base=base, arms=arms, **given))
    assert code == 0 and "3 of 3 runs are finished" in out, err
    points = points_of(tmp_path)
    assert {point["arm"] for point in points} == {"random+label", "margin+label", "random+soft"}
    for run in (tmp_path / "out" / "runs").glob("*/seed-3"):
        measured = [json.loads(line)["eval_macro_f1"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        found = [point["eval_macro_f1"] for point in points if point["arm"] == run.parent.name]
        assert found == measured and len(found) == 3
    # Soft labels are trained on otherwise and asked for alike: what the plain arm paid for is not paid again.
    spent = {point["arm"]: point["teacher_tokens"] for point in points}
    assert spent["random+soft"] == spent["random+label"] > 0
    assert all(0 < tokens <= 1000 for tokens in spent.values())
    assert {point["stop_reason"] for point in points} >= {"budget"}
    assert "macro_f1" in (tmp_path / "out" / "comparison.md").read_text().lower()
