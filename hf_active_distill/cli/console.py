"""What a person sees of a run on the terminal: one line a round."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from tqdm.auto import tqdm
from transformers import ProgressCallback

from ..trainer.callbacks import ActiveDistillationCallback, RoundEndEvent


class RoundPrinter(ActiveDistillationCallback):
    """
    Prints one line a round: what was selected, what the teacher let stand, what it cost, and the accuracy before and
    after.

    Args:
        label (`str`, *optional*): Put before every line, to tell two arms apart.
    """

    def __init__(self, label: str = ""):
        self.console = Console(highlight=False)
        self.label = f"[bold]{label}[/] " if label else ""

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if state.is_world_process_zero and state.global_step == 0 and metrics and "eval_accuracy" in metrics:
            self._print(f"{self.label}before the first round: accuracy {metrics['eval_accuracy']:.3f}")

    def on_round_end(self, args, state, control, event: RoundEndEvent, **kwargs: Any):
        if not state.is_world_process_zero:
            return
        figures = event.figures
        parts = [f"{self.label}round {figures['round']}: {figures['selected']} selected, {figures['annotated']} used"]
        if figures["failed"]:
            parts.append(f"{figures['failed']} failed")
        if figures["judged_steps"]:
            parts.append(f"{figures['accepted_steps']} of {figures['judged_steps']} steps accepted")
        parts.append(f"{figures['teacher_calls']:,} calls, {figures['teacher_tokens']:,} tokens")
        if figures["teacher_cost"]:
            parts.append(f"cost {figures['teacher_cost']:.4f}")
        after = figures.get("eval_accuracy")
        if after is not None:
            before = event.history[-1].get("eval_accuracy") if event.history else None
            change = f"{before:.3f} -> {after:.3f}" if before is not None else f"{after:.3f}"
            parts.append(f"[bold]accuracy {change}[/]")
        self._print(", ".join(parts))

    def _print(self, line: str) -> None:
        with tqdm.external_write_mode():  # bars step aside for the line
            self.console.print(line, soft_wrap=True)


class QuietProgress(ProgressCallback):
    """Trainer's bar without the dictionaries between: [`RoundPrinter`] says what a person wants to know."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        pass
