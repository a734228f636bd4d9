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
from .reporting import ReportCallback
from .schedule import RoundSchedule
from .trackers import TrackerTablesCallback
from .trainer import ActiveDistillationTrainer


__all__ = [
    "ActiveDistillationCallback",
    "ActiveDistillationConfig",
    "ActiveDistillationTrainer",
    "AnnotationEvent",
    "Plan",
    "ReportCallback",
    "RoundEndEvent",
    "RoundSchedule",
    "SelectionCallback",
    "SelectionEvent",
    "StoppingCallback",
    "TrackerTablesCallback",
]
