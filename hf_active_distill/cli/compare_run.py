"""One run of a comparison, in a process of its own: the trainer that a recipe's settings describe."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import disable_progress_bars
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging
from trl import ModelConfig, TrlParser

from ..annotation import AnnotationSettings, get_annotation
from ..comparison.points import CLOCK_FILE
from ..comparison.sharing import SharedTeacher, forget_calls_in_flight
from ..errors import (
    EXIT_CONFIGURATION,
    EXIT_TERMINATED,
    ActiveDistillError,
    ConfigurationError,
    TeacherAuthError,
    TeacherConnectionError,
    TeacherError,
    TeacherGoneError,
)
from ..selection import get_strategy
from ..tasks import get_task
from ..trainer import ActiveDistillationCallback, ActiveDistillationConfig
from ..trainer.desk import journal_and_run
from .recipe import DATACLASSES, ScriptArguments, label_names, make_trainer


#: Of every run, unless its settings say otherwise.
DEFAULTS: dict[str, Any] = {"disable_tqdm": True, "report_to": "none", "save_total_limit": 1}
# The answer server times out and repeats; a question may wait there for those of all other runs.
_PATIENCE = 7 * 86400.0
_TEACHER_LOST = (TeacherAuthError, TeacherConnectionError, TeacherGoneError)


def read_settings(settings: dict[str, Any]) -> tuple[ScriptArguments, ActiveDistillationConfig, ModelConfig]:
    """
    The settings of a run, parsed and checked.

    Raises:
        [`~errors.ConfigurationError`]: For a setting that does not exist or cannot work.
    """
    try:
        script_args, args, model_args = TrlParser(DATACLASSES).parse_dict({**DEFAULTS, **settings})
    except (ValueError, TypeError) as error:
        raise ConfigurationError(str(error)) from error
    return script_args, args, model_args  # type: ignore[return-value]


def check_settings(settings: dict[str, Any]) -> None:
    """Raises where a run with these settings could not begin, as far as that is known without rows and a model."""
    script_args, args, _ = read_settings(settings)
    if script_args.dataset_test_split == "none":
        raise ConfigurationError("A comparison needs evaluation rows: set `dataset_test_split`.")
    if str(getattr(args.eval_strategy, "value", args.eval_strategy)) == "no":
        raise ConfigurationError("A comparison evaluates after every round: leave `eval_strategy` out.")
    if not args.eval_on_start:
        raise ConfigurationError("A comparison begins with the student as it comes: leave `eval_on_start` out.")
    get_strategy(args.selection, **args.options("selection_kwargs"))
    options = args.options("task_kwargs")
    if args.task == "classification" and "labels" not in options:
        if (known := label_names(script_args, None)) == {}:
            return  # they are read off the evaluation set, which is not there yet
        options = {**known, **options}
    task = get_task(args.task, **options)
    get_annotation(args.annotation, task, AnnotationSettings(), **args.options("annotation_kwargs"))


class Clock(ActiveDistillationCallback):
    """
    Writes down how long the student worked in each round: scoring the pool and optimiser steps, no evaluation and no
    waiting for the teacher.

    Args:
        path (`Path`): Where the seconds by round are kept.
    """

    def __init__(self, path: Path):
        self.path = path
        self.seconds: dict[str, float] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        self._round = "0"
        self._began = 0.0

    def on_annotation_end(self, args, state, control, event, **kwargs):
        self._round = str(event.record.round)
        self.seconds[self._round] = event.record.seconds.get("scoring", 0.0)

    def on_step_begin(self, args, state, control, **kwargs):
        self._began = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        spent = time.perf_counter() - self._began
        self.seconds[self._round] = self.seconds.get(self._round, 0.0) + spent

    def on_save(self, args, state, control, **kwargs):
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(json.dumps(self.seconds), "utf-8")
        os.replace(partial, self.path)


def make_run(settings: dict[str, Any], address: dict[str, Any], keep_student: bool) -> int:
    """A [`~comparison.RunFunction`]: trains one arm with one seed, or goes on with it."""
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        return _train(settings, address, keep_student)
    except (ActiveDistillError, ValueError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        return exit_code_of(error)


def exit_code_of(error: Exception) -> int:
    """What a run ends with. That of a teacher is for errors that the next run would meet too, and ends all runs."""
    if isinstance(error, TeacherError) and not isinstance(error, _TEACHER_LOST):
        return ActiveDistillError.exit_code
    return getattr(error, "exit_code", EXIT_CONFIGURATION)


def _train(settings: dict[str, Any], address: dict[str, Any], keep_student: bool) -> int:
    script_args, args, model_args = read_settings(settings)
    args = replace(args, teacher_timeout=_PATIENCE, teacher_max_retries=0)
    forget_calls_in_flight(journal_and_run(args)[0])
    teacher: Any = SharedTeacher(**address)
    trainer = make_trainer(script_args, args, model_args, teacher, [Clock(args.output_path / CLOCK_FILE)])
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=True)
    if trainer.stop_reason == "terminated":
        return EXIT_TERMINATED
    if keep_student:
        trainer.save_model(str(args.output_path))
        trainer.create_model_card()
    return 0
