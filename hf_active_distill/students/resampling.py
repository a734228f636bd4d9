"""Every step written again from the boundary before it."""

from __future__ import annotations

from ..engine import Branch, keyed_uniforms
from ..selection.base import ResampleSignal
from .batch import Batch


class _StepReader:
    """Tells from continuation ids what step they write. One for every row and boundary."""

    def __init__(self, batch: Batch, row: int, index: int):
        self.task = batch.student.task
        self.codec = batch.student.codec
        self.index = index
        written, bound = batch.written[row], batch.boundaries[row][index]
        before = written.tokens[:bound]
        self.text = self.codec.decode(before)[written.start :] if index else ""
        # Some tokenizers drop the space of a text's first word: a few tokens of context keep it.
        self.context = before[-4:]
        self.overlap = len(self.codec.decode(self.context))

    def steps(self, tokens: list[int]) -> list[str]:
        """The steps of prefix and continuation together."""
        text = self.text + self._continuation(tokens)
        return [span.text for span in self.task.split_steps(text if self.index else text.lstrip())]

    def finished(self, tokens: list[int]) -> bool:
        """Whether a further step has begun."""
        return len(self.steps(tokens)) > self.index + 1

    def step(self, tokens: list[int]) -> str:
        """The step that was written; where it is none (a final answer, say), the continuation itself."""
        steps = self.steps(tokens)
        return steps[self.index] if len(steps) > self.index else self._continuation(tokens).strip()

    def _continuation(self, tokens: list[int]) -> str:
        return self.codec.decode(self.context + tokens)[self.overlap :]


def resample_signals(
    batch: Batch, *, samples: int = 3, temperature: float = 1.0, step_tokens: int = 64
) -> list[ResampleSignal]:
    """
    Re-samples each step of the greedy explanation from the boundary before it, until the task sees a further step.

    Args:
        batch ([`Batch`]):
            Rows.
        samples (`int`, *optional*, defaults to `3`):
            Samples a step.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature.
        step_tokens (`int`, *optional*, defaults to `64`):
            Longest step.
    """
    student = batch.student
    items, noise, readers = [], [], []
    for row in range(len(batch.rows)):
        heads = batch.heads(row, "prefix")[:-1]
        places = [(index, sample) for index in range(len(heads)) for sample in range(samples)]
        items.append(batch.item(row, [Branch(heads[index].prefix, ()) for index, _ in places]))
        key = (student.seed, batch.round, batch.rows[row].row_id)
        noise.append([keyed_uniforms(step_tokens, *key, sample, f"step {index}") for index, sample in places])
        made = [_StepReader(batch, row, index) for index in range(len(heads))]
        readers.append([made[index] for index, _ in places])
    written = student.scorer.write(
        items,
        max_new_tokens=step_tokens,
        temperature=temperature,
        uniforms=noise,
        stop=lambda row, branch, tokens: readers[row][branch].finished(tokens),
    )
    signals = []
    for row, explanation in enumerate(batch.explanations):
        texts = [
            reader.step(student.codec.without_end(generated.tokens))
            for reader, generated in zip(readers[row], written[row], strict=True)
        ]
        steps = [texts[start : start + samples] for start in range(0, len(texts), samples)]
        signals.append(ResampleSignal(list(explanation.steps), steps))
    return signals
