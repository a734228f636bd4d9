"""Killed anywhere and resumed, a run ends as if nothing had happened, and pays for no committed answer twice."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from counting_teacher import CountingTeacher
from forked import ForkedScript
from safetensors.torch import load_file


SCRIPT = Path(__file__).parents[1] / "tiny_run.py"


def start(output_dir: Path, url: str, **options) -> ForkedScript:
    return ForkedScript(SCRIPT, str(output_dir), url, json.dumps(options))


def run(output_dir: Path, url: str, **options) -> tuple[int, str]:
    return start(output_dir, url, **options).finish()


def weights(output_dir: Path) -> dict:
    folder = output_dir / "final"
    name = "adapter_model.safetensors" if (folder / "adapter_model.safetensors").exists() else "model.safetensors"
    return load_file(folder / name)


def rounds(output_dir: Path) -> list[dict]:
    folders = sorted((output_dir / "rounds").glob("round-*"))
    found = []
    for folder in folders:
        manifest = json.loads((folder / "manifest.json").read_text())
        del manifest["seconds"]
        texts = [(folder / name).read_text() for name in ("annotations.jsonl", "scores.jsonl", "metrics.json")]
        found.append({**manifest, "files": texts})
    return found


def same_run(first: Path, second: Path) -> None:
    expected, found = weights(first), weights(second)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    assert rounds(first) == rounds(second)
    assert (first / "metrics.jsonl").read_text() == (second / "metrics.jsonl").read_text()


# 4 rows a round, 2 a step, 2 passes: rounds of 4, 8 and 12 steps end at 4, 12 and 24.
SEQUENCES = {
    "full": (
        {},
        [
            ("selection", 0),
            ("request", 4),
            ("annotation", 0),
            ("step", 3),
            ("evaluate", 4),
            ("inside_save", 4),
            ("selection", 1),
            ("request", 3),
            ("step", 7),
            ("round_end", 1),
            ("inside_save", 12),
            ("save", 24),
        ],
    ),
    "restart with an adapter and saves by steps": (
        {
            "peft": True,
            "args": {
                "round_start": "restart",
                "save_strategy": "steps",
                "save_steps": 3,
                "gradient_accumulation_steps": 2,
                "per_device_train_batch_size": 1,
                "lr_scheduler_type": "cosine",
                "warmup_steps": 2,
            },
        },
        [("step", 8), ("request", 2), ("inside_save", 15), ("step", 20)],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_killed_again_and_again(tmp_path, name):
    options, kills = SEQUENCES[name]
    with CountingTeacher() as teacher:
        code, output = run(tmp_path / "whole", teacher.url, **options)
        assert code == 0, output
        asked_once = Counter(teacher.requests)
    assert set(asked_once.values()) == {1}
    process: ForkedScript | None = None
    kill_at = None

    def before_answer(number: int) -> None:
        if kill_at is not None and number == kill_at and process is not None:
            os.kill(process.pid, signal.SIGKILL)

    with CountingTeacher(before_answer) as teacher:
        # The journal knows a teacher by its model, not by its address.
        for at, value in kills:
            kill_at = len(teacher.requests) + value if at == "request" else None
            kill = None if at == "request" else {"at": at, "value": value}
            process = start(tmp_path / "killed", teacher.url, **options, kill=kill, resume=True)
            code, output = process.finish()
            assert code == -signal.SIGKILL, f"{at} {value}: {output}"
        kill_at = None
        code, output = run(tmp_path / "killed", teacher.url, **options, resume=True)
        assert code == 0, output
        asked = Counter(teacher.requests)
    same_run(tmp_path / "whole", tmp_path / "killed")
    # One call was in flight at each kill between two answers; nothing else was asked again.
    repeats = asked - asked_once
    assert set(asked) == set(asked_once)
    assert sum(repeats.values()) == sum(at == "request" for at, _ in kills)


def repeats_after_a_kill(output_dir: Path, **options) -> int:
    """Kills a run at its fourth request, resumes it, and counts the requests that were made twice."""
    process: ForkedScript | None = None

    def before_answer(number: int) -> None:
        if number == 4 and process is not None:
            os.kill(process.pid, signal.SIGKILL)

    with CountingTeacher(before_answer) as teacher:
        process = start(output_dir, teacher.url, **options)
        code, output = process.finish()
        assert code == -signal.SIGKILL, output
        process = None
        code, output = run(output_dir, teacher.url, **options, resume=True)
        assert code == 0, output
        return sum((Counter(teacher.requests) - Counter(set(teacher.requests))).values())


@pytest.mark.slow
def test_the_count_notices_a_journal_that_keeps_answers_too_late(tmp_path):
    options = {"args": {"num_rounds": 1}}
    assert repeats_after_a_kill(tmp_path / "right", **options) == 1
    assert repeats_after_a_kill(tmp_path / "wrong", **options, forgetful=True) == 4


@pytest.mark.slow
def test_sigterm_saves_and_says_so(tmp_path):
    with CountingTeacher() as teacher:
        code, output = run(tmp_path / "whole", teacher.url)
        assert code == 0, output
        for at, value in (("step", 6), ("annotation", 2)):
            kill = {"at": at, "value": value, "signal": signal.SIGTERM}
            code, output = run(tmp_path / "stopped", teacher.url, kill=kill, resume=at == "annotation")
            assert code == 143, output
        # The signal came when step 6 had been counted: the step in hand was the seventh.
        assert (tmp_path / "stopped" / "checkpoint-7").is_dir()
        code, output = run(tmp_path / "stopped", teacher.url, resume=True)
        assert code == 0, output
    same_run(tmp_path / "whole", tmp_path / "stopped")
