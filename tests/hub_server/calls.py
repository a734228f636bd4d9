"""A request as the handlers take it, and the wrapper that makes a handler an endpoint."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .accounts import Account, Accounts, readable, writable
from .errors import HubError
from .store import HubStore, Repo


@dataclass
class Hub:
    """
    What handlers share.

    Args:
        store ([`HubStore`]): What the server knows.
        accounts ([`Accounts`]): Its users.
        lfs_threshold (`int`): Files of so many bytes go to large file storage whatever their name.
        page_size (`int`): Entries of a listing that come in one answer.
        signature (`str`): Part of upload and download links, which work without a token, as on the real Hub.
    """

    store: HubStore
    accounts: Accounts
    lfs_threshold: int = 10 * 1024 * 1024
    page_size: int = 1000
    signature: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass
class Call:
    """One request: decoded parameters of the path, query, body, and who asks."""

    hub: Hub
    request: Request
    params: dict[str, str]
    body: bytes
    account: Account | None

    @property
    def store(self) -> HubStore:
        return self.hub.store

    @property
    def endpoint(self) -> str:
        return str(self.request.base_url).rstrip("/")

    @property
    def storage(self) -> str:
        """The address of large file storage: for a client another host than the Hub."""
        return str(self.request.base_url.replace(hostname="localhost")).rstrip("/")

    @property
    def kind(self) -> str:
        return self.params.get("kind", "models")

    @property
    def name(self) -> str:
        return f"{self.params['namespace']}/{self.params['name']}"

    @property
    def link(self) -> str:
        """Where a person would look at the repository."""
        return f"{self.endpoint}/{'' if self.kind == 'models' else self.kind + '/'}{self.name}"

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HubError(400, f"The body is not JSON: {error}") from error

    def fields(self) -> dict[str, list[str]]:
        """The fields of a form, or of a JSON object."""
        if self.request.headers.get("content-type", "").startswith("application/json"):
            return {key: value if isinstance(value, list) else [value] for key, value in self.json().items()}
        return parse_qs(self.body.decode())

    def flag(self, name: str) -> bool:
        return self.request.query_params.get(name, "").lower() in ("1", "true")

    def to_read(self) -> Repo:
        return readable(self.store, self.account, self.kind, self.name)

    def to_write(self) -> tuple[Repo, Account]:
        return writable(self.store, self.account, self.kind, self.name)

    def page(self, entries: list[Any]) -> Response:
        """A part of a listing, with a `Link` to the next."""
        size = int(self.request.query_params.get("limit", self.hub.page_size))
        start = int(self.request.query_params.get("cursor", 0))
        headers = {"X-Total-Count": str(len(entries))}
        if start + size < len(entries):
            query = urlencode({**self.request.query_params, "cursor": start + size})
            headers["Link"] = f'<{self.endpoint}{self.request.scope["path"]}?{query}>; rel="next"'
        return JSONResponse(entries[start : start + size], headers=headers)


def endpoint(handler: Callable[[Call], Any]):
    """An endpoint of a handler that gives a response, or what is to be sent as JSON."""

    async def serve(request: Request) -> Response:
        try:
            call = begin(request, await request.body())
            answer = await run_in_threadpool(handler, call)
        except HubError as error:
            return refusal(error)
        return answer if isinstance(answer, Response) else JSONResponse(answer)

    return serve


def begin(request: Request, body: bytes = b"") -> Call:
    hub: Hub = request.app.state.hub
    params = {key: unquote(value) for key, value in request.path_params.items()}
    return Call(hub, request, params, body, hub.accounts.of(request.headers.get("authorization")))


def refusal(error: HubError) -> Response:
    headers = {**error.headers, "X-Error-Message": error.message}
    if error.code is not None:
        headers["X-Error-Code"] = error.code
    return JSONResponse(error.body or {"error": error.message}, error.status, headers)
