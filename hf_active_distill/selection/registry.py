"""Strategies by name, and whatever a user hands in as one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np

from ..errors import ConfigurationError, SelectionError
from .base import Candidate, SelectionContext, SelectionResult, SelectionStrategy, SignalRequest
from .ranking import best


Factory = Callable[..., SelectionStrategy]
SelectionFunction = Callable[[SelectionContext], SelectionResult | Mapping[str, float] | list[str]]
#: Whatever [`as_strategy`] takes: a name, a name with options, a strategy, a function.
StrategyLike: TypeAlias = "str | Mapping[str, Any] | SelectionStrategy | SelectionFunction"
F = TypeVar("F", bound=Callable[..., Any])

_STRATEGIES: dict[str, Factory] = {}


class FunctionStrategy(SelectionStrategy):
    """
    A plain function as a strategy.

    Args:
        function (`Callable`): Given the [`SelectionContext`], returns the chosen ids (best first), or a score of every
            candidate by id (the best `n` are taken), or a whole [`SelectionResult`].
        requests (`tuple[SignalRequest, ...]`, *optional*, defaults to `()`): Signals that it reads.
        name (`str`, *optional*): Name in reasons and records; the function's own by default.
    """

    name: ClassVar[str] = "function"

    def __init__(self, function: SelectionFunction, requests: tuple[SignalRequest, ...] = (), name: str | None = None):
        self.function = function
        self.signal_requests = tuple(requests)
        self.label = name or str(getattr(function, "__name__", "function"))

    def requests(self) -> tuple[SignalRequest, ...]:
        return self.signal_requests

    def score(self, candidate: Candidate, context: SelectionContext) -> float:
        raise SelectionError("A function scores all candidates at once: use `select`.")

    def select(self, context: SelectionContext) -> SelectionResult:
        found = self.function(context)
        if isinstance(found, SelectionResult):
            return found
        if isinstance(found, Mapping):
            return _take_best({row_id: float(score) for row_id, score in found.items()}, context, self.label)
        if not isinstance(found, (list, tuple)):
            raise SelectionError(
                f"{self.label} returned {type(found).__name__}: return the chosen ids as a list, a score of every "
                "candidate by id, or a `SelectionResult`."
            )
        ids = list(found)[: context.n]
        # A list carries no scores: rank is all that is known, and candidates left out share the last place.
        scores = {candidate.row_id: -float(len(ids)) for candidate in context.candidates}
        scores.update({row_id: -float(rank) for rank, row_id in enumerate(ids)})
        return SelectionResult(ids, scores, dict.fromkeys(ids, self.label))

    def __repr__(self) -> str:
        return f"FunctionStrategy({self.label})"


def _take_best(scores: dict[str, float], context: SelectionContext, label: str) -> SelectionResult:
    missing = [c.row_id for c in context.candidates if c.row_id not in scores]
    if missing:
        raise SelectionError(f"{label} gave no score for {len(missing)} candidates, {missing[0]!r} among them.")
    names = [candidate.row_id for candidate in context.candidates]
    order = best(np.array([scores[name] for name in names]), context.n, context.generator, ids=names)
    ids = [names[i] for i in order]
    return SelectionResult(ids, scores, {row_id: f"{label}={scores[row_id]:.4g}" for row_id in ids})


def register_strategy(name: str, *, requests: tuple[SignalRequest, ...] = ()) -> Callable[[F], F]:
    """
    Puts a strategy under a name, as a decorator. It may stand on a [`SelectionStrategy`] class or on a plain function
    of the context (see [`FunctionStrategy`]).

    Args:
        name (`str`): Name for [`get_strategy`]; an existing one is replaced.
        requests (`tuple[SignalRequest, ...]`, *optional*, defaults to `()`): Signals that a plain function reads.
    """

    def register(strategy: F) -> F:
        if isinstance(strategy, type):
            _STRATEGIES[name] = strategy
        else:
            _STRATEGIES[name] = lambda: FunctionStrategy(strategy, requests, name)
        return strategy

    return register


def available_strategies() -> list[str]:
    """Names that [`get_strategy`] knows, sorted."""
    return sorted(_STRATEGIES)


@functools.cache
def _parameters(factory: Factory) -> tuple[str, ...]:
    """What a factory takes; kept, as finding out takes longer than ranking a thousand rows."""
    return tuple(inspect.signature(factory).parameters)


def get_strategy(name: str, **options: Any) -> SelectionStrategy:
    """
    Makes a strategy by name.

    Args:
        name (`str`): One of [`available_strategies`].
        options (`Any`): The strategy's own options.
    """
    if name not in _STRATEGIES:
        raise ConfigurationError(
            f"Unknown selection strategy {name!r}. Choose one of {', '.join(available_strategies())}, or register "
            "your own with `register_strategy`."
        )
    if options:
        accepted = _parameters(_STRATEGIES[name])
        unknown = sorted(set(options) - set(accepted))
        if unknown:
            raise ConfigurationError(
                f"Strategy {name!r} has no option {', '.join(unknown)}. It takes: {', '.join(accepted) or 'none'}."
            )
    return _STRATEGIES[name](**options)


def as_strategy(strategy: StrategyLike, /, **options: Any) -> SelectionStrategy:
    """
    Whatever a user may hand in, as a strategy: a name with options, both in one mapping (`{"name": "k_center",
    "normalize": False}`, as it stands in a YAML file), a strategy, or a plain function of the context.
    """
    if isinstance(strategy, str):
        return get_strategy(strategy, **options)
    if isinstance(strategy, Mapping):
        named = dict(strategy)
        if not isinstance(named.get("name"), str):
            raise ConfigurationError(f"{named!r} names no strategy: give it as {{'name': ..., option: value}}.")
        return get_strategy(named.pop("name"), **named, **options)
    if options:
        raise ConfigurationError("Options go with a strategy's name. Give them to the strategy where you make it.")
    if isinstance(strategy, SelectionStrategy):
        return strategy
    if callable(strategy) and not isinstance(strategy, type):
        return FunctionStrategy(strategy)
    raise ConfigurationError(
        f"{strategy!r} is no selection strategy. Give a name ({', '.join(available_strategies())}), a "
        "`SelectionStrategy` object, or a function of the context."
    )
