"""
Scripts in processes of their own, forked from one that has imported torch and transformers already.

A process is a real one: it has its own memory and environment, dies by signals, and nothing of it is left to the next.
What it saves are the seconds that each would spend importing. Two things differ from one that was started anew:
settings that a library reads while it is imported are those of the first, and handlers of `atexit` do not run.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from multiprocessing import connection, forkserver, get_context
from pathlib import Path


_TESTS = str(Path(__file__).parent)
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tiny_run", "label_run"])


class ForkedScript:
    """
    A script that runs from now on.

    Args:
        script (`Path`): Run as `__main__`.
        words (`str`): Its arguments.
        env (`Mapping[str, str]`, *optional*): Put into its environment, which is otherwise the one of this process.

    Attributes:
        pid (`int`): Of its process.
    """

    def __init__(self, script: Path, *words: str, env: Mapping[str, str] | None = None):
        self._output = tempfile.NamedTemporaryFile()  # noqa: SIM115  it ends with this object
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
        _start_server()
        self.process = _CONTEXT.Process(
            target=_run, args=(str(script), words, environment, self._output.name), daemon=True
        )
        self.process.start()
        self.pid: int = self.process.pid

    def finish(self, timeout: float = 300) -> tuple[int, str]:
        """
        Waits for the end.

        Returns:
            `tuple[int, str]`: The exit code, -N after signal N, and what was written to both streams.
        """
        _wait([self], timeout)
        return self.process.exitcode, self.output()

    def output(self) -> str:
        """What was written so far."""
        return Path(self._output.name).read_text()


def run_together(processes: int, script: Path, *words: str, timeout: float = 300) -> tuple[int, str]:
    """
    Runs a script in several processes that find each other as those of `torchrun` do, by the environment. The first
    that fails ends the others.

    Returns:
        `tuple[int, str]`: The first exit code that is not 0, or 0; and what all have written.
    """
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = str(free_port())
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    scripts = [ForkedScript(script, *words, env=env) for env in ranks]
    failed = _wait(scripts, timeout)
    return failed, "".join(started.output() for started in scripts)


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait(scripts: Sequence[ForkedScript], timeout: float, grace: float = 30) -> int:
    """Until all have ended, or one has failed and the others had `grace` seconds to say why. Gives its exit code."""
    deadline = time.monotonic() + timeout
    running, failed = list(scripts), 0
    try:
        while running and (left := deadline - time.monotonic()) > 0:
            connection.wait([started.process.sentinel for started in running], left)
            for started in [started for started in running if not started.process.is_alive()]:
                running.remove(started)
                if started.process.exitcode and not failed:
                    failed, deadline = started.process.exitcode, min(deadline, time.monotonic() + grace)
        if running and not failed:
            raise TimeoutError(f"The script took more than {timeout} s. {''.join(s.output() for s in scripts)}")
        return failed
    finally:
        for started in running:
            started.process.kill()
            started.process.join()


def _start_server() -> None:
    """Starts the process to fork from, once, where it can find what it shall import."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([_TESTS, *filter(None, [before])])
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _run(script: str, words: tuple[str, ...], environment: dict[str, str], output: str) -> None:
    target = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    # The fork server ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")
