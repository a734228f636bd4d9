"""What a task is: prompts, step splitting, answers. Text only."""

from ..thinking import split_thinking
from .base import StepSpan, Task, as_messages
from .classification import ClassificationTask
from .labels import LabelSet
from .multiple_choice import MultipleChoiceTask
from .reasoning import ReasoningTask
from .registry import available_tasks, get_task, register_task
from .rows import row_from_example
from .yes_no import YesNoTask


__all__ = [
    "ClassificationTask",
    "LabelSet",
    "MultipleChoiceTask",
    "ReasoningTask",
    "StepSpan",
    "Task",
    "YesNoTask",
    "as_messages",
    "available_tasks",
    "get_task",
    "register_task",
    "row_from_example",
    "split_thinking",
]
