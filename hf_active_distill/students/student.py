"""What a student can be asked, over the engine: explanations, samples, and the signals that strategies select by."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import Branch, BranchItem, BranchScorer, Generated, Generator, inference, keyed_uniforms
from ..engine.modes import base_model, position_limit, text_config
from ..errors import DataError
from ..records import Explanation, PoolRow, Prompt
from ..selection.base import Candidate, SignalRequest
from ..tasks.base import Task
from .batch import Batch
from .codec import Codec, Written
from .signals import BRANCHING, EXPLAINED, check, compute


#: Positions kept free behind an explanation for cues and forced answers.
RESERVED_POSITIONS = 64


class Student:
    """
    A causal language model as a student of a task.

    What it returns depends on weights, rows, `seed` and round alone: sampling noise is keyed by row id, and Python's,
    NumPy's and torch's random state and all train flags are left as found.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Model, on any device, not wrapped by accelerate.
        processing_class (`PreTrainedTokenizerBase` or `ProcessorMixin`):
            Its tokenizer.
        task ([`~hf_active_distill.tasks.base.Task`]):
            How questions are put and explanations are read.
        max_new_tokens (`int`, *optional*, defaults to `256`):
            Longest explanation.
        batch_size (`int`, *optional*, defaults to `16`):
            Rows at a time. Memory grows with it and not with the number of rows.
        seed (`int`, *optional*, defaults to `0`):
            Seed of all sampling.
        chat_template_kwargs (`dict`, *optional*):
            Passed to the chat template, for example `{"enable_thinking": False}`.
        drop_thinking (`bool`, *optional*, defaults to `True`):
            Whether a thinking block is set apart from the explanation. If `False`, it is part of its text.
        max_length (`int`, *optional*):
            Longest training row in tokens.
        thinking_tags (`tuple[str, str]`, *optional*, defaults to `("<think>", "</think>")`):
            What encloses a thinking block.
    """

    def __init__(
        self,
        model: Any,
        processing_class: Any,
        task: Task,
        *,
        max_new_tokens: int = 256,
        batch_size: int = 16,
        seed: int = 0,
        chat_template_kwargs: dict[str, Any] | None = None,
        drop_thinking: bool = True,
        max_length: int | None = None,
        thinking_tags: tuple[str, str] = ("<think>", "</think>"),
    ):
        self.model = model
        self.processing_class = processing_class
        self.task = task
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.seed = seed
        self.drop_thinking = drop_thinking
        #: Training rows that `max_length` cut so far.
        self.truncated_rows = 0
        self.codec = Codec(
            processing_class,
            chat_template_kwargs=chat_template_kwargs,
            thinking_tags=thinking_tags,
            max_length=max_length,
        )
        pad = self.codec.tokenizer.pad_token_id
        self.eos_ids = self._eos_ids()
        engine: dict[str, Any] = {
            "eos_ids": self.eos_ids,
            "pad_id": 0 if pad is None else pad,
            "batch_size": batch_size,
        }
        self.generator = Generator(model, **engine)
        self.scorer = BranchScorer(model, **engine)

    # Texts in and out

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt: a conversation through the chat template, plain text as it is."""
        return self.codec.encode_prompt(prompt)

    def encode_training(self, prompt: Prompt, completion: str, thinking: str | None = None) -> dict[str, Any]:
        """
        A training row that begins with the ids inference sees: `input_ids`, `completion_mask` and `truncated`. Cut
        rows are counted in `truncated_rows`.
        """
        encoded = self.codec.encode_training(prompt, completion, thinking)
        self.truncated_rows += encoded["truncated"]
        return encoded

    # Explanations

    def explain(
        self, rows: Sequence[PoolRow], *, round: int = 0, max_new_tokens: int | None = None
    ) -> list[Explanation]:
        """
        Greedy explanations.

        Args:
            rows (`Sequence[PoolRow]`):
                Rows to explain.
            round (`int`, *optional*, defaults to `0`):
                Round it is done in; greedy explanations do not depend on it.
            max_new_tokens (`int`, *optional*):
                Longest explanation, defaults to the student's own.
        """
        prompts = self.prompts(rows)
        generated = self.generator.generate(prompts, max_new_tokens=self.room(rows, prompts, max_new_tokens))
        return [
            self.explanation(row, result, self.read(prompt, result))
            for row, prompt, result in zip(rows, prompts, generated, strict=True)
        ]

    def sample(
        self, rows: Sequence[PoolRow], *, k: int, temperature: float = 0.7, round: int = 0
    ) -> list[list[Explanation]]:
        """
        `k` sampled explanations a row, numbered from 1.

        Args:
            rows (`Sequence[PoolRow]`):
                Rows to explain.
            k (`int`):
                Samples a row.
            temperature (`float`, *optional*, defaults to `0.7`):
                Sampling temperature.
            round (`int`, *optional*, defaults to `0`):
                Round it is done in; each has its own noise.
        """
        prompts = self.prompts(rows)
        room = self.room(rows, prompts)
        samples: list[list[Explanation]] = [[] for _ in rows]
        for start in range(0, len(rows), self.batch_size):
            part = [i for i in range(start, min(start + self.batch_size, len(rows))) for _ in range(k)]
            numbers = [1 + j % k for j in range(len(part))]
            noise = [
                keyed_uniforms(room[i], self.seed, round, rows[i].row_id, number, "explanation")
                for i, number in zip(part, numbers, strict=True)
            ]
            written = self.generator.generate(
                [prompts[i] for i in part],
                max_new_tokens=[room[i] for i in part],
                temperature=temperature,
                uniforms=noise,
            )
            for i, number, generated in zip(part, numbers, written, strict=True):
                samples[i].append(self.explanation(rows[i], generated, self.read(prompts[i], generated), number))
        return samples

    def candidates(
        self, rows: Sequence[PoolRow], requests: Sequence[SignalRequest], *, round: int = 0
    ) -> list[Candidate]:
        """
        Explanations and signals, a batch at a time: what one batch holds is released before the next begins.

        Args:
            rows (`Sequence[PoolRow]`):
                Rows to score.
            requests (`Sequence[SignalRequest]`):
                Wanted signals, see [`~hf_active_distill.students.signals`].
            round (`int`, *optional*, defaults to `0`):
                Round it is done in.
        """
        for request in requests:
            check(request)
        names = {request.name for request in requests}
        found: list[Candidate] = []
        for start in range(0, len(rows), self.batch_size):
            batch = Batch(self, list(rows[start : start + self.batch_size]), round, bool(names & BRANCHING))
            candidates = [Candidate(row) for row in batch.rows]
            with inference(self.model):
                for request in requests:
                    for candidate, value in zip(candidates, compute(batch, request), strict=True):
                        candidate.signals[request] = value
                if names & EXPLAINED:
                    for candidate, explanation in zip(candidates, batch.explanations, strict=True):
                        candidate.explanation = explanation
            found += candidates
        return found

    def label_logprobs(self, rows: Sequence[PoolRow]) -> list[np.ndarray]:
        """
        log p(label | prompt) over a row's `answer_choices`, renormalised over them.

        A label is taken as the whole of a training target without steps, the token that ends it included, so that a
        label that begins like another one is not preferred.

        Args:
            rows (`Sequence[PoolRow]`): Rows of a task with closed answers.

        Returns:
            `list[np.ndarray]`: One vector of shape `(choices,)` a row, in nats.
        """
        items = []
        for row, prompt in zip(rows, self.prompts(rows), strict=True):
            choices = self.task.answer_choices(row)
            if choices is None:
                raise DataError(
                    f"Row {row.row_id!r} has no closed set of answers, so there are no probabilities of them: use a "
                    "task with labels or choices, or another strategy."
                )
            shown = self.task.student_prompt(row)
            targets = [
                self.codec.encode_completion(shown, prompt, self.task.render_completion([], choice))
                for choice in choices
            ]
            shared = len(os.path.commonprefix(targets))
            branches = [Branch(len(prompt), tuple(ids), len(ids) - shared) for ids in targets]
            items.append(BranchItem(prompt, branches))
        found = []
        for scores in self.scorer.score(items):
            totals = np.array([values.sum() for values in scores], dtype=np.float64)
            found.append(totals - np.logaddexp.reduce(totals))
        return found

    def order(self, rows: Sequence[PoolRow]) -> list[int]:
        """The order in which rows are best scored: their own, since how long explanations get is not known."""
        return list(range(len(rows)))

    # Shared with the signals

    def prompts(self, rows: Sequence[PoolRow]) -> list[list[int]]:
        """Ids of the rows' prompts."""
        return [self.encode_prompt(self.task.student_prompt(row)) for row in rows]

    def room(self, rows: Sequence[PoolRow], prompts: list[list[int]], wanted: int | None = None) -> list[int]:
        """How long each explanation may become within the model's positions."""
        wanted = self.max_new_tokens if wanted is None else wanted
        limit = position_limit(self.model)
        if limit is None:
            return [wanted] * len(prompts)
        room = [min(wanted, limit - RESERVED_POSITIONS - len(prompt)) for prompt in prompts]
        for row, prompt, free in zip(rows, prompts, room, strict=True):
            if free < 1:
                raise DataError(
                    f"The prompt of row {row.row_id!r} has {len(prompt)} tokens and leaves no room for an explanation "
                    f"(the model has {limit} positions). Shorten it, use fewer few-shot examples, or drop the row."
                )
        return room

    def has_room(self, row: PoolRow) -> bool:
        """Whether a row's prompt leaves room for an explanation, and for something to learn within `max_length`."""
        positions = position_limit(self.model)
        limits = [None if positions is None else positions - RESERVED_POSITIONS, self.codec.max_length]
        limit = min((limit for limit in limits if limit is not None), default=None)
        return limit is None or self.codec.is_shorter(self.task.student_prompt(row), limit)

    def read(self, prompt: list[int], generated: Generated) -> Written:
        """What was generated, as text."""
        if not self.drop_thinking:
            return self.codec.read_plain(generated.tokens)
        return self.codec.read(generated.tokens, thinks=self.codec.opens_thinking(prompt))

    def explanation(self, row: PoolRow, generated: Generated, written: Written, sample_index: int = 0) -> Explanation:
        """The record of what was generated."""
        return Explanation(
            row_id=row.row_id,
            text=written.text,
            steps=[span.text for span in self.task.split_steps(written.text)],
            answer=self.task.read_answer(written.text),
            finish_reason=generated.finish_reason,
            thinking=written.thinking,
            num_tokens=len(generated.tokens),
            sample_index=sample_index,
        )

    def _eos_ids(self) -> frozenset[int]:
        ends = {self.codec.tokenizer.eos_token_id}
        for config in (getattr(base_model(self.model), "generation_config", None), text_config(self.model)):
            declared = getattr(config, "eos_token_id", None)
            ends |= set(declared) if isinstance(declared, (list, tuple)) else {declared}
        if getattr(self.processing_class, "chat_template", None):
            ends.add(self.codec.turn_end([]))
        return frozenset(end for end in ends if end is not None)
