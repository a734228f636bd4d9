"""What a server's refusal, or a broken connection, means: one table for all doors and transports."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from ..errors import (
    TeacherAuthError,
    TeacherConnectionError,
    TeacherError,
    TeacherGenerationError,
    TeacherInterruptedError,
    TeacherOverloadedError,
    TeacherProtocolError,
    TeacherRequestError,
)
from .address import Credentials


_MAX_SHOWN = 400
_CURES = {
    400: "The request is malformed for this server: check model name, parameters and chat template.",
    402: "The account has no credit left: top it up, or use another teacher.",
    404: "Check the URL and the model name: a chat needs /v1/chat/completions there, a plain prompt /generate.",
    405: "Check the URL: this route does not take such requests.",
    413: "The request is too large for this server (TGI takes 2,000,000 bytes): shorten prompt or few-shot examples.",
    415: "The server wants another content type: remove a custom content-type header.",
    422: "The server refuses these parameters or this length: see its words, and its limits with `info()`.",
    424: "The model failed while generating: see the server's log; another try may succeed.",
    429: "The server is at its limit: lower `max_concurrency`, or give it more capacity.",
    500: "The server failed while generating: see its log; another try may succeed.",
    502: "A proxy in front of the model got no good answer: another try may succeed.",
    503: "The server is not ready or restarting: another try may succeed.",
    504: "A proxy in front of the model ran out of patience: raise its time-out, or lower `max_new_tokens`.",
}
# TGI's `error_type`, and what it means when it arrives under status 200 (inside a stream).
_BY_TYPE: dict[str, type[TeacherError]] = {
    "validation": TeacherRequestError,
    "template_error": TeacherRequestError,
    "tool_error": TeacherRequestError,
    "input_validation": TeacherRequestError,
    "overloaded": TeacherOverloadedError,
    "healthcheck": TeacherOverloadedError,
    "generation": TeacherGenerationError,
    "incomplete_generation": TeacherGenerationError,
}


@dataclass
class Refusal:
    """A status of 300 or more, as it came: `headers` in lower case, `body` undecoded."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def error_from_refusal(refusal: Refusal, *, where: str, credentials: Credentials) -> TeacherError:
    """The named error of a refused request: server's words, status and cure, secrets taken out."""
    words, code = read_error_body(refusal.body)
    status = refusal.status
    if 300 <= status < 400:
        target = refusal.headers.get("location", "another place")
        message = f"{where} redirects to {target} (HTTP {status}): use that address as the teacher's URL."
        return TeacherRequestError(credentials.redactor.clean(message), status=status)
    kind = _class_of(status, code)
    if status in (401, 403):
        # Whether a token went along decides what the user has to do; a 401 of TGI has no words at all.
        cure = credentials.how()
    elif kind is TeacherAuthError:
        cure = _CURES[402]
    else:
        cure = _CURES.get(status, "See the server's log." if status >= 500 else _CURES[400])
    said = f": {words}" if words else ""
    message = credentials.redactor.clean(f"{where} answered HTTP {status}{said}. {cure}")
    return kind(message, status=status, retry_after=retry_after(refusal.headers))


def _class_of(status: int, code: str | None) -> type[TeacherError]:
    if status in (401, 402, 403) or code == "insufficient_quota":
        return TeacherAuthError
    if status in (408, 425, 429, 503):
        return TeacherOverloadedError
    if status == 424 or status >= 500:
        return TeacherGenerationError
    return TeacherRequestError


def error_from_payload(payload: Any, *, where: str, credentials: Credentials) -> TeacherError | None:
    """The error that a body under status 200 carries, `None` where it carries none."""
    if not isinstance(payload, dict) or not payload.get("error"):
        return None
    words, code = _words_of(payload)
    kind = _BY_TYPE.get(code or "", TeacherGenerationError)
    message = f"{where} answered HTTP 200, but with an error: {words} ({code or 'no error_type'})."
    if kind is TeacherRequestError:
        message += " " + _CURES[422]
    return kind(credentials.redactor.clean(message), status=200)


def read_error_body(body: bytes) -> tuple[str, str | None]:
    """The words and the machine-readable code of an error body: JSON of several dialects, text, HTML, nothing."""
    text = body[:100_000].decode("utf-8", "replace").strip()
    try:
        payload = json.loads(text)
    except ValueError:
        return _short(re.sub(r"<[^>]+>", " ", text) if text[:200].lstrip().startswith("<") else text), None
    return _words_of(payload)


def _words_of(payload: Any) -> tuple[str, str | None]:
    if not isinstance(payload, dict):
        return _short(json.dumps(payload, ensure_ascii=False)), None
    error = payload.get("error", payload)
    code = payload.get("error_type")
    if isinstance(error, dict):
        # OpenAI's dialect nests, vLLM's and FastAPI's older ones do not.
        words = error.get("message") or error.get("detail") or error
        code = code or error.get("code") or error.get("type")
    else:
        words = error
    words = words if isinstance(words, str) else json.dumps(words, ensure_ascii=False)
    return _short(words), str(code) if code is not None else None


def _short(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def retry_after(headers: Mapping[str, str]) -> float | None:
    """
    Seconds that the server asks to wait. A date is measured against the server's own `Date` header where there is one,
    so that a clock that is off here does not turn it into hours.
    """
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        until, now = _timestamp(value), _timestamp(headers.get("date", ""))
        if until is None:
            return None
        seconds = until - (time.time() if now is None else now)
    return max(0.0, seconds) if seconds == seconds and seconds != float("inf") else None


def _timestamp(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def never_reached(error: BaseException, *, where: str, credentials: Credentials) -> TeacherConnectionError:
    """The connection could not be made: nothing was sent."""
    words = _words(error)
    failure = TeacherConnectionError("")
    if "CERTIFICATE_VERIFY_FAILED" in words or "certificate verify failed" in words:
        cure = "Its certificate is not trusted: pass `ca_bundle` with the authority that signed it."
        failure.retryable = False
    else:
        cure = "Check that the server is up and that host and port are right."
    failure.args = (credentials.redactor.clean(f"{where} cannot be reached ({words}). {cure}"),)
    return failure


def broken_off(error: BaseException, *, where: str, credentials: Credentials) -> TeacherInterruptedError:
    """The connection broke, or the time ran out, after the request was sent."""
    words = _words(error)
    late = "timeout" in type(error).__name__.lower()
    what = "did not answer in time" if late else "broke the connection"
    cure = "Raise the time-out, or lower `max_new_tokens`." if late else "It may be restarting, or a proxy cut in."
    return TeacherInterruptedError(credentials.redactor.clean(f"{where} {what} ({words}). {cure}"))


def not_the_protocol(what: str, *, where: str, credentials: Credentials) -> TeacherProtocolError:
    """A 200 that cannot be read."""
    message = f"{where} answered HTTP 200, but {what}. Is it the kind of server that the URL's door expects?"
    return TeacherProtocolError(credentials.redactor.clean(message), status=200)


def _words(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {_short(text)}" if text else type(error).__name__
