"""Free-form reasoning that ends with an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ..errors import ConfigurationError
from ..records import Messages, PoolRow, Prompt
from ..thinking import split_thinking
from .answers import AnswerFormat, canonical_answer, find_answer, same_answer
from .base import StepSpan, Task
from .registry import register_task
from .sentences import sentence_end
from .steps import merge_tail, one_line, own_text_end, step_spans


STEP_SPLITS = ("auto", "line", "sentence")


@register_task("reasoning")
@dataclass
class ReasoningTask(Task):
    """
    Steps, one a line, and a final answer: numbers, expressions, short text.

    Args:
        system_prompt (`str` or `None`): Put before every student prompt.
        few_shot (`list[tuple[str, str]]`): Worked (question, explanation) pairs put before the question.
        max_steps (`int`, *optional*, defaults to `32`): Judged steps; the rest joins the last one.
        answer_format (`str`, *optional*, defaults to `"The answer is {answer}"`): Answer line of training targets. Any
            other usual form is read as well.
        step_split (`str`, *optional*, defaults to `"auto"`): `"line"`, `"sentence"`, or `"auto"`: lines where the text
            has more than one, else sentences.
        last_number (`bool`, *optional*, defaults to `False`): Whether the last number of an explanation without an
            answer mark counts as its answer.
        prompt_template (`str` or `None`): How a plain question becomes the student's prompt, with `{question}` in it.
            `None` is the question and a line break, or `Q:`/`A:` lines with `few_shot`.
    """

    name: ClassVar[str] = "reasoning"

    answer_format: str = AnswerFormat.template
    step_split: str = "auto"
    last_number: bool = False
    prompt_template: str | None = None
    own: AnswerFormat = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        own = AnswerFormat(self.answer_format)
        if self.answer_format.count("{answer}") != 1 or "\n" in self.answer_format or not own.prefix:
            raise ConfigurationError(
                f"answer_format={self.answer_format!r} must be one line with a mark and {{answer}} in it once, "
                "such as '#### {answer}'."
            )
        if self.step_split not in STEP_SPLITS:
            raise ConfigurationError(f"step_split={self.step_split!r} must be one of {', '.join(STEP_SPLITS)}.")
        if self.max_steps < 1:
            raise ConfigurationError(f"max_steps={self.max_steps} must be at least 1.")
        if self.prompt_template is not None and "{question}" not in self.prompt_template:
            raise ConfigurationError(f"prompt_template={self.prompt_template!r} must contain {{question}}.")
        self.own = own
        self.answer_cue = "\n" + self.own.prefix

    def question(self, row: PoolRow) -> str:
        """The question as plain text; earlier turns of a conversation stand before it."""
        if isinstance(row.prompt, str):
            return row.prompt.strip()
        turns = [turn for turn in row.prompt if turn["role"] != "system"]
        if len(turns) == 1:
            return turns[0]["content"].strip()
        return "\n\n".join(f"{turn['role'].capitalize()}: {turn['content'].strip()}" for turn in turns)

    def student_prompt(self, row: PoolRow) -> Prompt:
        """Text for a plain row, a conversation for a conversational one; system prompt and few-shot pairs first."""
        if isinstance(row.prompt, str):
            return self._plain_prompt(self.question(row))
        system = [turn["content"] for turn in row.prompt if turn["role"] == "system"]
        if self.system_prompt:
            system.insert(0, self.system_prompt)
        messages: Messages = [{"role": "system", "content": "\n\n".join(system)}] if system else []
        for question, explanation in self.few_shot:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": explanation}]
        return messages + self._own_turns(row)

    def _own_turns(self, row: PoolRow) -> Messages:
        assert not isinstance(row.prompt, str)
        return [dict(turn) for turn in row.prompt if turn["role"] != "system"]

    def _plain_prompt(self, question: str) -> str:
        template = self.prompt_template or ("Q: {question}\nA:\n" if self.few_shot else "{question}\n")
        parts = [self.system_prompt.strip()] if self.system_prompt else []
        parts += [template.replace("{question}", q).rstrip() + "\n" + shown for q, shown in self.few_shot]
        return "\n\n".join([*parts, template.replace("{question}", question)])

    def split_steps(self, text: str) -> list[StepSpan]:
        """The steps of an explanation, without its answer line and without a question that it invented."""
        return merge_tail(text, step_spans(text, self.own, self.step_split), self.max_steps)

    def read_answer(self, text: str) -> str | None:
        """The final answer in canonical form."""
        visible = split_thinking(text)[1]
        visible = visible[: own_text_end(visible)]
        found = find_answer(visible, self.own)
        if found is not None:
            return self.canonical(found)
        numbers = re.findall(r"[-\u2212]?[$]?\d[\d,]*(?:\.\d+)?", visible) if self.last_number else []
        return self.canonical(numbers[-1]) if numbers else None

    def read_forced_answer(self, text: str) -> str | None:
        """The answer in what was generated after `answer_cue`: its first sentence."""
        line = text.lstrip(" \t\n:*").split("\n", 1)[0]
        found = find_answer(line, self.own)
        if found is not None:
            return self.canonical(found)
        suffix = self.own.suffix
        return self.canonical(line.split(suffix, 1)[0] if suffix else line[: sentence_end(line)])

    def canonical(self, raw: str) -> str | None:
        """Canonical form of an answer as written."""
        return canonical_answer(raw)

    def answers_equal(self, first: str | None, second: str | None) -> bool:
        """Numbers by value, text without regard to case."""
        return same_answer(first, second)

    def read_reference(self, reference: str) -> str | None:
        """The gold answer: a bare answer, an expression, or a whole worked solution."""
        return self.read_answer(reference) or self.canonical(reference)

    def render_completion(self, steps: Sequence[str], answer: str) -> str:
        """Steps one a line and the answer line."""
        lines = [one_line(step) for step in steps]
        return "\n".join([line for line in lines if line] + [self.own.render(answer)])
