"""One call from its admission to its committed answer, again after failures that pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import (
    BudgetExhaustedError,
    ConfigurationError,
    JournalError,
    TeacherAuthError,
    TeacherConnectionError,
    TeacherError,
    TeacherGoneError,
    TeacherInterruptedError,
)
from ..records import Usage
from ..teachers.base import Teacher, TeacherInfo, TeacherReply
from .bounds import TokenBounds
from .gate import Gate, Ticket
from .health import TeacherHealth
from .journal import Journal
from .rows import Call, redact


logger = logging.getLogger(__name__)

#: Seconds after which the server's facts or its tokenizer are given up.
SIDE_CALL_TIMEOUT = 60.0


@dataclass
class _Tries:
    """What became of a call so far."""

    first: float | None = None
    repetitions: int = 0
    paid: int = 0


class Caller:
    """
    Makes calls. Each try is recorded before it is made, and its answer committed before anyone gets it.

    Args:
        teacher ([`~teachers.base.Teacher`]): Who is asked.
        gate ([`Gate`]): Who may call, and when.
        health ([`TeacherHealth`]): What failures mean.
        max_retries (`int`): Times a call is repeated that failed after it reached the model.
        request_timeout (`float`): Seconds for one try.
        total_timeout (`float` or `None`): Seconds for all tries of a call.
        on_fatal (`Callable`): Told of an error after which no call can do better, before the next one is let through.

    Attributes:
        journal ([`Journal`] or `None`): Where calls are recorded.
    """

    def __init__(
        self,
        teacher: Teacher,
        gate: Gate,
        health: TeacherHealth,
        *,
        max_retries: int,
        request_timeout: float,
        total_timeout: float | None,
        on_fatal: Callable[[BaseException], None],
    ):
        if max_retries < 0 or request_timeout <= 0 or (total_timeout is not None and total_timeout <= 0):
            raise ConfigurationError(
                "max_retries must be 0 or more, request_timeout and total_timeout above 0 seconds."
            )
        self._teacher = teacher
        self.journal: Journal | None = None
        self._gate = gate
        self._budget = gate.budget
        self._health = health
        self._bounds = TokenBounds(teacher)
        self._max_retries = max_retries
        self._request_timeout = request_timeout
        self._total_timeout = total_timeout
        self._on_fatal = on_fatal

    async def probe(self, wait: float) -> TeacherInfo:
        """The server's facts. `wait` seconds are given to a server that does not answer yet."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        while True:
            try:
                async with asyncio.timeout(SIDE_CALL_TIMEOUT):
                    return await self._teacher.info()
            except TimeoutError as error:
                failure: TeacherError = TeacherConnectionError("The teacher did not tell its facts in time.")
                failure.__cause__ = error
            except TeacherError as error:
                failure = error
            if not failure.retryable or loop.time() >= deadline:
                raise failure
            await asyncio.sleep(min(1.0, max(0.0, deadline - loop.time())))

    async def answer(self, call: Call, order: tuple[int, int]) -> TeacherReply:
        """Makes the call. `order` is the place of its row among all that wait."""
        tries = _Tries()
        while True:
            ticket = await self._admit(call, order)
            try:
                reply = await self._attempt(call, ticket)
                self._health.success()
                break
            except TeacherError as error:
                delay = self._judge(call, error, ticket, tries)
            except Exception as error:
                # The journal cannot be written, or a function or a teacher of the user's has a mistake in it.
                self._on_fatal(error)
                raise
            finally:
                # After the verdict: the place must not go to the next call before a pause or a halt is known.
                self._gate.release(ticket, ticket.usage)
            await self._gate.sleep(delay)
        # The next call may be under way while the disk takes the answer: it commits the answer before it is made.
        await self._on_disk()
        return reply

    async def _on_disk(self) -> None:
        if self.journal is None:
            return
        try:
            await self.journal.synced()
        except JournalError as error:
            self._on_fatal(error)
            raise

    def _judge(self, call: Call, error: TeacherError, ticket: Ticket, tries: _Tries) -> float:
        """Seconds until the call is made again; raises where it is not."""
        now = asyncio.get_running_loop().time()
        tries.first = ticket.admitted if tries.first is None else tries.first
        try:
            if isinstance(error, TeacherAuthError | TeacherGoneError):
                raise error
            if not error.retryable:
                self._health.refused(error)
                raise error
            delay = self._health.failure(
                error, now=now, admitted=ticket.admitted, repetition=tries.repetitions, key=call.key
            )
        except (TeacherAuthError, TeacherGoneError) as fatal:
            self._on_fatal(fatal)
            raise
        tries.repetitions += 1
        tries.paid += error.reached_model
        late = self._total_timeout is not None and now + delay - tries.first > self._total_timeout
        if tries.paid > self._max_retries or late:
            raise error
        logger.debug("Row %s: %s Again in %.1f s.", call.row_id, redact(str(error)), delay)
        return delay

    async def _admit(self, call: Call, order: tuple[int, int]) -> Ticket:
        bound = self._bounds.of(call.request)
        if self._budget.capped and not self._budget.fits(bound) and not self._gate.refusing:
            bound = await self._tightened(call, bound)
        try:
            return await self._gate.admit(order, bound)
        except BudgetExhaustedError:
            if self._gate.refusing:
                raise
            # It fitted when it came; the queue was long.
            tighter = await self._tightened(call, bound)
            if tighter == bound:
                raise
        return await self._gate.admit(order, tighter)

    async def _tightened(self, call: Call, bound: Usage) -> Usage:
        try:
            async with asyncio.timeout(SIDE_CALL_TIMEOUT):
                return await self._bounds.tightened(call.request, bound)
        except TimeoutError:
            return bound

    async def _attempt(self, call: Call, ticket: Ticket) -> TeacherReply:
        """
        One try: recorded before it is made, its answer booked and recorded. `ticket.usage` stays the bound for as long
        as it is not known what the model did.
        """
        loop = asyncio.get_running_loop()
        call_id = None
        if self.journal is not None:
            cost, clock = self._budget.price(ticket.bound), self._gate.asking_seconds(loop.time())
            try:
                call_id = self.journal.sending(call, ticket.bound, cost=cost, clock=clock)
            except JournalError:
                ticket.usage = Usage()  # not sent
                raise
        sent = loop.time()
        try:
            reply = await self._call(call)
        except Exception as error:
            unspent = isinstance(error, TeacherError) and not error.reached_model
            ticket.usage = Usage() if unspent else ticket.bound
            self._record(call_id, error, ticket.usage, loop.time() - sent)
            raise
        ticket.usage = await self._booked(call, reply, ticket.bound)
        if reply.usage != ticket.usage:
            reply = replace(reply, usage=ticket.usage)
        self._record(call_id, reply, ticket.usage, loop.time() - sent)
        return reply

    async def _call(self, call: Call) -> TeacherReply:
        try:
            async with asyncio.timeout(self._request_timeout):
                return await self._teacher.ask(call.request)
        except TimeoutError as error:
            raise TeacherInterruptedError(
                f"No answer within request_timeout={self._request_timeout:.0f} s."
            ) from error

    async def _booked(self, call: Call, reply: TeacherReply, bound: Usage) -> Usage:
        if self._budget.capped and self._bounds.lacks_usage(reply):
            bound = await self._tightened(call, bound)
        return self._bounds.booked(call.request, reply, bound)

    def _record(self, call_id: int | None, outcome: TeacherReply | Exception, usage: Usage, latency: float) -> None:
        if self.journal is None or call_id is None:
            return
        cost = self._budget.price(usage)
        clock = self._gate.asking_seconds(asyncio.get_running_loop().time())
        if isinstance(outcome, TeacherReply):
            self.journal.answered(call_id, outcome, cost=cost, latency=latency, clock=clock, commit=False)
        else:
            self.journal.failed(call_id, outcome, usage, cost=cost, latency=latency, clock=clock)
