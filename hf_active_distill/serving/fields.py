"""
Typed reading of a JSON body. TGI's router is strict about types before it looks at values, and says so in plain text
under status 400 (not JSON) or 422 (JSON of another shape).
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from .http_errors import PlainError


_RANGES = {
    "u32": (0, 2**32 - 1),
    "u64": (0, 2**64 - 1),
    "usize": (0, 2**64 - 1),
    "i32": (-(2**31), 2**31 - 1),
}


def parse_json(body: bytes) -> Any:
    """Strict JSON: no NaN, no lone surrogates, bounded depth; 400 in plain text otherwise."""
    try:
        text = body.decode("utf-8")
        data = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(data, ensure_ascii=False).encode("utf-8")  # a lone surrogate cannot be encoded
    except RecursionError:
        raise PlainError(400, "Failed to parse the request body as JSON: recursion limit exceeded") from None
    except ValueError as error:
        raise PlainError(400, f"Failed to parse the request body as JSON: {error}") from None
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"invalid number: {name}")


def shape_error(path: str, problem: str) -> PlainError:
    """422 in plain text: JSON of another shape than the route takes."""
    where = f"{path}: " if path else ""
    return PlainError(422, f"Failed to deserialize the JSON body into the target type: {where}{problem}")


def describe(value: Any) -> str:
    """A JSON value as the error message names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        return f"floating point `{value}`"
    if isinstance(value, str):
        return f"string {json.dumps(value[:80])}"
    return "sequence" if isinstance(value, list) else "map"


class Fields:
    """
    One JSON object, read field by field. A missing field gives the default; so does null where `nullable`.

    Args:
        data (`Any`): The parsed value; anything but an object is refused.
        path (`str`, *optional*, defaults to `""`): Where it stands in the body, for messages.
    """

    def __init__(self, data: Any, path: str = ""):
        if not isinstance(data, dict):
            raise shape_error(path, f"invalid type: {describe(data)}, expected a map")
        self._data = data
        self._path = path

    def at(self, name: str) -> str:
        """Path of a field of this object."""
        return f"{self._path}.{name}" if self._path else name

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._data.get(name) is not None

    def raw(self, name: str) -> Any:
        """The value as it stands, `None` where it is missing."""
        return self._data.get(name)

    def _value(self, name: str, expected: str, nullable: bool) -> Any:
        value = self._data.get(name)
        if value is None and name in self._data and not nullable:
            raise self.wrong(name, expected)
        return value

    def wrong(self, name: str, expected: str) -> PlainError:
        """The error for a field of another type than `expected`."""
        return shape_error(self.at(name), f"invalid type: {describe(self._data.get(name))}, expected {expected}")

    def text(self, name: str) -> str:
        """A string that must be there."""
        if name not in self._data:
            raise shape_error(self._path, f"missing field `{name}`")
        value = self._data[name]
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def flag(self, name: str, *, nullable: bool = False) -> bool | None:
        """A boolean."""
        value = self._value(name, "a boolean", nullable)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "a boolean")
        return value

    def integer(self, name: str, kind: str = "u32") -> int | None:
        """An integer within the range of its kind."""
        value = self._value(name, kind, nullable=True)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(name, kind)
        low, high = _RANGES[kind]
        if not low <= value <= high:
            raise shape_error(self.at(name), f"invalid value: {describe(value)}, expected {kind}")
        return value

    def number(self, name: str) -> float | None:
        """A finite number."""
        value = self._value(name, "f32", nullable=True)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 3.4e38 or math.isnan(value):
            raise self.wrong(name, "f32")
        return float(value)

    def strings(self, name: str, *, nullable: bool = False) -> tuple[str, ...]:
        """A list of strings."""
        value = self._value(name, "a sequence", nullable)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.wrong(name, "a sequence of strings")
        return tuple(value)

    def objects(self, name: str) -> list[Fields]:
        """A list of objects that must be there."""
        if name not in self._data:
            raise shape_error(self._path, f"missing field `{name}`")
        value = self._data[name]
        if not isinstance(value, list):
            raise self.wrong(name, "a sequence")
        return [Fields(item, f"{self.at(name)}[{index}]") for index, item in enumerate(value)]
