"""
TGI's own client package as a transport. Importable only where it is installed (extra `tgi`, huggingface_hub below
1.0); the door imports this module when asked for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError as SchemaError
from text_generation.errors import ValidationError
from text_generation.types import ChatRequest, Parameters, Request

from ..errors import TeacherRequestError
from .transport import DirectTransport


class TextGenerationTransport(DirectTransport):
    """
    `text_generation`: its types check a request before it is sent.

    The sending is the wire's: the package's own loses the status, the headers and every body that is not JSON, sends
    explicit nulls, and drops the fields of a chat that TGI gained later and the reasoning in its answers.
    """

    async def chat(self, body: Mapping[str, Any]) -> Any:
        known = {key: value for key, value in body.items() if key in ChatRequest.model_fields}
        further = {key: value for key, value in body.items() if key not in known}
        return await super().chat({**_checked(ChatRequest, known), **further})

    async def generate(self, inputs: str, parameters: Mapping[str, Any]) -> Any:
        # The grammar's type knows no nulls inside a schema: it goes as it is, like what the client does not know.
        known = {
            key: value for key, value in parameters.items() if key in Parameters.model_fields and key != "grammar"
        }
        further = {key: value for key, value in parameters.items() if key not in known}
        request = _checked(Request, {"inputs": inputs, "parameters": known})
        return await super().generate(inputs, {**request["parameters"], **further})


def _checked(kind: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return kind(**fields).model_dump(mode="json", exclude_none=True)
    except (ValidationError, SchemaError) as error:
        # What the server would answer with 422, found out before sending.
        raise TeacherRequestError(f"The request is invalid: {error}", status=422) from None
