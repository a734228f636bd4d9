"""One call from its checked body to its reply: permits, best-of, streams. No web framework here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..exchange import ServedReply, ServedToken, ServingParams, TokenListener
from ..teachers.base import TopToken
from .backend import Backend
from .calls import Parameters
from .http_errors import as_api_error, overloaded
from .metrics import Metrics
from .validation import ServerOptions, check_best_of, check_parameters, check_stream


#: A prompt bound to a backend: called with parameters and a listener, it answers.
Ask = Callable[[ServingParams, TokenListener | None], Awaitable[ServedReply]]


@dataclass
class StreamedToken:
    """One token of a stream. `reply` is given with the last one."""

    token: ServedToken
    top: list[TopToken] | None
    reply: ServedReply | None = None


class Service:
    """
    Answers calls over a backend, at most `max_concurrent_requests` at once.

    Args:
        backend (`Backend`): Who writes.
        options (`ServerOptions`): Limits.
    """

    def __init__(self, backend: Backend, options: ServerOptions):
        self.backend = backend
        self.options = options
        self.model = backend.info()
        self.metrics = Metrics()
        self.running = 0

    async def answer(self, ask: Ask, parameters: Parameters) -> list[ServedReply]:
        """The reply, and with `best_of` the others after it; best first. Raises `ApiError`."""
        with self._counted():
            if parameters.best_of is not None and parameters.best_of != 1:
                count = check_best_of(parameters, self.options)
            else:
                count = 1
            asks = [asyncio.ensure_future(self._one(ask, parameters)) for _ in range(count)]
            try:
                replies = list(await asyncio.gather(*asks))
            finally:
                for pending in asks:
                    pending.cancel()
            best = max(range(count), key=lambda index: _mean_logprob(replies[index]))
            return [replies[best], *replies[:best], *replies[best + 1 :]]

    async def _one(self, ask: Ask, parameters: Parameters) -> ServedReply:
        with self._permit():
            start = time.monotonic()
            reply = await ask(check_parameters(parameters, self.options, self.model), None)
            self._book(reply, start)
            return reply

    async def stream(self, ask: Ask, parameters: Parameters) -> AsyncIterator[StreamedToken]:
        """The reply token by token as the backend writes it; raises `ApiError` in mid-stream."""
        with self._counted(), self._permit():
            start = time.monotonic()
            check_stream(parameters)
            params = check_parameters(parameters, self.options, self.model)
            queue: asyncio.Queue[StreamedToken | None] = asyncio.Queue()
            task = asyncio.ensure_future(ask(params, lambda token, top: queue.put_nowait(StreamedToken(token, top))))
            task.add_done_callback(lambda _: queue.put_nowait(None))
            try:
                # One token is held back: the last one carries the reply.
                held, sent = None, 0
                while (item := await queue.get()) is not None:
                    if held is not None:
                        yield held
                    held, sent = item, sent + 1
                reply = task.result()
                self._book(reply, start)
                for item in _finish(held, sent, reply):
                    yield item
            finally:
                task.cancel()

    @contextmanager
    def _permit(self) -> Iterator[None]:
        if self.running >= self.options.max_concurrent_requests:
            raise overloaded()
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Every error that leaves here is an `ApiError`, and counted."""
        self.metrics.started()
        try:
            yield
        except Exception as error:
            api_error = as_api_error(error)
            self.metrics.failed(api_error.error_type)
            raise api_error from error

    def _book(self, reply: ServedReply, start: float) -> None:
        usage = reply.usage
        self.metrics.succeeded(usage.prompt_tokens, usage.completion_tokens, time.monotonic() - start)


def _finish(held: StreamedToken | None, sent: int, reply: ServedReply) -> list[StreamedToken]:
    """What is left to send once the reply is there; a backend may have announced none of its tokens."""
    rest = [held] if held is not None else []
    for index in range(sent, len(reply.tokens)):
        rest.append(StreamedToken(reply.tokens[index], reply.top_tokens[index] if reply.top_tokens else None))
    if not rest:
        rest.append(StreamedToken(ServedToken(0, reply.text, None), None))
    rest[-1].reply = reply
    return rest


def _mean_logprob(reply: ServedReply) -> float:
    known = [token.logprob for token in reply.tokens if token.logprob is not None]
    return sum(known) / len(known) if known else 0.0
