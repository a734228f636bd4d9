"""What the Hub answers when it refuses."""

from __future__ import annotations


class HubError(Exception):
    """
    A refusal.

    Args:
        status (`int`): HTTP status.
        message (`str`): Sent in the body and as `X-Error-Message`.
        code (`str`, *optional*): `X-Error-Code`, from which clients choose the exception they raise.
        headers (`dict[str, str]`, *optional*): Further headers.
        body (`dict`, *optional*): Sent instead of `{"error": message}`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        headers: dict[str, str] | None = None,
        body: dict | None = None,
    ):
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers or {}
        self.body = body


def not_found(what: str, code: str, **options) -> HubError:
    return HubError(404, what, code, **options)
