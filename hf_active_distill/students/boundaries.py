"""The student's answer with part of its steps, and how sure it is of the answer it gave."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..engine import Branch, Generated
from ..errors import ConfigurationError
from ..selection.base import BoundarySignal
from .batch import Batch


#: Put behind an explanation for `form="p_true"`.
P_TRUE_CUE = "\nIs this answer right? Reply yes or no:"


@dataclass(frozen=True)
class _Answer:
    """An answer as text (`None` where it cannot be read) and as ids behind the cue."""

    text: str | None
    ids: tuple[int, ...]


def boundary_signals(
    batch: Batch,
    *,
    removal: str = "prefix",
    answers: bool = False,
    distribution: bool = False,
    answer_tokens: int = 16,
) -> list[BoundarySignal]:
    """
    Answers with part of the steps.

    log p of an answer is the sum over its tokens behind the task's `answer_cue`, without a token that ends it. Where
    the explanation has no answer, the answer forced behind the whole of it takes its place.

    Args:
        batch ([`Batch`]):
            Rows.
        removal (`str`, *optional*, defaults to `"prefix"`):
            `"prefix"` (the first i steps) or `"leave_one_out"` (all steps but i).
        answers (`bool`, *optional*, defaults to `False`):
            Whether a greedy answer is forced at every position.
        distribution (`bool`, *optional*, defaults to `False`):
            Whether a distribution over answers is wanted: the row's choices, or all answers seen where it has none.
        answer_tokens (`int`, *optional*, defaults to `16`):
            Longest forced answer.
    """
    if removal not in ("prefix", "leave_one_out"):
        raise ConfigurationError(f"removal={removal!r} is unknown: use 'prefix' or 'leave_one_out'.")
    heads = [batch.heads(row, removal) for row in range(len(batch.rows))]
    choices = [batch.student.task.answer_choices(row) for row in batch.rows]
    everywhere = [answers or (distribution and choice is None) for choice in choices]
    forced = _force(batch, heads, everywhere, answer_tokens)
    finals = [_final(batch, row, forced[row][-1:]) for row in range(len(batch.rows))]
    seen = [
        _candidates(batch, finals[row], choices[row], forced[row] if everywhere[row] else [])
        if distribution
        else [finals[row]]
        for row in range(len(batch.rows))
    ]
    totals = _score(batch, heads, seen)
    signals = []
    for row, table in enumerate(totals):
        index = next(i for i, answer in enumerate(seen[row]) if _same(batch, answer, finals[row]))
        chances = table[:, : len(choices[row] or seen[row])]
        signals.append(
            BoundarySignal(
                final_logprobs=table[:, index],
                answers=[answer.text for answer in forced[row]] if answers else None,
                distributions=_normalised(chances) if distribution else None,
            )
        )
    return signals


def self_confidence(batch: Batch, *, form: str = "answer_probability") -> list[float]:
    """
    How sure the student is of its own answer, 0 to 1.

    Self-confidence is a rival in ELAD's main table, without a formula; both forms are our reading.

    Args:
        batch ([`Batch`]):
            Rows.
        form (`str`, *optional*, defaults to `"answer_probability"`):
            `"answer_probability"`: the geometric mean probability of the answer's tokens behind the steps. `"p_true"`:
            asked whether the answer is right, p(yes) / (p(yes) + p(no)), after Kadavath et al. (2022),
            https://huggingface.co/papers/2207.05221.
    """
    rows = range(len(batch.rows))
    if form == "answer_probability":
        heads = [batch.heads(row, "prefix")[-1:] for row in rows]
        finals = [
            _final(batch, row, _forced) for row, _forced in enumerate(_force(batch, heads, [False] * len(heads)))
        ]
        totals = _score(batch, heads, [[final] for final in finals])
        return [float(np.exp(table[-1, 0] / len(final.ids))) for table, final in zip(totals, finals, strict=True)]
    if form != "p_true":
        raise ConfigurationError(f"form={form!r} is unknown: use 'answer_probability' or 'p_true'.")
    codec = batch.student.codec
    options = [codec.encode_answer(P_TRUE_CUE, word) for word in ("yes", "no")]
    items = []
    for row in rows:
        # The written answer is part of what is judged: only a token that ended the turn is left out.
        tokens = codec.without_end(batch.generated[row].tokens)
        prefix = len(batch.prompts[row]) + len(tokens)
        items.append(batch.item(row, [Branch(prefix, (*cue, *word), len(word)) for cue, word in options]))
    pairs = [[values.sum() for values in scores] for scores in batch.student.scorer.score(items)]
    return [float(1 / (1 + np.exp(no - yes))) for yes, no in pairs]


def _force(
    batch: Batch, heads: list[list[Branch]], everywhere: list[bool], answer_tokens: int = 16
) -> list[list[_Answer]]:
    """Greedy answers at all positions of a row, or at the last one only where the explanation has no answer."""
    codec, task = batch.student.codec, batch.student.task
    cue = tuple(codec.encode_text(task.answer_cue))
    items = []
    for row, branches in enumerate(heads):
        wanted = branches if everywhere[row] else branches[-1:] if batch.explanations[row].answer is None else []
        items.append(batch.item(row, [replace(branch, tokens=branch.tokens + cue) for branch in wanted]))

    def stop(item: int, branch: int, tokens: list[int]) -> bool:
        # An answer ends with its line.
        return "\n" in codec.decode(tokens).lstrip()

    def read(generated: Generated) -> _Answer:
        ids = codec.without_end(generated.tokens) or generated.tokens
        return _Answer(task.read_forced_answer(codec.decode(generated.tokens)), tuple(ids))

    written = batch.student.scorer.write(items, max_new_tokens=answer_tokens, stop=stop)
    return [[read(generated) for generated in row] for row in written]


def _final(batch: Batch, row: int, forced: list[_Answer]) -> _Answer:
    """The explanation's answer, else the forced one, else whatever was written there."""
    answer = batch.explanations[row].answer
    if answer is None:
        answer = forced[-1].text
    return forced[-1] if answer is None else _spelled(batch, answer)


