"""How requests travel: what a door needs of a client, and the leanest one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .address import Address
from .wire import Wire


class Transport(Protocol):
    """
    A client behind one face. Bodies go in and come out as plain JSON values; every failure is one of the named teacher
    errors. `wire` serves the routes that a client library does not know.
    """

    wire: Wire

    async def chat(self, body: Mapping[str, Any]) -> Any:
        """POST of a chat completion."""
        ...

    async def generate(self, inputs: str, parameters: Mapping[str, Any]) -> Any:
        """POST of TGI's `/generate`."""
        ...

    async def aclose(self) -> None:
        """Closes connections."""
        ...


class DirectTransport:
    """
    Bodies as the door writes them, answers as the server does: what a client library would add is a second reading of
    both.

    Args:
        wire (`Wire`): Address, session and credentials.
    """

    def __init__(self, wire: Wire):
        self.wire = wire

    async def chat(self, body: Mapping[str, Any]) -> Any:
        return await self.wire.post_json(chat_url(self.wire.address), body)

    async def generate(self, inputs: str, parameters: Mapping[str, Any]) -> Any:
        body = {"inputs": inputs, "parameters": parameters}
        return await self.wire.post_json(self.wire.address.base + "/generate", body)

    async def aclose(self) -> None:
        await self.wire.aclose()


def chat_url(address: Address) -> str:
    """The chat route, in full: a client library then adds nothing to it."""
    return address.v1 + "/chat/completions"
