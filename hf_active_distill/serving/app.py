"""The routes: TGI's HTTP protocol as a Starlette application."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from ..exchange import ServedReply, ServingParams, TokenListener
from . import bodies
from .backend import Backend
from .calls import ChatCall, CompletionCall, GenerateCall, read_chat, read_completion, read_generate
from .fields import parse_json, shape_error
from .http_errors import ApiError, PlainError, as_api_error, invalid
from .openapi import openapi_description
from .service import Ask, Service
from .validation import ServerOptions


T = TypeVar("T")
Handler = Callable[[Any], Awaitable[Response]]

# A body over the limit is read to its end up to here, so that a client that is still sending gets the answer rather
# than a broken connection.
_DRAIN_BYTES = 64_000_000


def build_app(backend: Backend, options: ServerOptions | None = None) -> Starlette:
    """
    The teacher server as an ASGI application.

    Args:
        backend (`Backend`): Who writes the answers.
        options (`ServerOptions`, *optional*): Limits and the bearer token; TGI's defaults without.
    """
    routes = Routes(Service(backend, options or ServerOptions()))
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/ping", routes.health),
            Route("/info", routes.info),
            Route("/v1/models", routes.models),
            Route("/metrics", routes.metrics),
            Route("/openapi.json", routes.openapi),
            Route("/", routes.guarded(routes.compat), methods=["POST"]),
            Route("/generate", routes.guarded(routes.generate), methods=["POST"]),
            Route("/generate_stream", routes.guarded(routes.generate_stream), methods=["POST"]),
            Route("/v1/chat/completions", routes.guarded(routes.chat), methods=["POST"]),
            Route("/v1/completions", routes.guarded(routes.completions), methods=["POST"]),
            Route("/invocations", routes.guarded(routes.invocations), methods=["POST"]),
            Route("/tokenize", routes.guarded(routes.tokenize), methods=["POST"]),
        ],
        exception_handlers={ApiError: _api_error, PlainError: _plain_error, HTTPException: _no_route},
    )


async def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status)


async def _plain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlainError)
    return PlainTextResponse(str(error), error.status)


async def _no_route(request: Request, error: Exception) -> Response:
    """Unknown paths and methods are answered with an empty body."""
    assert isinstance(error, HTTPException)
    return Response(status_code=error.status_code, headers=error.headers)


class Routes:
    """The endpoints over one [`Service`]."""

    def __init__(self, service: Service):
        self._service = service
        key = service.options.api_key
        self._authorization = None if key is None else f"Bearer {key}".encode()

    def guarded(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Bearer token first, then the body, then the endpoint, which stops when the client goes away."""

        async def endpoint(request: Request) -> Response:
            if self._authorization is not None:
                given = request.headers.get("authorization", "").encode("latin-1")
                if not hmac.compare_digest(given, self._authorization):
                    return Response(status_code=401)
            data = await _read_body(request, self._service.options.max_body_bytes)
            return await _while_connected(request, handler(data))

        return endpoint

    async def health(self, request: Request) -> Response:
        return Response()

    async def info(self, request: Request) -> Response:
        return JSONResponse(bodies.info_body(self._service.model, self._service.options))

    async def models(self, request: Request) -> Response:
        return JSONResponse(bodies.models_body(self._service.model))

    async def metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._service.metrics.render(self._service.running))

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(openapi_description())

    async def compat(self, data: Any) -> Response:
        call = read_generate(data)
        return self._generate_events(call) if call.stream else await self._generate(call, wrapped=True)

    async def generate(self, data: Any) -> Response:
        return await self._generate(read_generate(data), wrapped=False)

    async def generate_stream(self, data: Any) -> Response:
        return self._generate_events(read_generate(data))

    async def chat(self, data: Any) -> Response:
        call = read_chat(data)
        if call.stream:
            return _events(self._chat_stream(call), done=True)
        replies = await self._service.answer(self._ask_chat(call), call.parameters)
        body = bodies.chat_body(replies[0], self._service.model, logprobs=call.logprobs)
        return JSONResponse(body, headers=_headers(replies))

    async def completions(self, data: Any) -> Response:
        call = read_completion(data)
        limit = self._service.options.max_client_batch_size
        if len(call.prompts) > limit:
            reason = f"Number of prompts exceeds the maximum allowed batch size of {limit}"
            raise ApiError(422, reason, "batch size exceeded")
        if call.stream:
            return _events(self._completion_stream(call), done=True)
        tasks = [self._service.answer(self._ask_text(prompt), call.parameters) for prompt in call.prompts]
        replies = [answers[0] for answers in await asyncio.gather(*tasks)]
        return JSONResponse(bodies.completion_body(replies, self._service.model), headers=_headers(replies))

    async def invocations(self, data: Any) -> Response:
        """SageMaker's single route: the body's fields say which of the three it is."""
        known = data if isinstance(data, dict) else {}
        if "inputs" in known:
            return await self.compat(data)
        if "messages" in known:
            return await self.chat(data)
        if "prompt" in known:
            return await self.completions(data)
        raise shape_error("", "data did not match any variant of untagged enum SagemakerRequest")

    async def tokenize(self, data: Any) -> Response:
        call = read_generate(data)
        try:
            spans = self._service.backend.tokenize(call.inputs)
        except Exception as error:
            raise as_api_error(error) from error
        return JSONResponse([vars(span) for span in spans])

    async def _generate(self, call: GenerateCall, *, wrapped: bool) -> Response:
        replies = await self._service.answer(self._ask_text(call.inputs), call.parameters)
        parameters = call.parameters
        body = bodies.generation_body(
            replies,
            details=parameters.details or parameters.decoder_input_details,
            prompt=call.inputs if parameters.return_full_text else "",
        )
        return JSONResponse([body] if wrapped else body, headers=_headers(replies))

    def _generate_events(self, call: GenerateCall) -> Response:
        return _events(self._generate_stream(call))

    async def _generate_stream(self, call: GenerateCall) -> AsyncIterator[dict[str, Any]]:
        parameters, index = call.parameters, 0
        async for item in self._service.stream(self._ask_text(call.inputs), parameters):
            index += 1
            prompt = call.inputs if parameters.return_full_text else ""
            yield bodies.stream_event(
                index, item.token, item.top, item.reply, details=parameters.details, prompt=prompt
            )

    async def _chat_stream(self, call: ChatCall) -> AsyncIterator[dict[str, Any]]:
        model = self._service.model
        async for item in self._service.stream(self._ask_chat(call), call.parameters):
            yield bodies.chat_chunk(item.token, item.top, item.reply, model, logprobs=call.logprobs)
            if item.reply is not None and call.include_usage:
                yield bodies.chat_usage_chunk(item.reply, model)

    async def _completion_stream(self, call: CompletionCall) -> AsyncIterator[dict[str, Any]]:
        for index, prompt in enumerate(call.prompts):
            async for item in self._service.stream(self._ask_text(prompt), call.parameters):
                yield bodies.completion_chunk(index, item.token, item.reply, self._service.model)

    def _ask_text(self, prompt: str) -> Ask:
        def ask(params: ServingParams, on_token: TokenListener | None) -> Awaitable[ServedReply]:
            if not prompt:
                raise invalid("`inputs` cannot be empty")
            return self._service.backend.generate(prompt, params, on_token)

        return ask

    def _ask_chat(self, call: ChatCall) -> Ask:
        def ask(params: ServingParams, on_token: TokenListener | None) -> Awaitable[ServedReply]:
            return self._service.backend.chat(call.messages, params, on_token)

        return ask


async def _read_body(request: Request, limit: int) -> Any:
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise PlainError(415, "Expected request with `Content-Type: application/json`")
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        elif size > _DRAIN_BYTES:
            break
    if size > limit:
        raise PlainError(413, "Failed to buffer the request body: length limit exceeded")
    return parse_json(b"".join(chunks))


async def _while_connected(request: Request, work: Awaitable[T]) -> T:
    """Waits for `work`, and cancels it when the client goes away: nobody would read what is still to be written."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(request.receive())  # the body is read: only a disconnect can come
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise HTTPException(499)
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


def _events(items: AsyncIterator[dict[str, Any]], *, done: bool = False) -> Response:
    """Server-sent events. An error is an event too: the status was sent before it."""

    async def lines() -> AsyncIterator[str]:
        try:
            async for item in items:
                yield _event(item)
        except ApiError as error:
            yield _event(error.body())
        if done:
            yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _headers(replies: list[ServedReply]) -> dict[str, str]:
    usage = bodies.usage_body(replies)
    return {
        "x-prompt-tokens": str(usage["prompt_tokens"]),
        "x-generated-tokens": str(usage["completion_tokens"]),
    }
