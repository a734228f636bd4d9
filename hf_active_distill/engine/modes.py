"""Leaves a model and the random state as they were found, and knows what a model's `forward` takes."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def base_model(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def accepts(model: Any, argument: str) -> bool:
    """Whether the model's own `forward` names `argument` (a PEFT wrapper hides it behind `**kwargs`)."""
    return argument in inspect.signature(base_model(model).forward).parameters


def text_config(model: Any) -> Any:
    """The configuration of the language model, also inside a multimodal one."""
    return base_model(model).config.get_text_config()


def position_limit(model: Any) -> int | None:
    """Positions that the model has, `None` where its configuration names no limit."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len"):
        limit = getattr(text_config(model), name, None)
        if isinstance(limit, int) and limit > 0:
            return limit
    return None


@contextmanager
def inference(model: Any) -> Iterator[Any]:
    """
    Evaluation mode without gradients, gradient checkpointing off.

    On leaving, Python's, NumPy's and torch's random state, every module's own train flag and the checkpointing flags
    are as they were. Checkpointing has to go: in train mode it silently switches the cache off.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Model to be used inside.
    """
    training = {module: module.training for module in model.modules()}
    checkpointing = [module for module in training if getattr(module, "gradient_checkpointing", False) is True]
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        with torch.no_grad(), _soft_capped_attention(model):
            model.eval()
            for module in checkpointing:
                module.gradient_checkpointing = False
            yield model
    finally:
        for module in checkpointing:
            module.gradient_checkpointing = True
        for module, flag in training.items():
            module.training = flag
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def attention_implementation(model: Any) -> str:
    """`"sdpa"`, `"eager"`, `"flash_attention_2"`, ..."""
    return getattr(text_config(model), "_attn_implementation", None) or "eager"


@contextmanager
def attention(model: Any, implementation: str) -> Iterator[None]:
    """Runs the model with another attention implementation and switches back."""
    before = attention_implementation(model)
    if before == implementation:
        yield
        return
    base_model(model).set_attn_implementation(implementation)
    try:
        yield
    finally:
        base_model(model).set_attn_implementation(before)


def _soft_capped(model: Any) -> bool:
    return getattr(text_config(model), "attn_logit_softcapping", None) is not None


@contextmanager
def _soft_capped_attention(model: Any) -> Iterator[None]:
    # PyTorch's fused attention cannot cap its scores, and transformers 4 drops the cap without a word (Gemma 2).
    implementation = attention_implementation(model)
    with attention(model, "eager" if implementation == "sdpa" and _soft_capped(model) else implementation):
        yield


@contextmanager
def masked_attention(model: Any) -> Iterator[str]:
    """
    Runs the model with an attention implementation that takes a ready-made mask, and yields its name: `"sdpa"` where
    the model has it, else `"eager"`. FlashAttention and flex want masks of their own and are switched meanwhile.
    """
    fused = getattr(base_model(model), "_supports_sdpa", False) and not _soft_capped(model)
    implementation = "sdpa" if fused else "eager"
    with attention(model, implementation):
        yield implementation
