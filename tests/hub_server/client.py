"""
The real clients, in a process of their own: where the Hub is they read when they are imported, and the tests' own
process has them set to ask nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any


@dataclass(frozen=True)
class Raised:
    """An exception of the other process: its class and those above it, its HTTP status where it has one, its text."""

    kinds: tuple[str, ...]
    status: int | None
    text: str


class HubClient:
    """
    Calls functions in a process whose clients reach one Hub.

    Args:
        environment (`Mapping[str, str]`): Of the process, from [`HubServer.environment`].
    """

    def __init__(self, environment: Mapping[str, str]):
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        before = dict(os.environ)
        os.environ.clear()
        os.environ.update(environment)
        try:
            self._pool.submit(os.getpid).result()  # the process starts here, and takes the environment as it is now
        finally:
            os.environ.clear()
            os.environ.update(before)

    def __call__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """
        What `function`, which stands at the top of its module, returns there. Its exception comes as [`Raised`].
        """
        return self._pool.submit(_outcome, function, args, kwargs).result()

    def close(self) -> None:
        self._pool.shutdown()


def _outcome(function: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    try:
        return function(*args, **kwargs)
    except Exception as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        return Raised(tuple(kind.__name__ for kind in type(error).__mro__), status, str(error))
