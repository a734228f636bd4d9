"""Which checkpoints are complete, and what of ours stands in them."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError


logger = logging.getLogger(__name__)

STATE_FILE = "active_distillation.json"
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_model.safetensors",
    "pytorch_model_fsdp.bin",
    "pytorch_model_fsdp_0",
    "latest",  # DeepSpeed
)
_NUMBER = re.compile(r"^checkpoint-(\d+)$")


def _restore_on_cpu(storage: Any, location: str) -> Any:
    return storage if re.fullmatch(r"cpu:\d+", location) else None


# With several processes on a CPU, transformers 4 maps the optimiser's state to "cpu:0", a place that torch cannot
# restore to by itself.
torch.serialization.register_package(100, lambda storage: None, _restore_on_cpu)


def write_state(folder: str | Path, state: dict[str, Any]) -> None:
    """Writes our own state. `trainer_state.json` comes after it, so a complete checkpoint always holds both."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / STATE_FILE).write_text(json.dumps(state, indent=2), encoding="utf-8")


def read_state(folder: str | Path) -> dict[str, Any]:
    return json.loads((Path(folder) / STATE_FILE).read_text(encoding="utf-8"))


def missing_parts(folder: str | Path, *, only_model: bool = False) -> list[str]:
    """What a checkpoint lacks to be resumed exactly; Trainer itself would go on silently without these."""
    folder = Path(folder)
    missing = []
    for name in ("trainer_state.json", STATE_FILE):
        try:
            json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            missing.append(name)
    if not any((folder / name).exists() for name in _WEIGHTS):
        missing.append("weights")
    if not only_model and not (folder / "latest").exists():
        if not any((folder / name).exists() for name in ("optimizer.pt", "optimizer.bin", "optimizer_0")):
            missing.append("optimizer.pt")
        if not (folder / "scheduler.pt").exists():
            missing.append("scheduler.pt")
        if not list(folder.glob("rng_state*.pth")):
            missing.append("rng_state.pth")
    return missing


def resolve_checkpoint(output_dir: str | Path, wish: str | bool | None, *, only_model: bool = False) -> str | None:
    """
    The checkpoint to go on from.

    Args:
        output_dir (`str` or `Path`): The run's folder.
        wish (`str`, `bool` or `None`): A folder, or `True` (also as text) for the last complete one in `output_dir`.
        only_model (`bool`, *optional*, defaults to `False`): Whether checkpoints hold weights only.

    Returns:
        `str` or `None`: `None` where there is nothing to go on from yet: the run was stopped before its first complete
        checkpoint, and starts at its first step again with the rounds and answers that stand on the disk.

    Raises:
        [`~errors.CheckpointError`]: When a folder was named that is not a complete checkpoint.
    """
    if wish is None or wish is False or str(wish).lower() in ("false", "no", "0", "none", ""):
        return None
    if wish is not True and str(wish).lower() not in ("true", "yes", "1", "last"):
        missing = missing_parts(wish, only_model=only_model)
        if missing:
            raise CheckpointError(
                f"{wish} is not a complete checkpoint of this trainer: {', '.join(missing)} missing or unreadable. "
                "Pass `resume_from_checkpoint=True` for the last complete one."
            )
        return str(wish)
    folders = [path for path in Path(output_dir).glob("checkpoint-*") if _NUMBER.match(path.name)]
    for folder in sorted(folders, key=lambda path: -int(path.name.split("-")[1])):
        missing = missing_parts(folder, only_model=only_model)
        if not missing:
            return str(folder)
        logger.warning("Skipping %s: it is incomplete (%s).", folder.name, ", ".join(missing))
    logger.warning(
        "No complete checkpoint in %s yet: the run starts at its first step, with the rounds and answers on the disk.",
        output_dir,
    )
    return None
