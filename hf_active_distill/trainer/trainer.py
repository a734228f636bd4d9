"""`ActiveDistillationTrainer`: the glue between rounds and `transformers.Trainer`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
from transformers.trainer_utils import TrainOutput

from ..annotation import AnnotationMethod
from ..errors import DataError
from ..hub.exports import export_annotations
from ..rounds import RoundStore
from ..selection import SelectionStrategy
from ..tables import annotations_to_dataset
from ..tasks import Task, get_task
from ..teachers import Teacher
from .book import RoundBook
from .callbacks import arrange_callbacks
from .card import write_model_card
from .checkpoint import read_state, resolve_checkpoint
from .config import ActiveDistillationConfig
from .distributed import whole_model
from .evaluating import Evaluation
from .gating import GatedTraining
from .hooks import RoundHooks
from .kinds import Example
from .lineage import LineageCallback, restored
from .plan import Plan, make_plan
from .pushing import push_student
from .schedule import RoundSchedule, TrainingRows
from .session import RunSession
from .setup import (
    FormattingFunc,
    RunData,
    annotation_settings,
    load_processing_class,
    load_student,
    make_method,
    make_row_loss,
    make_strategy,
    settle_defaults,
    student_kind,
)
from .stages import RoundStages


if TYPE_CHECKING:
    from peft import PeftConfig


class ActiveDistillationTrainer(RoundHooks):
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
            The student: a causal language model, or one with a classification head; an id or folder for
            `from_pretrained` (`args.student_type` says which, where its configuration does not), or a model.
        args ([`ActiveDistillationConfig`], *optional*):
            Configuration. If `None`, a default one is used.
        pool_dataset ([`~datasets.Dataset`] or sequence of dicts):
            Unlabelled rows: a `"prompt"` (text or conversation), or one of the columns that
            [`~tasks.row_from_example`] knows.
        teacher (`str` or [`~teachers.Teacher`] or `Callable`):
            An address for [`~teachers.load_teacher`] (a TGI URL, ...), a teacher, or a Python function.
        data_collator (`Callable`, *optional*):
            Makes batches of `input_ids`, `attention_mask` and `labels`, with `class_weights` of a causal student also
            of `classes` (an integer a row). Defaults to [`~transformers.DataCollatorForSeq2Seq`].
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
        compute_metrics (`Callable`, *optional*):
            Further metrics of an evaluation, by name: given the rows and the student's explanations; of a student that
            answers with labels, given an [`~transformers.EvalPrediction`] of logits and targets.
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
        compute_metrics: Callable[..., dict[str, float]] | None = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        optimizer_cls_and_kwargs: tuple[type[torch.optim.Optimizer], dict[str, Any]] | None = None,
        preprocess_logits_for_metrics: Callable | None = None,
        quantization_config: Any = None,
        peft_config: PeftConfig | None = None,
        formatting_func: FormattingFunc | None = None,
    ):
        args = args or ActiveDistillationConfig(output_dir="active-distillation")
        self.task = task if isinstance(task, Task) else get_task(task or args.task, **args.options("task_kwargs"))
        self.kind = student_kind(args, self.task, model)
        settle_defaults(args, self.kind)
        self.data = RunData.read(args, self.kind, pool_dataset, train_dataset, eval_dataset, formatting_func)
        self.strategy = make_strategy(args, self.task, selection)
        self.annotation_settings = annotation_settings(args)
        self.method = make_method(args, self.kind, annotation)
        # The token leaves the configuration, which is pickled into every checkpoint.
        token, args.teacher_token = args.teacher_token, None
        self.session = RunSession(self, teacher, token)
        self.evaluation = Evaluation(self, compute_metrics, formatting_func)
        self.training_rows = TrainingRows()
        self.stop_reason: str | None = None
        self._goes_on = False  # from a restored round
        self._asked: Any = None
        self.row_loss = make_row_loss(args, self.kind, compute_loss_func)
        self.selector, callbacks = arrange_callbacks(self, callbacks)
        student = load_student(model, self.kind, args, peft_config, quantization_config)
        processing_class = load_processing_class(processing_class, student, self.kind, args)
        self.kind.prepare(student, processing_class)
        super().__init__(
            model=student,
            args=args,
            data_collator=data_collator or self.kind.collator(processing_class),
            train_dataset=self.training_rows,
            eval_dataset=self.data.eval_parts or None,
            processing_class=processing_class,
            compute_loss_func=compute_loss_func or self.row_loss,  # either is scaled for accumulation already
            callbacks=callbacks,
            optimizers=optimizers,
            optimizer_cls_and_kwargs=optimizer_cls_and_kwargs,
            preprocess_logits_for_metrics=preprocess_logits_for_metrics,
        )
        self._lay_out()

    def _lay_out(self) -> None:
        """What needs the model, the tokenizer and the processes, which Trainer has just set up."""
        args = self.args
        if hasattr(self.model, "add_model_tags"):
            self.model.add_model_tags(self._tag_names)
        self.data.pool.keep(self._student(self.accelerator.unwrap_model(self.model)).has_room)
        self.book = RoundBook(RoundStore(args.output_path), self.data.pool, self.accelerator)
        self.schedule = RoundSchedule(
            num_rounds=args.num_rounds,
            samples_per_round=args.samples_per_round,
            seed_rows=len(self.data.seeds),
            pool_size=len(self.data.pool.rows),
            passes=args.num_train_epochs,
            batch_size=self.get_total_train_batch_size(args),
        )
        self.rounds = RoundStages(self)
        self.gating = GatedTraining(self) if args.gate is not None else None
        self._loader_generator = torch.Generator()
        self.lineage = LineageCallback(self) if args.push_rounds or args.lineage_dir is not None else None
        if self.lineage is not None:
            self.add_callback(self.lineage)

    @classmethod
    def from_round(
        cls,
        name: str | Path,
        revision: str,
        args: ActiveDistillationConfig | None = None,
        *,
        output_dir: str | None = None,
        token: str | None = None,
        **kwargs: Any,
    ) -> ActiveDistillationTrainer:
        """
        A trainer that goes on from a round of a lineage, on any machine: student, optimiser, pool, seed rows,
        annotations and the teacher's answers come from there. `train()` runs the rounds that are left.

        Example:

        ```python
        trainer = ActiveDistillationTrainer.from_round(
            "user/name", "round-003", output_dir="out", teacher="http://localhost:8080", eval_dataset=eval_rows
        )
        trainer.train()
        ```

        Args:
            name (`str` or `Path`):
                `user/name` on the Hub, or the folder that `lineage_dir` named.
            revision (`str`):
                The round: `"round-003"`.
            args ([`ActiveDistillationConfig`], *optional*):
                Configuration; its `output_dir` must be new or empty. If `None`, that of the run, for `output_dir`.
            output_dir (`str`, *optional*):
                Folder of the run, where `args` is not given. Defaults to the last part of the name.
            token (`str`, *optional*):
                Hub token; `args.hub_token` or the stored login by default.
            **kwargs:
                Further arguments of the constructor: `teacher` and `eval_dataset`, which are not part of a round;
                `model`, the one under an adapter, where the round does not name one on the Hub.

        Raises:
            [`~errors.LineageError`]: When there is no such round, or `output_dir` holds a run already.
        """
        args, found = restored(name, revision, args, output_dir=output_dir, token=token, given=kwargs)
        trainer = cls(args=args, **found)
        trainer._goes_on = True
        return trainer

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        """
        The student answers the evaluation rows; answers are compared by the task.

        Args:
            eval_dataset (*optional*): Other rows, or a `dict` of them. Defaults to the trainer's own.
            metric_key_prefix (`str`, *optional*, defaults to `"eval"`): Put before every metric's name.

        Returns:
            `dict[str, float]`: See [`~evaluation.explanation_metrics`] and [`~evaluation.label_metrics`]. Of a `dict`
            of data sets there are the metrics of each, and an accuracy that is their mean.
        """
        if eval_dataset is None:
            parts: dict[str, Any] = self.data.eval_parts
        else:
            parts = eval_dataset if isinstance(eval_dataset, dict) else {"": eval_dataset}
        metrics = self.evaluation.run(parts, metric_key_prefix)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.selector.evaluated(self.control, metrics)
        return metrics

    def calibrate(self, dataset: Dataset | Sequence[Mapping[str, Any]]) -> float:
        """
        Makes a classifying student's probabilities mean what they say: fits a temperature on labelled rows, and
        divides the weights of the head's last layer by it, so that the saved model is calibrated in every pipeline.
        Labels stay as they are. Call it after training: what is trained later starts from the smaller weights.

        Args:
            dataset ([`~datasets.Dataset`] or sequence of dicts): Labelled rows that were not trained on; some dozens.

        Returns:
            `float`: The temperature; above 1 where the student was too sure.
        """
        return self.evaluation.calibrate(dataset)

    def require_calibratable(self) -> None:
        """Raises a [`~errors.ConfigurationError`] where [`~ActiveDistillationTrainer.calibrate`] would, in time."""
        self.evaluation.require_head()

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
        if resume_from_checkpoint is None and self._goes_on:
            resume_from_checkpoint = True
        checkpoint = resolve_checkpoint(
            self.args.output_path, resume_from_checkpoint, only_model=self.args.save_only_model
        )
        resuming = resume_from_checkpoint not in (None, False, "false", "False")
        self.book.claim(self.session.settings(), resuming=resuming, overwrite=self.args.overwrite_rounds)
        self.stop_reason = None
        self.training_rows.clear()
        self.rounds.reset()
        self.add_training_rows(self.data.seeds)
        if self.gating is not None:
            self.gating.begin(read_state(checkpoint) if checkpoint is not None else None)
        with self.session.begun(checkpoint):
            self.evaluation.ask_teacher()
            self.rounds.capture_first_weights(from_disk=checkpoint is not None)
            output = super().train(resume_from_checkpoint=checkpoint, **kwargs)
            self.rounds.restore(before=self.schedule.position(self.state.global_step)[0])
            self.rounds.review_labels()
        self.stop_reason = self.session.end_reason()
        return output

    # ------------------------------------------------------------------ student and rows

    @contextlib.contextmanager
    def open_student(self) -> Iterator[Any]:
        """The student as something to ask, with its current weights."""
        wrapped = getattr(self, "model_wrapped", self.model)
        with whole_model(self.accelerator, wrapped, self.model) as model:
            yield self._student(model)

    def _student(self, model: Any) -> Any:
        # One student a model: its scorer is checked against plain re-encoding once, not every round.
        if self._asked is None or self._asked.model is not model:
            self._asked = self.kind.student(model, self.processing_class)
        return self._asked

    def add_training_rows(self, examples: Sequence[Example]) -> None:
        """Tokenises annotated rows and trains on them from the next step on."""
        student = self._student(self.accelerator.unwrap_model(self.model))
        self.training_rows.add_round(self.kind.encode(student, examples), examples)
        if self.row_loss is not None:
            self.row_loss.prepare(self.kind.weighed_as(annotation) for _, annotation in self.training_rows.examples)

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

    def export_annotations(self, format: str) -> Dataset:
        """
        The annotations so far in the format of another trainer: see [`~hub.exports.export_annotations`].

        Args:
            format (`str`): `"prompt_completion"`, `"preference"`, `"step_preference"`, `"unpaired_preference"`,
                `"stepwise"` or `"classification"`.
        """
        read = getattr(self.task, "texts", None)
        texts = {row.row_id: read(row) for row in self.data.pool.rows.values()} if read is not None else None
        return export_annotations(self.book.annotations(), format, texts=texts, task=self.task)

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
        journal, the rounds and everything pickled stay here. With `push_rounds` it pushes what rounds wait.

        Args:
            commit_message (`str`, *optional*, defaults to `"End of training"`): Message of the commit.
            blocking (`bool`, *optional*, defaults to `True`): Whether to wait for the upload.
            token (`str`, *optional*): Hub token; `args.hub_token` or the stored login by default.
            revision (`str`, *optional*): Branch to commit to.
            **kwargs: Passed to `create_model_card`.
        """
        if self.lineage is not None:  # which has the name, and all that would be pushed to it
            return self.lineage.push()
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
        """
        Writes `README.md` in `output_dir`: method, teacher, rounds, figures, licence, citation.

        Args:
            model_name (`str`, *optional*): Name of the student; that of the folder by default.
            dataset_name (`str`, *optional*): Name on the Hub of the data set that the pool came from.
            tags (`str` or `list[str]`, *optional*): Further tags.
            **kwargs: `license` and `teacher_terms`, which override the configuration's, and `language`.
        """
        if self.is_world_process_zero():
            write_model_card(self, model_name=model_name, dataset_name=dataset_name, tags=tags, **kwargs)
