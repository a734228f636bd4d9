"""What the dispatcher keeps about a set of items, a row of it, and a call under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

from ..teachers.base import TeacherReply
from .progress import Progress


T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Row:
    """An item's place in the order of all, and the calls that were made for it."""

    order: tuple[int, int]
    calls: int = 0


@dataclass
class Session(Generic[T, R]):
    """One `map`: its items, what became of them, and what went wrong for good."""

    number: int
    items: Sequence[T]
    work: Callable[[T], Awaitable[R]]
    results: list[Any]
    indices: Iterator[int]
    progress: Progress
    dialogues: bool = False
    fatal: BaseException | None = None


@dataclass(eq=False)
class Flight:
    """A call under way, and everyone who waits for its answer."""

    task: asyncio.Task[None] | None = None
    waiters: list[asyncio.Future[TeacherReply]] = field(default_factory=list)

    def tell(self, reply: TeacherReply | None, error: BaseException | None = None) -> None:
        for waiter in self.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(cast(TeacherReply, reply))
            elif isinstance(error, asyncio.CancelledError):
                waiter.cancel()
            else:
                waiter.set_exception(error)
