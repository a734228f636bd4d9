"""What goes wrong on demand, and a record of everything that was asked."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


_KEPT_BYTES = 1 << 20


@dataclass
class Fault:
    """
    A rule: what happens to requests that fit.

    Args:
        on (`str`): Regular expression, searched in `"METHOD /path"`; the path is decoded and has no query.
        status (`int`, *optional*): Answer with this status instead of doing what was asked.
        code (`str`, *optional*), message (`str`, *optional*): `X-Error-Code` and text of that answer.
        headers (`Mapping[str, str]`, *optional*): Its further headers, such as `{"Retry-After": "0"}`.
        cut_after (`int`, *optional*): Reset the connection after so many bytes of the request's body.
        lose_answer (`bool`, *optional*, defaults to `False`): Do what was asked, then reset the connection: the client
            cannot know that it was done.
        before (`Callable[[], Any]`, *optional*): Called first, in a thread: another writer's commit, or a wait.
        skip (`int`, *optional*, defaults to `0`): Let so many fitting requests pass first.
        times (`int` or `None`, *optional*, defaults to `1`): How often the rule holds; `None` for ever.
    """

    on: str
    status: int | None = None
    code: str | None = None
    message: str = "a fault that a test asked for"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    lose_answer: bool = False
    before: Callable[[], Any] | None = None
    skip: int = 0
    times: int | None = 1


@dataclass
class SeenRequest:
    """
    A request as it came. `status` is `None` while it is not answered, and where the connection was cut. Only whether
    there was a token is kept, not the token.
    """

    method: str
    path: str
    query: str
    authorized: bool
    body: bytes = b""
    status: int | None = None

    @property
    def line(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The body of a commit: one JSON object a line."""
        return [json.loads(line) for line in self.body.splitlines()]


class FaultGate:
    """
    Stands before the application: records every request and applies the rules.

    Args:
        app (`ASGI application`): What is asked when no rule fits.
        cut (`Callable[[Scope], None]`): Resets the connection of a request.
    """

    def __init__(self, app: ASGIApp, cut: Callable[[Scope], None]):
        self.app = app
        self.cut = cut
        self.faults: list[Fault] = []
        self.requests: list[SeenRequest] = []
        self._lock = threading.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope["raw_path"].decode()
        seen = SeenRequest(
            scope["method"],
            unquote(raw),
            scope["query_string"].decode(),
            any(name == b"authorization" for name, _ in scope["headers"]),
        )
        self.requests.append(seen)
        # Routes see the path as it was sent: a revision or a folder may hold an encoded slash.
        scope = {**scope, "path": raw}
        fault = self._fitting(seen.line)
        inward, outward = _recorded(receive, seen), _watched(send, seen)
        if fault is None:
            await self.app(scope, inward, outward)
            return
        if fault.before is not None:
            await run_in_threadpool(fault.before)
        if fault.cut_after is not None:
            await _read(inward, fault.cut_after)
            self.cut(scope)
        elif fault.lose_answer:
            await self.app(scope, inward, _swallow)
            self.cut(scope)
        elif fault.status is not None:
            await _read(inward, None)
            headers = {**fault.headers, "X-Error-Message": fault.message}
            if fault.code is not None:
                headers["X-Error-Code"] = fault.code
            await JSONResponse({"error": fault.message}, fault.status, headers)(scope, inward, outward)
        else:
            await self.app(scope, inward, outward)

    def _fitting(self, line: str) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times == 0 or not re.search(fault.on, line):
                    continue
                if fault.skip:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


async def _read(receive: Receive, most: int | None) -> None:
    """Takes the body of a request, all of it or at least `most` bytes."""
    taken = 0
    while most is None or taken < most:
        message = await receive()
        taken += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


def _recorded(receive: Receive, seen: SeenRequest) -> Receive:
    async def inward() -> Message:
        message = await receive()
        if len(seen.body) < _KEPT_BYTES:
            seen.body += message.get("body", b"")
        return message

    return inward


def _watched(send: Send, seen: SeenRequest) -> Send:
    async def outward(message: Message) -> None:
        if message["type"] == "http.response.start":
            seen.status = message["status"]
        await send(message)

    return outward


async def _swallow(message: Message) -> None:
    pass
