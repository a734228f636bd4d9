"""Tasks by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ConfigurationError
from .base import Task


TaskType = TypeVar("TaskType", bound=type[Task])

_TASKS: dict[str, type[Task]] = {}


def register_task(name: str) -> Callable[[TaskType], TaskType]:
    """
    Registers a task class under `name`, as a decorator.

    Args:
        name (`str`): Name that configurations use. A name may be taken once.
    """

    def register(cls: TaskType) -> TaskType:
        taken = _TASKS.get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigurationError(f"The task name {name!r} is taken by {taken.__qualname__}: choose another name.")
        _TASKS[name] = cls
        return cls

    return register


def available_tasks() -> list[str]:
    """Names that `get_task` takes."""
    return sorted(_TASKS)


def get_task(name: str | Task, **options: Any) -> Task:
    """
    A task by name.

    Args:
        name (`str` or `Task`): Registered name; a task object is given back as it is.
        **options: Fields of the task (`few_shot`, `system_prompt`, `answer_format`, `step_split`, ...).
    """
    if isinstance(name, Task):
        if options:
            raise ConfigurationError("A task object takes no further options: set them when making it.")
        return name
    if name not in _TASKS:
        raise ConfigurationError(
            f"No task is called {name!r}. Known: {', '.join(available_tasks())}. Add your own with @register_task."
        )
    try:
        return _TASKS[name](**options)
    except TypeError as error:
        fields = ", ".join(sorted(_TASKS[name].__dataclass_fields__))
        raise ConfigurationError(f"The task {name!r} refused its options ({error}). It knows: {fields}.") from error
