"""The server: in a thread of the tests, or a process of its own that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import uvicorn
from starlette.types import Scope

from hf_active_distill.serving.server import bind, url_of

from .accounts import Account, Accounts
from .app import build_app
from .calls import Hub
from .faults import Fault, FaultGate, SeenRequest
from .store import HubStore


#: The token of the user `me` of a server in tests; `me` is a member of `org`, where repositories are private unless
#: something else is said.
TOKEN = "hf_local_token_of_me"
OTHER_TOKEN = "hf_local_token_of_other"
READ_TOKEN = "hf_local_token_to_read"


def users_of_tests() -> Accounts:
    """The users of a server in tests."""
    return Accounts(
        by_token={
            TOKEN: Account("me", ("org",)),
            OTHER_TOKEN: Account("other"),
            READ_TOKEN: Account("me", ("org",), role="read"),
        },
        private_by_default={"org"},
    )


def environment(url: str, token: str | None, home: str | Path) -> dict[str, str]:
    """What makes the Hub's clients come to this server, with a cache of their own in `home`."""
    token_settings = {"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))},
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **token_settings,
    }


class HubServer:
    """
    A small Hub in a thread. A context manager: it takes requests inside the block.

    Args:
        folder (`str` or `Path`): Where it keeps everything.
        accounts ([`Accounts`], *optional*): Its users; `me`, `other` and the organisation `org` unless given.
        **options: Of [`Hub`]: `lfs_threshold`, `page_size`.

    Attributes:
        url (`str`): Its address, for `HF_ENDPOINT`.
        faults (`list[Fault]`): Rules for what goes wrong; may be changed at any time.
        requests (`list[SeenRequest]`): Everything that was asked.
        store ([`HubStore`]): What it holds.
        hub ([`Hub`]): Its settings, which may be changed at any time.
    """

    def __init__(self, folder: str | Path, *, accounts: Accounts | None = None, **options: int):
        self.folder = Path(folder)
        self.store = HubStore(self.folder)
        self.hub = Hub(self.store, accounts or users_of_tests(), **options)
        self._gate = FaultGate(build_app(self.hub), self._cut)
        self._listener = bind("127.0.0.1", 0)
        self.url = url_of(self._listener)
        config = uvicorn.Config(
            self._gate, lifespan="off", loop="asyncio", http="h11", ws="none", log_level="warning", access_log=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="hub", daemon=True
        )

    @property
    def faults(self) -> list[Fault]:
        return self._gate.faults

    @property
    def requests(self) -> list[SeenRequest]:
        return self._gate.requests

    def __enter__(self) -> HubServer:
        self._listener.listen()  # from here on a client waits rather than fails
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self.store.close()

    def environment(self, home: str | Path, token: str | None = TOKEN) -> dict[str, str]:
        """The environment of a process whose clients come here."""
        return environment(self.url, token, home)

    def forget(self) -> None:
        """Back to a fresh server: no rules, no requests, no repositories, the settings it began with."""
        self.faults.clear()
        self.requests.clear()
        self.hub.page_size, self.hub.lfs_threshold = Hub.page_size, Hub.lfs_threshold
        for repo in self.store.repos():
            self.store.delete(repo)

    def lines(self, containing: str = "") -> list[str]:
        """What was asked, as `"METHOD /path"`, in order."""
        return [seen.line for seen in self.requests if containing in seen.line]

    def _cut(self, scope: Scope) -> None:
        for connection in list(self._server.server_state.connections):
            if connection.client == scope["client"]:  # type: ignore[union-attr]
                connection.transport.abort()  # type: ignore[union-attr]


class HubProcess:
    """
    `python -m hub_server` as a child, which can be killed and started again on the same folder.

    Args:
        folder (`str` or `Path`): Where it keeps everything.
        port (`int`, *optional*, defaults to `0`): 0 takes a free one.
    """

    def __init__(self, folder: str | Path, *, port: int = 0):
        command = [sys.executable, "-m", "hub_server", "--data_dir", str(folder), "--port", str(port)]
        places = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        self.process = subprocess.Popen(
            command, env={**os.environ, "PYTHONPATH": places}, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]

    def __enter__(self) -> HubProcess:
        return self

    def __exit__(self, *exc_info) -> None:
        self.kill()

    def kill(self) -> None:
        """SIGKILL: nothing is written any more."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
