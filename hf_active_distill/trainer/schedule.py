"""
How rounds, Trainer epochs and optimiser steps relate, and in which order a round's rows are shown.

`Trainer` fixes the number of steps an epoch once, while a round's rows grow. So a *Trainer epoch* is a segment of
constant length, as long as `num_train_epochs` passes over `samples_per_round` rows, and a round is as many segments as
its planned rows need. Everything is known before the first teacher call, and every position in the run is a function
of `global_step` alone: that is what makes resuming exact.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from transformers import get_scheduler

from ..errors import DataError
from ..records import Annotation, PoolRow
from .config import ActiveDistillationConfig


def derived_seed(*parts: Any) -> int:
    """A 63-bit seed from any printable parts, the same on every machine and process."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class RoundSchedule:
    """
    Args:
        num_rounds (`int`): Planned rounds.
        samples_per_round (`int`): Rows that each round adds.
        seed_rows (`int`): Annotated rows at the start.
        pool_size (`int`): Rows that can be added at all; the last round may be short.
        passes (`float`): Passes over a round's rows.
        batch_size (`int`): Rows of one optimiser step over all processes.
    """

    num_rounds: int
    samples_per_round: int
    seed_rows: int
    pool_size: int
    passes: float
    batch_size: int

    @property
    def steps_per_segment(self) -> int:
        """Optimiser steps of one Trainer epoch."""
        return max(1, math.ceil(self.passes * min(self.samples_per_round, self.pool_size) / self.batch_size))

    def planned_rows(self, round_index: int) -> int:
        """Annotated rows at the end of asking in this round, if no row fails."""
        return self.seed_rows + min((round_index + 1) * self.samples_per_round, self.pool_size)

    def segments(self, round_index: int) -> int:
        """Trainer epochs of a round: enough for `passes` over its planned rows."""
        rows = self.planned_rows(round_index) * self.passes
        return max(1, math.ceil(rows / (self.steps_per_segment * self.batch_size)))

    @property
    def first_segments(self) -> list[int]:
        """First Trainer epoch of each round, and the total at the end."""
        starts = [0]
        for round_index in range(self.num_rounds):
            starts.append(starts[-1] + self.segments(round_index))
        return starts

    @property
    def total_steps(self) -> int:
        return self.first_segments[-1] * self.steps_per_segment

    def position(self, global_step: int) -> tuple[int, int]:
        """(round, optimiser steps done in it) at `global_step`; a finished run is past the last round."""
        starts = self.first_segments
        segment = global_step // self.steps_per_segment
        round_index = min(bisect.bisect_right(starts, segment) - 1, self.num_rounds)
        return round_index, global_step - starts[round_index] * self.steps_per_segment

    def round_steps(self, round_index: int) -> int:
        """Optimiser steps of a round."""
        return self.segments(round_index) * self.steps_per_segment


