"""The dispatcher: every call to a teacher goes through it."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..errors import BudgetExhaustedError, ConfigurationError
from ..records import Usage
from ..teachers.base import Teacher, TeacherInfo, TeacherReply, TeacherRequest
from ..teachers.probe import describe
from .bound import BoundAsk
from .budget import Budget
from .caller import Caller
from .examination import SERVER_DOORS, logprobs_given
from .gate import Gate
from .health import TeacherHealth
from .host import LoopHost
from .journal import Journal
from .progress import Progress
from .rows import Call
from .session import Flight, Row, Session


logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

#: Lanes that begin in one turn of the event loop.
STARTED_TOGETHER = 4
_ROW: contextvars.ContextVar[Row | None] = contextvars.ContextVar("row", default=None)


class Dispatcher:
    """
    Sends requests to a teacher: at most so many at a time, within every limit and cap, again after failures that pass,
    never twice what the journal holds an answer to, and never an answer to anyone before it is committed.

    Args:
        teacher ([`~teachers.base.Teacher`]): Who is asked.
        journal ([`Journal`], `str` or `Path`, *optional*): Where calls are recorded. A path is opened, and closed by
            [`close`]. `None` records nothing: what is lost in a crash is paid again.
        budget ([`Budget`], *optional*): Caps. What the journal holds of the same `run` counts as spent.
        run (`str`, *optional*, defaults to `""`): Name under which calls are paid.
        reuse (`str`, *optional*, defaults to `"any"`): Whose recorded answers are replayed: `"any"` run's, or those of
            this `"run"` alone.
        max_concurrency (`int`, *optional*, defaults to `8`): Calls in flight at most. Lowered to what the server says
            it takes, shrunk while it says that it is overloaded.
        max_retries (`int`, *optional*, defaults to `5`): Times a call is repeated that failed after it reached the
            model, each counted at its bound. Calls refused before the model (429, 503, connection refused) cost
            nothing and are repeated until `max_outage`.
        request_timeout (`float`, *optional*, defaults to `600.0`): Seconds for one try.
        total_timeout (`float`, *optional*): Seconds for a call with all its repetitions, from its first try on.
        requests_per_minute (`float`, *optional*), tokens_per_minute (`float`, *optional*): Limits over any 60 seconds.
        backoff (`float`, *optional*, defaults to `1.0`): Seconds before the first repetition, doubled each time.
        max_backoff (`float`, *optional*, defaults to `60.0`): Most seconds before a repetition, unless the server asks
            for more.
        max_outage (`float`, *optional*, defaults to `600.0`): Seconds without an answer after which
            [`~errors.TeacherGoneError`] ends the run. Larger than an expected outage, the run goes on after it.
        wait_for_teacher (`float`, *optional*, defaults to `0.0`): Seconds to wait at the start for a server that does
            not answer yet.
        landing_timeout (`float`, *optional*, defaults to `30.0`): Seconds that calls in flight are given when the run
            is interrupted or ends with an error.
        seed (`int`, *optional*, defaults to `0`): Seed of the jitter.
        loop_factory (`Callable`, *optional*): Makes the event loop of the synchronous calls. All times are the loop's.
    """

    def __init__(
        self,
        teacher: Teacher,
        *,
        journal: Journal | str | Path | None = None,
        budget: Budget | None = None,
        run: str = "",
        reuse: str = "any",
        max_concurrency: int = 8,
        max_retries: int = 5,
        request_timeout: float = 600.0,
        total_timeout: float | None = None,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        backoff: float = 1.0,
        max_backoff: float = 60.0,
        max_outage: float = 600.0,
        wait_for_teacher: float = 0.0,
        landing_timeout: float = 30.0,
        seed: int = 0,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ):
        if max_concurrency < 1:
            raise ConfigurationError(f"max_concurrency must be 1 or more, got {max_concurrency}.")
        if reuse not in ("any", "run"):
            raise ConfigurationError(f"reuse must be 'any' or 'run', got {reuse!r}.")
        self.teacher = teacher
        self.run = run
        self.budget = budget if budget is not None else Budget()
        self.info: TeacherInfo | None = None
        self.replayed = 0
        self._reuse_run = run if reuse == "run" else None
        self._wait_for_teacher = wait_for_teacher
        self._landing_timeout = landing_timeout
        self._gate = Gate(
            self.budget,
            max_concurrency=max_concurrency,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
        self._health = TeacherHealth(
            self._gate, backoff=backoff, max_backoff=max_backoff, max_outage=max_outage, seed=seed
        )
        self._caller = Caller(
            teacher,
            self._gate,
            self._health,
            max_retries=max_retries,
            request_timeout=request_timeout,
            total_timeout=total_timeout,
            on_fatal=self._halt,
        )
        # After all that can refuse its arguments: nobody could close a journal that is left open then.
        self._owns_journal = isinstance(journal, str | Path)
        self.journal = Journal(journal) if isinstance(journal, str | Path) else journal
        self._caller.journal = self.journal
        if self.journal is not None:
            self.budget.restore(*self.journal.spent(run))
        self._host = LoopHost(loop_factory)
        self._numbers = itertools.count()
        self._flights: dict[str, Flight] = {}
        self._starting: asyncio.Task[None] | None = None
        self._session: Session[Any, Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def spent(self) -> Usage:
        """What this run has used so far, earlier processes included. Unknown figures count at their bound."""
        return self.budget.spent

    @property
    def cost(self) -> float | None:
        """Money for that, `None` where no prices are known."""
        return self.budget.cost

    def bind(self, *, row_id: str, round: int = 0, kind: str = "") -> BoundAsk:
        """An `ask` for one row. Inside [`run_all`] its calls are served in the order of the items."""
        row = _ROW.get() or Row((next(self._numbers), 0))
        return BoundAsk(self, row_id=row_id, round=round, kind=kind, row=row)

    async def ask(
        self, request: TeacherRequest, *, row_id: str = "", round: int = 0, kind: str = "", turn: int = 0
    ) -> TeacherReply:
        """One answer: from the journal, from an identical call in flight, or from the teacher."""
        return await self.bind(row_id=row_id, round=round, kind=kind)(request, turn=turn)

    async def start(self) -> TeacherInfo:
        """The teacher's facts, asked once. Waits for the server as configured."""
        if self.info is None:
            if self._starting is None or self._starting.done():
                self._starting = asyncio.ensure_future(self._probe())
            await asyncio.shield(self._starting)
        assert self.info is not None
        return self.info

    async def examine(self) -> TeacherInfo:
        """
        [`start`], and where the server's own pages leave open whether it gives log-probabilities, one question of one
        token to find out: a server that ignores the wish is noticed before a run relies on it. The question is
        recorded and counted like any other, and made once.
        """
        info = await self.start()
        if info.supports_logprobs is None and info.door in SERVER_DOORS:
            given = await logprobs_given(self.bind(row_id="", kind="probe"))
            if given is not None:
                self.info = info = replace(info, supports_logprobs=given)
                logger.log(logging.INFO if given else logging.WARNING, "Teacher, examined: %s", describe(info))
        return info

    def examine_teacher(self) -> TeacherInfo:
        """[`examine`] for synchronous code."""
        return self._host.run(self.examine())

    def run_all(
        self,
        items: Sequence[T],
        work: Callable[[T], Awaitable[R]],
        *,
        progress: bool | None = None,
        description: str = "teacher",
    ) -> list[R | BudgetExhaustedError]:
        """
        Runs `work` on every item and returns the results in their order.

        Dialogues are pipelined: a call waits for a free place, never for another row's turn. At the end of the budget
        no new call is made, what is in flight lands, and [`~errors.BudgetExhaustedError`] stands in the places that
        were not done. Any other error, and Ctrl-C, end the run with what was in flight landed and committed.

        Args:
            items (`Sequence`): What to work on, most important first.
            work (`Callable`): Coroutine function of one item. It asks through [`bind`].
            progress (`bool`, *optional*): Whether to show a bar. `None` shows it on a terminal.
            description (`str`, *optional*, defaults to `"teacher"`): What stands before the bar.
        """
        return self._host.run(self.map(items, work, progress=progress, description=description))

    async def map(
        self,
        items: Sequence[T],
        work: Callable[[T], Awaitable[R]],
        *,
        progress: bool | None = None,
        description: str = "teacher",
    ) -> list[R | BudgetExhaustedError]:
        """[`run_all`] inside a running event loop."""
        if self._session is not None:
            raise ConfigurationError("This dispatcher is at work: run one set of items after the other.")
        self._gate.reopen()
        self._gate.keep_places = True
        self._health.reset()
        self._loop = asyncio.get_running_loop()
        bar = Progress(len(items), description, progress)
        indices = iter(range(len(items)))
        session = Session(next(self._numbers), items, work, [None] * len(items), indices, bar)
        self._session = session
        try:
            await self.start()
            await self._run_lanes(session)
        finally:
            self._session = None
            self._gate.reopen()
            bar.close(self.spent, self.cost)
        if session.fatal is not None:
            raise session.fatal
        return session.results

    def stop(self, error: BaseException) -> None:
        """
        Ends the running [`run_all`] with `error`, from a signal handler or another thread: nothing new is sent, what
        is in flight lands and is committed.
        """
        loop = self._loop
        if loop is not None and self._session is not None:
            loop.call_soon_threadsafe(self._halt, error)

    async def settled(self, timeout: float | None = None) -> None:
        """Sends nothing more, and waits for what is in flight to land; after `timeout` seconds that is cut off."""
        self._gate.refuse(asyncio.CancelledError())
        if tasks := self._tasks():
            _, late = await asyncio.wait(tasks, timeout=timeout)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def aclose(self) -> None:
        """Releases the teacher's connections, and the journal where the dispatcher opened it."""
        await self.teacher.aclose()
        if self._owns_journal and self.journal is not None:
            self.journal.close()

    def close(self) -> None:
        """[`aclose`] for synchronous code. Use it where [`run_all`] was used."""
        self._host.close(self.aclose)
        if self._owns_journal and self.journal is not None:
            self.journal.close()

    def __enter__(self) -> Dispatcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _run_lanes(self, session: Session[Any, Any]) -> None:
        # Twice as many dialogues are open as calls may be in flight: while one is between two turns, another calls.
        count = min(len(session.items), 2 * self._gate.limit.most)
        lanes: list[asyncio.Task[None]] = []
        try:
            for number in range(count):
                lanes.append(asyncio.create_task(self._lane(session)))
                if number % STARTED_TOGETHER == 0:
                    # Time to send what was started: calls sent in one burst come back in one, and wait for each other
                    # at every turn from then on.
                    await asyncio.sleep(0)
                    await asyncio.sleep(0)
            await self._settled(lanes)
        except asyncio.CancelledError as interrupt:
            self._halt(interrupt)
            await self._settled(lanes)
        finally:
            # Only an interrupt of the interrupt comes here with anything still open.
            for task in (left := [*lanes, *self._tasks()]):
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _settled(self, lanes: list[asyncio.Task[None]]) -> None:
        if lanes:
            await asyncio.wait(lanes)
        # Calls whose askers were cancelled land too.
        while self._flights:
            await asyncio.wait(self._tasks())

    async def _lane(self, session: Session[Any, Any]) -> None:
        """Takes one item after the other."""
        for index in session.indices:
            if session.fatal is not None:
                return
            row = Row((session.number, index))
            _ROW.set(row)
            try:
                session.results[index] = await session.work(session.items[index])
            except BudgetExhaustedError as error:
                session.results[index] = error.with_traceback(None)
                if session.fatal is None:
                    # Later items are still started: what the journal holds of them is replayed.
                    self._gate.refuse(error)
            except asyncio.CancelledError as error:
                self._halt(error)
                raise
            except Exception as error:
                self._halt(error)
                return
            if row.calls == 1 and not session.dialogues:
                # Rows of one call each: a place that is kept for another turn would be kept for nothing.
                self._gate.keep_places = False
            self._gate.pass_on()
            session.progress.finished(self.spent, self.cost)

    def _halt(self, error: BaseException) -> None:
        """The session ends: nothing new is sent, what is in flight has `landing_timeout` to land."""
        if (session := self._session) is None or session.fatal is not None:
            return
        session.fatal = error
        self._gate.refuse(asyncio.CancelledError())
        asyncio.get_running_loop().call_later(self._landing_timeout, self._drop, session)

    def _drop(self, session: Session[Any, Any]) -> None:
        if self._session is session:
            logger.warning("%d calls did not land in time; they count at their bound.", len(self._flights))
            for task in self._tasks():
                task.cancel()

    async def _probe(self) -> None:
        self.info = await self._caller.probe(self._wait_for_teacher)
        logger.info("Teacher: %s", describe(self.info))
        if self.info.max_concurrency is not None:
            self._gate.limit.cap(self.info.max_concurrency)

    async def _ask(
        self, request: TeacherRequest, row: Row, *, row_id: str, round: int, kind: str, turn: int
    ) -> TeacherReply:
        info = self.info or await self.start()
        key = request.key(info.model, info.revision)
        # Before the journal: it may already hold the answer of a call that has not landed, which is not safe yet.
        flight = self._flights.get(key)
        if flight is None and self.journal is not None:
            recorded = self.journal.lookup(key, run=self._reuse_run)
            if recorded is not None:
                self.replayed += 1
                return recorded
        row.calls += 1
        if row.calls == 2 and self._session is not None:
            self._session.dialogues = self._gate.keep_places = True
        if flight is None:
            call = Call(request, key, info.model, info.revision, self.run, row_id, round, kind, turn)
            flight = self._take_off(call, row.order)
        waiter = asyncio.get_running_loop().create_future()
        flight.waiters.append(waiter)
        return await waiter

    def _take_off(self, call: Call, order: tuple[int, int]) -> Flight:
        """Starts a call as a task of its own: it lands and is committed even if whoever asked is cancelled."""
        flight = self._flights[call.key] = Flight()
        flight.task = asyncio.create_task(self._fly(flight, call, order))
        flight.task.add_done_callback(lambda task: self._landed(flight, call.key, task))
        return flight

    async def _fly(self, flight: Flight, call: Call, order: tuple[int, int]) -> None:
        try:
            reply = await self._caller.answer(call, order)
        except Exception as error:
            del self._flights[call.key]
            flight.tell(None, error)
        else:
            del self._flights[call.key]
            flight.tell(reply)

    def _landed(self, flight: Flight, key: str, task: asyncio.Task[None]) -> None:
        if self._flights.get(key) is flight:  # cancelled, perhaps before it began
            del self._flights[key]
            flight.tell(None, asyncio.CancelledError())
        if self._session is not None:
            self._session.progress.landed(self.spent, self.cost)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [flight.task for flight in self._flights.values() if flight.task is not None]
