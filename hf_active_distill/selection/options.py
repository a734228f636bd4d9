"""Shared by the strategies: checking options, turning numbers a step into one number, counting votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigurationError
from .base import Candidate, SignalRequest


AGGREGATES = ("mean", "max", "sum")

#: Log-probabilities below this (also minus infinity) count as this: a difference of two scores stays finite.
LOWEST_LOGPROB = -1e4


def require_choice(option: str, value: Any, choices: Sequence[str]) -> None:
    """Raises [`~errors.ConfigurationError`] that names the choices."""
    if value not in choices:
        raise ConfigurationError(f"`{option}` must be one of {', '.join(choices)}, not {value!r}.")


def require_range(
    option: str, value: float, lowest: float, highest: float = float("inf"), *, open_below: bool = False
) -> None:
    """Raises [`~errors.ConfigurationError`] for a number outside of `[lowest, highest]`, or `(lowest, highest]`."""
    # Written so that NaN fails.
    if not (lowest <= value <= highest) or (open_below and value == lowest):
        upper = "" if highest == float("inf") else f" and at most {highest}"
        raise ConfigurationError(
            f"`{option}` must be {'above' if open_below else 'at least'} {lowest}{upper}, not {value}."
        )


def aggregate_values(values: np.ndarray, aggregate: str, weights: np.ndarray | None = None) -> float:
    """
    Weighted mean, maximum of the weighted values, or weighted sum; 0 where there is nothing to aggregate. NaN entries
    are left out, with their weights.
    """
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones_like(values) if weights is None else np.asarray(weights, dtype=np.float64)
    readable = ~np.isnan(values)
    values, weights = values[readable], weights[readable]
    if values.size == 0:
        return 0.0
    if aggregate == "max":
        return float((weights * values).max())
    total = float((weights * values).sum())
    return total / float(weights.sum()) if aggregate == "mean" else total


def clean_logprobs(logprobs: np.ndarray) -> np.ndarray:
    """float64, minus infinity raised to `LOWEST_LOGPROB`; NaN stays NaN."""
    return np.maximum(np.asarray(logprobs, dtype=np.float64), LOWEST_LOGPROB)


def vote(answers: Sequence[str | None], answers_equal: Callable[[str | None, str | None], bool] | None) -> list[int]:
    """
    Sizes of the groups of equal answers, largest first. An answer joins the first group whose first member it equals;
    a missing answer equals nothing and is a group of its own.
    """
    groups: list[list[str]] = []
    alone = 0
    for answer in answers:
        if answer is None:
            alone += 1
            continue
        for group in groups:
            if answers_equal(group[0], answer) if answers_equal else group[0] == answer:
                group.append(answer)
                break
        else:
            groups.append([answer])
    return sorted((len(group) for group in groups), reverse=True) + [1] * alone


def signal_of(candidate: Candidate, request: SignalRequest) -> Any:
    """The candidate's value for a request, `None` where the student could not compute it."""
    return candidate.signals.get(request)
