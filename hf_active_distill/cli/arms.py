"""What every recipe does: a teacher at hand, an arm and the one beside it, card and report."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from datasets import disable_progress_bars
from transformers import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging
from trl import ModelConfig, TrlParser

from ..asking import spending_lines
from ..errors import (
    EXIT_BUDGET,
    EXIT_CONFIGURATION,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    ActiveDistillError,
    ConfigurationError,
    DataError,
)
from ..hub import pushed_lines
from ..reports import write_report
from ..synthetic import get_world
from ..trainer import ActiveDistillationConfig, ActiveDistillationTrainer
from .console import QuietProgress, RoundPrinter
from .recipe import DATACLASSES, LABEL_DEFAULTS, SYNTHETIC, ScriptArguments, load_calibration_rows, make_trainer


RECIPE_DEFAULTS: dict[str, dict[str, Any]] = {"elad": {}, "llkd": LABEL_DEFAULTS}


@contextlib.contextmanager
def teacher_at_hand(script_args: ScriptArguments, main_process: bool) -> Iterator[str]:
    """The address of the teacher; without one a server is started here and stopped at the end."""
    if script_args.teacher is not None or not main_process or script_args.plan:
        yield script_args.teacher or "http://127.0.0.1:1"
        return
    from ..serving import EmbeddedServer

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
    held = []
    if script_args.calibration_rows:
        trainer.require_calibratable()
        held = load_calibration_rows(script_args, training_args.seed)
    trainer.train(resume_from_checkpoint=training_args.resume_from_checkpoint)
    if trainer.stop_reason == "terminated":
        return trainer
    if held:
        temperature = trainer.calibrate(held)
        if trainer.is_world_process_zero():
            print(f"{label} calibrated on {len(held)} rows, temperature {temperature:.2f}".strip())
    trainer.save_model(str(training_args.output_path))
    if trainer.is_world_process_zero():
        trainer.annotations_dataset().to_parquet(str(training_args.output_path / "annotations.parquet"))
        trainer.create_model_card()
        with contextlib.suppress(DataError):  # a run that could not be foreseen
            lines = spending_lines(training_args.output_path)
            print("\n  ".join([f"{label} teacher, foreseen and spent:".strip(), *lines]))
    return trainer


def run_arms(script_args: ScriptArguments, training_args: ActiveDistillationConfig, model_args: ModelConfig) -> int:
    """Runs the arm, and the one to compare with. Returns the exit code."""
    if script_args.dataset_name.startswith(SYNTHETIC):
        get_world(script_args.dataset_name.removeprefix(SYNTHETIC))  # an unknown one is told before a server starts
    # Every round as a version, rather than the last student alone.
    training_args.push_rounds |= training_args.push_to_hub
    training_args.push_to_hub = False
    arms = {training_args.selection: training_args}
    if script_args.compare is not None:
        arms[script_args.compare] = replace(
            training_args,
            selection=script_args.compare,
            selection_kwargs=None,
            output_dir=str(training_args.output_path / f"compare-{script_args.compare}"),
            # One name on the Hub takes one run.
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
    """What is complete only when the arm beside it has ended: card with learning curve, and report."""
    trainer.create_model_card()
    if trainer.is_world_process_zero():
        write_report(trainer.args.output_path)
        print(f"Student, annotations.parquet, metrics.jsonl and report/index.html are in {trainer.args.output_dir}.")
        for line in pushed_lines(trainer.args.output_path):
            print(line)


def make_recipe_parser(name: str, prog: str | None = None) -> TrlParser:
    """The parser of a recipe's command line and YAML file."""
    parser = TrlParser(DATACLASSES, prog=prog or f"{name}.py")
    parser.set_defaults(**RECIPE_DEFAULTS[name])
    return parser


def run_command(name: str, words: list[str] | None = None) -> int:
    """A recipe with its command line (by default the program's own). Returns the exit code."""
    try:
        parsed: Any = make_recipe_parser(name).parse_args_and_config(words)
        return run_arms(*parsed)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except (ActiveDistillError, ValueError) as error:
        # A ValueError is a setting that transformers or the parser refuses.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return getattr(error, "exit_code", EXIT_CONFIGURATION)
