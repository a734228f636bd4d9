"""What of a run's folder goes to the Hub: the student and its card, and nothing that is pickled, local or private."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

#: The student, and files that say how it came about. `Trainer` itself would upload the whole folder: the journal with
#: every exchange, and a pickle of the arguments.
TRAVELS = (
    "*.jinja",
    "*.model",
    "*.safetensors",
    "*.safetensors.index.json",
    "README.md",
    "adapter_config.json",
    "added_tokens.json",
    "annotations.parquet",
    "config.json",
    "generation_config.json",
    "learning_curve.png",
    "merges.txt",
    "metrics.jsonl",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.*",
)
STAYS = ("first_weights.safetensors",)


def travelling_files(folder: Path) -> list[str]:
    """Names of the files that a push uploads, sorted."""
    names = (path.name for path in folder.iterdir() if path.is_file())
    return sorted(n for n in names if n not in STAYS and any(fnmatch(n, pattern) for pattern in TRAVELS))


def push_student(
    trainer: ActiveDistillationTrainer,
    *,
    commit_message: str,
    blocking: bool,
    token: str | None,
    revision: str | None,
) -> Any:
    """Uploads them in one commit. The repository must exist."""
    options: dict[str, Any] = {
        "repo_id": trainer.hub_model_id,
        "folder_path": trainer.args.output_path,
        "commit_message": commit_message,
        "token": token if token is not None else trainer.args.hub_token,
        "revision": revision if revision is not None else getattr(trainer.args, "hub_revision", None),
        "run_as_future": not blocking,
        "allow_patterns": travelling_files(trainer.args.output_path),
    }
    return HfApi().upload_folder(**options)
