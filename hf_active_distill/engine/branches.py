"""Scores and writes continuations at many points of one text, by the cheapest way that is right for the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .generation import Generated, Generator
from .modes import inference
from .padded import Branch, BranchItem, score_padded


#: Called with (item, branch, its new tokens) after every token; true ends the branch.
BranchStop = Callable[[int, int, list[int]], bool]


class BranchScorer:
    """
    log p(continuation | part of a trunk) and continuations at branch points.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Causal language model.
        eos_ids (`Sequence[int]`):
            Tokens that end a continuation.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler.
        batch_size (`int`, *optional*, defaults to `16`):
            Items at a time.
        max_tokens (`int`, *optional*, defaults to `4096`):
            Tokens a forward pass.
    """

    def __init__(
        self, model: Any, *, eos_ids: Sequence[int], pad_id: int = 0, batch_size: int = 16, max_tokens: int = 4096
    ):
        self.model = model
        self.eos_ids = frozenset(eos_ids)
        self.pad_id = pad_id
        self.batch_size = batch_size
        self.max_tokens = max_tokens

    def score(self, items: Sequence[BranchItem]) -> list[list[np.ndarray]]:
        """For every item and branch the log-probabilities of its scored tokens, in nats."""
        with inference(self.model):
            return score_padded(self.model, items, pad_id=self.pad_id, max_tokens=self.max_tokens)

    def write(
        self,
        items: Sequence[BranchItem],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        uniforms: Sequence[Sequence[np.ndarray]] | None = None,
        stop: BranchStop | None = None,
    ) -> list[list[Generated]]:
        """
        Continues every branch.

        Args:
            items (`Sequence[BranchItem]`):
                Trunks and branches.
            max_new_tokens (`int`):
                Most new tokens a branch.
            temperature (`float`, *optional*, defaults to `0.0`):
                0 is greedy.
            uniforms (`Sequence[Sequence[np.ndarray]]`, *optional*):
                Sampling noise of every item's branches.
            stop (`BranchStop`, *optional*):
                Ends a branch early.
        """
        places = [(i, j) for i, item in enumerate(items) for j in range(len(item.branches))]
        generator = Generator(self.model, eos_ids=self.eos_ids, pad_id=self.pad_id, batch_size=self.batch_size)
        written = generator.generate(
            [items[i].trunk[: items[i].branches[j].prefix] + list(items[i].branches[j].tokens) for i, j in places],
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            uniforms=None if uniforms is None else [uniforms[i][j] for i, j in places],
            stop=None if stop is None else lambda row, tokens: stop(*places[row], tokens),
        )
        results: list[list[Generated]] = [[] for _ in items]
        for (i, _), generated in zip(places, written, strict=True):
            results[i].append(generated)
        return results


__all__ = ["Branch", "BranchItem", "BranchScorer", "BranchStop"]
