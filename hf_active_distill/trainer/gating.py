"""
Gated training: which annotated rows take part in an optimiser step, decided with the weights of that very step.

Candidates come from a stream of their own, which is a function of seed, round and draw number. They are scored in
evaluation mode right before the step, the thresholds move, the rows that are kept wait first in, first out, and a step
is made when there are as many as a full batch. Gating inside a `DataLoader` would use stale weights, since loaders
look a batch ahead, and would shrink the batch.

Every process scores its share of the candidates and has all scores, so that each comes to the same decisions.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import ConfigurationError
from ..losses import LLKDGate, normalised_entropy
from ..records import Annotation
from .classifying import LabellingKind
from .label_config import GATES
from .schedule import TrainingRows, derived_seed


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

logger = logging.getLogger(__name__)

#: Index of a training row, and its weight in the loss.
Kept = tuple[int, float]


class GatedStream:
    """
    Rows for one optimiser step after another.

    Args:
        make_gate (`Callable[[], LLKDGate]`): Gives a fresh gate.
        kind ([`LabellingKind`]): Reads labels.
        rows ([`TrainingRows`]): All annotated rows; they grow between rounds.
        score (`Callable[[list[int]], np.ndarray]`):
            Logits of rows by index, shape `(N, K)`, with the current weights; the same on every process.
        batch_size (`int`): Rows of a step over all processes, and of a draw.
        max_draws (`int`): Draws for one step.
        seed (`int`): Data seed.
        fresh_rounds (`bool`): Whether every round begins with a fresh gate, as its weights are the first ones.
    """

    def __init__(
        self,
        make_gate: Callable[[], LLKDGate],
        kind: LabellingKind,
        rows: TrainingRows,
        score: Callable[[list[int]], np.ndarray],
        *,
        batch_size: int,
        max_draws: int,
        seed: int,
        fresh_rounds: bool,
    ):
        self._make_gate = make_gate
        self._kind = kind
        self._rows = rows
        self._score = score
        self._batch_size = batch_size
        self._max_draws = max_draws
        self._seed = seed
        self._fresh_rounds = fresh_rounds
        self._order: tuple[tuple[int, int, int], list[int]] = ((-1, -1, -1), [])
        self.reset()

    def reset(self) -> None:
        """As before the first step of a run."""
        self.gate = self._make_gate()
        self.round = -1
        self.draws = 0
        self.waiting: list[Kept] = []
        #: Steps that were skipped, by round.
        self.skipped: dict[int, int] = {}
        self.used: set[int] = set()
        #: Whether the round has nothing left that the gate would keep.
        self.exhausted = False
        self._dry = 0

    def next_step(self, round_index: int) -> list[Kept] | None:
        """
        The rows of the next optimiser step, `None` where too few are kept and the step is to be skipped.

        When nothing is kept over a whole pass of the rows, there is nothing left to learn: where the teacher is sure,
        the student is, too. The rest of the round is skipped without another look.

        Raises:
            [`~errors.ConfigurationError`]: When that is so before a single step was made.
        """
        self._enter(round_index)
        for _ in range(self._max_draws):
            if len(self.waiting) >= self._batch_size or self.exhausted:
                break
            self._draw()
        if len(self.waiting) < self._batch_size:
            self.skipped[round_index] = self.skipped.get(round_index, 0) + 1
            return None
        taken, self.waiting = self.waiting[: self._batch_size], self.waiting[self._batch_size :]
        self.used.update(index for index, _ in taken)
        return taken

    def candidates(self, draw: int) -> list[int]:
        """Indices of the rows of a draw: the rows in random order, over and over."""
        first = draw * self._batch_size
        return [self._at(position) for position in range(first, first + self._batch_size)]

    def figures(self) -> dict[str, float]:
        """For logging: thresholds, kept rows by label, and how the stream goes."""
        drawn = sum(self.gate.drawn)
        return {
            **self.gate.figures(),
            "gate_unique_rows": float(len(self.used)),
            "gate_passes": drawn / max(1, len(self._rows)),
            "gate_skipped_steps": float(sum(self.skipped.values())),
        }

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as JSON values; loading it gives back the same bits."""
        return {
            "gate": self.gate.state_dict(),
            "round": self.round,
            "draws": self.draws,
            "waiting": [list(entry) for entry in self.waiting],
            "skipped": {str(index): count for index, count in self.skipped.items()},
            "used": sorted(self.used),
            "exhausted": self.exhausted,
            "dry": self._dry,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state_dict` gave."""
        self.gate.load_state_dict(state["gate"])
        self.round, self.draws, self._dry = state["round"], state["draws"], state["dry"]
        self.waiting = [(int(index), float(weight)) for index, weight in state["waiting"]]
        self.skipped = {int(index): count for index, count in state["skipped"].items()}
        self.used = set(state["used"])
        self.exhausted = state["exhausted"]

    def _enter(self, round_index: int) -> None:
        if round_index == self.round:
            return
        self.round, self.draws, self.waiting = round_index, 0, []
        self._dry, self.exhausted = 0, False
        if self._fresh_rounds:
            self.gate = self._make_gate()

    def _draw(self) -> None:
        indices = self.candidates(self.draws)
        self.draws += 1
        annotations = [self._rows.examples[index][1] for index in indices]
        logits = torch.as_tensor(self._score(indices))
        confidence = torch.tensor([self._kind.confidence_of(annotation) for annotation in annotations])
        labels = torch.tensor([self._kind.index_of(annotation) for annotation in annotations])
        uncertainty = normalised_entropy(logits)
        self.gate.update(confidence, uncertainty, labels, **self._probabilities(annotations, logits))
        keep = self.gate.keep(confidence, uncertainty, labels)
        self.gate.count(keep, labels)
        weights = self.gate.weights(confidence, uncertainty).tolist()
        kept = [(index, weights[i]) for i, index in enumerate(indices) if keep[i]]
        self.waiting += kept
        self._dry = 0 if kept else self._dry + len(indices)
        # A tiny set is passed over in a draw or two: thresholds get as many draws as a step has to settle.
        if self._dry >= max(len(self._rows), self._batch_size * self._max_draws):
            self._end_round()

    def _end_round(self) -> None:
        if not self.used:
            raise ConfigurationError(
                f"The gate kept none of {self._dry} candidates, a whole pass of the rows, before a single step: at no "
                "label is the teacher confident where the student is unsure. Try `gate_kwargs={'class_factor': "
                "'own'}` or `{'min_class_share': 0.1}`, or a gate with one condition (`gate='teacher'`)."
            )
        self.exhausted = True
        logger.warning(
            "Round %d: the gate kept none of the last %d candidates, a whole pass of the rows: where the teacher is "
            "sure, the student is, too. The rest of the round's steps are skipped. To learn on, loosen the gate with "
            "`gate_kwargs`, such as `{'min_class_share': 0.1}`; to save the time, lower `num_train_epochs`.",
            self.round,
            self._dry,
        )

    def _at(self, position: int) -> int:
        count = len(self._rows)
        key = (self.round, position // count, count)
        if self._order[0] != key:
            generator = torch.Generator().manual_seed(derived_seed(self._seed, "gate", *key[:2]))
            self._order = key, torch.randperm(count, generator=generator).tolist()
        return self._order[1][position % count]

    def _probabilities(self, annotations: Sequence[Annotation], logits: torch.Tensor) -> dict[str, torch.Tensor]:
        if self.gate.class_statistic != "expectation":
            return {}
        teacher = [self._kind.distribution_of(annotation) for annotation in annotations]
        return {
            "teacher_probabilities": torch.tensor(teacher),
            "student_probabilities": torch.softmax(logits.float(), -1),
        }


class GatedTraining:
    """
    The stream in the hands of a trainer: candidates shared over the processes, rows as micro-batches.

    Args:
        trainer ([`ActiveDistillationTrainer`]): Whose steps they are.

    Attributes:
        idle (`bool`): Whether the step in hand is skipped.
    """

    def __init__(self, trainer: ActiveDistillationTrainer):
        kind, args = trainer.kind, trainer.args
        if not isinstance(kind, LabellingKind) or kind.task.multi_label or args.gate is None:
            raise ConfigurationError(
                "`gate` compares the teacher's and the student's view of one label a row: use "
                "`task='classification'` without `multi_label`, or leave `gate` out."
            )
        if args.fp16:
            raise ConfigurationError("A skipped step has no gradients to unscale: use bf16 with `gate`, not fp16.")
        if trainer.compute_loss_func is not trainer.row_loss:
            raise ConfigurationError("`gate` weighs rows in a loss of its own: leave `compute_loss_func` out.")
        self._trainer = trainer
        self._kind = kind
        mode, options = GATES[args.gate], args.options("gate_kwargs")
        try:
            LLKDGate(kind.task.labels, mode=mode, **options)
        except TypeError as error:
            raise ConfigurationError(f"`gate_kwargs` holds an option that the gate has not: {error}.") from error
        self.stream = GatedStream(
            lambda: LLKDGate(kind.task.labels, mode=mode, **options),
            kind,
            trainer.training_rows,
            self._score,
            batch_size=trainer.schedule.batch_size,
            max_draws=args.gate_max_draws,
            seed=trainer.args.order_seed,
            fresh_rounds=args.round_start == "restart",
        )
        self.idle = False
        #: Step at which a loss was logged last, and the steps that had been skipped by then.
        self._logged = 0, 0

    def begin(self, state: Mapping[str, Any] | None) -> None:
        """At the start of a run, or with our state in a checkpoint, from whose step on losses are summed."""
        self.stream.reset()
        if state is not None:
            self.stream.load_state_dict(state["gate"])
        self._logged = 0 if state is None else int(state["global_step"]), self.skipped()

    def step(self, discarded: list[Any]) -> tuple[list[Any], int]:
        """
        This process's micro-batches of the next optimiser step, and the number of its rows.

        Args:
            discarded (`list`): The batches that the loader gave; they are returned where the step is skipped, for
                Trainer counts them.
        """
        trainer = self._trainer
        round_index, _ = trainer.schedule.position(trainer.state.global_step)
        taken = self.stream.next_step(round_index)
        self.idle = taken is None
        if taken is None:
            return discarded, 1
        size = trainer.args.train_batch_size
        share = size * len(discarded)
        mine = taken[trainer.accelerator.process_index * share :][:share]
        return [self._batch(mine[start : start + size]) for start in range(0, share, size)], share

    def mean_loss(self, loss: float) -> float | None:
        """The mean since the last log over the steps that were made; `None` where all were skipped, which add 0."""
        step, skipped = self._trainer.state.global_step, self.skipped()
        steps, idle = step - self._logged[0], skipped - self._logged[1]
        self._logged = step, skipped
        return loss * steps / (steps - idle) if steps > idle else None

    def skipped(self, round_index: int | None = None) -> int:
        """Skipped steps of one round, or of all."""
        skipped = self.stream.skipped
        return sum(skipped.values()) if round_index is None else skipped.get(round_index, 0)

    def _batch(self, kept: Sequence[Kept]) -> Any:
        batch = self._trainer.data_collator([self._trainer.training_rows[index] for index, _ in kept])
        batch["weights"] = torch.tensor([weight for _, weight in kept])
        return batch

    def _score(self, indices: list[int]) -> np.ndarray:
        """Logits of candidates in fixed chunks of like length, each chunk whole on one process."""
        trainer = self._trainer
        rows, examples = trainer.training_rows.rows, trainer.training_rows.examples
        order = sorted(range(len(indices)), key=lambda i: (-len(rows[indices[i]]["input_ids"]), i))
        size, world = trainer.args.per_device_scoring_batch_size, trainer.accelerator.num_processes
        chunks = [order[start : start + size] for start in range(0, len(order), size)]
        logits = torch.zeros(len(indices), len(self._kind.task.labels))
        with trainer.open_student() as student:
            for chunk in chunks[trainer.accelerator.process_index :: world]:
                inputs = [rows[indices[i]] for i in chunk]
                found = self._kind.logits_of(student, inputs, [examples[indices[i]][0] for i in chunk])
                logits[chunk] = torch.as_tensor(found, dtype=logits.dtype)
        if world > 1:  # zeros elsewhere: the sum is exact
            logits = trainer.accelerator.reduce(logits.to(trainer.accelerator.device), "sum").cpu()
        return logits.numpy()
