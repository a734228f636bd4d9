"""`ActiveDistillationTrainer`: the glue between rounds and `transformers.Trainer`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    get_scheduler,
)
from transformers.trainer_utils import TrainOutput

from ..annotation import AnnotationItem, AnnotationMethod, AnnotationSettings, get_annotation
from ..annotation.run import annotate_rows
from ..asking import Dispatcher, write_forecast
from ..errors import BudgetExhaustedError, ConfigurationError, DataError, TeacherError, TerminatedError
from ..evaluation import explanation_metrics, require_references
from ..records import Annotation, Explanation, PoolRow
from ..rounds import BINDING_SETTINGS, RoundRecord, RoundStore
from ..selection import RandomShare, SelectionStrategy, as_strategy
from ..students import Student
from ..tables import annotations_to_dataset
from ..tasks import Task, get_task
from ..teachers import GenerationParams, Teacher
from .book import RoundBook
from .callbacks import (
    AnnotationEvent,
    RoundEndEvent,
    SelectionCallback,
    SelectionEvent,
    StoppingCallback,
)
from .card import write_model_card
from .checkpoint import read_state, resolve_checkpoint, write_state
from .config import ActiveDistillationConfig
from .desk import journal_and_run, open_dispatcher
from .distributed import on_main_process, raised_everywhere, whole_model
from .plan import Plan, make_plan, teacher_forecast
from .pushing import push_student
from .runner import RoundRunner
from .schedule import RoundSampler, RoundSchedule, TrainingRows, derived_seed, restarting_lambda
from .setup import FormattingFunc, RunData, load_processing_class, load_student, read_rows
from .termination import Termination
from .weights import FirstWeights


if TYPE_CHECKING:
    from peft import PeftConfig

logger = logging.getLogger(__name__)


class ActiveDistillationTrainer(Trainer):
    """
    Trainer for active distillation: in every round the student finds the rows it does not understand, the teacher is
    asked about just those, and the student is trained on all answers so far.

    A round is select, ask, record, train `num_train_epochs` passes, evaluate. `train()` is called once for all rounds.
    How rounds relate to Trainer's epochs and steps is told in [`~trainer.schedule`].

    Example:

    ```python
    from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer

    trainer = ActiveDistillationTrainer(
        model="Qwen/Qwen3-0.6B",
        args=ActiveDistillationConfig(output_dir="out", num_rounds=5, max_teacher_tokens=2_000_000),
        pool_dataset=pool,
        teacher="http://localhost:8080",
    )
    trainer.train()
    ```

    Args:
        model (`str` or [`~transformers.PreTrainedModel`] or `PeftModel`):
            The student: an id or folder for `AutoModelForCausalLM.from_pretrained`, or a model.
        args ([`ActiveDistillationConfig`], *optional*):
            Configuration. If `None`, a default one is used.
        pool_dataset ([`~datasets.Dataset`] or sequence of dicts):
            Unlabelled rows: a `"prompt"` (text or conversation), or one of the columns that
            [`~tasks.row_from_example`] knows.
        teacher (`str` or [`~teachers.Teacher`] or `Callable`):
            An address for [`~teachers.load_teacher`] (a TGI URL, ...), a teacher, or a Python function.
        data_collator (`Callable`, *optional*):
            Makes batches of `input_ids`, `attention_mask` and `labels`. Defaults to
            [`~transformers.DataCollatorForSeq2Seq`].
        train_dataset ([`~datasets.Dataset`] or sequence of dicts, *optional*):
            Seed annotations: prompt-completion rows that are trained on from the first round. None are needed.
        eval_dataset ([`~datasets.Dataset`], sequence of dicts, or a `dict` of these, *optional*):
            Rows with reference answers. They are taken out of the pool.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*):
            The student's tokenizer. If `None`, it is loaded from the model's name.
        task (`str` or [`~tasks.Task`], *optional*):
            How prompts, steps and answers look. Defaults to `args.task`.
        selection ([`~selection.SelectionStrategy`] or `Callable`, *optional*):
            A strategy object, instead of `args.selection`.
        annotation ([`~annotation.AnnotationMethod`], *optional*):
            A method object, instead of `args.annotation`.
        compute_loss_func (`Callable`, *optional*):
            As in [`~transformers.Trainer`].
        compute_metrics (`Callable[[list[PoolRow], list[Explanation]], dict[str, float]]`, *optional*):
            Further metrics of an evaluation, beside those of [`~evaluation.explanation_metrics`].
        callbacks (`list[TrainerCallback]`, *optional*):
            Any callbacks; those derived from [`~trainer.ActiveDistillationCallback`] get a round's events, and a
            [`~trainer.SelectionCallback`] among them replaces the default one.
        optimizers, optimizer_cls_and_kwargs, preprocess_logits_for_metrics (*optional*):
            As in [`~transformers.Trainer`].
        quantization_config (*optional*):
            Quantisation of the student, when it is loaded here.
        peft_config ([`~peft.PeftConfig`], *optional*):
            Adapter to train instead of all weights.
        formatting_func (`Callable`, *optional*):
            Makes the prompt of a pool or evaluation example: text or a conversation.
    """

    args: ActiveDistillationConfig
    model: PreTrainedModel

    _tag_names = ["hf_active_distill", "active-distillation"]
    _name = "Active Distillation"
    _paper = {
        "title": "ELAD: Explanation-Guided Large Language Models Active Distillation",
        "id": "2402.13098",
        "citation": "Zhang et al., Findings of the Association for Computational Linguistics: ACL 2024",
    }

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: ActiveDistillationConfig | None = None,
        pool_dataset: Dataset | Sequence[Mapping[str, Any]] | None = None,
        teacher: str | Teacher | Callable | None = None,
        data_collator: Callable | None = None,
        train_dataset: Dataset | Sequence[Mapping[str, Any]] | None = None,
        eval_dataset: Dataset | Sequence[Mapping[str, Any]] | dict[str, Any] | None = None,
        processing_class: PreTrainedTokenizerBase | None = None,
        task: str | Task | None = None,
        selection: SelectionStrategy | Callable | None = None,
        annotation: AnnotationMethod | None = None,
        compute_loss_func: Callable | None = None,
        compute_metrics: Callable[[list[PoolRow], list[Explanation]], dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable | None = None,
        quantization_config: Any = None,
        peft_config: PeftConfig | None = None,
        formatting_func: FormattingFunc | None = None,
    ):
        args = args or ActiveDistillationConfig(output_dir="active-distillation")
        if pool_dataset is None:
            raise ConfigurationError("`pool_dataset` is missing: pass the unlabelled rows that may be asked about.")
        self.task = task if isinstance(task, Task) else get_task(task or args.task, **args.options("task_kwargs"))
        self.data = RunData.read(args, self.task, pool_dataset, train_dataset, eval_dataset, formatting_func)
        if not self.data.eval_parts:
            if args.plateau_patience is not None or args.load_best_model_at_end:
                raise ConfigurationError(
                    "`plateau_patience` and `load_best_model_at_end` compare evaluations, and there is nothing to "
                    "evaluate on: pass `eval_dataset`, or leave them out."
                )
            args.eval_strategy, args.do_eval, args.eval_on_start = "no", False, False
        # Counted before `eval_with_teacher` has them answered.
        self.unanswered_eval_rows = sum(
            row.reference is None for part in self.data.eval_parts.values() for row in part
        )
        self.strategy = self._make_strategy(args, selection)
        self.annotation_settings = _annotation_settings(args)
        self.method = annotation or get_annotation(
            args.annotation, self.task, self.annotation_settings, **args.options("annotation_kwargs")
        )
        self._teacher = teacher
        # The token leaves the configuration, which is pickled into every checkpoint.
        self._teacher_token, args.teacher_token = args.teacher_token, None
        self._dispatcher: Dispatcher | None = None
        self._extra_metrics = compute_metrics
        self._formatting_func = formatting_func
        student = load_student(model, args, peft_config, quantization_config)
        processing_class = load_processing_class(processing_class, student, args)
        collator = data_collator or DataCollatorForSeq2Seq(
            processing_class, label_pad_token_id=-100, pad_to_multiple_of=args.pad_to_multiple_of
        )
        self.training_rows = TrainingRows()
        self.stop_reason: str | None = None
        self._termination = Termination(self._stop_asking)
        self._asked: Student | None = None
        super().__init__(
            model=student,
            args=args,
            data_collator=collator,
            train_dataset=self.training_rows,
            eval_dataset=self.data.eval_parts or None,
            processing_class=processing_class,
            compute_loss_func=compute_loss_func,
            callbacks=self._arrange_callbacks(callbacks),
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        if hasattr(self.model, "add_model_tags"):
            self.model.add_model_tags(self._tag_names)
        self.data.pool.keep(self._student(self.accelerator.unwrap_model(self.model)).has_room)
        self.book = RoundBook(RoundStore(args.output_path), self.data.pool, self.accelerator)
        self.first_weights = FirstWeights(args.output_path / "first_weights.safetensors")
        self.schedule = RoundSchedule(
            num_rounds=args.num_rounds,
            samples_per_round=args.samples_per_round,
            seed_rows=len(self.data.seed_annotations),
            pool_size=len(self.data.pool.rows),
            passes=args.num_train_epochs,
            batch_size=self.get_total_train_batch_size(args),
        )
        self._loader_generator = torch.Generator()

    # ------------------------------------------------------------------ setting up

    @staticmethod
    def _make_strategy(args: ActiveDistillationConfig, selection: Any) -> SelectionStrategy:
        strategy = as_strategy(selection or args.selection, **args.options("selection_kwargs"))
        return (
            RandomShare(strategy, args.random_share) if args.random_share and strategy.name != "random" else strategy
        )

    def _arrange_callbacks(self, callbacks: list[TrainerCallback] | None) -> list[TrainerCallback]:
        callbacks = list(callbacks or [])
        selectors = [callback for callback in callbacks if isinstance(callback, SelectionCallback)]
        if len(selectors) > 1:
            raise ConfigurationError("More than one `SelectionCallback` was passed: a round is selected once.")
        self.selector = selectors[0] if selectors else SelectionCallback()
        self.selector.bind(self)
        return [StoppingCallback(), self.selector, *(c for c in callbacks if c is not self.selector)]

    # ------------------------------------------------------------------ Trainer's hooks

    def get_train_dataloader(self):
        loader = super().get_train_dataloader()
        # Making an iterator draws a seed: from a generator of its own, so that the global state stays as it was.
        getattr(loader, "base_dataloader", loader).generator = self._loader_generator
        return loader

    def _get_train_sampler(self, train_dataset=None):
        return RoundSampler(
            self.training_rows, self.schedule, self.args.data_seed or self.args.seed, lambda: self.state.global_step
        )

    def num_examples(self, dataloader) -> int:
        """Rows of one Trainer epoch, which the growing training set does not tell."""
        return self.schedule.steps_per_segment * self.schedule.batch_size

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        """With `round_start="restart"` every round gets a schedule of its own."""
        if self.args.round_start != "restart" or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)

        def base(steps: int) -> Callable[[int], float]:
            scheduler = get_scheduler(
                self.args.lr_scheduler_type,
                optimizer=torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0),
                num_warmup_steps=self.args.get_warmup_steps(steps),
                num_training_steps=steps,
                scheduler_specific_kwargs=self.args.options("lr_scheduler_kwargs"),
            )
            return scheduler.lr_lambdas[0]

        factor = restarting_lambda(self.schedule, base)
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)  # type: ignore[arg-type]
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _save_checkpoint(self, model, trial):
        if self.args.should_save:
            folder = self.args.output_path / f"checkpoint-{self.state.global_step}"
            state = {"stop_reason": self.stop_reason, "global_step": self.state.global_step, "caps": self._caps()}
            write_state(folder, {**state, "rounds": len(self.book.records)})
        super()._save_checkpoint(model, trial)

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """
        The student explains and answers the evaluation rows; answers are compared by the task.

        Args:
            eval_dataset (*optional*): Other rows, or a `dict` of them. Defaults to the trainer's own.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): Put before every metric's name.

        Returns:
            `dict[str, float]`: See [`~evaluation.explanation_metrics`]. Of a `dict` of data sets there are the metrics
            of each, and an accuracy that is their mean.
        """
        if eval_dataset is None:
            parts: dict[str, Any] = self.data.eval_parts
        else:
            parts = eval_dataset if isinstance(eval_dataset, dict) else {"": eval_dataset}
        if not parts:
            raise ConfigurationError("There is nothing to evaluate on: pass `eval_dataset`.")
        metrics: dict[str, float] = {}
        for name, part in parts.items():
            metrics |= self._measure(part, f"{metric_key_prefix}_{name}" if name else metric_key_prefix)
        if "" not in parts:  # what plateaus, best models and curves go by
            of_parts = [metrics[f"{metric_key_prefix}_{name}_accuracy"] for name in parts]
            metrics[f"{metric_key_prefix}_accuracy"] = sum(of_parts) / len(of_parts)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.selector.evaluated(self.control, metrics)
        return metrics

    def _measure(self, dataset: Sequence[Any], prefix: str) -> dict[str, float]:
        rows = list(dataset)
        if not rows or not isinstance(rows[0], PoolRow):
            rows = read_rows(rows, "eval_dataset", self._formatting_func)
        if self.args.eval_with_teacher:
            rows = [row for row in rows if row.reference is not None]
            if not rows:
                raise DataError(
                    "No evaluation row has an answer: `train()` asks the teacher for them at its beginning, and it "
                    "gave none that can be read. Give `eval_dataset` a column with answers, or look at the journal."
                )
        require_references(rows)
        with self.open_student() as student:
            explanations = self._runner().explain(student, rows, self.state.global_step, "evaluating")
        metrics = explanation_metrics(self.task, rows, explanations, prefix)
        if self._extra_metrics is not None:
            metrics |= {f"{prefix}_{key}": value for key, value in self._extra_metrics(rows, explanations).items()}
        return metrics

    # ------------------------------------------------------------------ the run

    def train(  # type: ignore[override]
        self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any
    ) -> TrainOutput:
        """
        Runs all rounds.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                `True` goes on from the last complete checkpoint in `output_dir`; where a run was stopped before its
                first one, from the rounds and answers that stand on the disk. Or a checkpoint's folder.

        Returns:
            [`~transformers.trainer_utils.TrainOutput`]. Why the run ended is in `trainer.stop_reason`: `"rounds"`,
            `"budget"`, `"plateau"`, `"transfer"`, `"terminated"`, `"stopped"` (by `max_steps`, or by a callback that
            knows nothing of rounds), or a callback's own word.
        """
        checkpoint = resolve_checkpoint(
            self.args.output_path, resume_from_checkpoint, only_model=self.args.save_only_model
        )
        resuming = resume_from_checkpoint not in (None, False, "false", "False")
        self.book.claim(self.run_settings(), resuming=resuming, overwrite=self.args.overwrite_rounds)
        self.stop_reason = None
        self.training_rows.rows.clear()
        self.training_rows.add_round(self._tokenise(self.data.seed_annotations))
        with self._termination.watched(), self._teacher_at_hand(), self._fixed_arguments(checkpoint):
            self._answer_evaluation_rows()
            if self.args.round_start == "restart":
                self.first_weights.capture(
                    self.accelerator.unwrap_model(self.model),
                    from_disk=checkpoint is not None,
                    write=self.accelerator.is_main_process,
                )
            output = super().train(resume_from_checkpoint=checkpoint, **kwargs)
            self.restore_rounds(before=self.schedule.position(self.state.global_step)[0])
        if self._termination.requested:
            self.stop_reason = "terminated"
        elif self.stop_reason is None:
            finished = self.state.global_step >= self.schedule.total_steps
            self.stop_reason = "rounds" if finished else "stopped"
        return output

    def _answer_evaluation_rows(self) -> None:
        """`eval_with_teacher`: rows without a reference get the teacher's answer; it is asked for once."""
        rows = [row for part in self.data.eval_parts.values() for row in part if row.reference is None]
        if not rows:
            return
        method = get_annotation("cot", self.task, self.annotation_settings)
        items = [AnnotationItem(row) for row in rows]

        def ask() -> list[Annotation | None]:
            if self._dispatcher is None:
                raise RuntimeError("Only the main process talks to the teacher.")
            return annotate_rows(self._dispatcher, method, items)

        annotations = on_main_process(self.accelerator, ask)
        for row, annotation in zip(rows, annotations, strict=True):
            row.reference = annotation.answer if annotation is not None and annotation.status == "ok" else None
        unanswered = sum(row.reference is None for row in rows)
        logger.warning(
            "The metric is agreement with the teacher: it answered %d evaluation rows; %d that it could not answer "
            "are left out.",
            len(rows) - unanswered,
            unanswered,
        )

    def run_settings(self) -> dict[str, Any]:
        """What the run is, without secrets: kept with its rounds and compared on resume."""
        named = {name: getattr(self.args, name) for name in BINDING_SETTINGS if hasattr(self.args, name)}
        return {
            **named,
            "num_rounds": self.args.num_rounds,
            "pool": self.data.pool.fingerprint(),
            "seed_rows": self.schedule.seed_rows,
            "total_train_batch_size": self.schedule.batch_size,
        }

    @contextlib.contextmanager
    def _teacher_at_hand(self) -> Iterator[None]:
        def open_it() -> None:
            if self.accelerator.is_main_process:
                self._dispatcher = open_dispatcher(self.args, self._teacher, self._teacher_token)

        raised_everywhere(self.accelerator, open_it)
        try:
            yield
        finally:
            if self._dispatcher is not None:
                self._dispatcher.close()
                self._dispatcher = None

    @contextlib.contextmanager
    def _fixed_arguments(self, checkpoint: str | None) -> Iterator[None]:
        """Tells Trainer how many steps all rounds have; a resumed run is not evaluated at its start again."""
        args = self.args
        before = args.max_steps, args.eval_on_start
        total = self.schedule.total_steps
        state = read_state(checkpoint) if checkpoint else {}
        if self._stays_stopped(state):
            self.stop_reason = state["stop_reason"]
            logger.warning("The run has ended already (%s): nothing is left to do.", self.stop_reason)
            total = state["global_step"]
        args.max_steps = min(total, args.max_steps) if args.max_steps > 0 else total
        args.eval_on_start = args.eval_on_start and checkpoint is None
        try:
            yield
        finally:
            args.max_steps, args.eval_on_start = before

    def _stays_stopped(self, state: dict[str, Any]) -> bool:
        """Whether a resumed run had stopped for good: a spent budget can be raised, more rounds can be asked for."""
        reason = state.get("stop_reason")
        if reason == "budget":
            return state.get("caps") == self._caps()
        return reason not in (None, "rounds")

    def _caps(self) -> list[float | None]:
        return [self.args.max_teacher_calls, self.args.max_teacher_tokens, self.args.max_teacher_cost]

    def _stop_asking(self, error: TerminatedError) -> None:
        if self._dispatcher is not None:
            self._dispatcher.stop(error)

    def agreed_to_terminate(self) -> bool:
        """Whether any process got a SIGTERM; every process must ask at the same time."""
        return self._termination.agreed(self.accelerator)

    # ------------------------------------------------------------------ a round, step by step

    def restore_rounds(self, before: int) -> None:
        """Takes over the rounds that an earlier process finished."""
        for index in range(before):
            if index not in self.book.records:
                self._adopt(self.book.read(index))

    def begin_round(self, round_index: int, selector: SelectionCallback) -> None:
        """Score, select, ask, record; a round that stands on the disk already is taken as it is."""
        if self.book.stored(round_index):
            record = self.book.read(round_index)
        else:
            record = self._run_round(round_index, selector)
            self.book.write(record)
        self._adopt(record)
        self._fire("on_annotation_end", AnnotationEvent(record))
        self._require_rows(record)
        self._loader_generator.manual_seed(derived_seed(self.args.seed, "loader", round_index))

    def _run_round(self, round_index: int, selector: SelectionCallback) -> RoundRecord:
        raised_everywhere(self.accelerator, self._require_finite_weights)
        event = SelectionEvent(round_index, self.data.pool.available())
        self._fire("on_selection_begin", event)
        step = self.state.global_step
        if not event.available_ids:
            logger.warning("Round %d: no row is left in the pool; training goes on with those there are.", round_index)
            return RoundRecord(round=round_index, global_step=step)
        return self._runner().run(round_index, step, event.available_ids, selector)

    def _runner(self) -> RoundRunner:
        return RoundRunner(
            self.args,
            self.accelerator,
            self.data.pool,
            self.method,
            self.open_student,
            self._dispatcher,
            self._termination.check,
            self._foresee,
        )

    def _foresee(self, items: Sequence[AnnotationItem]) -> None:
        """Keeps the forecast of the run, made on the rows of its first round, to compare it with what was spent."""
        if not items or items[0].round > 0:
            return
        journal, run = journal_and_run(self.args)
        try:
            write_forecast(self.args.output_path, teacher_forecast(self, items), journal=journal, run=run)
        except Exception as error:  # of a method that plans nothing, say: no reason to end a run
            logger.warning("There is no forecast of what the teacher will be asked: %r", error)

    def _adopt(self, record: RoundRecord) -> None:
        self.book.adopt(record)
        self.training_rows.add_round(self._tokenise(record.succeeded))

    def _require_finite_weights(self) -> None:
        """A student that is broken asks about nothing of worth, and every row of it would still be paid for."""
        broken = [name for name, weights in self.model.named_parameters() if not torch.isfinite(weights).all()]
        if broken:
            raise ConfigurationError(
                f"The student's weights are no numbers any more ({broken[0]} and {len(broken) - 1} others, at step "
                f"{self.state.global_step}): lower `learning_rate`, set `max_grad_norm`, or train in bfloat16 or "
                "float32. Start anew with `overwrite_rounds=True`: answers in the journal are not paid for again."
            )

    def _require_rows(self, record: RoundRecord) -> None:
        """The first round may not begin with nothing to train on."""
        if len(self.training_rows):
            return
        if record.unfinished_ids:
            raise BudgetExhaustedError(
                "The budget does not reach for a single row: raise `max_teacher_tokens` (or calls, or cost), or lower "
                "`teacher_max_new_tokens`, which every call must be able to pay for. `trainer.plan()` shows figures."
            )
        if not record.annotations:
            raise DataError(
                "The first round has no row to ask about: a callback took all out of `available_ids`. Leave some, or "
                "pass annotated rows as `train_dataset`."
            )
        reasons = sorted({annotation.reason or "unknown" for annotation in record.annotations})
        raise TeacherError(
            f"None of {len(record.annotations)} annotated rows can be trained on ({', '.join(reasons)}). Look at "
            f"{self.book.store.path(record.round) / 'annotations.jsonl'}: can the teacher follow the prompts, and is "
            "`teacher_max_new_tokens` large enough?"
        )

    def prepare_weights(self, round_index: int) -> None:
        """`round_start="restart"`: first weights and a fresh optimiser for every round after the first."""
        if self.args.round_start == "restart" and round_index:
            self.first_weights.restore(self.accelerator.unwrap_model(self.model))
            if self.optimizer is not None:
                self.optimizer.state.clear()

    def finish_round(self, round_index: int, metrics: dict[str, float]) -> bool:
        """Sums a round up when it is trained and evaluated. Returns whether the run ends here."""
        record = self.book.records[round_index]
        place = {"step": self.state.global_step, "train_rows": len(self.training_rows)}
        figures = {**record.figures(), **place, **self.book.totals(), **metrics}
        event = RoundEndEvent(record, figures, self.book.history(round_index))
        self._fire("on_round_end", event)
        last = round_index == self.schedule.num_rounds - 1
        self.stop_reason = event.stop_reason or ("rounds" if last else None)
        figures["stop_reason"] = self.stop_reason
        self.book.write_metrics(round_index, figures)
        numbers = {key: value for key, value in figures.items() if isinstance(value, int | float)}
        self.log({f"round/{key}": float(value) for key, value in numbers.items() if key not in metrics})
        return self.stop_reason is not None

    def _fire(self, name: str, event: Any) -> None:
        for callback in self.callback_handler.callbacks:
            handler = getattr(callback, name, None)
            if handler is not None:
                handler(self.args, self.state, self.control, event=event, model=self.model, trainer=self)

    # ------------------------------------------------------------------ student and rows

    @contextlib.contextmanager
    def open_student(self) -> Iterator[Student]:
        """The student as something to ask, with its current weights."""
        wrapped = getattr(self, "model_wrapped", self.model)
        with whole_model(self.accelerator, wrapped, self.model) as model:
            yield self._student(model)

    def _student(self, model: Any) -> Student:
        # One student a model: its scorer is checked against plain re-encoding once, not every round.
        if self._asked is None or self._asked.model is not model:
            self._asked = self._make_student(model)
        return self._asked

    def _make_student(self, model: Any) -> Student:
        return Student(
            model,
            self.processing_class,
            self.task,
            max_new_tokens=self.args.max_new_tokens,
            batch_size=self.args.per_device_scoring_batch_size,
            seed=self.args.seed,
            chat_template_kwargs=self.args.options("chat_template_kwargs"),
            max_length=self.args.max_length,
        )

    def _tokenise(self, annotations: Sequence[Annotation]) -> list[dict[str, list[int]]]:
        student = self._student(self.accelerator.unwrap_model(self.model))
        rows = []
        cut_before = student.truncated_rows
        for annotation in annotations:
            thinking = annotation.thinking if self.args.keep_thinking else None
            encoded = student.encode_training(annotation.prompt, annotation.completion or "", thinking)
            ids = encoded["input_ids"]
            if not any(encoded["completion_mask"]):
                continue  # the prompt of a seed row alone is longer than `max_length`
            labels = [
                token if learnt or not self.args.completion_only_loss else -100
                for token, learnt in zip(ids, encoded["completion_mask"], strict=True)
            ]
            rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
        if student.truncated_rows > cut_before:
            logger.warning(
                "%d of %d new training rows are longer than `max_length` (%d) and lose their end; of %d nothing is "
                "left to learn, and they are skipped. Raise `max_length`, or lower `teacher_max_new_tokens`.",
                student.truncated_rows - cut_before,
                len(annotations),
                self.args.max_length,
                len(annotations) - len(rows),
            )
        return rows

    # ------------------------------------------------------------------ what a user asks for

    def plan(self) -> Plan:
        """What the run will cost, without a single teacher call: see [`~trainer.plan.Plan`]."""
        return make_plan(self)

    def annotations_dataset(self) -> Dataset:
        """Every annotation so far, failed ones included, as a data set: one row each."""
        annotations = self.book.annotations()
        if not annotations:
            raise DataError("There are no annotations yet: call `train()` first.")
        return annotations_to_dataset(annotations)

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """
        Uploads the student and its card to `hub_model_id`: safetensors, tokenizer, metrics and annotations. The
        journal, the rounds and everything pickled stay here.

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`): Message of the commit.
            blocking (`bool`, *optional*, defaults to `True`): Whether to wait for the upload.
            token (`str`, *optional*): Hub token; `args.hub_token` or the stored login by default.
            revision (`str`, *optional*): Branch to commit to.
            **kwargs: Passed to `create_model_card`.
        """
        if self.hub_model_id is None:
            self.init_hf_repo(token=token)
        self.save_model(_internal_call=True)
        if not self.is_world_process_zero():
            return None
        kwargs.setdefault("model_name", str(self.hub_model_id).split("/")[-1])
        self.create_model_card(**kwargs)
        return push_student(self, commit_message=commit_message, blocking=blocking, token=token, revision=revision)

    def create_model_card(  # type: ignore[override]
        self,
        model_name: str | None = None,
        dataset_name: str | None = None,
        tags: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes `README.md` in `output_dir`: method, teacher, rounds, figures, citation."""
        if self.is_world_process_zero():
            write_model_card(self, model_name=model_name, dataset_name=dataset_name, tags=tags)


def _annotation_settings(args: ActiveDistillationConfig) -> AnnotationSettings:
    return AnnotationSettings(
        params=GenerationParams(max_new_tokens=args.teacher_max_new_tokens, temperature=args.teacher_temperature),
        keep_thinking=args.keep_thinking,
        verify=args.verify_with_reference,
    )
