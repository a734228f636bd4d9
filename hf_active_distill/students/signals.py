"""
The signals of [`~hf_active_distill.selection.base.SignalRequest`], a function each.

| name | options (default) | value |
|---|---|---|
| `tokens` | | `TokenSignal` |
| `samples` | `k` (5), `temperature` (0.7) | `list[Explanation]` |
| `boundaries` | `removal` (`"prefix"`), `answers`, `distribution` (`False`), `answer_tokens` (16) | `BoundarySignal` |
| `resamples` | `samples` (3), `temperature` (1.0), `step_tokens` (64) | `ResampleSignal` |
| `self_confidence` | `form` (`"answer_probability"`) | `float` |
| `embedding` | | 1-d array |
| `probabilities` | | 1-d array over the row's `answer_choices` |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..engine import mean_hidden_states
from ..errors import ConfigurationError
from ..records import Explanation
from ..selection.base import SignalRequest, TokenSignal
from .batch import Batch
from .boundaries import boundary_signals, self_confidence
from .resampling import resample_signals


def token_signals(batch: Batch) -> list[TokenSignal]:
    """The greedy explanation token by token; a token that two steps share belongs to the first."""
    signals, codec = [], batch.student.codec
    for generated, written in zip(batch.generated, batch.written, strict=True):
        step_of = np.full(len(generated.tokens), -1)
        done = 0
        for index, span in enumerate(batch.student.task.split_steps(written.text)):
            first = codec.tokens_covering(written.tokens, written.start + span.start + 1, whole=False) - 1
            end = codec.tokens_covering(written.tokens, written.start + span.end)
            step_of[max(first, done) : end] = index
            done = max(done, end)
        signals.append(TokenSignal(np.array(generated.logprobs), np.array(generated.entropies), step_of))
    return signals


def sample_signals(batch: Batch, *, k: int = 5, temperature: float = 0.7) -> list[list[Explanation]]:
    """`k` sampled explanations a row."""
    return batch.student.sample(batch.rows, k=k, temperature=temperature, round=batch.round)


def embedding_signals(batch: Batch) -> list[np.ndarray]:
    """The mean of the last hidden states over the prompt."""
    generator = batch.student.generator
    return mean_hidden_states(
        batch.student.model, batch.prompts, pad_id=generator.pad_id, batch_size=generator.batch_size
    )


def probability_signals(batch: Batch) -> list[np.ndarray]:
    """p(label | prompt) over the answer choices of a row: see [`Student.label_logprobs`]."""
    return [np.exp(logprobs) for logprobs in batch.student.label_logprobs(batch.rows)]


SIGNALS: dict[str, Callable[..., list[Any]]] = {
    "tokens": token_signals,
    "samples": sample_signals,
    "boundaries": boundary_signals,
    "resamples": resample_signals,
    "self_confidence": self_confidence,
    "embedding": embedding_signals,
    "probabilities": probability_signals,
}
#: Signals of the greedy explanation, and those that branch off it.
EXPLAINED = frozenset({"tokens", "boundaries", "resamples", "self_confidence"})
BRANCHING = frozenset({"boundaries", "resamples", "self_confidence"})


def check(request: SignalRequest) -> None:
    """Raises a [`~hf_active_distill.errors.ConfigurationError`] for a signal or an option that does not exist."""
    if request.name not in SIGNALS:
        raise ConfigurationError(f"Unknown signal {request.name!r}. A student computes: {', '.join(SIGNALS)}.")
    function = SIGNALS[request.name]
    known = set(function.__kwdefaults__ or ())
    unknown = sorted(set(dict(request.options)) - known)
    if unknown:
        raise ConfigurationError(
            f"Signal {request.name!r} has no option {unknown[0]!r}. It has: {', '.join(sorted(known)) or 'none'}."
        )


def compute(batch: Batch, request: SignalRequest) -> list[Any]:
    """One signal for every row of the batch."""
    return SIGNALS[request.name](batch, **dict(request.options))
