"""A choice from arrays that a user has at hand: no model, no data set, no trainer."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ConfigurationError, SelectionError
from .arrays import Arrays, Choice
from .base import SelectionStrategy
from .registry import StrategyLike, as_strategy
from .views import ArrayView


def select_rows(
    strategy: StrategyLike,
    n: int,
    /,
    *,
    probabilities: np.ndarray | None = None,
    mc_probabilities: np.ndarray | None = None,
    embeddings: np.ndarray | None = None,
    labelled_probabilities: np.ndarray | None = None,
    labelled_embeddings: np.ndarray | None = None,
    teacher_tokens: np.ndarray | None = None,
    round: int = 0,
    seed: int = 0,
    **options: Any,
) -> Choice:
    """
    Chooses rows from arrays.

    Args:
        strategy (`str`, mapping or [`SelectionStrategy`]): By name, with its `options`, or made.
        n (`int`): How many rows; all where there are fewer.
        probabilities (`np.ndarray` of shape `(N, K)`, *optional*): Predicted probabilities.
        mc_probabilities (`np.ndarray` of shape `(N, T, K)`, *optional*): The same from T passes with dropout.
        embeddings (`np.ndarray` of shape `(N, d)`, *optional*): Embeddings; for the strategies with gradients, what
            the last layer is given.
        labelled_probabilities (`np.ndarray` of shape `(M, K)`, *optional*): Of rows labelled already.
        labelled_embeddings (`np.ndarray` of shape `(M, d)`, *optional*): Of rows labelled already.
        teacher_tokens (`np.ndarray` of shape `(N,)`, *optional*): What asking about each row is expected to cost, for
            `per_token`.
        round (`int`, *optional*, defaults to `0`): For strategies that follow a plan over rounds.
        seed (`int`, *optional*, defaults to `0`): Seed of draws and ties.
        options (`Any`): The strategy's own options.

    Returns:
        [`Choice`]: `indices` of the chosen rows, best first, and `scores` of all.

    Raises:
        [`~errors.ConfigurationError`]: Where the strategy or an array that it reads is missing.
        [`~errors.SelectionError`]: For an array with a row that cannot be ranked; it names the row.
    """
    made = as_strategy(strategy, **options)
    given = {"probabilities": probabilities, "mc_probabilities": mc_probabilities, "embedding": embeddings}
    known = {"probabilities": labelled_probabilities, "embedding": labelled_embeddings}
    _require(made, given)
    sizes = {len(values) for values in (*given.values(), teacher_tokens) if values is not None}
    if len(sizes) != 1:
        raise SelectionError(f"The arrays have {sorted(sizes) or 'no'} rows: each needs one row for every candidate.")
    if n < 1:
        raise ConfigurationError(f"n={n}: choose at least one row.")
    (size,) = sizes
    generator = np.random.default_rng(seed)
    pool = Arrays(
        size,
        {name: values for name, values in given.items() if values is not None},
        {name: values for name, values in known.items() if values is not None},
    )
    costs = None if teacher_tokens is None else np.asarray(teacher_tokens, dtype=np.float64)
    return ArrayView(pool, generator, round, costs).choose(made, n)


def _require(strategy: SelectionStrategy, given: dict[str, np.ndarray | None]) -> None:
    arguments = {"embedding": "embeddings"}
    for request in strategy.requests():
        argument = arguments.get(request.name, request.name)
        if request.name not in given:
            raise ConfigurationError(
                f"Strategy {strategy.name!r} reads the student's {request.name!r}, which no array holds. Choose one "
                "over labels or embeddings (for `least_confidence` give over='label')."
            )
        if given[request.name] is None:
            raise ConfigurationError(f"Strategy {strategy.name!r} needs `{argument}`: pass that array.")
