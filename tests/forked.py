"""
Scripts in processes of their own, forked from one that has imported torch and transformers already.

A process is as real as one that was started anew: it has its own memory, dies by signals, and nothing of it is left to
the next. What it saves are the seconds that each would spend importing. Environment variables that libraries read when
they are imported are those of the test session; a script that needs others wants a process started anew.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path


_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "peft", "tiny_run", "label_run"])


class ForkedScript:
    """
    A script that runs from now on.

    Args:
        script (`Path`): Run as `__main__`.
        words (`str`): Its arguments.
        env (`Mapping[str, str]`, *optional*): Put into its environment before it runs.

    Attributes:
        pid (`int`): Of its process.
    """

    def __init__(self, script: Path, *words: str, env: Mapping[str, str] | None = None):
        self._output = tempfile.NamedTemporaryFile()  # noqa: SIM115  it ends with this object
        self._process = _CONTEXT.Process(target=_run, args=(str(script), words, dict(env or {}), self._output.name))
        self._process.start()
        self.pid: int = self._process.pid

    def finish(self, timeout: float = 300) -> tuple[int, str]:
        """
        Waits for the end.

        Returns:
            `tuple[int, str]`: The exit code, -N after signal N, and what was written to both streams.
        """
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            self._process.join()
        output = Path(self._output.name).read_text()
        if code is None:
            raise TimeoutError(f"The script took more than {timeout} s. {output}")
        return code, output


def run_together(processes: int, script: Path, *words: str) -> tuple[int, str]:
    """
    Runs a script in several processes that find each other as those of `torchrun` do, by the environment.

    Returns:
        `tuple[int, str]`: The first exit code that is not 0, or 0; and what all have written.
    """
    shared = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    shared["MASTER_PORT"] = str(free_port())
    ranks = [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    scripts = [ForkedScript(script, *words, env=env) for env in ranks]
    ended = [started.finish() for started in scripts]
    return next((code for code, _ in ended if code), 0), "".join(output for _, output in ended)


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _run(script: str, words: tuple[str, ...], env: dict[str, str], output: str) -> None:
    target = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    # The fork server ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(env)
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")
