"""Who may call the teacher, and when: one queue in the order of the rows, behind every limit there is."""

from __future__ import annotations

import asyncio
import copy
import heapq
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import BudgetExhaustedError
from ..records import Usage
from .budget import Budget, Reservation


MINUTE = 60.0
#: Most seconds that a freed place is kept, with `keep_places`, for the dialogue that freed it. Its next turn comes
#: before rows not yet begun, or the end of the budget would find twice as many dialogues half done.
HANDOVER = 0.02


@dataclass(eq=False)
class MinuteEntry:
    """What was used of a limit per minute, and when. `counts` ends a minute later."""

    time: float
    amount: float
    counts: bool = True


@dataclass(eq=False)
class Ticket:
    """
    The right to make one call: a place under the concurrency limit and a share of the budget. `usage` is what the call
    is known to have used, `None` as long as only its bound is known.
    """

    bound: Usage
    reservation: Reservation
    admitted: float
    tokens: MinuteEntry | None = None
    usage: Usage | None = None
    released: bool = False


class _Waiter(NamedTuple):
    """One in the queue. Order and number decide, so the others are never compared."""

    order: tuple[int, int]
    number: int
    bound: Usage
    future: asyncio.Future[Ticket]


class SlidingMinute:
    """
    A limit over any 60 seconds, not only over those that start on the minute.

    Args:
        limit (`float`): Most that may be entered in 60 seconds. A single entry above it passes when alone.
    """

    def __init__(self, limit: float):
        self.limit = limit
        self._entries: deque[MinuteEntry] = deque()
        self._total = 0.0

    def delay(self, now: float, amount: float) -> float:
        """Seconds until `amount` may be entered."""
        while self._entries and self._entries[0].time + MINUTE <= now:
            entry = self._entries.popleft()
            entry.counts = False
            self._total -= entry.amount
        total = self._total
        if not self._entries or total + amount <= self.limit:
            return 0.0
        for entry in self._entries:
            total -= entry.amount
            if total + amount <= self.limit:
                return entry.time + MINUTE - now
        return self._entries[-1].time + MINUTE - now

    def enter(self, now: float, amount: float) -> MinuteEntry:
        """Enters `amount` and returns the entry, for [`correct`]."""
        entry = MinuteEntry(now, amount)
        self._entries.append(entry)
        self._total += amount
        return entry

    def correct(self, entry: MinuteEntry, amount: float) -> None:
        """Replaces a bound by what the call really used, if the entry still counts."""
        if entry.counts:
            self._total += amount - entry.amount
            entry.amount = amount


class ConcurrencyLimit:
    """
    How many calls may be in flight: halved when the server says that it is overloaded, grown back with answers (by one
    an answer up to half of where it was cut, then by one a round).

    Args:
        most (`int`): The cap that it never grows over.
    """

    def __init__(self, most: int):
        self.most = most
        self._limit = float(most)
        self._threshold = float(most)
        self._cut_at = float("-inf")

    def __int__(self) -> int:
        return int(self._limit)

    def cap(self, most: int) -> None:
        """Lowers the cap to what the server says it takes."""
        self.most = max(1, min(self.most, most))
        self._limit = min(self._limit, float(self.most))

    def shrink(self, now: float, admitted: float) -> None:
        """A call admitted at `admitted` was refused. Calls from before the last cut say nothing new."""
        if admitted >= self._cut_at:
            self._cut_at = now
            self._threshold = max(1.0, self._limit / 2)
            self._limit = self._threshold

    def probe(self, now: float) -> None:
        """One call at a time, until one is answered."""
        self._cut_at = now
        self._threshold = max(self._threshold, self._limit / 2)
        self._limit = 1.0

    def grow(self) -> None:
        """A call was answered."""
        step = 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._limit = min(float(self.most), self._limit + step)


