"""What `transformers.Trainer` asks of the trainer while it trains: loaders, schedules, steps, losses, checkpoints."""

from __future__ import annotations

import torch
from transformers import Trainer

from .checkpoint import write_state
from .config import ActiveDistillationConfig
from .gating import GatedTraining
from .row_loss import RowLoss
from .schedule import RoundSampler, RoundSchedule, TrainingRows, derived_seed, restarting_scheduler, wait_for_skipped
from .session import RunSession


class RoundHooks(Trainer):
    """
    The public hooks of [`~transformers.Trainer`] for a training set that grows round by round, for losses that are
    sums over rows, and for gated steps. [`ActiveDistillationTrainer`] sets the attributes.
    """

    args: ActiveDistillationConfig
    training_rows: TrainingRows
    schedule: RoundSchedule
    session: RunSession
    row_loss: RowLoss | None
    gating: GatedTraining | None
    _loader_generator: torch.Generator

    def get_train_dataloader(self):
        loader = super().get_train_dataloader()
        # Making an iterator draws a seed: from a generator of its own, so that the global state stays as it was.
        getattr(loader, "base_dataloader", loader).generator = self._loader_generator
        return loader

    def _get_train_sampler(self, train_dataset=None):
        return RoundSampler(self.training_rows, self.schedule, self.args.order_seed, lambda: self.state.global_step)

    def num_examples(self, dataloader) -> int:
        """Rows of one Trainer epoch, which the growing training set does not tell."""
        return self.schedule.steps_per_segment * self.schedule.batch_size

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """With `round_start="restart"` every round gets a schedule of its own."""
        skipped = self.gating.skipped if self.gating is not None else None
        if self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        if self.args.round_start != "restart":
            scheduler = super().create_scheduler(num_training_steps, optimizer)
            if skipped is not None:
                wait_for_skipped(scheduler, skipped)
            return scheduler

        self.lr_scheduler = restarting_scheduler(self.args, self.schedule, optimizer or self.optimizer, skipped)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(self, epoch_iterator, num_batches: int, device: torch.device):
        """With a gate, the rows of a step are chosen here, right before it; the loader only counts."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.row_loss is None or not batches:
            return batches, num_items
        if self.gating is not None:
            return self.gating.step(batches)
        return batches, sum(len(batch["labels"]) for batch in batches)

    def training_step(self, model, inputs, num_items_in_batch=None):
        """In a skipped step there is no backward pass: without gradients an optimiser changes nothing."""
        if self.gating is not None and self.gating.idle:
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch=None):
        """The sum over rows, divided by this process's rows of the whole step; processes are averaged after it."""
        if self.row_loss is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels, weights, classes = inputs.pop("labels"), inputs.pop("weights", None), inputs.pop("classes", None)
        outputs = model(**inputs)
        loss = self.row_loss(outputs.logits, labels, weights, num_items_in_batch, classes)
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """With a gate, its figures stand beside the loss."""
        if self.gating is not None and "loss" in logs:
            mean = self.gating.mean_loss(logs["loss"])
            logs = {name: value for name, value in logs.items() if name != "loss"}
            logs |= ({} if mean is None else {"loss": mean}) | self.gating.stream.figures()
        super().log(logs, start_time)

    def _save_checkpoint(self, model, trial):
        if self.args.should_save:
            folder = self.args.output_path / f"checkpoint-{self.state.global_step}"
            write_state(folder, self.session.checkpoint_state())
        super()._save_checkpoint(model, trial)

    def reseed_loader(self, round_index: int) -> None:
        """The data loader's own randomness becomes a matter of the round."""
        self._loader_generator.manual_seed(derived_seed(self.args.seed, "loader", round_index))
