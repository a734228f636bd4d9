"""What stands before a run: the student model, its tokenizer, and the rows."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..errors import ConfigurationError, DataError
from ..records import Annotation, PoolRow
from ..tasks import Task, row_from_example
from .config import ActiveDistillationConfig


if TYPE_CHECKING:
    from peft import PeftConfig

logger = logging.getLogger(__name__)

FormattingFunc = Callable[[Mapping[str, Any]], str | list[dict[str, str]]]


def load_student(
    model: str | PreTrainedModel,
    args: ActiveDistillationConfig,
    peft_config: PeftConfig | None,
    quantization_config: Any,
) -> PreTrainedModel:
    """Loads and wraps the student. Seeded, so that a new adapter's weights are the same in every run."""
    set_seed(args.seed)
    kwargs = dict(args.model_init_kwargs or {})
    if isinstance(model, str):
        kwargs.setdefault("dtype", "float32")
        kwargs.setdefault("trust_remote_code", args.trust_remote_code)
        if quantization_config is not None:
            kwargs["quantization_config"] = quantization_config
        model = AutoModelForCausalLM.from_pretrained(model, **kwargs)
    elif kwargs or quantization_config is not None:
        raise ConfigurationError(
            "`model_init_kwargs` and `quantization_config` are used when the model is loaded here: pass the model as "
            "a string, or leave them out."
        )
    if getattr(model.config, "is_encoder_decoder", False) or not model.can_generate():
        raise ConfigurationError(
            f"{type(model).__name__} is not a causal language model: pass one that `AutoModelForCausalLM` can load."
        )
    if peft_config is not None:
        from peft import get_peft_model, prepare_model_for_kbit_training

        if getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False):
            model = prepare_model_for_kbit_training(
                model, use_gradient_checkpointing=args.gradient_checkpointing, gradient_checkpointing_kwargs={}
            )
        model = get_peft_model(model, peft_config)
    if args.gradient_checkpointing:
        # Reentrant checkpointing needs inputs with gradients, which frozen embeddings do not give.
        args.gradient_checkpointing_kwargs = {"use_reentrant": False, **(args.gradient_checkpointing_kwargs or {})}
    return model


def load_processing_class(
    processing_class: PreTrainedTokenizerBase | None, model: PreTrainedModel, args: ActiveDistillationConfig
) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token and the chat template that was asked for."""
    if processing_class is None:
        name = getattr(model.config, "_name_or_path", None) or model.name_or_path
        if not name:
            raise ConfigurationError("The model does not know where it was loaded from: pass `processing_class`.")
        processing_class = AutoTokenizer.from_pretrained(name, trust_remote_code=args.trust_remote_code)
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
    if processing_class.eos_token_id is None:
        raise ConfigurationError("The tokenizer has no end token: set `processing_class.eos_token`.")
    return processing_class


def read_rows(
    dataset: Iterable[Mapping[str, Any]], name: str, formatting_func: FormattingFunc | None = None
) -> list[PoolRow]:
    """
    Rows of a data set as [`~records.PoolRow`].

    Raises:
        [`~errors.DataError`]: When there is no prompt column, or no row.
    """
    rows = []
    for index, example in enumerate(dataset):
        try:
            if formatting_func is not None:
                example = {**example, "prompt": formatting_func(example)}
            rows.append(row_from_example(example))
        except DataError as error:
            raise DataError(f"`{name}`, row {index}: {error}") from error
    if not rows:
        raise DataError(f"`{name}` is empty: pass a data set with at least one row.")
    return rows


def read_seed_annotations(dataset: Iterable[Mapping[str, Any]], task: Task) -> list[Annotation]:
    """Annotated rows to start from: prompt-completion rows, standard or conversational."""
    annotations = []
    for index, example in enumerate(dataset):
        [row] = read_rows([example], "train_dataset")
        completion = example.get("completion")
        if isinstance(completion, list):
            completion = completion[-1].get("content") if completion else None
        if not isinstance(completion, str) or not completion:
            raise DataError(
                f"Row {index} of `train_dataset` has no text in 'completion' (columns: {', '.join(example)}). Seed rows "
                "are prompt-completion rows; unlabelled rows belong into `pool_dataset`."
            )
        annotations.append(
            Annotation(
                row_id=row.row_id,
                kind="seed",
                status="ok",
                prompt=task.student_prompt(row),
                steps=[span.text for span in task.split_steps(completion)],
                answer=task.read_answer(completion),
                completion=completion,
                round=-1,
                seed_row=True,
            )
        )
    return annotations


def warn_of_unused(args: ActiveDistillationConfig, pool_size: int) -> None:
    """Settings that are right in themselves and odd for this pool."""
    if args.samples_per_round > pool_size:
        warnings.warn(
            f"`samples_per_round` ({args.samples_per_round}) is more than the pool holds ({pool_size}): the first round "
            "takes every row. Lower it, or give a larger pool.",
            stacklevel=3,
        )
    elif args.num_rounds * args.samples_per_round > pool_size:
        rounds = -(-pool_size // args.samples_per_round)
        warnings.warn(
            f"{args.num_rounds} rounds of {args.samples_per_round} rows ask for more than the pool holds ({pool_size}): "
            f"it is used up after {rounds} rounds.",
            stacklevel=3,
        )
