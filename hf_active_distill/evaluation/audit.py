"""How good the teacher is, from rows that were drawn uniformly and not because the student was unsure of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ..errors import DataError
from ..records import Annotation
from ..tasks.classification import ClassificationTask
from .calibration import apply_temperature, expected_calibration_error


@dataclass(frozen=True)
class Audit:
    """
    What uniformly drawn rows say of the teacher's labels. Chosen rows would not do: they are harder than the pool.

    Args:
        rows (`int`): Audit rows that the teacher was asked about.
        labelled (`int`): Those it gave a label.
        checked (`int`): Labels that could be compared with a reference.
        basis (`str`): `"references"`, or `"confidence"` where there were none: then `accuracy` is what the teacher
            believes of itself, and nothing was checked.
        accuracy (`float`): Share of right labels among those checked, or the mean (calibrated) confidence. NaN where
            there is no label.
        low (`float` or `None`), high (`float` or `None`): Wilson interval of the share; `None` without references.
        level (`float`): Its level.
        confidence (`float`): Mean confidence of the labels that have one, calibrated where a temperature was given.
        ece (`float` or `None`): [`expected_calibration_error`] of the labels that were checked.
    """

    rows: int
    labelled: int
    checked: int
    basis: str
    accuracy: float
    low: float | None
    high: float | None
    level: float
    confidence: float
    ece: float | None

    def figures(self, prefix: str = "audit") -> dict[str, float | None]:
        """The figures for a log; `None` for what is not known."""
        named = {
            "rows": self.rows,
            "labelled": self.labelled,
            "checked": self.checked,
            "teacher_accuracy": self.accuracy if self.basis == "references" else None,
            "teacher_accuracy_low": self.low,
            "teacher_accuracy_high": self.high,
            "teacher_confidence": self.confidence,
            "teacher_ece": self.ece,
        }
        return {f"{prefix}_{name}": None if value != value else value for name, value in named.items()}

    def __str__(self) -> str:
        if not self.labelled:
            return f"audit: no label in {self.rows} rows"
        if self.basis == "references":
            return (
                f"audit: {self.accuracy:.3f} of {self.checked} labels are right ({self.level:.0%} interval "
                f"{self.low:.3f} to {self.high:.3f}); the teacher is {self.confidence:.3f} sure"
            )
        return f"audit: the teacher is {self.confidence:.3f} sure of {self.labelled} labels; no reference checks it"


def audit_teacher(
    task: ClassificationTask,
    annotations: Sequence[Annotation],
    references: Mapping[str, str | None] | None = None,
    *,
    temperature: float = 1.0,
    level: float = 0.95,
) -> Audit:
    """
    Estimates accuracy and calibration of the teacher.

    Args:
        task ([`~tasks.ClassificationTask`]): Reads and compares labels.
        annotations (`Sequence[Annotation]`): Of uniformly drawn rows, failed ones included.
        references (`Mapping[str, str]`, *optional*): Right labels by row id, as far as they are known.
        temperature (`float`, *optional*, defaults to `1.0`): Calibrates confidences that were recorded raw
            ([`fit_temperature`]); needs the annotations' distributions.
        level (`float`, *optional*, defaults to `0.95`): Of the interval.
    """
    if temperature != 1.0 and task.multi_label:
        raise DataError("A temperature calibrates a single label: leave it out with `multi_label`.")
    labelled = [one for one in annotations if one.status == "ok" and one.answer is not None]
    sure = [_confidence(one, temperature) for one in labelled]
    right: list[bool] = []
    judged: list[tuple[float, bool]] = []
    for annotation, confidence in zip(labelled, sure, strict=True):
        reference = (references or {}).get(annotation.row_id)
        if reference is not None:
            right.append(task.answers_equal(annotation.answer, task.read_reference(reference)))
            if confidence is not None:
                judged.append((confidence, right[-1]))
    low, high = wilson_interval(sum(right), len(right), level=level) if right else (None, None)
    given = [confidence for confidence in sure if confidence is not None]
    mean = float(np.mean(given)) if given else float("nan")
    return Audit(
        rows=len(annotations),
        labelled=len(labelled),
        checked=len(right),
        basis="references" if right else "confidence",
        accuracy=sum(right) / len(right) if right else mean,
        low=low,
        high=high,
        level=level,
        confidence=mean,
        ece=expected_calibration_error(*zip(*judged, strict=True)) if judged else None,
    )


def _confidence(annotation: Annotation, temperature: float) -> float | None:
    if temperature == 1.0:
        return annotation.confidence
    if annotation.distribution is None:
        raise DataError(f"The annotation of row {annotation.row_id} has no distribution to calibrate.")
    values = np.array(list(annotation.distribution.values()))
    # The distribution is over the labels alone; the share of a doubt that went to `abstain` is what the raw
    # confidence lacks.
    share = 1.0 if annotation.confidence is None else min(1.0, annotation.confidence / values.max())
    doubt = [1 - share] if share < 1 - 1e-9 else []
    return float(apply_temperature([*(values * share), *doubt], temperature)[: len(values)].max())


def wilson_interval(successes: int, trials: int, *, level: float = 0.95) -> tuple[float, float]:
    """
    Wilson's score interval of a share, which holds for few trials and for shares near 0 and 1: the shares p with
    (successes / trials - p)² = z² p (1 - p) / trials. Written out, since the report needs it where SciPy is not.
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    share, square = successes / trials, z * z
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = z / (1 + square / trials) * math.sqrt(share * (1 - share) / trials + square / (4 * trials * trials))
    return max(0.0, centre - half), min(1.0, centre + half)
