"""The model card: what was distilled, from whom, what it cost and what it brought."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelCardData


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

_BODY = """---
{{ card_data }}
---

# {{ title }}

This model was distilled with `hf_active_distill`\
{% if base_model %} from the student [{{ base_model }}](https://huggingface.co/{{ base_model }}){% endif %}: in every \
round the student found the rows it understood least, and a teacher was asked about those alone.

| | |
|---|---|
| Teacher | {{ teacher }} |
| Selection | `{{ selection }}` |
| Annotation | `{{ annotation }}` |
| Rounds | {{ finished }} of {{ num_rounds }} planned (ended by: {{ stop_reason }}) |
| Annotated rows | {{ annotated }} |
| Teacher tokens | {{ tokens }} in {{ calls }} calls |

## Rounds

| round | asked | used | accepted steps | teacher tokens, total | accuracy |
|---|---|---|---|---|---|
{% for row in rounds -%}
| {{ row.round }} | {{ row.asked }} | {{ row.used }} | {{ row.accepted }} | {{ row.tokens }} | {{ row.accuracy }} |
{% endfor %}
## Training procedure

The loss is computed on the teacher's text only. Hyper-parameters:

{% for name, value in hyper_parameters -%}
- {{ name }}: {{ value }}
{% endfor %}
### Framework versions

{% for name, value in versions -%}
- {{ name }}: {{ value }}
{% endfor %}
## Limits

The teacher's text is the training target: its errors and its licence terms pass on to this model. The licence of the
teacher's outputs is unknown to the library; check it before you use or share the model.

## Citation

The selection and revision follow *{{ paper.title }}* ({{ paper.citation }},
[arXiv {{ paper.id }}](https://arxiv.org/abs/{{ paper.id }})); where the paper states no formula, ours is our reading.
"""

_HYPER_PARAMETERS = (
    "learning_rate",
    "num_train_epochs",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_rounds",
    "samples_per_round",
    "round_start",
    "random_share",
    "seed",
)


def write_model_card(
    trainer: ActiveDistillationTrainer,
    *,
    model_name: str | None,
    dataset_name: str | None,
    tags: str | list[str] | None,
) -> None:
    """Writes `README.md` into the trainer's `output_dir`."""
    args = trainer.args
    base_model = getattr(trainer.model.config, "_name_or_path", None) or None
    if base_model and Path(base_model).exists():
        base_model = None  # a folder of this machine says nothing to a reader, and is nobody's business
    wanted = [tags] if isinstance(tags, str) else list(tags or [])
    history = trainer.book.store.history(len(trainer.book.records))
    totals = history[-1] if history else {}
    teachers = sorted({f"`{annotation.teacher}`" for annotation in trainer.book.annotations() if annotation.teacher})
    card = ModelCard.from_template(
        ModelCardData(
            library_name="peft" if hasattr(trainer.model, "peft_config") else "transformers",
            base_model=base_model,
            datasets=dataset_name,
            tags=sorted({*trainer._tag_names, *wanted}),
            model_name=model_name,
        ),
        template_str=_BODY,
        title=model_name or args.output_path.name,
        base_model=base_model,
        teacher=", ".join(teachers) or "unknown",
        selection=args.selection,
        annotation=trainer.method.name,
        rounds=[_row(figures) for figures in history],
        finished=sum(figures["round"] >= 0 for figures in history),  # the first may be the student as it came
        num_rounds=args.num_rounds,
        stop_reason=trainer.stop_reason or "unknown",
        annotated=totals.get("total_annotated", 0),
        tokens=f"{totals.get('total_teacher_tokens', 0):,}",
        calls=f"{totals.get('total_teacher_calls', 0):,}",
        hyper_parameters=[(name, getattr(args, name)) for name in _HYPER_PARAMETERS],
        versions=[(name, version(name)) for name in ("hf-active-distill", "transformers", "trl", "torch", "datasets")],
        paper=trainer._paper,
    )
    card.save(args.output_path / "README.md")


def _row(figures: dict[str, Any]) -> dict[str, Any]:
    accuracy, rate = figures.get("eval_accuracy"), figures.get("accept_rate")
    return {
        "round": "before" if figures["round"] < 0 else figures["round"],
        "asked": figures.get("selected", ""),
        "used": figures.get("annotated", ""),
        "accepted": "" if rate is None else f"{rate:.0%}",
        "tokens": f"{figures.get('total_teacher_tokens', 0):,}",
        "accuracy": "" if accuracy is None else f"{accuracy:.3f}",
    }
