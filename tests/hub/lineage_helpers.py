"""A tiny run that keeps its rounds, shared by the tests of lineages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from counting_teacher import rule
from safetensors.torch import load_file
from tiny_run import EVAL, build

from hf_active_distill import ActiveDistillationTrainer


class Asked:
    """A teacher in process that remembers what it was asked."""

    def __init__(self) -> None:
        self.requests: list[str] = []

    def __call__(self, messages, params) -> str:
        self.requests.append(json.dumps(messages, sort_keys=True))
        return rule(messages)


def run(output_dir: Path, teacher: Any = None, **options: Any) -> ActiveDistillationTrainer:
    """Trains the tiny student; `args` among the options are those of the configuration."""
    torch.set_num_threads(1)
    trainer = build(str(output_dir), teacher or Asked(), options)
    trainer.train()
    return trainer


def weights(trainer: ActiveDistillationTrainer) -> dict[str, torch.Tensor]:
    """What was trained."""
    folder = Path(trainer.args.output_dir) / "final"
    trainer.save_model(str(folder))
    adapter = folder / "adapter_model.safetensors"
    return load_file(adapter if adapter.exists() else folder / "model.safetensors")


def assert_same_run(first: ActiveDistillationTrainer, second: ActiveDistillationTrainer) -> None:
    """The same rows, annotations and figures in all rounds, and bitwise the same weights."""
    assert_same_rounds(first, second)
    expected, found = weights(first), weights(second)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not expected[name].equal(found[name])] == []


def assert_same_rounds(first: ActiveDistillationTrainer, second: ActiveDistillationTrainer) -> None:
    records = [[{**r.to_dict(), "seconds": None} for r in t.book.store.records()] for t in (first, second)]
    assert len(records[0]) == len(records[1]) > 0
    for one, other in zip(*records, strict=True):
        assert {name: (one[name], other[name]) for name in one if one[name] != other[name]} == {}
    assert first.book.store.history(len(records[0])) == second.book.store.history(len(records[0]))


def hub_run(output_dir: str, name: str, **options: Any) -> dict[str, Any]:
    """Trains the tiny student with every round pushed, in a process whose clients reach a Hub."""
    args = {"push_rounds": True, "hub_model_id": name, **options.pop("args", {})}
    trainer = run(Path(output_dir), args=args, **options)
    error = trainer.lineage.pusher.error
    return {
        "stop_reason": trainer.stop_reason,
        "error": f"{type(error).__name__}: {error}" if error is not None else None,
        "requests": trainer.session._teacher.requests,
        "rounds": [{**record.to_dict(), "seconds": None} for record in trainer.book.store.records()],
        "weights": {name: tensor.numpy() for name, tensor in weights(trainer).items()},
    }


def hub_restored_run(output_dir: str, name: str, tag: str, **kwargs: Any) -> dict[str, Any]:
    """Goes on from a round on the Hub."""
    torch.set_num_threads(1)
    teacher = Asked()
    trainer = ActiveDistillationTrainer.from_round(
        name, tag, output_dir=output_dir, teacher=teacher, eval_dataset=EVAL, **kwargs
    )
    trainer.train()
    return {
        "requests": teacher.requests,
        "rounds": [{**record.to_dict(), "seconds": None} for record in trainer.book.store.records()],
        "weights": {name: tensor.numpy() for name, tensor in weights(trainer).items()},
    }
