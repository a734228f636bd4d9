"""
A loopback HTTP server that misbehaves on demand: what a teacher's client has to live with, over real sockets.

    with FaultServer(tgi_routes()) as server:
        server.routes["/generate"] = [FAULTS["overloaded"], generated("fine")]
        ...  # talk to server.url
        assert server.count("/generate") == 2

A route is an `Answer`, a list of them (one a request; the last one stays), or a function from the request to an
`Answer`. The bodies are written from TGI's published API, not from a server of this project. Standard library only.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    """
    What the server does with one request.

    Args:
        body: Bytes as they are, text as UTF-8, anything else as JSON.
        delay: Seconds before the first byte.
        cut_after: Sends that many bytes of the body, then resets the connection.
        stall_after: Sends that many bytes of the body, then says nothing until the server is left.
        drop: Closes the connection without an answer.
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str | None = None
    delay: float = 0.0
    cut_after: int | None = None
    stall_after: int | None = None
    drop: bool = False

    def payload(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    def media_type(self) -> str | None:
        if self.content_type is not None or self.body in (b"", ""):
            return self.content_type
        return "text/plain; charset=utf-8" if isinstance(self.body, (bytes, str)) else "application/json"


@dataclass
class Seen:
    """One request as it arrived; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Route = Answer | list[Answer] | Callable[[Seen], Answer]


class FaultServer:
    """
    Serves `routes` on a free loopback port, in a thread of its own, until the `with` block is left; over TLS where it
    is given a context.
    """

    def __init__(self, routes: dict[str, Route] | None = None, tls: ssl.SSLContext | None = None):
        self.routes: dict[str, Route] = dict(routes or {})
        self._tls = tls
        self.requests: list[Seen] = []
        self.connections = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        return f"{'http' if self._tls is None else 'https'}://127.0.0.1:{self.port}"

    def count(self, path: str) -> int:
        """Requests that arrived at a route."""
        return sum(seen.path == path for seen in self.requests)

    def last(self, path: str) -> Seen:
        """The newest request to a route."""
        return next(seen for seen in reversed(self.requests) if seen.path == path)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, *exc: Any) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()

    def start(self) -> None:
        """Listens, on the port it had before where it was stopped."""
        self._run(self._start())

    def stop(self) -> None:
        """Refuses new connections and resets the open ones: what a killed server looks like."""
        self._run(self._stop())

    def _run(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**26, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            _reset(writer)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections += 1
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        seen = Seen(method, target.partition("?")[0], headers, body)
        answer = self._answer(seen)
        self.requests.append(seen)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.drop:
            return False
        return await self._send(answer, writer)

    def _answer(self, seen: Seen) -> Answer:
        route = self.routes.get(seen.path, Answer(status=404))
        if isinstance(route, list):
            return route.pop(0) if len(route) > 1 else route[0]
        return route if isinstance(route, Answer) else route(seen)

    async def _send(self, answer: Answer, writer: asyncio.StreamWriter) -> bool:
        payload = answer.payload()
        headers = {"content-length": str(len(payload)), **answer.headers}
        if answer.media_type() is not None:
            headers.setdefault("content-type", answer.media_type() or "")
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        part = answer.cut_after if answer.cut_after is not None else answer.stall_after
        writer.write("\r\n".join(lines).encode() + payload[:part])
        await writer.drain()
        if answer.cut_after is not None:
            _reset(writer)
            return False
        if answer.stall_after is not None:
            await asyncio.Event().wait()
        return True


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        # Linger of zero seconds: the peer sees a reset, not an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


TGI_INFO = {
    "model_id": "teacher/model",
    "model_sha": "0123456789abcdef0123456789abcdef01234567",
    "model_pipeline_tag": "text-generation",
    "max_concurrent_requests": 128,
    "max_best_of": 2,
    "max_stop_sequences": 4,
    "max_input_tokens": 4095,
    "max_total_tokens": 4096,
    "validation_workers": 2,
    "max_client_batch_size": 4,
    "router": "text-generation-router",
    "version": "3.3.4",
    "sha": None,
    "docker_label": None,
}


def generated(text: Any, *, finish: str = "eos_token", **details: Any) -> Answer:
    """TGI's answer to `/generate`."""
    body = {
        "finish_reason": finish,
        "generated_tokens": 3,
        "seed": None,
        "prefill": [],
        "tokens": [{"id": 7, "text": "x", "logprob": -0.25, "special": False}],
        **details,
    }
    return Answer({"generated_text": text, "details": body})


def chatted(text: Any, *, finish: str = "stop", logprobs: Any = None, usage: Any = True, **message: Any) -> Answer:
    """TGI's answer to `/v1/chat/completions`; `usage=None` leaves the figures out."""
    figures = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16} if usage is True else usage
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "logprobs": logprobs,
        "finish_reason": finish,
    }
    body = {
        "id": "",
        "object": "chat.completion",
        "created": 1763600000,
        "model": "teacher/model",
        "system_fingerprint": "3.3.4-native",
        "choices": [choice],
    }
    return Answer(body if figures is None else {**body, "usage": figures})


