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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars
from transformers import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging
from trl import ModelConfig, TrlParser, get_peft_config, get_quantization_config

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.cli.console import QuietProgress, RoundPrinter
from hf_active_distill.errors import (
    EXIT_BUDGET,
    EXIT_CONFIGURATION,
    EXIT_INTERRUPTED,
    EXIT_TERMINATED,
    ActiveDistillError,
    ConfigurationError,
)
from hf_active_distill.reports import plot_learning_curves, read_metrics
from hf_active_distill.synthetic import get_world, quickstart_student_path


SYNTHETIC = "synthetic:"


@dataclass
class EladScriptArguments:
    """
    Arguments of this script.

    Args:
        dataset_name (`str`): Hub id, a folder of `save_to_disk`, a .jsonl, .json, .csv or .parquet file, or
            `synthetic:WORLD` for problems made by code.
        dataset_config (`str`, *optional*): Configuration of a Hub data set.
        dataset_train_split (`str`, *optional*, defaults to `"train"`): The pool.
        dataset_test_split (`str`, *optional*, defaults to `"test"`): Evaluation rows, `none` for no evaluation.
        pool_size (`int`, *optional*): Rows of the pool to use, from its start; all by default.
        eval_size (`int`, *optional*): Evaluation rows to use, from the start; all by default.
        prompt_column (`str`, *optional*): Column with the question.
        reference_column (`str`, *optional*): Column with the answer of the evaluation rows.
        teacher (`str`, *optional*): Address of the teacher, such as a TGI URL. Without one a server is started.
        teacher_model (`str`, *optional*): Model that the server started here shall serve. Without one it answers the
            problems made by code.
        teacher_error_rate (`float`, *optional*, defaults to `0.0`): Share of steps the built-in teacher gets wrong.
        plan (`bool`, *optional*, defaults to `False`): Print what the run will cost, and stop.
        compare (`str`, *optional*): Another selection to run with the same seed and budget, drawn beside this one.
    """

    dataset_name: str = field(
        default="synthetic:arithmetic_skewed", metadata={"help": "Hub id, path or synthetic:NAME."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Configuration of a Hub data set."})
    dataset_train_split: str = field(default="train", metadata={"help": "The pool."})
    dataset_test_split: str = field(default="test", metadata={"help": "Evaluation rows, 'none' for no evaluation."})
    pool_size: int | None = field(default=None, metadata={"help": "Rows of the pool to use."})
    eval_size: int | None = field(default=None, metadata={"help": "Evaluation rows to use."})
    prompt_column: str | None = field(default=None, metadata={"help": "Column with the question."})
    reference_column: str | None = field(default=None, metadata={"help": "Column with the evaluation rows' answer."})
    teacher: str | None = field(default=None, metadata={"help": "Address of the teacher, such as a TGI URL."})
    teacher_model: str | None = field(default=None, metadata={"help": "Model to serve as the teacher."})
    teacher_error_rate: float = field(
        default=0.0, metadata={"help": "Share of steps the built-in teacher gets wrong."}
    )
    plan: bool = field(default=False, metadata={"help": "Print what the run will cost, and stop."})
    compare: str | None = field(default=None, metadata={"help": "Another selection to run beside this one."})


def load_rows(script_args: EladScriptArguments, split: str, size: int | None, seed: int) -> Any:
    """The rows of a split, as a data set or a list."""
    name = script_args.dataset_name
    if name.startswith(SYNTHETIC):
        problems = get_world(name.removeprefix(SYNTHETIC)).problems(size or 2000, seed, split)
        is_pool = split == script_args.dataset_train_split
        # A pool is unlabelled: what the world knows of its answers stays with the teacher.
        return [{"prompt": row.prompt} | ({} if is_pool else {"reference": row.reference}) for row in problems]
    from datasets import load_dataset, load_from_disk

    path = Path(name)
    if path.is_dir() and not any(path.glob("*.parquet")):
        dataset = load_from_disk(name)[split]
    elif path.is_file():
        builder = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}.get(path.suffix)
        if builder is None:
            raise ConfigurationError(f"{name}: use a .jsonl, .json, .csv or .parquet file.")
        dataset = load_dataset(builder, data_files={split: name}, split=split)
    else:
        dataset = load_dataset(name, script_args.dataset_config, split=split)
    renamed = {script_args.prompt_column: "prompt", script_args.reference_column: "reference"}
    for column, target in renamed.items():
        if column is not None and column != target:
            if column not in dataset.column_names:
                raise ConfigurationError(f"{name} has no column {column!r}: it has {', '.join(dataset.column_names)}.")
            dataset = dataset.rename_column(column, target)
    return dataset.select(range(min(size, len(dataset)))) if size else dataset


@contextlib.contextmanager
def teacher_at_hand(script_args: EladScriptArguments, main_process: bool):
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
    """Leaves a core to the teacher: two processes that each take every core are many times slower than two that share."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))


def run_arm(
    script_args: EladScriptArguments,
    training_args: ActiveDistillationConfig,
    model_args: ModelConfig,
    teacher: str,
    label: str = "",
) -> ActiveDistillationTrainer:
    """Trains one arm and leaves student, annotations, metrics and card in its `output_dir`."""
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **training_args.options("model_init_kwargs"),
    }
    split = script_args.dataset_test_split
    trainer = ActiveDistillationTrainer(
        model=model_args.model_name_or_path or str(quickstart_student_path()),
        args=training_args,
        pool_dataset=load_rows(
            script_args, script_args.dataset_train_split, script_args.pool_size, training_args.seed
        ),
        eval_dataset=None
        if split == "none"
        else load_rows(script_args, split, script_args.eval_size, training_args.seed),
        teacher=teacher,
        peft_config=get_peft_config(model_args),
        quantization_config=get_quantization_config(model_args),
        callbacks=[RoundPrinter(label)],
    )
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
    if training_args.push_to_hub:
        trainer.push_to_hub()
    return trainer


def main(script_args: EladScriptArguments, training_args: ActiveDistillationConfig, model_args: ModelConfig) -> int:
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
        )
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    code = 0
    trainer = None
    with teacher_at_hand(script_args, training_args.process_index == 0) as teacher:
        for name, args in arms.items():
            label = name if len(arms) > 1 else ""
            trainer = run_arm(script_args, args, model_args, teacher, label)
            code = {"budget": EXIT_BUDGET, "terminated": EXIT_TERMINATED}.get(trainer.stop_reason or "", code)
            if code == EXIT_TERMINATED or script_args.plan:
                break
    if trainer is not None and trainer.is_world_process_zero() and not script_args.plan and code != EXIT_TERMINATED:
        draw(arms)
        print(f"Student, annotations.parquet, metrics.jsonl and learning_curve.png are in {training_args.output_dir}.")
    if trainer is not None:
        trainer.accelerator.end_training()
    return code


def draw(arms: dict[str, ActiveDistillationConfig]) -> None:
    """The learning curve of all arms, in the folder of the first."""
    first = next(iter(arms.values()))
    curves = {name: read_metrics(args.output_dir) for name, args in arms.items()}
    if any(row.get("eval_accuracy") is not None for rows in curves.values() for row in rows):
        plot_learning_curves(
            curves, Path(first.output_dir) / "learning_curve.png", title="What the teacher's tokens buy"
        )


def make_parser(subparsers: argparse._SubParsersAction | None = None) -> TrlParser:
    dataclass_types = (EladScriptArguments, ActiveDistillationConfig, ModelConfig)
    if subparsers is not None:
        return subparsers.add_parser("elad", help="Run the ELAD recipe", dataclass_types=dataclass_types)
    return TrlParser(dataclass_types, prog="elad.py")


if __name__ == "__main__":
    try:
        sys.exit(main(*make_parser().parse_args_and_config()))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except (ActiveDistillError, ValueError) as error:
        # A ValueError is a setting that transformers or the parser refuses.
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", EXIT_CONFIGURATION))
