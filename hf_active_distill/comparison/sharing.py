"""
One way to the teacher for many processes.

A journal has one writer. So the runs of a comparison do not ask the teacher themselves: they ask an [`AnswerServer`]
in the process that started them, over a loopback socket. It holds the one [`~asking.Dispatcher`] with the shared
journal: what any run has asked before is answered from there, and a question that two runs ask at the same moment is
put once. A reply carries its original usage, so every run books in a journal of its own what its answers *would* have
cost it alone, and runs into its budget there, whoever paid first. That is what makes arms comparable.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
import logging
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import errors
from ..asking import Budget, Dispatcher, schema
from ..asking.rows import reply_from_json, reply_to_json
from ..errors import BudgetExhaustedError, TeacherConnectionError, TeacherError, TeacherGoneError
from ..records import Usage
from ..teachers.base import GenerationParams, Teacher, TeacherInfo, TeacherReply, TeacherRequest


logger = logging.getLogger(__name__)

JOURNAL = "journal.sqlite"
_HOST = "127.0.0.1"
#: Most bytes of one line: a reply may hold the log-probabilities of a long prompt.
_LIMIT = 2**26
#: Seconds that calls in flight are given at the end, where no `request_timeout` is set: the dispatcher's own.
_LANDING = 600.0


class AnswerServer:
    """
    Asks the teacher on behalf of many processes. A context manager; the event loop runs in a thread.

    Args:
        make_teacher (`Callable[[], Teacher]`): Makes the teacher, in the thread that will ask it.
        journal (`str` or `Path`): The shared journal.
        budget ([`~asking.Budget`], *optional*): Caps on what all processes together pay.
        max_concurrency (`int`, *optional*, defaults to `8`): Calls in flight at most.
        options (`Any`): Further options of the [`~asking.Dispatcher`]. At the end, calls in flight are given
            `request_timeout` to land: their answers are in the journal for whoever asks next.

    Raises:
        [`~errors.JournalError`]: When the journal is written by another process, or cannot be.
        [`~errors.TeacherError`]: When the teacher does not answer.
    """

    def __init__(
        self,
        make_teacher: Callable[[], Teacher],
        journal: str | Path,
        *,
        budget: Budget | None = None,
        max_concurrency: int = 8,
        **options: Any,
    ):
        self.token = secrets.token_urlsafe(24)
        self.port = 0
        self._make_teacher = make_teacher
        self._options = {"journal": journal, "budget": budget, "max_concurrency": max_concurrency, **options}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self._dispatcher: Dispatcher | None = None
        self._talks: set[asyncio.Task[Any]] = set()

    @property
    def address(self) -> dict[str, Any]:
        """What [`SharedTeacher`] is made from. It holds a secret: keep it off the disk."""
        return {"port": self.port, "token": self.token}

    @property
    def info(self) -> TeacherInfo | None:
        """What the teacher says of itself, once the server has begun."""
        return self._dispatcher.info if self._dispatcher is not None else None

    @property
    def paid(self) -> Usage:
        """What all processes together have paid, in earlier comparisons with this journal too."""
        return self._dispatcher.spent if self._dispatcher is not None else Usage()

    @property
    def replayed(self) -> int:
        """Questions that the journal answered."""
        return self._dispatcher.replayed if self._dispatcher is not None else 0

    def __enter__(self) -> AnswerServer:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stopped is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
            if self._ready.is_set():
                logger.exception("The answer server ended.")
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        self._dispatcher = Dispatcher(self._make_teacher(), **self._options)
        try:
            await self._dispatcher.start()
            server = await asyncio.start_server(self._talk, _HOST, 0, limit=_LIMIT)
            self.port = server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stopped.wait()
            server.close()
            await self._land()
        finally:
            await self._dispatcher.aclose()

    async def _land(self) -> None:
        """Nobody is listened to any more; what the teacher was asked is paid for, so its answers are waited for."""
        assert self._dispatcher is not None
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await self._dispatcher.settled(self._options.get("request_timeout", _LANDING))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One process: a line with the token, then one line a question, answered in any order."""
        if (talk := asyncio.current_task()) is not None:
            self._talks.add(talk)
            talk.add_done_callback(self._talks.discard)
        tasks: set[asyncio.Task[None]] = set()
        who = ""
        try:
            hello = json.loads(await reader.readline() or b"{}")
            if not hmac.compare_digest(str(hello.get("token")), self.token):
                return
            who = str(hello.get("who", ""))
            while line := await reader.readline():
                task = asyncio.create_task(self._answer(json.loads(line), who, writer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except (OSError, ValueError):
            logger.debug("%s broke off.", who or "A client", exc_info=True)
        finally:
            for task in tasks:
                task.cancel()  # what is in flight lands in the journal all the same
            writer.close()

    async def _answer(self, question: dict[str, Any], who: str, writer: asyncio.StreamWriter) -> None:
        assert self._dispatcher is not None
        answer: dict[str, Any] = {"id": question["id"]}
        try:
            if question["do"] == "info":
                answer["info"] = vars(await self._dispatcher.start())
            elif question["do"] == "count":
                answer["count"] = await self._dispatcher.teacher.count_tokens(unpack_request(question["request"]))
            else:
                reply = await self._dispatcher.ask(unpack_request(question["request"]), kind=who)
                answer |= {"reply": reply_to_json(reply), "usage": vars(reply.usage)}
        except Exception as error:
            answer["error"] = pack_error(error)
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()


class SharedTeacher:
    """
    The teacher behind an [`AnswerServer`], from another process: a [`~teachers.Teacher`].

    Args:
        port (`int`): Where the server listens on this machine.
        token (`str`): Its secret.
        who (`str`, *optional*): Name of this process in the shared journal.
    """

    def __init__(self, port: int, token: str, *, who: str = ""):
        self._port = port
        self._hello = json.dumps({"token": token, "who": who}).encode() + b"\n"
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    async def info(self) -> TeacherInfo:
        return TeacherInfo(**{k: v for k, v in (await self._put("info"))["info"].items() if k in _INFO_FIELDS})

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        answer = await self._put("ask", request=pack_request(request))
        return reply_from_json(answer["reply"], Usage(**answer["usage"]))

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        return (await self._put("count", request=pack_request(request)))["count"]

    async def aclose(self) -> None:
        """Closes the connection; the next question opens another."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._writer is not None:
            self._writer.close()
        self._writer = self._listening = None

    async def _put(self, what: str, **content: Any) -> dict[str, Any]:
        writer = await self._connected()
        number = next(self._numbers)
        waiter = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            writer.write(json.dumps({"id": number, "do": what, **content}).encode() + b"\n")
            await writer.drain()
            answer = await waiter
        except OSError as error:
            raise _gone(error) from error
        finally:
            del self._waiting[number]
        if "error" in answer:
            raise unpack_error(answer["error"])
        return answer

    async def _connected(self) -> asyncio.StreamWriter:
        async with self._opening:
            if self._writer is None or self._listening is None or self._listening.done():
                try:
                    reader, self._writer = await asyncio.open_connection(_HOST, self._port, limit=_LIMIT)
                except OSError as error:
                    raise _gone(error) from error
                self._writer.write(self._hello)
                self._listening = asyncio.create_task(self._listen(reader))
            return self._writer

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        error: Exception | None = None
        try:
            while line := await reader.readline():
                answer = json.loads(line)
                waiter = self._waiting.get(answer["id"])
                if waiter is not None and not waiter.done():
                    waiter.set_result(answer)
        except (OSError, ValueError) as broken:
            error = broken
        for waiter in self._waiting.values():
            if not waiter.done():
                waiter.set_exception(_gone(error))


_INFO_FIELDS = frozenset(TeacherInfo.__dataclass_fields__)


def _gone(error: Exception | None) -> TeacherConnectionError:
    return TeacherConnectionError(f"The process that runs the comparison does not answer ({error or 'it closed'}).")


def forget_calls_in_flight(journal: str | Path) -> None:
    """
    Takes the calls that were cut off out of a run's own journal. There they count at their worst case; but the run
    asks them again of the [`AnswerServer`], whose journal holds what was really paid, and an arm that was interrupted
    shall have the same budget as one that was not.
    """
    path = Path(journal)
    if path.is_file():
        with contextlib.closing(schema.connect(path, readonly=False)) as db:
            db.execute("DELETE FROM calls WHERE state = 'sending'")


def pack_request(request: TeacherRequest) -> dict[str, Any]:
    """A request in JSON types."""
    body = {name: getattr(request, name) for name in ("prompt", "sample_index", "attempt")}
    messages = request.message_list() if request.messages is not None else None
    return {**body, "messages": messages, "params": vars(request.params)}


def unpack_request(packed: dict[str, Any]) -> TeacherRequest:
    """The reverse of [`pack_request`]: the same request under the same key."""
    params = dict(packed["params"])
    params["stop"] = tuple(params["stop"])
    params["extra"] = tuple((key, value) for key, value in params["extra"])
    options = {"sample_index": packed["sample_index"], "attempt": packed["attempt"]}
    if packed["messages"] is not None:
        return TeacherRequest.chat(packed["messages"], GenerationParams(**params), **options)
    return TeacherRequest.generate(packed["prompt"], GenerationParams(**params), **options)


def pack_error(error: Exception) -> dict[str, Any]:
    """An error in JSON types."""
    reached = isinstance(error, TeacherError) and error.reached_model
    return {"kind": type(error).__name__, "text": str(error), "reached_model": reached}


def unpack_error(packed: dict[str, Any]) -> Exception:
    """
    The error again. The dispatcher has repeated what can be repeated, so it is not worth another try; and the cap on
    what all runs pay is no budget of the run that met it: that run stops where it is and can be resumed.
    """
    kind = getattr(errors, packed["kind"], None)
    if kind is BudgetExhaustedError or not (isinstance(kind, type) and issubclass(kind, TeacherError)):
        text = "All runs together have paid for what `max_paid_tokens` allows; raise it and run the comparison again."
        return TeacherGoneError(text if kind is BudgetExhaustedError else f"{packed['kind']}: {packed['text']}")
    error = kind(packed["text"])
    error.retryable, error.reached_model = False, packed["reached_model"]
    return error
