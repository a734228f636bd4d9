"""Runs of a comparison, side by side, each in a process of its own; finished ones are kept, half ones go on."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from ..errors import EXIT_JOURNAL, EXIT_TEACHER, ConfigurationError
from .claims import is_finished, write_claim
from .config import Run


#: Makes one run: its settings, the address of the answers, and whether the student is kept. Named `module:function`,
#: since a process of its own must find it again. It returns an exit code.
RunFunction = Callable[[dict[str, Any], dict[str, Any], bool], int]

LOG_FILE = "log.txt"
#: Seconds that a run is given to save itself before it is killed.
GRACE = 120.0
# A run that ends with one of these says something about all of them: nobody answers, or nothing can be recorded.
_ENDS_ALL = (EXIT_TEACHER, EXIT_JOURNAL)


@dataclass
class Outcome:
    """
    How far a comparison has come.

    Args:
        finished (`list[Run]`): Runs that are done, in an earlier process or in this one.
        failed (`dict[str, int]`): Exit codes of runs that ended with an error, by label; their words are in `log.txt`.
        left (`list[Run]`): Runs that are not done: not begun, or cut off and ready to go on.
    """

    finished: list[Run] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    left: list[Run] = field(default_factory=list)


def run_side_by_side(
    runs: Sequence[Run],
    function: str,
    address: dict[str, Any],
    *,
    processes: int,
    threads: int = 1,
    keep_students: bool = False,
    deadline: float | None = None,
    teacher: Mapping[str, Any] | None = None,
    on_change: Callable[[Outcome, list[Run]], None] = lambda outcome, active: None,
) -> Outcome:
    """
    Makes all runs that are not finished. A run that was cut off, by `kill -9` too, goes on from its last checkpoint.

    Args:
        runs (`Sequence[Run]`): In the order in which they are begun.
        function (`str`): A [`RunFunction`] as `module:function`.
        address (`dict[str, Any]`): `AnswerServer.address`.
        processes (`int`): Runs at the same time.
        threads (`int`, *optional*, defaults to `1`): CPU threads of each.
        keep_students (`bool`, *optional*, defaults to `False`): Whether students of finished runs are kept.
        deadline (`float`, *optional*): `time.monotonic()` at which running runs save themselves and end.
        teacher (`Mapping[str, Any]`, *optional*): [`~comparison.claims.teacher_facts`] for the folders of the runs.
        on_change (`Callable`, *optional*): Told what is done and what is running, about once a second.

    Returns:
        [`Outcome`]: All runs are in one of its lists.

    Raises:
        [`~errors.CheckpointError`]: When a run's folder holds a run with other settings or of another teacher, before
            anything is begun.
    """
    if processes < 1 or threads < 1:
        raise ConfigurationError("`processes` and `threads` must be at least 1.")
    outcome = Outcome()
    for run in runs:
        (outcome.finished if is_finished(run, teacher) else outcome.left).append(run)
    queue, active = list(outcome.left), dict[int, tuple[Run, Any]]()
    with _processes_of(function, threads) as start:
        try:
            while queue or active:
                if deadline is not None and time.monotonic() >= deadline:
                    break
                while queue and len(active) < processes:
                    run = queue.pop(0)
                    process = start(run, address, keep_students, teacher)
                    active[process.sentinel] = (run, process)
                on_change(outcome, [run for run, _ in active.values()])
                for sentinel in wait(list(active), timeout=1.0):
                    run, process = active.pop(int(sentinel))  # type: ignore[arg-type]
                    _settle(outcome, run, process)
                if any(code in _ENDS_ALL for code in outcome.failed.values()):
                    break
        finally:
            _end(outcome, active)
    on_change(outcome, [])
    return outcome


def _settle(outcome: Outcome, run: Run, process: Any) -> None:
    process.join()
    if process.exitcode == 0 and is_finished(run):
        outcome.finished.append(run)
        outcome.left.remove(run)
    elif process.exitcode not in (-signal.SIGTERM, 128 + signal.SIGTERM):
        outcome.failed[run.label] = process.exitcode or 1


def _end(outcome: Outcome, active: dict[int, tuple[Run, Any]]) -> None:
    """Lets what still runs save itself."""
    for _, process in active.values():
        process.terminate()
    until = time.monotonic() + GRACE
    for run, process in active.values():
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
        _settle(outcome, run, process)
    active.clear()


@contextmanager
def _processes_of(function: str, threads: int) -> Iterator[Callable[..., Any]]:
    """
    Gives a function that starts a run's process. Where the platform can, all are forked from one that has imported
    everything and done nothing: importing takes seconds, as much as a tenth of a short run.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    # Read when the libraries are imported, so they are set before any process starts. CUDA must not be touched there.
    wanted = {"OMP_NUM_THREADS": str(threads), "PYTORCH_NVML_BASED_CUDA_CHECK": "1", "TOKENIZERS_PARALLELISM": "false"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([function.partition(":")[0]])

    def start(run: Run, address: dict[str, Any], keep_students: bool, teacher: Mapping[str, Any] | None) -> Any:
        handed = (run, function, {**address, "who": run.label}, keep_students, teacher)
        process = context.Process(target=_work, args=handed, name=run.label)
        process.start()
        return process

    try:
        yield start
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(
    run: Run, function: str, address: dict[str, Any], keep_students: bool, teacher: Mapping[str, Any] | None
) -> None:
    """A run's process: claims the folder, writes to its log, and dies with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent asks for an orderly end
    threading.Thread(target=_die_with_parent, daemon=True).start()
    run.folder.mkdir(parents=True, exist_ok=True)
    log = os.open(run.folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (1, 2):
        os.dup2(log, stream)
    write_claim(run, finished=False, teacher=teacher)
    code = _function(function)(dict(run.settings), address, keep_students)
    if code == 0:
        write_claim(run, finished=True, teacher=teacher)
        for checkpoint in run.folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)
    sys.stdout.flush()
    sys.exit(code)


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        # Nobody would answer its questions, and the next comparison wants its folder. It resumes from its checkpoint.
        os.kill(os.getpid(), signal.SIGKILL)


def _function(name: str) -> RunFunction:
    from importlib import import_module

    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
