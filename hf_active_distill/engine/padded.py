"""Branches, and their scores by encoding every prefix again: slow, but right for any model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .generation import RowCache
from .modes import accepts


@dataclass(frozen=True)
class Branch:
    """
    A continuation of a part of the trunk.

    Args:
        prefix (`int`):
            How many tokens of the trunk stand before it.
        tokens (`tuple[int, ...]`):
            Its own tokens.
        scored (`int`, *optional*):
            How many of its last tokens are scored; all of them by default.
    """

    prefix: int
    tokens: tuple[int, ...]
    scored: int | None = None

    @property
    def count(self) -> int:
        """Number of scored tokens."""
        return len(self.tokens) if self.scored is None else self.scored


@dataclass
class BranchItem:
    """
    One trunk (prompt and explanation) with its branches.

    Args:
        trunk (`list[int]`):
            Token ids.
        branches (`list[Branch]`):
            What branches off.
        cache (`RowCache`, *optional*):
            Keys and values of the first tokens of the trunk, as generation left them.
    """

    trunk: list[int]
    branches: list[Branch] = field(default_factory=list)
    cache: RowCache | None = None


def token_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """log p of `targets` under `logits`, in at least float32, some rows at a time: the copies would be large."""
    flat, wanted = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    parts = []
    for start in range(0, flat.shape[0], 256):
        rows = flat[start : start + 256]
        rows = rows if rows.dtype == torch.float64 else rows.float()
        chosen = rows.gather(-1, wanted[start : start + 256, None]).squeeze(-1)
        parts.append(chosen - torch.logsumexp(rows, dim=-1))
    return torch.cat(parts).reshape(targets.shape)


def score_padded(
    model: Any, items: Sequence[BranchItem], *, pad_id: int = 0, max_tokens: int = 4096
) -> list[list[np.ndarray]]:
    """
    Log-probabilities of every branch's scored tokens, each branch encoded with its prefix in left-padded batches
    sorted by length.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Model in evaluation mode.
        items (`Sequence[BranchItem]`):
            Trunks and branches; caches are not used.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler.
        max_tokens (`int`, *optional*, defaults to `4096`):
            Tokens a forward pass, padding included. 1 makes every branch a pass of its own.

    Returns:
        `list[list[np.ndarray]]`: For every item and branch, one number a scored token.
    """
    results: list[list[np.ndarray]] = [[np.zeros(0)] * len(item.branches) for item in items]
    jobs = [
        (item.trunk[: branch.prefix] + list(branch.tokens), branch.count, i, j)
        for i, item in enumerate(items)
        for j, branch in enumerate(item.branches)
    ]
    jobs.sort(key=lambda job: len(job[0]))
    start = 0
    while start < len(jobs):
        end = start + 1
        while end < len(jobs) and (end - start + 1) * len(jobs[end][0]) <= max_tokens:
            end += 1
        for (_, _, i, j), values in zip(jobs[start:end], _score_batch(model, jobs[start:end], pad_id), strict=True):
            results[i][j] = values
        start = end
    return results


def _score_batch(model: Any, jobs: Sequence[tuple[list[int], int, int, int]], pad_id: int) -> list[np.ndarray]:
    width, kept = max(len(job[0]) for job in jobs), max(job[1] for job in jobs)
    ids = torch.tensor([[pad_id] * (width - len(job[0])) + job[0] for job in jobs], device=model.device)
    mask = torch.tensor([[0] * (width - len(job[0])) + [1] * len(job[0]) for job in jobs], device=model.device)
    kwargs: dict[str, Any] = {"attention_mask": mask, "use_cache": False}
    if accepts(model, "position_ids"):
        kwargs["position_ids"] = mask.cumsum(-1).sub(1).clamp(min=0)
    if accepts(model, "logits_to_keep"):
        kwargs["logits_to_keep"] = torch.arange(width - 1 - kept, width - 1, device=ids.device)
    logits = model(input_ids=ids, **kwargs).logits
    if logits.shape[1] != kept:
        # A model that does not know the argument, or takes it and ignores it, returns all positions.
        logits = logits[:, -1 - kept : -1]
    values = token_logprobs(logits, ids[:, width - kept :]).double().cpu().numpy()
    return [row[kept - job[1] :] for row, job in zip(values, jobs, strict=True)]
