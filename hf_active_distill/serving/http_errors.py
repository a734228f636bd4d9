"""
The error bodies of TGI's protocol. What the model refuses or fails at is JSON (`{"error", "error_type"}`); what is
wrong with the body before that is plain text, as the router's web framework writes it.
"""

from __future__ import annotations

from ..errors import TeacherError, TeacherRequestError
from ..exchange import TemplateError


class ApiError(Exception):
    """An answer with a JSON error body."""

    def __init__(self, status: int, error: str, error_type: str):
        super().__init__(error)
        self.status = status
        self.error_type = error_type

    def body(self) -> dict[str, str]:
        return {"error": str(self), "error_type": self.error_type}


class PlainError(Exception):
    """An answer with a plain-text body: the request never reached the router's own code."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def overloaded() -> ApiError:
    """More requests than `max_concurrent_requests`: refused at once, there is no queue."""
    return ApiError(429, "Model is overloaded", "overloaded")


def invalid(reason: str) -> ApiError:
    """A parameter out of its range, or an input that does not fit."""
    return ApiError(422, f"Input validation error: {reason}", "validation")


def as_api_error(error: Exception) -> ApiError:
    """What a backend raised, as the protocol says it."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TemplateError):
        return ApiError(422, f"Template error: {error}", "template_error")
    if isinstance(error, TeacherRequestError):
        return invalid(str(error))
    reason = str(error) if isinstance(error, TeacherError) else f"{type(error).__name__}: {error}"
    return ApiError(424, f"Request failed during generation: {reason}", "generation")
