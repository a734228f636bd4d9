"""Prompts as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .modes import accepts, inference


def mean_hidden_states(
    model: Any, prompts: Sequence[Sequence[int]], *, pad_id: int = 0, batch_size: int = 16
) -> list[np.ndarray]:
    """
    The mean of the last layer's hidden states over a prompt's tokens.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Causal language model.
        prompts (`Sequence[Sequence[int]]`):
            Token ids.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler.
        batch_size (`int`, *optional*, defaults to `16`):
            Prompts at a time.

    Returns:
        `list[np.ndarray]`: One float32 vector a prompt.
    """
    vectors: list[np.ndarray] = []
    with inference(model):
        for start in range(0, len(prompts), batch_size):
            part = prompts[start : start + batch_size]
            width = max(map(len, part))
            ids = torch.tensor([[pad_id] * (width - len(ids)) + list(ids) for ids in part], device=model.device)
            mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in part], device=model.device)
            kwargs: dict[str, Any] = {"attention_mask": mask, "use_cache": False, "output_hidden_states": True}
            if accepts(model, "position_ids"):
                kwargs["position_ids"] = mask.cumsum(-1).sub(1).clamp(min=0)
            if accepts(model, "logits_to_keep"):
                kwargs["logits_to_keep"] = torch.tensor([width - 1], device=ids.device)
            hidden = model(input_ids=ids, **kwargs).hidden_states[-1].float()
            hidden = torch.where(mask[..., None].bool(), hidden, 0.0)
            vectors += list((hidden.sum(1) / mask.sum(1, keepdim=True)).cpu().numpy())
    return vectors