def _spelled(batch: Batch, answer: str) -> _Answer:
    _, ids = batch.student.codec.encode_answer(batch.student.task.answer_cue, answer)
    return _Answer(answer, tuple(ids))


def _same(batch: Batch, first: _Answer, second: _Answer) -> bool:
    return first.ids == second.ids or batch.student.task.answers_equal(first.text, second.text)


def _candidates(batch: Batch, final: _Answer, choices: list[str] | None, forced: list[_Answer]) -> list[_Answer]:
    """The answers of a distribution, in order of first sight, each once; the final answer is always among them."""
    found = [_spelled(batch, choice) for choice in choices or ()]
    seen = [final] if choices is not None else [final, *forced]
    for answer in seen:
        if not any(_same(batch, answer, known) for known in found):
            found.append(answer if answer.text is None else _spelled(batch, answer.text))
    return found


def _score(batch: Batch, heads: list[list[Branch]], answers: list[list[_Answer]]) -> list[np.ndarray]:
    """log p of every answer at every position: an array `(positions, answers)` a row."""
    cue = tuple(batch.student.codec.encode_text(batch.student.task.answer_cue))
    items = [
        batch.item(
            row,
            [
                Branch(head.prefix, head.tokens + cue + answer.ids, len(answer.ids))
                for head in branches
                for answer in answers[row]
            ],
        )
        for row, branches in enumerate(heads)
    ]
    scores = batch.student.scorer.score(items)
    return [
        np.array([values.sum() for values in row]).reshape(len(heads[i]), len(answers[i]))
        for i, row in enumerate(scores)
    ]


def _normalised(logprobs: np.ndarray) -> np.ndarray:
    weights = np.exp(logprobs - logprobs.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
