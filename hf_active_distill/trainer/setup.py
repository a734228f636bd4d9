"""What stands before a run: the student model, its tokenizer, and the rows."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..annotation import AnnotationMethod, AnnotationSettings, get_annotation
from ..engine.modes import base_model
from ..errors import ConfigurationError, DataError
from ..evaluation import require_references
from ..pool import Pool
from ..records import Annotation, PoolRow
from ..selection import RandomShare, SelectionStrategy, as_strategy, expect_several_labels
from ..tasks import ClassificationTask, Task
from ..teachers import GenerationParams
from .classifying import HEAD, ClassifyingKind, LabellingKind, LabelWritingKind
from .config import ActiveDistillationConfig
from .kinds import Example, ExplainingKind, StudentKind


if TYPE_CHECKING:
    from peft import PeftConfig

    from .row_loss import RowLoss

_ALIGNMENT = 64  # bytes, of torch's own memory on a CPU
CAUSAL = ("ForCausalLM", "LMHeadModel")

FormattingFunc = Callable[[Mapping[str, Any]], str | list[dict[str, str]]]


def load_student(
    model: str | PreTrainedModel,
    kind: StudentKind,
    args: ActiveDistillationConfig,
    peft_config: PeftConfig | None,
    quantization_config: Any,
) -> PreTrainedModel:
    """Loads and wraps the student. Seeded, so that a new adapter's weights are the same in every run."""
    set_seed(args.seed)
    kwargs = args.options("model_init_kwargs")
    if isinstance(model, str):
        kwargs.setdefault("dtype", "float32")
        kwargs.setdefault("trust_remote_code", args.trust_remote_code)
        if quantization_config is not None:
            kwargs["quantization_config"] = quantization_config
        student: Any = kind.load(model, **kwargs)
        _align(student)
    elif kwargs or quantization_config is not None:
        raise ConfigurationError(
            "`model_init_kwargs` and `quantization_config` are used when the model is loaded here: pass the model as "
            "a string, or leave them out."
        )
    else:
        student = model
    kind.check(student)
    if peft_config is not None:
        wanted, given = kind.peft_task_type, getattr(peft_config.task_type, "value", peft_config.task_type)
        if wanted is not None and given != wanted:
            raise ConfigurationError(
                f"The adapter's `task_type` is {given!r}, so the new head would be neither trained nor saved: set "
                f"`task_type={wanted!r}`."
            )
        from peft import get_peft_model, prepare_model_for_kbit_training

        if getattr(student, "is_loaded_in_4bit", False) or getattr(student, "is_loaded_in_8bit", False):
            student = prepare_model_for_kbit_training(
                student, use_gradient_checkpointing=args.gradient_checkpointing, gradient_checkpointing_kwargs={}
            )
        student = get_peft_model(student, peft_config)
    if args.gradient_checkpointing:
        # Reentrant checkpointing needs inputs with gradients, which frozen embeddings do not give.
        args.gradient_checkpointing_kwargs = {
            "use_reentrant": False,
            **args.options("gradient_checkpointing_kwargs"),
        }
    return student


def _align(model: torch.nn.Module) -> None:
    """
    Moves weights to where torch would have put them. Those that are mapped from a file lie at whatever offset they
    have in it, and a CPU rounds a sum by where its terms begin: a run that goes on from another file would differ.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % _ALIGNMENT:
            tensor.data = tensor.data.clone()


def load_processing_class(
    processing_class: PreTrainedTokenizerBase | None,
    model: PreTrainedModel,
    kind: StudentKind,
    args: ActiveDistillationConfig,
) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token and the chat template that was asked for."""
    if processing_class is None:
        name = getattr(model.config, "_name_or_path", None) or model.name_or_path
        if not name:
            raise ConfigurationError("The model does not know where it was loaded from: pass `processing_class`.")
        processing_class = AutoTokenizer.from_pretrained(name, trust_remote_code=args.trust_remote_code)
    else:
        # What is set below and by the kind of student is about this student: the caller's may serve others.
        processing_class = copy.deepcopy(processing_class)
    if args.chat_template_path is not None:
        path = Path(args.chat_template_path)
        processing_class.chat_template = (
            path.read_text(encoding="utf-8")
            if path.is_file()
            else AutoTokenizer.from_pretrained(args.chat_template_path).chat_template
        )
    if processing_class.pad_token_id is None:
        if processing_class.eos_token is None:
            raise ConfigurationError(
                "The tokenizer has neither a padding nor an end token: set `processing_class.eos_token`."
            )
        processing_class.pad_token = processing_class.eos_token
    if processing_class.eos_token_id is None and kind.needs_end_token:
        raise ConfigurationError("The tokenizer has no end token: set `processing_class.eos_token`.")
    return processing_class


