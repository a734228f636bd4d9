"""Grammars in the forms that servers take them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import TeacherRequestError


def tgi_grammar(grammar: Mapping[str, Any]) -> dict[str, Any]:
    """
    The grammar in TGI's form. A schema may come as text or inside OpenAI's `json_schema`; TGI refuses one without
    `properties`, so an object schema gets an empty one.
    """
    kind, value = grammar.get("type"), grammar.get("value")
    if kind == "regex" and isinstance(value, str) and value:
        return {"type": "regex", "value": value}
    if kind in ("json", "json_schema", "json_object"):
        schema = json_schema(grammar)
        if "properties" not in schema and "$ref" not in schema and schema.get("type", "object") == "object":
            schema = {**schema, "properties": {}}
        return {"type": "json", "value": schema}
    raise TeacherRequestError(
        f"A grammar is {{'type': 'json', 'value': schema}} or {{'type': 'regex', 'value': pattern}}, not {grammar!r}."
    )


def json_schema(grammar: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON schema that a grammar of type `json` carries, whichever of the usual forms it has."""
    value = grammar.get("value", grammar.get("json_schema"))
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise TeacherRequestError(f"The grammar's JSON schema is not JSON ({error}).") from None
    if isinstance(value, Mapping) and isinstance(value.get("schema"), Mapping):
        value = value["schema"]
    if not isinstance(value, Mapping):
        raise TeacherRequestError("A grammar of type 'json' needs a JSON schema as its value.")
    return dict(value)


def openai_grammar(grammar: Mapping[str, Any], server: str | None) -> dict[str, Any]:
    """
    Body fields that bind an OpenAI-compatible server's reply to a grammar. A schema goes as `response_format`, which
    all of them share; a regular expression has no common form, so the server's software decides. Empty where it has
    none.
    """
    if grammar.get("type") == "regex":
        pattern = grammar["value"]
        if server == "sglang":
            return {"regex": pattern}
        return {"structured_outputs": {"regex": pattern}} if server == "vllm" else {}
    schema = json_schema(grammar)
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}}
