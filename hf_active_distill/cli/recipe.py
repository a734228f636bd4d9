"""What the recipes and `hf-active-distill plan` share: which rows, which student, which teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from trl import ModelConfig, get_peft_config, get_quantization_config

from ..errors import ConfigurationError
from ..synthetic import LabelWorld, MessageWorld, build_classifier, get_world, quickstart_student_path
from ..tasks.rows import REFERENCE_COLUMNS
from ..trainer import ActiveDistillationConfig, ActiveDistillationTrainer


SYNTHETIC = "synthetic:"


@dataclass
class ScriptArguments:
    """
    What the recipes and `hf-active-distill plan` are told beside the configuration: which rows, which teacher.

    Args:
        dataset_name (`str`): Hub id, a folder of `save_to_disk`, a .jsonl, .json, .csv or .parquet file, or
            `synthetic:WORLD` for problems made by code.
        dataset_config (`str`, *optional*): Configuration of a Hub data set.
        dataset_train_split (`str`, *optional*, defaults to `"train"`): The pool.
        dataset_test_split (`str`, *optional*, defaults to `"test"`): Evaluation rows, `none` for no evaluation.
        pool_size (`int`, *optional*): Rows of the pool to use, from its start; all by default.
        eval_size (`int`, *optional*): Evaluation rows to use, from the start; all by default.
        calibration_rows (`int`, *optional*, defaults to `0`): Rows of the evaluation split after those of `eval_size`,
            on which the probabilities of a trained classifier are calibrated before it is saved.
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
    calibration_rows: int = field(default=0, metadata={"help": "Rows to calibrate the trained classifier on."})
    prompt_column: str | None = field(default=None, metadata={"help": "Column with the question."})
    reference_column: str | None = field(default=None, metadata={"help": "Column with the evaluation rows' answer."})
    teacher: str | None = field(default=None, metadata={"help": "Address of the teacher, such as a TGI URL."})
    teacher_model: str | None = field(default=None, metadata={"help": "Model to serve as the teacher."})
    teacher_error_rate: float = field(
        default=0.0, metadata={"help": "Share of steps the built-in teacher gets wrong."}
    )
    plan: bool = field(default=False, metadata={"help": "Print what the run will cost, and stop."})
    compare: str | None = field(default=None, metadata={"help": "Another selection to run beside this one."})


def load_rows(script_args: ScriptArguments, split: str, size: int | None, seed: int) -> Any:
    """The rows of a split, as a data set or a list."""
    name = script_args.dataset_name
    if name.startswith(SYNTHETIC):
        held_out = "eval" if split == "test" else split  # what a world calls the default of other data sets
        problems = get_world(name.removeprefix(SYNTHETIC)).problems(size or 2000, seed, held_out)
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


def load_calibration_rows(script_args: ScriptArguments, seed: int) -> list[dict[str, Any]]:
    """
    Labelled rows that neither training nor evaluation looks at.

    Raises:
        [`~errors.ConfigurationError`]: When the evaluation leaves none.
    """
    split, first = script_args.dataset_test_split, script_args.eval_size
    if split == "none" or first is None:
        raise ConfigurationError(
            "`calibration_rows` are taken from the evaluation split after the rows of `eval_size`: set `eval_size`."
        )
    found = list(load_rows(script_args, split, first + script_args.calibration_rows, seed))[first:]
    if not found:
        raise ConfigurationError(
            f"The evaluation split has no row after the {first} of `eval_size`: lower it, or leave `calibration_rows` "
            "out."
        )
    return found


# What a recipe's command line and YAML file are made of.
DATACLASSES: Any = (ScriptArguments, ActiveDistillationConfig, ModelConfig)
#: What a recipe for students that classify takes where nothing else is said.
LABEL_DEFAULTS = {
    "dataset_name": "synthetic:support_messages",
    "task": "classification",
    "annotation": "label",
    "selection": "llkd_gate",
}


