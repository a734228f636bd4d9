"""What a task is: how a question is put, how an explanation falls into steps, what its answer is. Text only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..records import Messages, PoolRow, Prompt
from .rows import row_from_example


@dataclass(frozen=True)
class StepSpan:
    """Step `text` stands at `source[start:end]`; the spans of one explanation do not overlap and are in order."""

    start: int
    end: int
    text: str


@dataclass
class Task:
    """
    Base of all tasks. A user's own usually derives from [`ReasoningTask`], which is complete; twenty lines do.

    Args:
        system_prompt (`str` or `None`): Put before every student prompt.
        few_shot (`list[tuple[str, str]]`): Worked (question, explanation) pairs put before the question.
        max_steps (`int`): An explanation is judged by its first `max_steps` steps; the rest joins the last one.
    """

    name: ClassVar[str] = "reasoning"
    #: Appended to a cut explanation to force an answer; what follows it is read by `read_forced_answer`.
    answer_cue = "\nThe answer is"

    system_prompt: str | None = None
    few_shot: list[tuple[str, str]] = field(default_factory=list)
    max_steps: int = 32

    def read_row(self, example: Mapping[str, Any], **columns: str | None) -> PoolRow:
        """One example of a data set as a pool row; `columns` as in [`row_from_example`]."""
        return row_from_example(example, **columns)

    def question(self, row: PoolRow) -> str:
        """The question as plain text, as a teacher is shown it."""
        raise NotImplementedError

    def student_prompt(self, row: PoolRow) -> Prompt:
        """What the student sees: text for a plain row, a conversation for a conversational one."""
        raise NotImplementedError

    def split_steps(self, text: str) -> list[StepSpan]:
        """The steps of an explanation, without its final-answer line."""
        raise NotImplementedError

    def read_answer(self, text: str) -> str | None:
        """The final answer of a full explanation in canonical form, `None` where there is none."""
        raise NotImplementedError

    def read_forced_answer(self, text: str) -> str | None:
        """The answer in what was generated after `answer_cue`."""
        raise NotImplementedError

    def answers_equal(self, first: str | None, second: str | None) -> bool:
        """Whether two answers mean the same. `None` equals nothing."""
        raise NotImplementedError

    def answer_choices(self, row: PoolRow) -> list[str] | None:
        """The closed set of answers of this row, `None` where answers are free."""
        return None

    def render_completion(self, steps: list[str], answer: str) -> str:
        """The training target: `split_steps` and `read_answer` of it give back `steps` and `answer`."""
        raise NotImplementedError

    def verify(self, row: PoolRow, answer: str | None) -> bool | None:
        """Whether an answer is right, `None` where it cannot be known (no reference)."""
        return None if row.reference is None else self.answers_equal(answer, self.read_reference(row.reference))

    def read_reference(self, reference: str) -> str | None:
        """The gold answer in canonical form; a whole worked solution is read like an explanation."""
        return self.read_answer(reference) or reference.strip()

    def step_prefix(self, text: str, spans: list[StepSpan], count: int) -> str:
        """`text` up to and including its first `count` steps: what stands before `answer_cue` at boundary `count`."""
        return text[: spans[count - 1].end] if count else ""


def as_messages(prompt: Prompt) -> Messages:
    """A prompt as a conversation: plain text becomes one user turn."""
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else [dict(turn) for turn in prompt]
