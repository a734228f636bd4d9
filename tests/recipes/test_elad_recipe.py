"""`recipes/elad.py` as a user starts it: with its own teacher server, as a process."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from counting_teacher import CountingTeacher
from tiny_run import build

from hf_active_distill.errors import ConfigurationError


ROOT = Path(__file__).parents[2]
SMALL = """
    --num_rounds 2 --samples_per_round 6 --candidates_per_round 12 --pool_size 60 --eval_size 12
    --num_train_epochs 1 --per_device_scoring_batch_size 12 --selection least_confidence
""".split()


def start(output_dir: Path, *words: str) -> subprocess.Popen:
    config = ROOT / "recipes" / "configs" / "elad_quickstart.yaml"
    return subprocess.Popen(
        [sys.executable, "recipes/elad.py", "--config", str(config), "--output_dir", str(output_dir), *SMALL, *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background hands down that Ctrl-C is ignored, which no terminal does.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def run(output_dir: Path, *words: str) -> tuple[int, str, str]:
    process = start(output_dir, *words)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.mark.slow
def test_the_main_job_leaves_what_it_promises(tmp_path):
    code, out, err = run(tmp_path, "--compare", "random")
    assert code == 0, err
    for arm, folder in (("least_confidence", tmp_path), ("random", tmp_path / "compare-random")):
        lines = re.findall(
            rf"^{arm} round (\d): 6 selected, .*steps accepted, .*tokens, accuracy [\d.]+ ->", out, re.M
        )
        assert lines == ["0", "1"], out
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["round"] for row in rows] == [-1, 0, 1]
        assert rows[-1]["total_teacher_tokens"] > rows[1]["total_teacher_tokens"] > 0
        assert (folder / "model.safetensors").is_file()
        assert "active-distillation" in (folder / "README.md").read_text()
    picture = (tmp_path / "learning_curve.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    from datasets import load_dataset

    annotations = load_dataset("parquet", data_files=str(tmp_path / "annotations.parquet"), split="train")
    assert len(annotations) == 12
    assert set(annotations["kind"]) == {"clear"}
    chosen = json.loads((tmp_path / "rounds" / "round-000" / "manifest.json").read_text())["selected_ids"]
    other = json.loads((tmp_path / "compare-random" / "rounds" / "round-000" / "manifest.json").read_text())
    assert chosen != other["selected_ids"]


@pytest.mark.slow
def test_a_plan_asks_nobody(tmp_path):
    with CountingTeacher() as teacher:
        code, out, err = run(tmp_path, "--plan", "true", "--teacher", teacher.url)
        assert code == 0, err
        assert teacher.requests == []
    assert re.search(r"tokens: [\d,]+ to [\d,]+", out)
    assert "hours on this machine" in out and "--- student ---" in out and "First step of the student" in out
    assert not (tmp_path / "rounds").exists()


@pytest.mark.slow
def test_exit_codes(tmp_path):
    code, out, err = run(tmp_path / "budget", "--max_teacher_calls", "30")
    assert code == 3, err
    assert (tmp_path / "budget" / "model.safetensors").is_file()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code, out, err = run(tmp_path / "gone", "--teacher", f"http://127.0.0.1:{port}")
    assert code == 4 and "TeacherConnectionError" in err, err
    code, out, err = run(tmp_path / "wrong", "--random_share", "7")
    assert code == 2 and "between 0 and 1" in err, err
    code, out, err = run(tmp_path / "unknown", "--dataset_name", "synthetic:nothing")
    assert code == 2 and "arithmetic_skewed" in err, err


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_ctrl_c_stops_the_embedded_teacher_too(tmp_path):
    process = start(tmp_path)
    for line in process.stdout:
        if "round 0" in line:
            break
    servers = children(process.pid)
    assert servers, "the teacher runs as a child process"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert [pid for pid in servers if Path(f"/proc/{pid}").exists()] == []


def test_the_client_of_tgi_itself_is_a_transport_too(tmp_path):
    """With the extra `tgi` (the legacy track) it gives the same rounds; without, it says what is missing."""
    options = {"args": {"num_rounds": 1, "teacher_client": "text_generation"}}
    with CountingTeacher() as teacher:
        if importlib.util.find_spec("text_generation") is None:
            with pytest.raises(ConfigurationError, match="tgi"):
                build(str(tmp_path / "tgi"), teacher.url, options).train()
            return
        trainer = build(str(tmp_path / "tgi"), teacher.url, options)
        trainer.train()
        options["args"]["teacher_client"] = "direct"
        other = build(str(tmp_path / "direct"), teacher.url, options)
        other.train()
    first = [annotation.to_dict() for annotation in trainer.book.annotations()]
    assert first == [annotation.to_dict() for annotation in other.book.annotations()]
