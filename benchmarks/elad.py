"""
Does it pay? Selections and annotations at equal teacher tokens, on five pools.

    OMP_NUM_THREADS=1 python benchmarks/elad.py --processes 2 --max_minutes 60

Runs the comparisons of `benchmarks/configs`, what matters most first, with `hf-active-distill compare`. The same
command again goes on where it was stopped, after `kill -9` too. `--list` says how far each part is and how long the
rest takes, by what finished runs took. One comparison alone, as its figure was made:

    OMP_NUM_THREADS=1 hf-active-distill compare benchmarks/configs/elad_skewed.yaml

The pools of reasoning-gym need students of their own, which `--students gsm_symbolic leg_counting` makes first (up to
17 minutes of one core each).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
STUDENTS = Path("out/benchmarks/students")
#: Options of recipes/pretrain_quickstart_student.py that made each student.
PRETRAINING = {
    "gsm_symbolic": ["--steps", "3600", "--vocab_size", "768", "--max_new_tokens", "120"],
    "leg_counting": ["--steps", "2400"],
}
CORE = ["random+cot", "egss+cot", "random+one_call", "egss+one_call", "random+clear", "egss+clear"]
# (comparison, arms; none for all): what answers the question first, the full tables after it.
PARTS: list[tuple[str, list[str]]] = [
    ("skewed", CORE),
    ("balanced", CORE),
    ("leg_counting", CORE),
    ("gsm_symbolic", CORE),
    ("erring_teacher", CORE),
    ("fresh_skewed", []),
    ("fresh_balanced", []),
    ("settings", []),
    ("skewed", []),
    ("balanced", []),
    ("leg_counting", []),
    ("gsm_symbolic", []),
    ("erring_teacher", []),
]


def config_path(name: str) -> Path:
    return ROOT / "benchmarks" / "configs" / f"elad_{name}.yaml"


def make_student(name: str) -> None:
    """Pretrains the student of a world, unless it is there."""
    folder = STUDENTS / name
    if (folder / "tokenizer_config.json").is_file():
        return
    script = str(ROOT / "recipes" / "pretrain_quickstart_student.py")
    words = [sys.executable, script, "--world", name, "--output_dir", str(folder), *PRETRAINING[name]]
    subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def seconds_of(run) -> float | None:
    """CPU seconds that a finished run took."""
    path = run.folder / "comparison.json"
    claim = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return claim.get("cpu_seconds") if claim.get("finished") else None


def show(parts: list[tuple[str, list[str]]], processes: int) -> None:
    """How far each part is, and the hours that the rest takes."""
    from hf_active_distill.comparison import read_comparison

    seen: set[Path] = set()
    total = 0.0
    known: dict[str, list[float]] = {}
    for name, _ in parts:
        for run in read_comparison(config_path(name)).runs():
            if (seconds := seconds_of(run)) is not None:
                known.setdefault(str(run.settings["annotation"]), []).append(seconds)
    means = {annotation: sum(values) / len(values) for annotation, values in known.items()}
    for name, arms in parts:
        runs = [run for run in read_comparison(config_path(name)).runs() if not arms or run.arm in arms]
        runs = [run for run in runs if run.folder not in seen]
        seen.update(run.folder for run in runs)
        left = [run for run in runs if seconds_of(run) is None]
        seconds = sum(means.get(str(run.settings["annotation"]), 60.0) for run in left)
        total += seconds
        what = "the arms that matter" if arms else "all other arms"
        print(
            f"{name:15} {what:20} {len(runs) - len(left):4} of {len(runs):4} runs; {seconds / 3600:.1f} CPU hours left"
        )
    print(f"In all {total / 3600:.1f} CPU hours, {total / 3600 / processes:.1f} hours with {processes} processes.")


def main() -> int:
    from hf_active_distill.cli.main import main as command
    from hf_active_distill.errors import EXIT_TERMINATED

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(name for name, _ in PARTS))
    parser.add_argument("--pools", nargs="+", choices=names, default=names, help="these alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--max_minutes", type=float, help="stop after so long")
    parser.add_argument("--list", action="store_true", help="how far everything is; runs nothing")
    parser.add_argument("--students", nargs="+", choices=list(PRETRAINING), help="make these students, and stop")
    arguments = parser.parse_args()
    parts = [(name, arms) for name, arms in PARTS if name in arguments.pools]
    if arguments.list:
        show(parts, arguments.processes)
        return 0
    for name in arguments.students or ():
        make_student(name)
    if arguments.students:
        return 0
    until = None if arguments.max_minutes is None else time.monotonic() + 60 * arguments.max_minutes
    for name, arms in parts:
        if name in PRETRAINING:
            make_student(name)
        words = ["compare", str(config_path(name)), "--processes", str(arguments.processes)]
        words += ["--arms", *arms] if arms else []
        if until is not None:
            words += ["--max_minutes", str(max(0.0, until - time.monotonic()) / 60)]
        print(f"== {name}: {', '.join(arms) or 'all arms'}", flush=True)
        code = command(words)
        if code:
            return code
        if until is not None and time.monotonic() >= until:
            return EXIT_TERMINATED
    return 0


if __name__ == "__main__":
    sys.exit(main())