def refused(status: int, words: str, error_type: str, **headers: str) -> Answer:
    """TGI's JSON error."""
    return Answer(
        {"error": words, "error_type": error_type}, status, {k.replace("_", "-"): v for k, v in headers.items()}
    )


def tgi_routes(text: str = "fine") -> dict[str, Route]:
    """A well-behaved TGI server that always says the same; one token a word."""

    def tokenize(seen: Seen) -> Answer:
        words = seen.json["inputs"].split()
        return Answer([{"id": i, "text": word, "start": 0, "stop": 0} for i, word in enumerate(words)])

    return {
        "/info": Answer(TGI_INFO),
        "/health": Answer(),
        "/generate": generated(text),
        "/v1/chat/completions": chatted(text),
        "/tokenize": tokenize,
    }


def openai_routes(text: str = "fine", owned_by: str = "vllm", model: str = "served/model") -> dict[str, Route]:
    """A well-behaved OpenAI-compatible server."""
    card = {"id": model, "object": "model", "created": 1763600000, "owned_by": owned_by, "max_model_len": 2048}
    completion = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1763600000,
        "model": model,
        "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6},
    }
    return {
        "/v1/models": Answer({"object": "list", "data": [card]}),
        "/v1/chat/completions": chatted(text),
        "/v1/completions": Answer(completion),
    }


# Every fault that stands in one answer, by name.
FAULTS: dict[str, Answer] = {
    "unauthorized": Answer(status=401),
    "forbidden": Answer({"error": "no access"}, 403),
    "not_found": Answer(status=404),
    "too_large": Answer("Failed to buffer the request body: length limit exceeded", 413),
    "invalid": refused(
        422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096", "validation"
    ),
    "invalid_plain": Answer("Failed to deserialize the JSON body into the target type: inputs: invalid type", 422),
    "template": refused(422, "Template error: unknown role", "template_error"),
    "generation": refused(424, "Request failed during generation: CUDA out of memory", "generation"),
    "overloaded": refused(429, "Model is overloaded", "overloaded"),
    "overloaded_wait": refused(429, "Model is overloaded", "overloaded", retry_after="7"),
    "incomplete": refused(500, "Incomplete generation", "incomplete_generation"),
    "internal": Answer("Internal Server Error", 500),
    "unhealthy": refused(503, "Model is not healthy", "healthcheck"),
    "gateway": Answer("<html><body><h1>502 Bad Gateway</h1></body></html>", 502, content_type="text/html"),
    "reset_before": Answer(b"", drop=True),
    "reset_mid_body": Answer({"generated_text": "x" * 4000}, cut_after=100),
    "stalled": Answer({"generated_text": "x" * 4000}, stall_after=100),
    "invalid_json": Answer('{"generated_text": "fi', content_type="application/json"),
    "wrong_shape": Answer({"answer": 42}),
    "wrong_type": Answer([1, 2, 3]),
    "not_utf8": Answer(b'{"generated_text": "\xff\xfe", "choices": []}', content_type="application/json"),
    "stream_error": Answer(
        'data:{"error":"Request failed during generation: oom","error_type":"generation"}\n\n',
        content_type="text/event-stream",
    ),
    "error_in_200": Answer({"error": "Model is overloaded", "error_type": "overloaded"}),
}
