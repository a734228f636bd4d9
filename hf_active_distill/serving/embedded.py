"""A teacher server of one's own: a child process that ends with its parent."""

from __future__ import annotations

import atexit
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType

from ..errors import ConfigurationError, TeacherConnectionError


logger = logging.getLogger(__name__)

#: Where the server reads its bearer token when `--api-key` is not given: other users see a command line, not this.
API_KEY_VARIABLE = "HF_ACTIVE_DISTILL_API_KEY"

_POLL_SECONDS = 0.02
_TERMINATE_SECONDS = 5.0


class EmbeddedServer:
    """
    `hf-active-distill serve` as a child process on a free loopback port. A context manager: it is ready inside the
    block and gone after it, on exceptions and Ctrl-C too. It also ends when this process dies without a goodbye.

    The child is in a process group of its own: Ctrl-C reaches the parent alone, so that calls in flight may land
    before the server is stopped.

    Args:
        *argv (`str`): Arguments of `serve`: a model's path, or `"--scripted", name`, and options.
        threads (`int`, *optional*, defaults to `1`): CPU threads of the child (`OMP_NUM_THREADS`). Two processes that
            each take all cores slow one another down tenfold: share them out.
        startup_timeout (`float`, *optional*, defaults to `300.0`): Seconds until it must answer `/health`.
        api_key (`str` or `None`, *optional*, defaults to `None`): Bearer token; passed by the environment.

    Example:

    ```python
    >>> with EmbeddedServer("--scripted", "arithmetic_skewed") as server:
    ...     teacher = load_teacher(server.url)
    ```
    """

    def __init__(
        self, *argv: str, threads: int = 1, startup_timeout: float = 300.0, api_key: str | None = None
    ) -> None:
        self.argv = argv
        self.threads = threads
        self.startup_timeout = startup_timeout
        self.api_key = api_key
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child while it runs."""
        return None if self._process is None else self._process.pid

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the child and waits until it answers."""
        if self._process is not None:
            raise ConfigurationError("this server runs already: stop() it first, or make a second one")
        self._folder = tempfile.TemporaryDirectory(prefix="hf_active_distill_serve_")
        atexit.register(self.stop)
        try:
            self._launch(Path(self._folder.name))
            self._wait(Path(self._folder.name) / "ready")
        except BaseException:
            self.stop()
            raise
        logger.info("teacher server %s is ready at %s", " ".join(self.argv), self.url)

    def _launch(self, folder: Path) -> None:
        command = [sys.executable, "-m", "hf_active_distill.cli.main", "serve", *self.argv, "--host", "127.0.0.1"]
        command += ["--port", "0", "--ready-file", str(folder / "ready"), "--parent", str(os.getpid())]
        with open(folder / "log", "wb") as log:
            # Standard input is the pipe whose end tells the child that its parent is gone.
            self._process = subprocess.Popen(
                command,
                env=self._environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.threads), "TOKENIZERS_PARALLELISM": "false"}
        environment.pop(API_KEY_VARIABLE, None)
        if self.api_key is not None:
            environment[API_KEY_VARIABLE] = self.api_key
        # The child must import this very library, also where the parent found it through sys.path alone.
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
        return environment

    def _wait(self, ready: Path) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self.startup_timeout
        while not (ready.exists() and self._healthy(ready)):
            if self._process.poll() is not None:
                raise TeacherConnectionError(self._complaint(f"ended with code {self._process.returncode}"))
            if time.monotonic() > deadline:
                raise TeacherConnectionError(self._complaint(f"is not ready after {self.startup_timeout:g} s"))
            time.sleep(_POLL_SECONDS)

    def _healthy(self, ready: Path) -> bool:
        self.url = ready.read_text(encoding="utf-8")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    def _complaint(self, what: str) -> str:
        command = f"hf-active-distill serve {' '.join(self.argv)}"
        return f"the teacher server {what}; start it by hand to see why: {command}\n{self.log_tail()}"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines that the child wrote to its standard error."""
        if self._folder is None:
            return ""
        text = (Path(self._folder.name) / "log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self) -> None:
        """Ends the child; may be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(_TERMINATE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdin is not None:
                process.stdin.close()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        atexit.unregister(self.stop)
