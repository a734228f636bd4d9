"""Runs the application: binds, says when it is ready, ends on SIGTERM, SIGINT or with its parent."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import uvicorn

from ..errors import ConfigurationError


#: Seconds that requests in flight are given when the server is told to end.
_GRACE_SECONDS = 1


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror or error}): take another --port, 0 for a free one"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The URL under which a bound socket is reached."""
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _AnnouncingServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]):
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def run(app: Any, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    """
    Serves until SIGTERM or SIGINT.

    Args:
        app (`ASGI application`): What to serve.
        listener (`socket.socket`): From [`bind`].
        on_ready (`Callable`): Called once requests are taken.
    """
    config = uvicorn.Config(
        app,
        lifespan="off",
        loop="asyncio",
        http="h11",
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=75,
        backlog=2048,
    )
    _AnnouncingServer(config, on_ready).run(sockets=[listener])


def end_with_parent(parent: int) -> None:
    """
    Ends this process when the one that started it is gone. It is gone when standard input, a pipe of which the parent
    holds the other end, is closed, or (a fork of the parent may hold that end as well) when this process was adopted.
    """

    def watch() -> None:
        while not _input_closed() and os.getppid() == parent:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_GRACE_SECONDS + 2)
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _input_closed() -> bool:
    """Waits a little for standard input to close. Windows cannot wait on a pipe with a time limit: it reads."""
    if os.name == "posix" and not select.select([sys.stdin], [], [], 0.25)[0]:
        return False
    return not os.read(sys.stdin.fileno(), 1)
