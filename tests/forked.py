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
import sys
import tempfile
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

    Attributes:
        pid (`int`): Of its process.
    """

    def __init__(self, script: Path, *words: str):
        self._output = tempfile.NamedTemporaryFile()  # noqa: SIM115  it ends with this object
        self._process = _CONTEXT.Process(target=_run, args=(str(script), words, self._output.name))
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


def _run(script: str, words: tuple[str, ...], output: str) -> None:
    target = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(target, 1)
    os.dup2(target, 2)
    # The fork server ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")
