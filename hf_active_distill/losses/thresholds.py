"""Thresholds that follow training: moving averages over all rows, and over those of each class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class MovingAverage:
    """
    An exponential moving average, exact on constants: `weight` is the sum of the weights given so far, by which the
    start is corrected (Adam's `1 - m**t`); 1 where the average started from a value.
    """

    value: float = 0.0
    weight: float = 0.0

    def update(self, new: float, momentum: float) -> None:
        """Moves towards `new`."""
        self.weight = momentum * self.weight + (1 - momentum)
        self.value += (1 - momentum) / self.weight * (new - self.value)

    @property
    def seen(self) -> bool:
        """Whether there is a value at all."""
        return self.weight > 0


class Thresholds:
    """One side of the gate, teacher or student: a global average and one a class."""

    def __init__(self, num_labels: int, start: str):
        def first() -> MovingAverage:
            return MovingAverage(1 / num_labels, 1.0) if start == "uniform" else MovingAverage()

        self.overall = first()
        self.by_class = [first() for _ in range(num_labels)]

    def values(self, class_factor: str) -> list[float]:
        """The threshold of every class; 0 before the first update, the global one for a class not seen yet."""
        g = self.overall.value
        seen = [average.value for average in self.by_class if average.seen]
        if class_factor == "none" or not seen or not self.overall.seen:
            return [g] * len(self.by_class)
        if class_factor == "own":
            return [average.value if average.seen else g for average in self.by_class]
        norm = max(seen) if class_factor == "max_norm" else math.fsum(seen) / len(seen)
        if norm <= 0:
            return [g] * len(self.by_class)
        return [g * (average.value / norm) if average.seen else g for average in self.by_class]

    def state_dict(self) -> list[list[float]]:
        return [[average.value, average.weight] for average in (self.overall, *self.by_class)]

    def load_state_dict(self, state: Sequence[Sequence[float]]) -> None:
        averages = [MovingAverage(float(value), float(weight)) for value, weight in state]
        self.overall, self.by_class = averages[0], averages[1:]
