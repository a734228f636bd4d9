"""Annotation methods by name, and what they have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from ..errors import ConfigurationError, TeacherError
from ..records import Annotation, Explanation, Messages
from ..tasks.base import Task
from ..teachers.base import TeacherRequest
from .base import AnnotationItem, AnnotationMethod, AnnotationSettings, Ask
from .dialogue import Dialogue, Draft, RowFailed, build_request, failure_reason


#: Steps that a plan counts with where the student has not explained the row yet.
PLANNED_STEPS = 6

MethodType = TypeVar("MethodType", bound=type)

_METHODS: dict[str, Callable[..., AnnotationMethod]] = {}


def register_annotation(name: str) -> Callable[[MethodType], MethodType]:
    """
    Registers an annotation method under `name`, as a decorator.

    Args:
        name (`str`): Name that configurations use. A name may be taken once.
    """

    def register(cls: MethodType) -> MethodType:
        taken = _METHODS.get(name)
        if isinstance(taken, type) and (taken.__module__, taken.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigurationError(f"The annotation {name!r} is taken by {taken.__qualname__}: choose another name.")
        _METHODS[name] = cls
        return cls

    return register


def available_annotations() -> list[str]:
    """Names that `get_annotation` takes."""
    return sorted(_METHODS)


def get_annotation(
    name: str, task: Task, settings: AnnotationSettings | None = None, **options: Any
) -> AnnotationMethod:
    """
    An annotation method by name.

    Args:
        name (`str`): Registered name: `"cot"`, `"clear"`, `"one_call"`, or your own.
        task ([`Task`]): The task.
        settings ([`AnnotationSettings`], *optional*): How the teacher shall answer.
        **options: Options of the method, such as `answer_from` of `"clear"`.
    """
    if name not in _METHODS:
        known = ", ".join(available_annotations())
        raise ConfigurationError(
            f"No annotation is called {name!r}. Known: {known}. Add your own with @register_annotation."
        )
    try:
        return _METHODS[name](task, settings or AnnotationSettings(), **options)
    except TypeError as error:
        raise ConfigurationError(f"The annotation {name!r} refused its options: {error}.") from error


class BaseAnnotation(ABC):
    """
    Base of the built-in methods: subclasses write the exchange (`revise`) and its forecast (`plan`); failures become
    records here.

    Args:
        task ([`Task`]): The task.
        settings ([`AnnotationSettings`]): How the teacher shall answer.
    """

    name: ClassVar[str]
    needs_explanation: ClassVar[bool] = False

    def __init__(self, task: Task, settings: AnnotationSettings):
        self.task = task
        self.settings = settings

    async def annotate(self, item: AnnotationItem, ask: Ask) -> Annotation:
        """Asks about one row. What the teacher wrote never raises: such a row comes back as failed."""
        if self.needs_explanation and item.explanation is None:
            raise ConfigurationError(
                f"The annotation {self.name!r} revises: every row needs the student's explanation."
            )
        dialogue = Dialogue(item, ask, self.settings)
        draft = Draft(self.name, self.task, item, dialogue)
        try:
            return await self.revise(draft, dialogue)
        except (RowFailed, TeacherError) as error:
            reason = failure_reason(error)
            if reason is None:
                raise
            return draft.record("failed", [], None, reason)

    @abstractmethod
    async def revise(self, draft: Draft, dialogue: Dialogue) -> Annotation:
        """The exchange with the teacher."""

    @abstractmethod
    def plan(self, item: AnnotationItem) -> list[list[TeacherRequest]]:
        """Fewest and most calls."""

    def tries(self, item: AnnotationItem, messages: Messages, again: str, grammar: Any = None) -> list[TeacherRequest]:
        """The calls of one turn in the worst case: each try but the last is unreadable."""
        requests = [build_request(self.settings, item, messages, 0, grammar)]
        second = [*messages, {"role": "assistant", "content": "..."}, {"role": "user", "content": again}]
        for number in range(1, self.settings.max_unreadable + 1):
            requests.append(build_request(self.settings, item, second, number, grammar))
        return requests


def planned_explanation(item: AnnotationItem) -> Explanation:
    """The student's explanation, or a stand-in of usual length before there is one."""
    if item.explanation is not None:
        return item.explanation
    steps = ["<a step of the student, about as long as this line is, with numbers>"] * PLANNED_STEPS
    return Explanation(item.row.row_id, "\n".join(steps), steps, "<answer>")
