"""
Typed rows: what a pool row gains on its way through a round. Plain data, standard library only.

Every record converts to and from a JSON-able `dict` (`to_dict` / `from_dict`), which is the form in which manifests,
parquet files and the Hub hold it.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from dataclasses import dataclass, field
from typing import Any


Messages = list[dict[str, str]]
Prompt = str | Messages


class Record:
    """`to_dict` / `from_dict` for the dataclasses below (nested records, lists and optionals of them)."""

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, data: dict[str, Any]):
        hints = _hints(cls)  # type: ignore[arg-type]
        return cls(**{name: _revive(hints[name], value) for name, value in data.items() if name in hints})


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Types of a record's fields; finding them takes longer than all else about reading a row."""
    found = typing.get_type_hints(cls)
    return {field.name: found[field.name] for field in dataclasses.fields(cls)}


def _revive(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        records = [h for h in typing.get_args(hint) if isinstance(h, type) and issubclass(h, Record)]
        return _revive(records[0], value) if records and isinstance(value, dict) else value
    if typing.get_origin(hint) is list:
        (inner,) = typing.get_args(hint)
        return [_revive(inner, item) for item in value]
    if isinstance(hint, type) and issubclass(hint, Record) and isinstance(value, dict):
        return hint.from_dict(value)
    return value


@dataclass
class PoolRow(Record):
    """
    One unlabelled row.

    Args:
        row_id (`str`): Stable id: the column named by the user, or a hash of the prompt.
        prompt (`str` or `list[dict]`): Plain text, or a conversation that ends with a user turn.
        reference (`str` or `None`): Gold answer, where there is one. Never shown to student or teacher.
        columns (`dict`): The row's other columns, for user-written tasks.
    """

    row_id: str
    prompt: Prompt
    reference: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass
class Usage(Record):
    """
    What calls cost, in tokens. `completion_tokens` contains `reasoning_tokens`, `prompt_tokens` contains
    `cached_prompt_tokens`. `estimated` is true where the server gave no figures and the bound was booked.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_prompt_tokens: int = 0
    estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Prompt and completion tokens together: the unit of `max_teacher_tokens`."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.estimated or other.estimated,
        )


@dataclass
class Explanation(Record):
    """
    What the student wrote for one row.

    Args:
        row_id (`str`): Row it belongs to.
        text (`str`): Visible text, without thinking tags.
        steps (`list[str]`): The text split by the task.
        answer (`str` or `None`): Final answer as the task reads it, `None` where there is none.
        finish_reason (`str`): `"stop"` or `"length"`.
        thinking (`str` or `None`): What stood inside thinking tags.
        num_tokens (`int`): Generated tokens.
        sample_index (`int`): 0 for the greedy explanation, 1.. for sampled ones.
    """

    row_id: str
    text: str
    steps: list[str]
    answer: str | None
    finish_reason: str = "stop"
    thinking: str | None = None
    num_tokens: int = 0
    sample_index: int = 0


@dataclass
class StepVerdict(Record):
    """
    The teacher's judgement of one student step. `accepted` is `None` where the reply could not be read as yes or no.
    `teacher_step` is the teacher's own wording; `reply` the raw text of that turn.
    """

    index: int
    student_step: str
    accepted: bool | None
    teacher_step: str | None = None
    reply: str | None = None


@dataclass
class Annotation(Record):
    """
    What the teacher made of one row. Stored once; training rows, preference pairs, reports and cards derive from it.

    Args:
        row_id (`str`): Row it belongs to.
        kind (`str`): Annotation method (`"cot"`, `"clear"`, `"one_call"`, ...).
        status (`str`): `"ok"`, or `"failed"` (recorded, not trained on).
        reason (`str` or `None`): Why it failed: a short stable word such as `"unreadable_verdict"`, `"length"`,
            `"empty"`, `"no_answer"`, `"teacher_error"`.
        prompt (`str` or `list[dict]`): The student's prompt.
        steps (`list[str]`): The teacher's steps, the training target.
        answer (`str` or `None`): The teacher's answer.
        completion (`str` or `None`): The training target as text, rendered by the task.
        thinking (`str` or `None`): The teacher's reasoning, where it thinks aloud.
        student (`Explanation` or `None`): What was revised.
        verdicts (`list[StepVerdict]`): One a judged step, in order.
        first_rejected (`int` or `None`): 0-based index of the first rejected student step.
        round (`int`): Round in which it was made; -1 for seed rows.
        attempt (`int`): 0 at the first try of this row.
        teacher (`str` or `None`), revision (`str` or `None`): Served model and its revision.
        usage (`Usage`), cost (`float` or `None`): What it cost, money where prices are known.
        seed_row (`bool`): True for a row of `train_dataset`: no teacher was asked.
        label (`str` or `None`): The teacher's label, of a task that classifies.
        labels (`list[str]` or `None`): All labels that hold, where several can.
        distribution (`dict[str, float]` or `None`): The teacher's probability of every label. They sum to 1 where one
            label holds; where several can, each stands for itself.
        confidence (`float` or `None`): Probability of the label that was given, calibrated where that was asked for.
        mass (`float` or `None`): Probability that the teacher's next word was a label at all, before renormalising.
    """

    row_id: str
    kind: str
    status: str
    prompt: Prompt
    reason: str | None = None
    steps: list[str] = field(default_factory=list)
    answer: str | None = None
    completion: str | None = None
    thinking: str | None = None
    student: Explanation | None = None
    verdicts: list[StepVerdict] = field(default_factory=list)
    first_rejected: int | None = None
    round: int = 0
    attempt: int = 0
    teacher: str | None = None
    revision: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    seed_row: bool = False
    label: str | None = None
    labels: list[str] | None = None
    distribution: dict[str, float] | None = None
    confidence: float | None = None
    mass: float | None = None

    @property
    def accepted_steps(self) -> int:
        """Student steps that the teacher let stand."""
        return sum(verdict.accepted is True for verdict in self.verdicts)

    @property
    def judged_steps(self) -> int:
        """Student steps on which the teacher gave a verdict."""
        return sum(verdict.accepted is not None for verdict in self.verdicts)
