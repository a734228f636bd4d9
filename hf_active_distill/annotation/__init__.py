"""What is asked of a teacher about one row."""

from .base import AnnotationItem, AnnotationMethod, AnnotationSettings, Ask
from .clear import ClearAnnotation
from .cot import CotAnnotation
from .demonstrations import Demonstrations
from .label import LabelAnnotation
from .one_call import OneCallAnnotation
from .registry import BaseAnnotation, available_annotations, get_annotation, register_annotation
from .verdicts import Verdict, read_verdict
from .views import (
    completion_rows,
    failure_counts,
    preference_rows,
    render_revision,
    step_preference_rows,
    stepwise_rows,
    unpaired_preference_rows,
)


__all__ = [
    "AnnotationItem",
    "AnnotationMethod",
    "AnnotationSettings",
    "Ask",
    "BaseAnnotation",
    "ClearAnnotation",
    "CotAnnotation",
    "Demonstrations",
    "LabelAnnotation",
    "OneCallAnnotation",
    "Verdict",
    "available_annotations",
    "completion_rows",
    "failure_counts",
    "get_annotation",
    "preference_rows",
    "read_verdict",
    "register_annotation",
    "render_revision",
    "step_preference_rows",
    "stepwise_rows",
    "unpaired_preference_rows",
]
