"""Classification heads: logits, what the last layer is given, passes under dropout, and changes to that layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import ConfigurationError
from .modes import base_model, inference, position_limit, text_config


@dataclass(frozen=True)
class HeadOutputs:
    """
    Args:
        logits (`np.ndarray` of shape `(N, K)`): In float32.
        embeddings (`np.ndarray` of shape `(N, d)` or `None`): What the last layer was given, in float32.
    """

    logits: np.ndarray
    embeddings: np.ndarray | None = None


def last_layer(model: Any) -> nn.Linear:
    """
    The linear layer that gives a model's logits: the last one with as many outputs as there are labels.

    Raises:
        [`~errors.ConfigurationError`]: For a model without one.
    """
    labels = base_model(model).config.num_labels
    layers = [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == labels]
    if not layers:
        raise ConfigurationError(f"{type(base_model(model)).__name__} has no linear layer with {labels} outputs.")
    return layers[-1]


def right_padded(inputs: Sequence[Mapping[str, Sequence[int]]], pad_id: int) -> dict[str, Tensor]:
    """
    Encoded texts as one batch, with the padding behind the text: a decoder that is given no positions would count from
    the padding on.
    """
    width = max(len(row["input_ids"]) for row in inputs)
    fillers = dict.fromkeys(inputs[0], 0) | {"input_ids": pad_id}
    return {
        name: torch.tensor([[*row[name], *[filler] * (width - len(row[name]))] for row in inputs])
        for name, filler in fillers.items()
    }


def head_logits(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """Logits in evaluation mode, of shape `(N, K)`, in float32 and on the model's device."""
    with inference(model):
        return model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).logits.float()


def head_outputs(model: Any, batch: Mapping[str, Tensor], *, embeddings: bool = False) -> HeadOutputs:
    """
    One pass in evaluation mode.

    Args:
        model (`PreTrainedModel` or `PeftModel`): With a classification head.
        batch (`Mapping[str, Tensor]`): `input_ids`, `attention_mask` and what else the model takes.
        embeddings (`bool`, *optional*, defaults to `False`):
            Whether what the last layer is given is wanted. Logits are a linear function of it.
    """
    if not embeddings:
        return HeadOutputs(head_logits(model, batch).cpu().numpy())
    given: list[Tensor] = []
    hook = last_layer(model).register_forward_pre_hook(lambda layer, args: given.append(args[0]))
    try:
        logits = head_logits(model, batch)
    finally:
        hook.remove()
    vectors = given[-1].detach()
    if vectors.dim() == 3:  # a decoder's head sees every position, and the model takes the last one of the text
        last = _last_positions(model, batch).to(vectors.device)
        vectors = vectors[torch.arange(len(vectors), device=vectors.device), last]
    return HeadOutputs(logits.cpu().numpy(), vectors.float().cpu().numpy())


def dropout_logits(model: Any, batch: Mapping[str, Tensor], seeds: Sequence[int]) -> np.ndarray:
    """
    Passes with dropout on, each with noise of its own; the global random state is left as it was.

    Returns:
        `np.ndarray` of shape `(T, N, K)`: One pass a seed.
    """
    inputs = {name: tensor.to(model.device) for name, tensor in batch.items()}
    with inference(model):
        model.train()  # attention drops out by the flag of its module, so `nn.Dropout` alone would not do
        passes = []
        for seed in seeds:
            torch.manual_seed(seed)
            passes.append(model(**inputs).logits.float().cpu().numpy())
    return np.stack(passes)


def text_positions(model: Any) -> int | None:
    """Longest text in tokens. RoBERTa and its kin count positions from behind the padding index."""
    limit = position_limit(model)
    for module in model.modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings == limit and module.padding_idx is not None:
            return limit - module.padding_idx - 1
    return limit


@torch.no_grad()
def fold_temperature(model: Any, temperature: float) -> None:
    """Divides the logits of a model by a temperature, for good, in the weights of its last layer."""
    if not temperature > 0:
        raise ConfigurationError(f"A temperature must be over 0, got {temperature}.")
    layer = last_layer(model)
    layer.weight.div_(temperature)
    if layer.bias is not None:
        layer.bias.div_(temperature)


@torch.no_grad()
def reorder_labels(model: Any, order: Sequence[int]) -> None:
    """Puts the outputs of the last layer into another order: output `i` becomes the former output `order[i]`."""
    layer = last_layer(model)
    index = torch.tensor(list(order), device=layer.weight.device)
    layer.weight.copy_(layer.weight[index].clone())
    if layer.bias is not None:
        layer.bias.copy_(layer.bias[index].clone())


def _last_positions(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The position that a decoder's head is read at: the last token that is no padding token."""
    ids = batch["input_ids"]
    pad = text_config(model).pad_token_id
    if pad is None:
        return torch.full((len(ids),), ids.shape[1] - 1)
    positions = torch.arange(ids.shape[1], dtype=torch.int32)
    return (positions * (ids.cpu() != pad)).argmax(-1)
