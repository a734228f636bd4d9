"""The trainer, its configuration and its callbacks."""

from .callbacks import (
    ActiveDistillationCallback,
    AnnotationEvent,
    RoundEndEvent,
    SelectionCallback,
    SelectionEvent,
    StoppingCallback,
)
from .config import ActiveDistillationConfig
from .plan import Plan
from .schedule import RoundSchedule
from .trainer import ActiveDistillationTrainer


__all__ = [
    "ActiveDistillationCallback",
    "ActiveDistillationConfig",
    "ActiveDistillationTrainer",
    "AnnotationEvent",
    "Plan",
    "RoundEndEvent",
    "RoundSchedule",
    "SelectionCallback",
    "SelectionEvent",
    "StoppingCallback",
]
