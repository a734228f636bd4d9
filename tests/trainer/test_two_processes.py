"""Two processes on a CPU: shared scoring, one asker, one outcome."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from counting_teacher import CountingTeacher
from forked import free_port, run_together
from safetensors.torch import load_file


SCRIPT = Path(__file__).parents[1] / "tiny_run.py"


def run(processes: int, output_dir: Path, url: str, launcher: Sequence[str] = (), **options) -> tuple[int, str]:
    # The same number of rows a step, so that both train alike.
    options = {**options, "args": {"per_device_train_batch_size": 2 // processes, **options.get("args", {})}}
    words = [str(output_dir), url, json.dumps(options)]
    if not launcher:
        return run_together(processes, SCRIPT, *words)
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


def chosen(output_dir: Path) -> list[list[str]]:
    folders = sorted((output_dir / "rounds").glob("round-*"))
    return [json.loads((folder / "manifest.json").read_text())["selected_ids"] for folder in folders]


@pytest.mark.slow
def test_two_processes_choose_and_ask_as_one(tmp_path):
    options = {"dropout": 0.0, "args": {"selection": "disagreement", "selection_kwargs": {"k": 3}}}
    with CountingTeacher() as teacher:
        code, output = run(1, tmp_path / "one", teacher.url, **options)
        assert code == 0, output
        by_one = sorted(teacher.requests)
    with CountingTeacher() as teacher:
        torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", "2"]
        torchrun += ["--master_addr", "127.0.0.1", "--master_port", str(free_port())]
        code, output = run(2, tmp_path / "two", teacher.url, torchrun, **options)
        assert code == 0, output
        by_two = sorted(teacher.requests)
    assert len(chosen(tmp_path / "one")) == 3
    assert chosen(tmp_path / "one") == chosen(tmp_path / "two")
    assert by_one == by_two


@pytest.mark.slow
def test_two_processes_resume_exactly(tmp_path):
    with CountingTeacher() as teacher:
        code, output = run(2, tmp_path / "whole", teacher.url)
        assert code == 0, output
        calls = len(teacher.requests)
        code, output = run(2, tmp_path / "killed", teacher.url, kill={"at": "step", "value": 7})
        assert code != 0
        code, output = run(2, tmp_path / "killed", teacher.url, resume=True)
        assert code == 0, output
        assert len(teacher.requests) == 2 * calls
    expected, found = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "killed"))
    assert [name for name in expected if not expected[name].equal(found[name])] == []
    assert chosen(tmp_path / "whole") == chosen(tmp_path / "killed")


@pytest.mark.slow
def test_asking_may_outlast_the_collective_timeout(tmp_path):
    """Rank 1 waits for about 12 seconds of asking in a process group that gives up after 4."""
    pause = threading.Event()
    with CountingTeacher(before_answer=lambda number: pause.wait(2.0)) as teacher:
        code, output = run(2, tmp_path, teacher.url, group_timeout=4, args={"num_rounds": 1})
    assert code == 0, output
    assert len(teacher.requests) * 2.0 > 2 * 4


@pytest.mark.slow
def test_a_teacher_error_stops_every_process_with_the_same_message(tmp_path):
    with CountingTeacher(status=401) as teacher:
        code, output = run(2, tmp_path, teacher.url)
    assert code != 0
    messages = [line for line in output.splitlines() if line.startswith("TeacherAuthError")]
    assert len(messages) == 2
    assert messages[0] == messages[1]
    assert "HF_TOKEN" in messages[0]