class TrainingRows(Dataset):
    """
    The live training set: tokenised rows, appended in place when a round's answers arrive, and what each was made of.
    `new_from` is the index of the first row of the current round.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.examples: list[tuple[PoolRow, Annotation]] = []
        self.new_from = 0

    def add_round(self, rows: Sequence[dict[str, Any] | None], examples: Sequence[tuple[PoolRow, Annotation]]) -> None:
        """Appends rows with their examples; where a row is `None` there is nothing to learn."""
        self.new_from = len(self.rows)
        learnt = [(row, example) for row, example in zip(rows, examples, strict=True) if row is not None]
        self.rows.extend(row for row, _ in learnt)
        self.examples.extend(example for _, example in learnt)

    def clear(self) -> None:
        """Takes out all rows."""
        self.rows.clear()
        self.examples.clear()
        self.new_from = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]


class RoundSampler(Sampler[int]):
    """
    Yields a constant number of row indices a segment, out of an endless order that is a function of (seed, round,
    pass, rows) only.

    Args:
        dataset (`TrainingRows`): Live rows.
        schedule (`RoundSchedule`): Segment length.
        seed (`int`): Data seed.
        current_step (`Callable[[], int]`): Reads the `global_step` at which the segment starts. Read when an iterator
            is made, which is after the round's rows have arrived.
    """

    def __init__(self, dataset: TrainingRows, schedule: RoundSchedule, seed: int, current_step: Callable[[], int]):
        self.dataset = dataset
        self.schedule = schedule
        self.seed = seed
        self.current_step = current_step

    def __len__(self) -> int:
        return self.schedule.steps_per_segment * self.schedule.batch_size

    def __iter__(self) -> Iterator[int]:
        if not len(self.dataset):
            raise DataError("There is no row to train on yet: they arrive in the rounds of `train()`.")
        round_index, steps_done = self.schedule.position(self.current_step())
        # A resume inside a segment skips batches from the segment's start, so the order begins there.
        segment = steps_done // self.schedule.steps_per_segment
        order = self._order(round_index)
        for _ in range(segment * len(self)):
            next(order)
        for _ in range(len(self)):
            yield next(order)

    def _order(self, round_index: int) -> Iterator[int]:
        rows = len(self.dataset)
        draws = self.schedule.segments(round_index) * len(self)
        cycle = 0
        while True:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", round_index, cycle))
            order = torch.randperm(rows, generator=generator).tolist()
            if draws < rows:  # less than one pass: a round's own rows must not be missed
                order.sort(key=lambda index: index < self.dataset.new_from)
            yield from order
            cycle += 1


def restarting_lambda(
    schedule: RoundSchedule,
    make_base: Callable[[int], Callable[[int], float]],
    skipped: Callable[[int], int] = lambda round_index: 0,
):
    """
    A learning-rate factor that runs a schedule of its own in every round.

    Args:
        schedule (`RoundSchedule`): Where rounds begin.
        make_base (`Callable`): Gives the factor function of a schedule of that many steps.
        skipped (`Callable`, *optional*): Steps of a round in which nothing was learnt; the schedule waits in them.
    """
    bases = [make_base(schedule.round_steps(index)) for index in range(schedule.num_rounds)]

    def factor(step: int) -> float:
        round_index, steps_done = schedule.position(step)
        if round_index >= schedule.num_rounds:
            round_index, steps_done = schedule.num_rounds - 1, schedule.round_steps(schedule.num_rounds - 1)
        return bases[round_index](steps_done - skipped(round_index))

    return factor


def restarting_scheduler(
    args: ActiveDistillationConfig,
    schedule: RoundSchedule,
    optimizer: Any,
    skipped: Callable[[int], int] | None = None,
) -> torch.optim.lr_scheduler.LambdaLR:
    """The configured learning-rate schedule, from its beginning in every round."""

    def base(steps: int) -> Callable[[int], float]:
        scheduler = get_scheduler(
            args.lr_scheduler_type,
            optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0),
            num_warmup_steps=args.get_warmup_steps(steps),
            num_training_steps=steps,
            scheduler_specific_kwargs=args.options("lr_scheduler_kwargs"),
        )
        return scheduler.lr_lambdas[0]

    factor = restarting_lambda(schedule, base, skipped or (lambda round_index: 0))
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def wait_for_skipped(scheduler: Any, skipped: Callable[[], int]) -> None:
    """
    Makes a learning-rate schedule wait in skipped steps, though Trainer steps it in all.

    Args:
        scheduler (`LambdaLR`): The schedule; one that is no function of the step is left as it is.
        skipped (`Callable[[], int]`): Steps skipped so far.
    """
    if isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR):
        scheduler.lr_lambdas = [_waiting(factor, skipped) for factor in scheduler.lr_lambdas]


def _waiting(factor: Callable[[int], float], skipped: Callable[[], int]) -> Callable[[int], float]:
    return lambda step: factor(step - skipped())
