"""
Active distillation of language models in the Hugging Face ecosystem.

The student finds what it does not understand, the teacher is asked about just that and corrects the student's own
reasoning step by step. Names are imported when they are used: `import hf_active_distill` alone loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any


__version__ = "0.1.0.dev0"

_EXPORTS = {
    "ActiveDistillationCallback": "trainer",
    "ActiveDistillationConfig": "trainer",
    "ActiveDistillationTrainer": "trainer",
    "Annotation": "records",
    "Budget": "asking",
    "Dispatcher": "asking",
    "Explanation": "records",
    "Journal": "asking",
    "PoolRow": "records",
    "Prices": "asking",
    "SelectionCallback": "trainer",
    "SelectionStrategy": "selection",
    "Student": "students",
    "Task": "tasks",
    "annotate": "functional",
    "export_annotations": "hub.exports",
    "get_strategy": "selection",
    "get_task": "tasks",
    "load_teacher": "teachers",
    "register_annotation": "annotation",
    "register_strategy": "selection",
    "register_task": "tasks",
    "score": "functional",
    "select": "functional",
    "select_rows": "selection",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from .annotation import register_annotation as register_annotation
    from .asking import Budget as Budget
    from .asking import Dispatcher as Dispatcher
    from .asking import Journal as Journal
    from .asking import Prices as Prices
    from .functional import annotate as annotate
    from .functional import score as score
    from .functional import select as select
    from .hub.exports import export_annotations as export_annotations
    from .records import Annotation as Annotation
    from .records import Explanation as Explanation
    from .records import PoolRow as PoolRow
    from .selection import SelectionStrategy as SelectionStrategy
    from .selection import get_strategy as get_strategy
    from .selection import register_strategy as register_strategy
    from .selection import select_rows as select_rows
    from .students import Student as Student
    from .tasks import Task as Task
    from .tasks import get_task as get_task
    from .tasks import register_task as register_task
    from .teachers import load_teacher as load_teacher
    from .trainer import ActiveDistillationCallback as ActiveDistillationCallback
    from .trainer import ActiveDistillationConfig as ActiveDistillationConfig
    from .trainer import ActiveDistillationTrainer as ActiveDistillationTrainer
    from .trainer import SelectionCallback as SelectionCallback


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
