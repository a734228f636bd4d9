"""What cards say of a run: figures that are there already, in one object that no trainer is needed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..records import Annotation, Usage
from ..rounds import RoundRecord, measured_metrics


#: Metrics that say nothing of what the student has learnt.
_NO_METRICS = ("_loss", "_steps", "_cut", "_answered")
UNKNOWN = "unknown"


@dataclass
class RunFacts:
    """
    What the cards of a run are written from.

    Args:
        title (`str`): Name of the student.
        records (`list[RoundRecord]`): The rounds.
        history (`list[dict]`): Figures of the student as it came, where it was evaluated, and of every finished round.
        settings (`Mapping`): What the run is: see [`~rounds.BINDING_SETTINGS`].
        hyper_parameters (`Mapping`, *optional*): Of the training.
        base_model (`str`, *optional*): Name on the Hub of the model that the student began as.
        adapter (`bool`, *optional*, defaults to `False`): Whether the student is a PEFT adapter.
        stop_reason (`str`, *optional*): Why the run ended.
        dataset (`str`, *optional*): Name on the Hub of the data set that the pool came from.
        student_repo (`str`, *optional*), pool_repo (`str`, *optional*), annotations_repo (`str`, *optional*): Names on
            the Hub, where the parts are there.
        arms (`Mapping[str, Sequence[dict]]`, *optional*): Histories of runs beside this one by their selection, such
            as `"random"`.
        picture (`str`, *optional*): File name of the learning curve beside the student's card.
        license (`str`, *optional*), teacher_terms (`str`, *optional*): Licence of what is pushed (an identifier of the
            Hub), and the terms on which the teacher's outputs may be used. Marked unknown where they are not given.
        language (`str`, *optional*): Language of the data, such as `"en"`.
        tags (`Sequence[str]`, *optional*): Tags of the cards.
        versions (`Mapping[str, str]`, *optional*): Library versions.
        private (`Sequence[str]`, *optional*): Texts that must not be in any card.
    """

    title: str
    records: list[RoundRecord]
    history: list[dict[str, Any]]
    settings: Mapping[str, Any]
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    base_model: str | None = None
    adapter: bool = False
    stop_reason: str | None = None
    dataset: str | None = None
    student_repo: str | None = None
    pool_repo: str | None = None
    annotations_repo: str | None = None
    arms: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    picture: str | None = None
    license: str | None = None
    teacher_terms: str | None = None
    language: str | None = None
    tags: Sequence[str] = ("active-distillation", "hf_active_distill")
    versions: Mapping[str, str] = field(default_factory=dict)
    private: Sequence[str] = ()

    @property
    def annotations(self) -> list[Annotation]:
        """All annotations in the order in which they were made."""
        return [annotation for record in self.records for annotation in record.annotations]

    @property
    def teachers(self) -> list[str]:
        """Who was asked, each name once."""
        return sorted({annotation.teacher for annotation in self.annotations if annotation.teacher})

    @property
    def usage(self) -> Usage:
        """What all rounds cost."""
        return sum((record.usage for record in self.records), Usage())

    @property
    def cost(self) -> float | None:
        """Money, where prices are known."""
        costs = [annotation.cost for annotation in self.annotations if annotation.cost is not None]
        return sum(costs) if costs else None

    @property
    def classifies(self) -> bool:
        """Whether the task is to name a class."""
        return any(annotation.label is not None for annotation in self.annotations)

    @property
    def metrics(self) -> list[str]:
        """Names of what was measured, the accuracy first."""
        return [name for name in measured_metrics(self.history) if not name.endswith(_NO_METRICS)]
