"""Metrics of a student on rows whose answers are known, and of a teacher's labels."""

from .audit import Audit, audit_teacher, wilson_interval
from .calibration import (
    ReliabilityBin,
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from .classification import ConfusionTable, Disagreement, confident_disagreements, label_metrics
from .generative import explanation_metrics, require_references


__all__ = [
    "Audit",
    "ConfusionTable",
    "Disagreement",
    "ReliabilityBin",
    "apply_temperature",
    "audit_teacher",
    "confident_disagreements",
    "expected_calibration_error",
    "explanation_metrics",
    "fit_temperature",
    "label_metrics",
    "reliability",
    "require_references",
    "wilson_interval",
]
