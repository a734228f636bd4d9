"""A backend that answers without a model, and a server for it on a real loopback socket."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager

import uvicorn

from hf_active_distill.errors import TeacherGenerationError
from hf_active_distill.exchange import ServedModel, ServedReply, ServedToken, TemplateError, TokenSpan, fit_length
from hf_active_distill.records import Usage
from hf_active_distill.serving.app import build_app
from hf_active_distill.serving.server import bind, url_of
from hf_active_distill.serving.validation import ServerOptions
from hf_active_distill.teachers.base import TopToken


class WordBackend:
    """Answers with fixed words, one token a word; ids are the words' positions."""

    def __init__(self, words=("Deep", " Learning", " is"), *, stop="length", seed=None):
        self.words = words
        self.stop = stop
        self.asked = []
        self._held = None
        self._loop = None
        self.cancelled = 0

    def hold(self):
        """Holds every answer back until `free` is called."""
        self._held = asyncio.Event()

    def free(self):
        """Lets all answers go, from another thread than the server's."""
        held, self._held = self._held, None
        self._loop.call_soon_threadsafe(held.set)

    def info(self):
        return ServedModel(model="words", max_input_tokens=63, max_total_tokens=64, dtype="float32")

    def tokenize(self, text):
        spans, start = [], 0
        for index, word in enumerate(text.split(" ")):
            spans.append(TokenSpan(index, word, start, start + len(word)))
            start += len(word) + 1
        return spans

    async def generate(self, prompt, params, on_token=None):
        return await self._answer(prompt, params)

    async def chat(self, messages, params, on_token=None):
        if messages and messages[0]["role"] == "system":
            raise TemplateError("System role not supported")
        return await self._answer(messages[-1]["content"], params)

    async def _answer(self, prompt, params):
        self._loop = asyncio.get_running_loop()
        self.asked.append((prompt, params))
        if prompt == "fail":
            raise TeacherGenerationError("the GPU is on fire")
        if prompt == "crash":
            raise ZeroDivisionError("division by zero")
        if self._held is not None:
            try:
                await asyncio.wait_for(self._held.wait(), 20)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        prompt_tokens = len(prompt.split(" "))
        fit_length(prompt_tokens, params, self.info())
        tokens = [ServedToken(index, word, -0.5 * (index + 1)) for index, word in enumerate(self.words)]
        top = [[TopToken(token.text, token.logprob, token.id)] for token in tokens] if params.top_logprobs else None
        prefill = None
        if params.prefill_logprobs:
            prefill = [TopToken(w, -1.0 if i else None, i) for i, w in enumerate(prompt.split(" "))]
        return ServedReply(
            text="".join(self.words),
            finish_reason="length" if self.stop == "length" else "stop",
            stopped_by_sequence=self.stop == "stop_sequence",
            usage=Usage(calls=1, prompt_tokens=prompt_tokens, completion_tokens=len(tokens)),
            tokens=tokens,
            top_tokens=top,
            prefill=prefill,
            seed=params.seed,
        )

    def close(self):
        pass


@contextmanager
def serve(backend, *, only="/", **options):
    """The application in a thread of this process; gives its URL. Only paths that begin with `only` are there."""
    app = build_app(backend, ServerOptions(**options))

    async def part(scope, receive, send):
        if not scope["path"].startswith(only):
            scope = {**scope, "path": "/not-here"}
        await app(scope, receive, send)

    listener = bind("127.0.0.1", 0)
    listener.listen()  # a request made before the loop runs waits instead of being refused
    config = uvicorn.Config(part, lifespan="off", log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def call(url, body=None, *, raw=None, method=None, headers=None, timeout=30):
    """One HTTP exchange: (status, headers, bytes). A body makes it a POST of JSON."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    request.add_header("Content-Type", "application/json")
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def post(url, body, **kwargs):
    """Status and parsed JSON of a POST."""
    status, _, answer = call(url, body, **kwargs)
    return status, json.loads(answer)


def events(url, body):
    """The `data:` lines of a stream, parsed; `[DONE]` stays text."""
    status, headers, answer = call(url, body)
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    lines = [line[len("data: ") :] for line in answer.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
