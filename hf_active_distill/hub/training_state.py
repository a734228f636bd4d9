"""
What an optimiser needs to go on exactly, as safetensors and JSON, and back into the checkpoint that `Trainer` reads.

A checkpoint of `Trainer` is full of pickles. They are made here, on the machine that reads them, and never travel.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from ..errors import LineageError


OPTIMIZER_FILE = "optimizer.safetensors"
RANDOM_FILE = "random.safetensors"
STATE_FILE = "state.json"


def random_state() -> dict[str, Any]:
    """The random state of this process: of python, numpy, torch, and the accelerators that it sees."""
    state = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.random.get_rng_state_all()
    return state


def save_training_state(
    folder: Path,
    *,
    optimizer: dict[str, Any],
    scheduler: dict[str, Any],
    random_states: list[dict[str, Any]],
    current_device: int | None = None,
    fresh_optimizer: bool = False,
) -> None:
    """
    Writes the state of a training.

    Args:
        folder (`Path`): Where to.
        optimizer (`dict`), scheduler (`dict`): Their `state_dict()`.
        random_states (`list[dict]`): [`random_state`] of every process.
        current_device (`int`, *optional*): The CUDA device of a single process.
        fresh_optimizer (`bool`, *optional*, defaults to `False`): Whether the next round begins with an empty
            optimiser, so that its moments need not be kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    moments = {} if fresh_optimizer else optimizer["state"]
    body = {
        "optimizer": _lift({**optimizer, "state": moments}, tensors),
        "scheduler": _lift(scheduler, tensors),
        "device": current_device,
    }
    _save(tensors, folder / OPTIMIZER_FILE)
    tensors = {}
    body["random"] = _lift(random_states, tensors)
    _save(tensors, folder / RANDOM_FILE)
    (folder / STATE_FILE).write_text(json.dumps(body, indent=1), encoding="utf-8")


def write_pickles(folder: Path, checkpoint: Path) -> None:
    """
    The files of a checkpoint that `Trainer` reads optimiser, scheduler and random state from.

    Raises:
        [`~errors.LineageError`]: When the round was pushed without them.
    """
    if not (folder / STATE_FILE).is_file():
        raise LineageError(
            "The round holds no optimiser state: it was made with sharded weights (FSDP, DeepSpeed), whose training "
            "cannot be gone on with from the Hub. Start a new run from the student's weights instead."
        )
    body = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    moments, generators = load_file(folder / OPTIMIZER_FILE), load_file(folder / RANDOM_FILE)
    torch.save(_lower(body["optimizer"], moments), checkpoint / "optimizer.pt")
    torch.save(_lower(body["scheduler"], moments), checkpoint / "scheduler.pt")
    states = _lower(body["random"], generators)
    if len(states) == 1:
        devices = states[0].get("cuda")
        if devices:  # Trainer keeps that of the one device in use
            states[0]["cuda"] = devices[body["device"] or 0]
        torch.save(states[0], checkpoint / "rng_state.pth")
        return
    for rank, state in enumerate(states):
        torch.save(state, checkpoint / f"rng_state_{rank}.pth")


def _save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    # A file without any tensor would have no data to map.
    save_file(tensors or {"none": torch.zeros(1)}, path, metadata={"format": "pt"})


def _lift(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """JSON of nested containers; tensors and arrays go into `tensors`, and their names stand in their place."""
    if isinstance(value, torch.Tensor):
        name = f"t{len(tensors)}"
        # A copy: the optimiser goes on while this is written, and may share memory between entries.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, np.ndarray):
        name = f"t{len(tensors)}"
        tensors[name] = torch.from_numpy(value.astype(np.int64))
        return {"array": name, "dtype": str(value.dtype)}
    if isinstance(value, dict):
        return {"dict": [[_lift(key, tensors), _lift(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_lift(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_lift(item, tensors) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise LineageError(
        f"The state of the optimiser or its schedule holds {type(value).__name__}, which neither JSON nor safetensors "
        "can hold, and pickles are not pushed. Use `round_start='restart'`, or an optimiser of torch."
    )


def _lower(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The reverse of [`_lift`]."""
    if isinstance(value, list):
        return [_lower(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "array" in value:
        return tensors[value["array"]].numpy().astype(value["dtype"])
    if "tuple" in value:
        return tuple(_lower(item, tensors) for item in value["tuple"])
    return {_lower(key, tensors): _lower(item, tensors) for key, item in value["dict"]}
