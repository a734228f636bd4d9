"""
A tiny run in a process of its own, to be killed at a named point:

    python tiny_run.py OUTPUT_DIR URL '{"kill": {"at": "step", "value": 3}, "resume": true, "args": {...}}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import torch
from helpers_models import tiny_model, tiny_tokenizer

from hf_active_distill import (
    ActiveDistillationCallback,
    ActiveDistillationConfig,
    ActiveDistillationTrainer,
    Journal,
)
from hf_active_distill.errors import ActiveDistillError


POOL = [{"prompt": f"How much is {i} and {3 * i + 1}?"} for i in range(40)]
EVAL = [{"prompt": f"How much is {i} and {i}?", "answer": str(2 * i)} for i in range(100, 106)]


class Killer(ActiveDistillationCallback):
    """Sends this process a signal at a named event."""

    def __init__(self, at: str, value: int, number: int = signal.SIGKILL):
        self.at, self.value, self.number = at, value, number

    def hit(self, at: str, value: int) -> None:
        if (at, value) == (self.at, self.value):
            os.kill(os.getpid(), self.number)

    def on_selection_begin(self, args, state, control, event, **kwargs):
        self.hit("selection", event.round)

    def on_annotation_end(self, args, state, control, event, **kwargs):
        self.hit("annotation", event.record.round)

    def on_step_end(self, args, state, control, **kwargs):
        self.hit("step", state.global_step)

    def on_evaluate(self, args, state, control, **kwargs):
        self.hit("evaluate", state.global_step)

    def on_round_end(self, args, state, control, event, **kwargs):
        self.hit("round_end", event.record.round)

    def on_save(self, args, state, control, **kwargs):
        self.hit("save", state.global_step)


class DyingInsideASave(ActiveDistillationTrainer):
    """Dies after the weights of a checkpoint were written and before its state."""

    dies_at = -1

    def save_model(self, output_dir=None, _internal_call=False):
        super().save_model(output_dir, _internal_call=_internal_call)
        if _internal_call and self.state.global_step == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


def build(output_dir: str, teacher, options: dict, **kwargs) -> ActiveDistillationTrainer:
    """The tiny trainer; dropout is on, so that a lost random state shows."""
    model = tiny_model("llama", seed=1, attention_dropout=options.get("dropout", 0.1))
    peft_config = None
    if options.get("peft"):
        from peft import LoraConfig

        peft_config = LoraConfig(r=4, lora_dropout=0.1, target_modules=["q_proj", "v_proj"])
    defaults = {
        "num_rounds": 3,
        "samples_per_round": 4,
        "candidates_per_round": 12,
        "selection": "least_confidence",
        "random_share": 0.25,
        "annotation": "clear",
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "per_device_scoring_batch_size": 4,
        "max_new_tokens": 12,
        "learning_rate": 5e-3,
        "teacher_concurrency": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 7,
    }
    args = ActiveDistillationConfig(output_dir=output_dir, **{**defaults, **options.get("args", {})})
    return DyingInsideASave(
        model=model,
        args=args,
        pool_dataset=POOL[: options.get("pool", len(POOL))],
        eval_dataset=EVAL,
        teacher=teacher,
        processing_class=tiny_tokenizer(),
        peft_config=peft_config,
        **kwargs,
    )


async def answer_before_it_is_kept(self, call_id, reply, **figures) -> None:
    """What a journal must not do: the answer goes on its way, and the disk hears of it never."""


def main(output_dir: str, url: str, options: dict) -> int:
    torch.set_num_threads(1)
    if "group_timeout" in options:
        timeout = timedelta(seconds=options["group_timeout"])
        torch.distributed.init_process_group("gloo", timeout=timeout)
    if options.get("forgetful"):
        Journal.answered = answer_before_it_is_kept
    kill = options.get("kill") or {}
    callbacks = [Killer(kill["at"], kill["value"], kill.get("signal", signal.SIGKILL))] if kill else []
    try:
        trainer = build(output_dir, url, options, callbacks=callbacks)
        if kill.get("at") == "inside_save":
            trainer.dies_at = kill["value"]
        trainer.train(resume_from_checkpoint=options.get("resume") or None)
    except ActiveDistillError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    if trainer.stop_reason == "terminated":
        return 143
    trainer.save_model(str(Path(output_dir) / "final"))
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return 0


if __name__ == "__main__":
    exit_code = main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
    sys.stdout.flush()
    sys.stderr.flush()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # A gloo thread may still run when the interpreter goes down, and aborts the process now and then. Everything
        # that is tested is over by here.
        os._exit(exit_code)
    sys.exit(exit_code)