def make_trainer(
    script_args: ScriptArguments,
    training_args: ActiveDistillationConfig,
    model_args: ModelConfig,
    teacher: str | None,
    callbacks: Sequence[TrainerCallback] = (),
) -> ActiveDistillationTrainer:
    """
    The trainer that a recipe's arguments describe; without a model they mean the built-in student.

    Raises:
        [`~errors.ConfigurationError`]: Also where a model, a data set, a folder or a library is not there.
    """
    try:
        return _make_trainer(script_args, training_args, model_args, teacher, callbacks)
    except (OSError, ImportError) as error:
        raise ConfigurationError(f"{type(error).__name__}: {error}") from error


def _make_trainer(
    script_args: ScriptArguments,
    training_args: ActiveDistillationConfig,
    model_args: ModelConfig,
    teacher: str | None,
    callbacks: Sequence[TrainerCallback],
) -> ActiveDistillationTrainer:
    split, seed = script_args.dataset_test_split, training_args.seed
    if training_args.pool_dataset_name is None and on_the_hub(script_args):
        training_args.pool_dataset_name = script_args.dataset_name
    pool = load_rows(script_args, script_args.dataset_train_split, script_args.pool_size, seed)
    evaluation = None if split == "none" else load_rows(script_args, split, script_args.eval_size, seed)
    if training_args.task == "classification":
        options = training_args.options("task_kwargs")
        known = {} if "labels" in options else label_names(script_args, evaluation)
        training_args.task_kwargs = {**known, **options}
    model, processing_class = _student(script_args, training_args, model_args)
    return ActiveDistillationTrainer(
        model=model,
        args=training_args,
        pool_dataset=pool,
        eval_dataset=evaluation,
        processing_class=processing_class,
        teacher=teacher,
        peft_config=get_peft_config(model_args),
        quantization_config=get_quantization_config(model_args),
        callbacks=list(callbacks),
    )


def _student(script_args: ScriptArguments, training_args: ActiveDistillationConfig, model_args: ModelConfig) -> Any:
    """The model, and its tokenizer where it is made here. Without a name it is the one made for the built-in rows."""
    world = built_in_world(script_args)
    if model_args.model_name_or_path is None and isinstance(world, MessageWorld):
        return build_classifier(world, seed=training_args.seed)
    training_args.model_init_kwargs = {
        "revision": model_args.model_revision,
        "attn_implementation": model_args.attn_implementation,
        "dtype": model_args.dtype,
        **training_args.options("model_init_kwargs"),
    }
    return model_args.model_name_or_path or str(quickstart_student_path()), None


def on_the_hub(script_args: ScriptArguments) -> bool:
    """Whether the rows have a name that others know: no path of this machine, nothing made by code."""
    name = script_args.dataset_name
    return not name.startswith(SYNTHETIC) and not Path(name).exists() and name.count("/") <= 1


def built_in_world(script_args: ScriptArguments) -> Any:
    """The world that `synthetic:NAME` means, `None` for other data sets."""
    name = script_args.dataset_name
    return get_world(name.removeprefix(SYNTHETIC)) if name.startswith(SYNTHETIC) else None


def label_names(script_args: ScriptArguments, evaluation: Any) -> dict[str, Any]:
    """
    Labels for a task that classifies, where the configuration does not give them: those of the built-in rows, of the
    evaluation set's `ClassLabel` column, or the different ones that stand in it.

    Raises:
        [`~errors.ConfigurationError`]: When they are known from nowhere.
    """
    world = built_in_world(script_args)
    if isinstance(world, LabelWorld):
        return {"labels": world.labels, "descriptions": world.descriptions}
    if evaluation is None:
        return {}
    column = next((name for name in REFERENCE_COLUMNS if name in getattr(evaluation, "column_names", ())), None)
    if column is None:
        raise ConfigurationError(
            "The labels are not known: give them as `task_kwargs: {labels: [...]}`, or name the column of the "
            "evaluation set that has them (`reference_column`)."
        )
    feature = evaluation.features[column]
    feature = getattr(feature, "feature", feature)  # of a list of labels
    if hasattr(feature, "names"):
        return {"labels": list(feature.names)}
    found = evaluation.unique(column) if not hasattr(evaluation.features[column], "feature") else []
    if not found or not all(isinstance(label, str) for label in found):
        raise ConfigurationError(
            f"Column {column!r} of the evaluation set holds no label names: give them as `task_kwargs: {{labels: "
            "[...]}`, in the order of their numbers."
        )
    return {"labels": sorted(found)}
