"""What a page may hold: numbers that JSON knows, and texts of a bounded length."""

from __future__ import annotations

import math
from typing import Any


SIGNIFICANT = 6  # digits of a figure; more would make the page larger and tell nobody anything


def number(value: Any) -> float | int | None:
    """The value as JSON holds it; `None` for what is no finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value
    return float(f"{value:.{SIGNIFICANT}g}") if math.isfinite(value) else None


def clip(text: str, limit: int) -> str:
    """At most `limit` characters of a text, and how many more there are."""
    return text if len(text) <= limit else f"{text[:limit]}… [{len(text) - limit:,} more characters]"


def without_empty(values: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what is absent: a page of many rows is mostly keys otherwise."""
    return {key: value for key, value in values.items() if value is not None and value != [] and value is not False}
