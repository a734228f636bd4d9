"""The student's card: what the trainer knows, put together for [`~hub.cards.model_card`]."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hub.cards import draw_learning_curve, model_card
from ..hub.facts import RunFacts
from ..hub.markup import is_repo_id
from ..reports.curve import read_metrics


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

_HYPER_PARAMETERS = (
    "learning_rate",
    "lr_scheduler_type",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "samples_per_round",
    "candidates_per_round",
    "round_start",
    "max_length",
    "teacher_temperature",
    "gate",
    "seed",
)
_LIBRARIES = ("hf-active-distill", "transformers", "trl", "peft", "torch", "datasets")


def write_model_card(
    trainer: ActiveDistillationTrainer,
    *,
    model_name: str | None,
    dataset_name: str | None,
    tags: str | list[str] | None,
    license: str | None = None,
    teacher_terms: str | None = None,
    language: str | None = None,
) -> None:
    """
    Writes `README.md`, and the learning curve where there is none yet, into the trainer's `output_dir`.

    Args:
        trainer ([`ActiveDistillationTrainer`]): Whose student.
        model_name (`str`, *optional*), dataset_name (`str`, *optional*), tags (`str` or `list[str]`, *optional*): As
            in `Trainer.create_model_card`.
        license (`str`, *optional*), teacher_terms (`str`, *optional*): As in the configuration, which they override.
        language (`str`, *optional*): Language of the data, such as `"en"`.
    """
    folder = trainer.args.output_path
    facts = run_facts(trainer, model_name=model_name, dataset_name=dataset_name, tags=tags)
    facts.license, facts.teacher_terms = license or facts.license, teacher_terms or facts.teacher_terms
    facts.language = language
    facts.picture = draw_learning_curve(facts, folder)
    model_card(facts).save(folder / "README.md")


def run_facts(
    trainer: ActiveDistillationTrainer,
    *,
    model_name: str | None = None,
    dataset_name: str | None = None,
    tags: str | list[str] | None = None,
) -> RunFacts:
    """What cards say of a trainer's run."""
    args, book = trainer.args, trainer.book
    base_model = getattr(trainer.model.config, "_name_or_path", None) or None
    if base_model and (Path(base_model).exists() or not is_repo_id(base_model)):
        base_model = None  # a folder of this machine says nothing to a reader, and is nobody's business
    wanted = [tags] if isinstance(tags, str) else list(tags or [])
    return RunFacts(
        title=model_name or args.output_path.name,
        records=[book.records[index] for index in sorted(book.records)],
        history=book.store.history(len(book.records)),
        settings=trainer.session.settings(),
        hyper_parameters={name: _value(getattr(args, name, None)) for name in _HYPER_PARAMETERS},
        base_model=base_model,
        adapter=hasattr(trainer.model, "peft_config"),
        stop_reason=trainer.stop_reason,
        dataset=dataset_name or args.pool_dataset_name,
        student_repo=trainer.hub_model_id,
        arms=_arms(args.output_path),
        tags=[*trainer._tag_names, *wanted],
        versions={name: version(name) for name in _LIBRARIES},
        license=args.model_license,
        teacher_terms=args.teacher_terms,
        private=[str(args.output_path.absolute())],
    )


def _arms(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Histories of the runs that the recipe puts beside this one, by their selection."""
    found = {path.parent.name.removeprefix("compare-"): path.parent for path in folder.glob("compare-*/metrics.jsonl")}
    return {name: read_metrics(found[name]) for name in sorted(found)}


def _value(value: Any) -> Any:
    """Enums by the name that configurations use."""
    return getattr(value, "value", value)