def read_rows(
    dataset: Iterable[Mapping[str, Any] | PoolRow],
    name: str,
    task: Task,
    formatting_func: FormattingFunc | None = None,
    keep: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> list[PoolRow]:
    """
    Rows of a data set as [`~records.PoolRow`], as the task reads them; `keep` is what of an example it gets to see.

    Raises:
        [`~errors.DataError`]: When there is no prompt column, or no row.
    """
    rows = []
    for index, example in enumerate(dataset):
        if isinstance(example, PoolRow):  # of a restored round
            rows.append(example)
            continue
        if not isinstance(example, Mapping):
            raise DataError(
                f"`{name}` holds {type(example).__name__}, not rows: pass a `Dataset` (one split of a `DatasetDict`) "
                "or a list of dicts such as {'prompt': ...}."
            )
        try:
            if formatting_func is not None:
                prompt = formatting_func(example)
                rows.append(task.read_row({**keep(example), "prompt": prompt}, prompt_column="prompt"))
            else:
                rows.append(task.read_row(keep(example)))
        except DataError as error:
            raise DataError(f"`{name}`, row {index}: {error}") from error
    if not rows:
        raise DataError(f"`{name}` is empty: pass a data set with at least one row.")
    return rows


def read_unlabelled(
    dataset: Iterable[Mapping[str, Any] | PoolRow],
    name: str,
    task: ClassificationTask,
    formatting_func: FormattingFunc | None = None,
) -> list[PoolRow]:
    """As [`read_rows`], without labels that were left in, and with a warning where there were any."""
    labelled = 0

    def keep(example: Mapping[str, Any]) -> Mapping[str, Any]:
        nonlocal labelled
        left, held = task.without_label(example)
        labelled += held
        return left

    rows = read_rows(dataset, name, task, formatting_func, keep)
    if labelled:
        warnings.warn(
            f"`{name}` holds labels in {labelled} of {len(rows)} rows. They are not used: the teacher labels what is "
            "chosen. Remove the column, or pass labelled rows as `train_dataset` or `eval_dataset`.",
            stacklevel=4,
        )
    return [replace(row, reference=None) for row in rows]


def read_seeds(dataset: Iterable[Mapping[str, Any] | Example], kind: StudentKind) -> list[Example]:
    """Annotated rows to start from, each with its row, which knows the prompt as it stands in the data set."""
    seeds = []
    for index, example in enumerate(dataset):
        if isinstance(example, tuple):  # of a restored round
            seeds.append(example)
            continue
        try:
            seeds.append(kind.read_seed(example))
        except DataError as error:
            raise DataError(f"`train_dataset`, row {index}: {error}") from error
    return seeds


@dataclass
class RunData:
    """
    The rows of a run.

    Args:
        pool ([`~pool.Pool`]): What may be asked about; evaluation and seed rows are out of it.
        seeds (`list[tuple[PoolRow, Annotation]]`): What is trained on from the start.
        eval_parts (`dict[str, list[PoolRow]]`): Evaluation rows by name; `""` is the only part of a plain data set.
        unanswered_eval_rows (`int`): Those without a reference, before `eval_with_teacher` has them answered.
    """

    pool: Pool
    seeds: list[Example]
    eval_parts: dict[str, list[PoolRow]]
    unanswered_eval_rows: int = 0

    @classmethod
    def read(
        cls,
        args: ActiveDistillationConfig,
        kind: StudentKind,
        pool_dataset: Any,
        train_dataset: Any,
        eval_dataset: Any,
        formatting_func: FormattingFunc | None,
    ) -> RunData:
        """Reads and checks all data sets, before a model is loaded. Without an evaluation set none is planned."""
        if pool_dataset is None:
            raise ConfigurationError("`pool_dataset` is missing: pass the unlabelled rows that may be asked about.")
        if isinstance(kind, LabellingKind) and not args.verify_with_reference:
            pool_rows = read_unlabelled(pool_dataset, "pool_dataset", kind.task, formatting_func)
        else:
            pool_rows = read_rows(pool_dataset, "pool_dataset", kind.task, formatting_func)
        seeds = read_seeds(train_dataset, kind) if train_dataset is not None else []
        parts = {} if eval_dataset is None else {"": eval_dataset}
        parts = eval_dataset if isinstance(eval_dataset, dict) else parts
        eval_parts = {
            name: read_rows(part, "eval_dataset", kind.task, formatting_func) for name, part in parts.items()
        }
        for rows in eval_parts.values():
            if not args.eval_with_teacher:
                require_references(rows)
        barred = [row for rows in eval_parts.values() for row in rows]
        barred += [row for row, _ in seeds]
        pool = Pool(pool_rows, exclude=barred, max_attempts=args.max_attempts_per_row)
        warn_of_odd_sizes(args, len(pool.rows))
        if not eval_parts:
            _plan_no_evaluation(args)
        unanswered = sum(row.reference is None for rows in eval_parts.values() for row in rows)
        return cls(pool, seeds, eval_parts, unanswered)

    @property
    def seed_annotations(self) -> list[Annotation]:
        """What is trained on from the start."""
        return [annotation for _, annotation in self.seeds]

    @property
    def seed_rows(self) -> list[PoolRow]:
        """The rows of `seed_annotations` as they were given."""
        return [row for row, _ in self.seeds]

    def examples(self, annotations: Iterable[Annotation]) -> list[Example]:
        """Annotations of the rounds with their rows."""
        return [(self.pool.rows[annotation.row_id], annotation) for annotation in annotations]


def _plan_no_evaluation(args: ActiveDistillationConfig) -> None:
    if args.plateau_patience is not None or args.load_best_model_at_end:
        raise ConfigurationError(
            "`plateau_patience` and `load_best_model_at_end` compare evaluations, and there is nothing to evaluate "
            "on: pass `eval_dataset`, or leave them out."
        )
    args.eval_strategy, args.do_eval, args.eval_on_start = "no", False, False


def warn_of_odd_sizes(args: ActiveDistillationConfig, pool_size: int) -> None:
    """Settings that are right in themselves and odd for this pool."""
    if args.samples_per_round > pool_size:
        warnings.warn(
            f"`samples_per_round` ({args.samples_per_round}) is more than the pool holds ({pool_size}): the first "
            "round takes every row. Lower it, or give a larger pool.",
            stacklevel=4,
        )
    elif args.num_rounds * args.samples_per_round > pool_size:
        rounds = -(-pool_size // args.samples_per_round)
        warnings.warn(
            f"{args.num_rounds} rounds of {args.samples_per_round} rows ask for more than the pool holds "
            f"({pool_size}): it is used up after {rounds} rounds.",
            stacklevel=4,
        )


def student_kind(args: ActiveDistillationConfig, task: Task, model: str | PreTrainedModel) -> StudentKind:
    """
    The kind of a run's student. Its class tells, or of a name the architecture in its configuration: what is written
    with a task over labels is a label, everything but `...ForCausalLM` gets a classification head.
    """
    wanted = args.student_type
    if wanted is None:
        if isinstance(model, str):
            names = [] if not isinstance(task, ClassificationTask) else _architectures(model, args)
            causal = not isinstance(task, ClassificationTask) or any(n.endswith(CAUSAL) for n in names)
        else:
            causal = not type(base_model(model)).__name__.endswith(HEAD)
        wanted = "causal_lm" if causal else "sequence_classification"
    if wanted == "sequence_classification":
        return ClassifyingKind(args, task)
    if isinstance(task, ClassificationTask):
        return LabelWritingKind(args, task)
    return ExplainingKind(args, task)


def _architectures(name: str, args: ActiveDistillationConfig) -> list[str]:
    return AutoConfig.from_pretrained(name, trust_remote_code=args.trust_remote_code).architectures or []


def settle_defaults(args: ActiveDistillationConfig, kind: StudentKind) -> None:
    """What the configuration leaves open is decided by the kind of student, before anything reads it."""
    args.task = kind.task.name
    if "annotation" in args.left_open:
        args.annotation = kind.default_annotation
    if "selection" in args.left_open:
        args.selection = kind.default_selection


def make_row_loss(
    args: ActiveDistillationConfig, kind: StudentKind, compute_loss_func: Callable | None
) -> RowLoss | None:
    """The loss of the kind of student, unless a user's own stands in for it, which knows no factors of labels."""
    weighing = [name for name in ("class_weights", "soft_labels") if getattr(args, name)]
    if weighing and not isinstance(kind, LabellingKind):
        raise ConfigurationError(
            f"`{weighing[0]}` is about labels, and this student writes explanations: use `task='classification'`, or "
            "leave it out."
        )
    if args.class_weights and compute_loss_func is not None:
        raise ConfigurationError(
            "`class_weights` are factors of the trainer's own loss: put them into `compute_loss_func`, or leave one "
            "of the two out."
        )
    return None if compute_loss_func is not None else kind.row_loss()


def make_strategy(args: ActiveDistillationConfig, task: Task, selection: Any) -> SelectionStrategy:
    """The strategy that was handed in or named, fit for the task, with the configured share of rows at random."""
    strategy = as_strategy(selection or args.selection, **args.options("selection_kwargs"))
    if isinstance(task, ClassificationTask) and task.multi_label:
        expect_several_labels(strategy)
    return RandomShare(strategy, args.random_share) if args.random_share and strategy.name != "random" else strategy


def annotation_settings(args: ActiveDistillationConfig) -> AnnotationSettings:
    """How the teacher shall answer."""
    return AnnotationSettings(
        params=GenerationParams(max_new_tokens=args.teacher_max_new_tokens, temperature=args.teacher_temperature),
        keep_thinking=args.keep_thinking,
        verify=args.verify_with_reference,
    )


def make_method(
    args: ActiveDistillationConfig, kind: StudentKind, annotation: AnnotationMethod | None
) -> AnnotationMethod:
    """The annotation method that was handed in or named."""
    options = args.options("annotation_kwargs")
    try:
        json.dumps(options)
    except TypeError as error:
        raise ConfigurationError(
            f"`annotation_kwargs` is kept with the run and must be plain values ({error}): hand over the method "
            f"itself, `annotation=get_annotation({args.annotation!r}, task, AnnotationSettings(...), ...)`."
        ) from error
    method = annotation or get_annotation(args.annotation, kind.task, annotation_settings(args), **options)
    kind.check_method(method)
    return method
