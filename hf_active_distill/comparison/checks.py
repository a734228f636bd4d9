"""What may stand in a field of a comparison: each check gives the value as it is meant, or says what to write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError
from .secrecy import seen, tokens_in


_ELSEWHERE = "leave it out of the file, which others may see, and set HF_TOKEN in the environment."
#: Settings of a run that the comparison itself decides, or that mean nothing in one, and what to write instead.
OWN_SETTINGS = {
    "compare": "add an arm",
    "journal_path": "all runs share the journal in `output_dir`",
    "max_teacher_tokens": "use the field `budgets`",
    "output_dir": "use the field `output_dir` of the comparison",
    "plan": "`hf-active-distill plan` takes the settings of one run",
    "resume_from_checkpoint": "runs resume by themselves",
    "seed": "use the field `seeds`",
    "teacher": "use the field `teacher` of the comparison",
    "teacher_client": "use the field `teacher_kwargs: {client: ...}`",
    "teacher_error_rate": "use the field `teacher_kwargs: {error_rate: ...}`",
    "teacher_model": "use the field `teacher: local:PATH` of the comparison",
}
#: Settings of the one process that asks for all runs.
SETTINGS_OF_ALL = ("teacher_max_retries", "teacher_timeout")
_LARGEST_SEED, _MOST_SEEDS = 2**32 - 1, 10_000


def text(value: Any, name: str, example: str) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"`{name}` is a text such as `{example}`, got {seen(value)}.")
    return value


def flag(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ConfigurationError(f"`{name}` is `true` or `false`, got {seen(value)}.")
    return value


def whole(value: Any) -> int | None:
    """The whole number that a value is, `None` where it is none. YAML reads `4e3` as text and `4.0e+3` as 4000.0."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) != math.inf and int(value) == value else None


def count(value: Any, name: str) -> int:
    """A whole number from 1."""
    found = whole(value)
    if found is None or found < 1:
        raise ConfigurationError(f"`{name}` is a whole number of at least 1, got {seen(value)}.")
    return found


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Names with values; nothing at all is the empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"`{name}` holds names with values, such as `{{num_rounds: 3}}`, got {seen(value)}.")
    return dict(value)


def settings(value: Any, name: str) -> dict[str, Any]:
    """Settings of runs: no secrets, and nothing that the comparison decides."""
    found = mapping(value, name)
    for token in tokens_in(found):
        raise ConfigurationError(f"`{name}` holds a `{token}`: {_ELSEWHERE}")
    for key in OWN_SETTINGS:
        if key in found:
            raise ConfigurationError(
                f"`{name}` sets `{key}`, which the comparison decides itself: {OWN_SETTINGS[key]}."
            )
    for key in SETTINGS_OF_ALL:
        if key in found and name != "base":
            raise ConfigurationError(f"`{name}` sets `{key}`, but one process asks for all runs: set it in `base`.")
    return found


def base_settings(value: Any) -> dict[str, Any]:
    """`base`: settings of runs, and how the one process asks."""
    found = settings(value, "base")
    seconds, retries = found.get("teacher_timeout", 1.0), found.get("teacher_max_retries", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
        raise ConfigurationError(f"`base` sets `teacher_timeout`: a number of seconds above 0, got {seconds!r}.")
    if (tries := whole(retries)) is None or tries < 0:
        raise ConfigurationError(f"`base` sets `teacher_max_retries`: a whole number from 0, got {retries!r}.")
    return found | ({"teacher_max_retries": tries} if "teacher_max_retries" in found else {})


def teacher_options(value: Any) -> dict[str, Any]:
    """`teacher_kwargs`: options, but not the token."""
    found = mapping(value, "teacher_kwargs")
    if "token" in found:
        raise ConfigurationError(f"`teacher_kwargs` holds a token: {_ELSEWHERE}")
    return found


def arms(value: Any) -> list[dict[str, Any]]:
    """A list of arms, at least one."""
    if not _is_list(value) or not value or not all(isinstance(entry, Mapping) for entry in value):
        raise ConfigurationError(
            "`arms` is a list with at least one arm such as `- {selection: random, annotation: cot}`, each with "
            f"names and values, got {seen(value)}."
        )
    return [mapping(entry, "arms") for entry in value]


def names(value: Any, name: str) -> list[str]:
    """One name or several."""
    found = list(value) if _is_list(value) else [value]
    if not found or not all(isinstance(item, str) and item for item in found):
        raise ConfigurationError(f"`{name}` of an arm is a name or a list of names, got {seen(value)}.")
    return found


def budgets(value: Any) -> list[int]:
    """Numbers of tokens, rising; one number is a list of one."""
    given = list(value) if _is_list(value) else [value]
    found = [number for item in given if (number := whole(item)) is not None]
    if not found or len(found) < len(given) or found != sorted(set(found)) or found[0] < 1:
        raise ConfigurationError(
            f"`budgets` are numbers of teacher tokens in rising order, such as `[4000, 8000]`, got {seen(value)}."
        )
    return found


def seeds(value: Any) -> tuple[int, ...]:
    """The seeds: those of a list, or the first `n`."""
    if not _is_list(value):
        number = whole(value)
        value, given = (range(number) if number is not None and number <= _MOST_SEEDS else (), value)
    else:
        given = value
    found = [number for item in value if (number := whole(item)) is not None]
    right = found and len(set(found)) == len(value) and min(found) >= 0 and max(found) <= _LARGEST_SEED
    if not right:
        raise ConfigurationError(
            f"`seeds` are different whole numbers from 0, such as `[0, 1, 2]`, or how many of them, got {seen(given)}."
        )
    return tuple(found)


def targets(value: Any) -> list[float | str]:
    """Metrics and names of arms; one is a list of one, and nothing is none."""
    given = list(value) if _is_list(value) else [] if value is None else [value]
    return [_target(item) for item in given]


def _target(value: Any) -> float | str:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return value
    if isinstance(value, str) and value:
        return value
    raise ConfigurationError(f"`targets` are numbers or arms, such as `[0.6, random+cot]`, got {seen(value)}.")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
