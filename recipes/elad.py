# /// script
# requires-python = ">=3.11"
# dependencies = ["hf-active-distill[serve,plot]"]
# ///
"""
Explanation-guided active distillation (ELAD): a student is distilled from a teacher, round by round.

The built-in example, with a teacher server of its own:

```shell
accelerate launch recipes/elad.py --config recipes/configs/elad_quickstart.yaml
```

All weights, with a TGI endpoint as the teacher:

```shell
accelerate launch recipes/elad.py \
    --config recipes/configs/elad_qwen3_gsm8k.yaml \
    --teacher http://localhost:8080 \
    --output_dir qwen3-gsm8k-elad
```

LoRA:

```shell
accelerate launch recipes/elad.py \
    --config recipes/configs/elad_qwen3_gsm8k.yaml \
    --teacher http://localhost:8080 \
    --use_peft --lora_r 16 --learning_rate 1e-4 \
    --output_dir qwen3-gsm8k-elad-lora
```

What it will cost, without a single teacher call: add `--plan`. Two processes on a CPU: `torchrun --nproc_per_node 2
recipes/elad.py ...`. Go on after an interruption: add `--resume_from_checkpoint true`.

The program ends with 0 when all rounds are done, 2 for a configuration that cannot work, 3 when the budget was reached
(the student is trained and saved), 4 when the teacher is gone, 5 for the journal, 6 for checkpoints, 130 after Ctrl-C,
and 143 after a SIGTERM (everything is saved).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from dataclasses import replace
from pathlib import Path

from datasets import disable_progress_bars
from transformers import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging
from trl import ModelConfig, TrlParser

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.asking import spending_lines
from hf_active_distill.cli.console import QuietProgress, RoundPrinter
from hf_active_distill.cli.recipe import DATACLASSES, SYNTHETIC, ScriptArguments, make_trainer
from hf_active_distill.errors import (
    EXIT_BUDGET,
    EXIT_CONFIGURATION,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    ActiveDistillError,
    ConfigurationError,
    DataError,
)
from hf_active_distill.reports import write_report
from hf_active_distill.synthetic import get_world


@contextlib.contextmanager
def teacher_at_hand(script_args: ScriptArguments, main_process: bool):
    """The address of the teacher; without one a server is started here and stopped at the end."""
    if script_args.teacher is not None or not main_process or script_args.plan:
        yield script_args.teacher or "http://127.0.0.1:1"
        return
    from hf_active_distill.serving import EmbeddedServer

    if script_args.teacher_model is not None:
        command = [script_args.teacher_model]
    elif script_args.dataset_name.startswith(SYNTHETIC):
        world = script_args.dataset_name.removeprefix(SYNTHETIC)
        command = ["--scripted", world, "--error-rate", str(script_args.teacher_error_rate)]
    else:
        raise ConfigurationError(
            "There is no teacher: pass `--teacher http://...`, or `--teacher_model PATH` to serve a model here."
        )
    share_out_threads()
    with EmbeddedServer(*command) as server:
        yield server.url


def share_out_threads() -> None:
    """Leaves a core to the teacher: two processes that each take every core are far slower than two that share."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))


def run_arm(
    script_args: ScriptArguments,
    training_args: ActiveDistillationConfig,
    model_args: ModelConfig,
    teacher: str,
    label: str = "",
) -> ActiveDistillationTrainer:
    """Trains one arm and leaves student, annotations, metrics and card in its `output_dir`."""
    trainer = make_trainer(script_args, training_args, model_args, teacher, [RoundPrinter(label)])
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(QuietProgress)
    if script_args.plan:
        if trainer.is_world_process_zero():
            print(trainer.plan())
        return trainer
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    if trainer.stop_reason == "terminated":
        return trainer
    trainer.save_model(training_args.output_dir)
    if trainer.is_world_process_zero():
        trainer.annotations_dataset().to_parquet(str(Path(training_args.output_dir) / "annotations.parquet"))
        trainer.create_model_card()
        with contextlib.suppress(DataError):  # a run that could not be foreseen
            lines = spending_lines(training_args.output_dir)
            print("\n  ".join([f"{label} teacher, foreseen and spent:".strip(), *lines]))
    return trainer


def main(script_args: ScriptArguments, training_args: ActiveDistillationConfig, model_args: ModelConfig) -> int:
    """Runs the arm, and the one to compare with, and draws the curve. Returns the exit code."""
    if script_args.dataset_name.startswith(SYNTHETIC):
        get_world(script_args.dataset_name.removeprefix(SYNTHETIC))  # an unknown one is told before a server starts
    arms = {training_args.selection: training_args}
    if script_args.compare is not None:
        arms[script_args.compare] = replace(
            training_args,
            selection=script_args.compare,
            selection_kwargs=None,
            output_dir=str(Path(training_args.output_dir) / f"compare-{script_args.compare}"),
            # One name on the Hub takes one student.
            push_to_hub=False,
            push_rounds=False,
            lineage_dir=None,
        )
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    code = 0
    trainers: list[ActiveDistillationTrainer] = []
    with teacher_at_hand(script_args, training_args.process_index == 0) as teacher:
        for name, args in arms.items():
            label = name if len(arms) > 1 else ""
            trainers.append(run_arm(script_args, args, model_args, teacher, label))
            reason = trainers[-1].stop_reason or ""
            code = {"budget": EXIT_BUDGET, "terminated": EXIT_TERMINATED}.get(reason, code)
            if code == EXIT_TERMINATED or script_args.plan:
                break
    if not script_args.plan and code != EXIT_TERMINATED:
        finish(trainers[0])
    accelerator = trainers[-1].accelerator
    accelerator.wait_for_everyone()  # a process that leaves early can abort the others
    accelerator.end_training()
    return code


def finish(trainer: ActiveDistillationTrainer) -> None:
    """What is complete only when the arm beside it has ended: card with learning curve, report; and the push."""
    trainer.create_model_card()
    if trainer.is_world_process_zero():
        write_report(trainer.args.output_dir)
        print(f"Student, annotations.parquet, metrics.jsonl and report/index.html are in {trainer.args.output_dir}.")
    if trainer.args.push_to_hub:
        trainer.push_to_hub()


def make_parser(subparsers: argparse._SubParsersAction | None = None) -> TrlParser:
    if subparsers is not None:
        return subparsers.add_parser("elad", help="Run the ELAD recipe", dataclass_types=DATACLASSES)
    return TrlParser(DATACLASSES, prog="elad.py")


if __name__ == "__main__":
    try:
        sys.exit(main(*make_parser().parse_args_and_config()))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except (ActiveDistillError, ValueError) as error:
        # A ValueError is a setting that transformers or the parser refuses.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", EXIT_CONFIGURATION))
