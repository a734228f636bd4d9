"""The TGI-compatible teacher server for development."""

from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .embedded import EmbeddedServer

__all__ = ["EmbeddedServer"]


def __getattr__(name: str) -> Any:
    if name == "EmbeddedServer":
        from .embedded import EmbeddedServer

        return EmbeddedServer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
