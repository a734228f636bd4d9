"""Strategies for texts of which any number of labels can hold."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ConfigurationError
from .base import SelectionStrategy
from .views import Wrapper


def parts_of(strategy: SelectionStrategy) -> Iterator[SelectionStrategy]:
    """A strategy and all that are inside it."""
    yield strategy
    if isinstance(strategy, Wrapper):
        for part in strategy.inner():
            yield from parts_of(part)


def expect_several_labels(strategy: SelectionStrategy) -> None:
    """
    Tells a strategy, and those inside it, that each label is a yes or no of its own (their option `multi_label`).

    Raises:
        [`~errors.ConfigurationError`]: For a strategy that takes one label a row for granted.
    """
    for part in parts_of(strategy):
        if part.one_label:
            raise ConfigurationError(
                f"The selection {part.name!r} takes one label a row for granted. With `multi_label` choose by "
                "'entropy', 'margin', 'bald', 'least_confidence' (over='label'), by embeddings alone ('k_center', "
                "'k_means', 'typicality', 'probcover', 'discriminative'), or 'random'."
            )
        if hasattr(part, "multi_label"):
            part.multi_label = True