class Gate:
    """
    Admits calls in the order of the rows they belong to. The first in the queue passes when there is a place under the
    concurrency limit, no pause is on, the limits per minute allow it and the budget covers its bound; nobody overtakes
    it meanwhile, so that a costly call is never starved by cheap ones.

    Args:
        budget ([`Budget`]): Where bounds are reserved.
        max_concurrency (`int`): Calls in flight at most.
        requests_per_minute (`float`, *optional*): Calls in any 60 seconds.
        tokens_per_minute (`float`, *optional*): Tokens in any 60 seconds, by bounds until the figures are known.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        max_concurrency: int,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
    ):
        self.budget = budget
        self.limit = ConcurrencyLimit(max_concurrency)
        self.active = 0
        self.keep_places = True
        self._requests = SlidingMinute(requests_per_minute) if requests_per_minute is not None else None
        self._tokens = SlidingMinute(tokens_per_minute) if tokens_per_minute is not None else None
        self._queue: list[_Waiter] = []
        self._sleepers: set[asyncio.Future[None]] = set()
        self._number = 0
        self._paused_until = float("-inf")
        self._timer: asyncio.TimerHandle | None = None
        self._handover: asyncio.TimerHandle | None = None
        self._refusal: BudgetExhaustedError | asyncio.CancelledError | None = None
        self._asking_since = 0.0

    async def admit(self, order: tuple[int, int], bound: Usage) -> Ticket:
        """Waits for its turn. Raises [`~errors.BudgetExhaustedError`], or what [`refuse`] was given."""
        self._raise_refusal()
        loop = asyncio.get_running_loop()
        self._number += 1
        waiter = _Waiter(order, self._number, bound, loop.create_future())
        heapq.heappush(self._queue, waiter)
        self._pump(most=1)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self.release(waiter.future.result(), Usage())
            raise

    def release(self, ticket: Ticket, usage: Usage | None) -> None:
        """Gives the place back and books `usage`, the bound where it is `None`."""
        if ticket.released:
            return
        ticket.released = True
        now = asyncio.get_running_loop().time()
        self._count_time(now)
        self.active -= 1
        self.budget.settle(ticket.reservation, usage)
        if self._tokens is not None and ticket.tokens is not None and usage is not None:
            self._tokens.correct(ticket.tokens, usage.total_tokens)
        if not self.keep_places:
            self._pump()
        elif self._queue and self._handover is None:
            self._handover = asyncio.get_running_loop().call_later(HANDOVER, self._on_handover)

    def pass_on(self) -> None:
        """A row is done: the place that it freed last is for the next in the queue."""
        self._pump(most=1)

    async def sleep(self, seconds: float) -> None:
        """Waits before a call is made again. Ends at once with what [`refuse`] is given."""
        self._raise_refusal()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, future)
        self._sleepers.add(future)
        try:
            await future
        finally:
            timer.cancel()
            self._sleepers.discard(future)

    def pause(self, until: float) -> None:
        """Lets nobody pass before `until` (time of the loop)."""
        self._paused_until = max(self._paused_until, until)

    def refuse(self, reason: BudgetExhaustedError | asyncio.CancelledError) -> None:
        """From now on nobody passes: who waits or comes gets `reason`. Calls in flight go on."""
        self._refusal = reason
        waiting: list[asyncio.Future[Any]] = [waiter.future for waiter in self._queue]
        self._queue.clear()
        for future in [*waiting, *self._sleepers]:
            if future.done():
                continue
            if isinstance(reason, asyncio.CancelledError):
                future.cancel()
            else:
                future.set_exception(copy.copy(reason))

    @property
    def refusing(self) -> bool:
        """Whether nobody passes any more."""
        return self._refusal is not None

    def reopen(self) -> None:
        """Takes back [`refuse`] and every pause."""
        self._refusal = None
        self._paused_until = float("-inf")
        # Timers may belong to a loop that is no more.
        for timer in (self._timer, self._handover):
            if timer is not None:
                timer.cancel()
        self._timer = self._handover = None

    def asking_seconds(self, now: float) -> float:
        """Seconds during which at least one call was in flight, those of earlier processes included."""
        self._count_time(now)
        return self.budget.seconds

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            # A copy: raised again and again, one object would gather the frames of all who got it.
            raise copy.copy(self._refusal)

    def _count_time(self, now: float) -> None:
        if self.active:
            self.budget.seconds += max(0.0, now - self._asking_since)
        self._asking_since = now

    def _pump(self, most: int | None = None) -> None:
        """Admits the first `most` of the queue, as far as there is room. Whoever arrives takes one place, not all."""
        admitted = 0
        while self._queue and admitted != most:
            waiter = self._queue[0]
            if waiter.future.done():
                heapq.heappop(self._queue)
                continue
            if self.active >= int(self.limit):
                return
            loop = asyncio.get_running_loop()
            now = loop.time()
            delay = self._delay(now, waiter.bound)
            if delay > 0:
                self._wake_in(loop, delay)
                return
            self._count_time(now)
            try:
                reservation = self.budget.reserve(waiter.bound)
            except Exception as error:
                heapq.heappop(self._queue)
                waiter.future.set_exception(error)
                continue
            if reservation is None:
                return  # a call in flight may settle lower; its release comes back here
            heapq.heappop(self._queue)
            self.active += 1
            admitted += 1
            waiter.future.set_result(self._ticket(waiter.bound, reservation, now))

    def _ticket(self, bound: Usage, reservation: Reservation, now: float) -> Ticket:
        if self._requests is not None:
            self._requests.enter(now, 1)
        tokens = None if self._tokens is None else self._tokens.enter(now, bound.total_tokens)
        return Ticket(bound, reservation, now, tokens)

    def _delay(self, now: float, bound: Usage) -> float:
        delay = self._paused_until - now
        if self._requests is not None:
            delay = max(delay, self._requests.delay(now, 1))
        if self._tokens is not None:
            delay = max(delay, self._tokens.delay(now, bound.total_tokens))
        return delay

    def _wake_in(self, loop: asyncio.AbstractEventLoop, delay: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(delay, self._on_timer)

    def _on_handover(self) -> None:
        self._handover = None
        self._pump()

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
