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


def wilson_interval(count: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """
    Wilson's score interval of a share.

    Args:
        count (`int`), total (`int`): Of so many, so many.
        z (`float`, *optional*, defaults to `1.96`): Quantile of the normal distribution; the default is for 95%.
    """
    if not total:
        return 0.0, 1.0
    share, square = count / total, z * z
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = z / (1 + square / total) * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
