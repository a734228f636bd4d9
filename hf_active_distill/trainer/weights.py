"""The weights a run began with, for `round_start="restart"`."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..errors import CheckpointError


class FirstWeights:
    """
    A copy of the trainable weights and of all buffers, written once: a resumed model holds other weights than the
    first one.

    Args:
        path (`Path`): `safetensors` file.
    """

    def __init__(self, path: Path):
        self.path = path
        self._tensors: dict[str, torch.Tensor] = {}

    def capture(self, model: torch.nn.Module, *, from_disk: bool, write: bool) -> None:
        """Takes the model's weights, or those that the run's first process wrote."""
        if from_disk:
            if not self.path.is_file():
                raise CheckpointError(
                    f"{self.path} is missing: a run with `round_start='restart'` cannot be resumed without the "
                    "weights it began with."
                )
            self._tensors = load_file(self.path)
            return
        self._tensors = {name: tensor.detach().cpu().clone() for name, tensor in _changing(model).items()}
        if write:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            partial = self.path.with_suffix(".partial")
            save_file(self._tensors, partial)
            os.replace(partial, self.path)

    @torch.no_grad()
    def restore(self, model: torch.nn.Module) -> None:
        """Puts the weights back in place, so that optimiser and wrappers keep their references."""
        for name, tensor in _changing(model).items():
            tensor.copy_(self._tensors[name].to(tensor.device))


def _changing(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Everything that training may change; frozen base weights under an adapter are left out."""
    tensors = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return tensors | dict(model.named_buffers())
