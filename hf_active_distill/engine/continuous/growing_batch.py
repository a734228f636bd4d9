"""Rows that are written together while others join and leave: their mask, their lengths, their cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache

from ..modes import accepts, base_model


@dataclass
class Encoded:
    """
    Prompts after their first forward pass, ready to join a batch.

    Args:
        logits (`torch.Tensor` of shape `(rows, vocabulary)`): Next-token logits.
        prompt_logits (`torch.Tensor` or `None`): Logits at every position of a single prompt, where asked for.
        ids (`torch.Tensor`), mask (`torch.Tensor`): Left-padded ids and which of them count.
        cache (`DynamicCache` or `None`): Keys and values; `None` for models that are encoded anew at each step.
    """

    logits: torch.Tensor
    prompt_logits: torch.Tensor | None
    ids: torch.Tensor
    mask: torch.Tensor
    cache: Any


class GrowingBatch:
    """
    The running rows of one model, padded on the left with explicit positions: a row's logits do not depend on its
    neighbours, up to rounding. Models whose state has no positions (recurrent ones) are encoded anew at each step.

    Args:
        model (`PreTrainedModel`): Causal language model in evaluation mode.
        pad_id (`int`, *optional*, defaults to `0`): Filler, never attended to.
    """

    def __init__(self, model: Any, pad_id: int = 0):
        self._model = model
        self._pad_id = pad_id
        self._cached = not getattr(base_model(model), "_is_stateful", False)
        self._takes_positions = accepts(model, "position_ids")
        self._takes_kept = accepts(model, "logits_to_keep")
        self._rows: Encoded | None = None

    def encode(self, prompts: list[list[int]], *, all_logits: bool = False) -> Encoded:
        """First pass over prompts; with `all_logits` over a single one, its logits at every position kept."""
        width = max(map(len, prompts))
        device = self._model.device
        ids = torch.tensor([[self._pad_id] * (width - len(row)) + row for row in prompts], device=device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts], device=device)
        # Without a configuration the cache keeps all keys of sliding-window layers too: rows of any length can join.
        cache: Any = DynamicCache() if self._cached else None
        logits = self._forward(ids, mask, cache, last_only=not all_logits)
        return Encoded(logits[:, -1], logits[0] if all_logits else None, ids, mask, cache)

    def join(self, new: Encoded) -> None:
        """Adds encoded rows behind the running ones."""
        old = self._rows
        if old is None:
            self._rows = new
            return
        width = max(old.mask.shape[1], new.mask.shape[1])
        old_pad, new_pad = width - old.mask.shape[1], width - new.mask.shape[1]
        old.mask = torch.cat([pad(old.mask, (old_pad, 0)), pad(new.mask, (new_pad, 0))])
        old.ids = torch.cat(
            [pad(old.ids, (old_pad, 0), value=self._pad_id), pad(new.ids, (new_pad, 0), value=self._pad_id)]
        )
        if old.cache is not None and new.cache is not None:
            for mine, theirs in zip(old.cache.layers, new.cache.layers, strict=True):
                mine.keys = _stack(mine.keys, old_pad, theirs.keys, new_pad)
                mine.values = _stack(mine.values, old_pad, theirs.values, new_pad)

    def keep(self, rows: list[int]) -> None:
        """Drops all other rows, and the padding that only they needed."""
        if not rows or self._rows is None:
            self._rows = None
            return
        batch = self._rows
        index = torch.tensor(rows, device=batch.mask.device)
        batch.mask, batch.ids = batch.mask[index], batch.ids[index]
        lead = int(batch.mask.shape[1] - batch.mask.sum(1).max())
        batch.mask, batch.ids = batch.mask[:, lead:], batch.ids[:, lead:]
        if batch.cache is not None:
            for layer in batch.cache.layers:
                layer.keys, layer.values = layer.keys[index, :, lead:], layer.values[index, :, lead:]

    def step(self, tokens: list[int]) -> torch.Tensor:
        """Gives every row its next token and computes the logits after it, shape `(rows, vocabulary)`."""
        assert self._rows is not None
        batch = self._rows
        new = torch.tensor(tokens, device=batch.mask.device)[:, None]
        batch.ids = torch.cat([batch.ids, new], dim=1)
        batch.mask = torch.cat([batch.mask, torch.ones_like(new)], dim=1)
        ids = batch.ids if batch.cache is None else new
        return self._forward(ids, batch.mask, batch.cache, last_only=True)[:, -1]

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, cache: Any, *, last_only: bool) -> torch.Tensor:
        kwargs: dict[str, Any] = {"attention_mask": mask, "use_cache": cache is not None}
        if cache is not None:
            kwargs["past_key_values"] = cache
        if self._takes_positions:
            kwargs["position_ids"] = mask.cumsum(-1).sub(1).clamp(min=0)[:, -ids.shape[1] :]
        if last_only and self._takes_kept:
            # An index, not a number: a slice makes the output layer copy its weights once a row.
            kwargs["logits_to_keep"] = torch.tensor([ids.shape[1] - 1], device=ids.device)
        return self._model(input_ids=ids, **kwargs).logits


def _stack(first: torch.Tensor, first_pad: int, second: torch.Tensor, second_pad: int) -> torch.Tensor:
    return torch.cat([pad(first, (0, 0, first_pad, 0)), pad(second, (0, 0, second_pad, 0))])
