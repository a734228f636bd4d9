"""Frozen rounds without a training, for tests of what happens to them afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from hf_active_distill.asking import JournalRow
from hf_active_distill.asking.restoring import import_calls
from hf_active_distill.hub.contents import RoundContents, freeze
from hf_active_distill.hub.facts import RunFacts
from hf_active_distill.hub.frozen import FrozenRound, LineageFolder
from hf_active_distill.hub.training_state import random_state, save_training_state
from hf_active_distill.pool import fingerprint_of
from hf_active_distill.records import Annotation, Explanation, PoolRow, StepVerdict, Usage
from hf_active_distill.rounds import RoundRecord


ROWS = [PoolRow(f"row-{i}", f"How much is {i} and {i}?", str(2 * i), {"level": i % 3}) for i in range(12)]
SETTINGS = {"seed": 7, "selection": "egss", "annotation": "clear", "task": "reasoning", "pool": fingerprint_of(ROWS)}


def record(round_index: int) -> RoundRecord:
    """Three rows a round, of which one fails and is chosen again in the next."""
    chosen = [f"row-{2 * round_index + k}" for k in (2, 0, 1)]
    return RoundRecord(
        round=round_index,
        global_step=4 * (round_index + 1),
        selected_ids=chosen,
        reasons={chosen[0]: "egss", chosen[2]: "random"},
        random_ids=[chosen[2]],
        scores={row.row_id: float(i) / 7 - round_index for i, row in enumerate(ROWS)},
        annotations=[annotation(chosen[0], round_index, ok=False), *(annotation(c, round_index) for c in chosen[1:])],
        available=12 - 2 * round_index,
        seconds={"scoring": 1.5},
    )


def annotation(row_id: str, round_index: int, *, ok: bool = True) -> Annotation:
    number = int(row_id.split("-")[1])
    prompt = f"How much is {number} and {number}?"
    student = Explanation(row_id, f"{number} + {number} = 9", [f"{number} + {number} = 9"], "9")
    return Annotation(
        row_id=row_id,
        kind="clear",
        status="ok" if ok else "failed",
        reason=None if ok else "unreadable_verdict",
        prompt=prompt,
        steps=[f"adding gives {2 * number}"] if ok else [],
        answer=str(2 * number) if ok else None,
        completion=f"adding gives {2 * number}\n#### {2 * number}" if ok else None,
        student=student,
        verdicts=[StepVerdict(0, student.steps[0], False, f"adding gives {2 * number}", "No")] if ok else [],
        first_rejected=0 if ok else None,
        round=round_index,
        teacher="counting",
        usage=Usage(1, 30, 10),
        cost=0.25,
    )


def call(number: int, round_index: int, row_id: str) -> JournalRow:
    """An answered call of the run `train`."""
    return JournalRow(
        id=number,
        key=f"key-{round_index}-{row_id}",
        run="train",
        row_id=row_id,
        round=round_index,
        kind="clear",
        turn=0,
        model="counting",
        revision=None,
        sample_index=0,
        attempt=0,
        state="answered",
        content=f'{{"messages": [{{"role": "user", "content": "about {row_id}."}}]}}',
        answer='{"text": "No", "finish_reason": "stop"}',
        error=None,
        usage=Usage(1, 30, 10),
        bound_prompt_tokens=30,
        bound_completion_tokens=100,
        cost=0.25,
        latency=0.1,
        clock=1.0,
        sent_at=f"2026-01-01T00:00:{round_index:02d}.{number:03d}+00:00",
        finished_at=None,
    )


def write_training_state(folder: Path) -> None:
    """That of a student of one number, after a step."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    weight.sum().backward()
    optimizer.step()
    scheduler.step()
    save_training_state(
        folder, optimizer=optimizer.state_dict(), scheduler=scheduler.state_dict(), random_states=[random_state()]
    )
    (folder / "trainer_state.json").write_text("{}")


def frozen_round(output_dir: str | Path, round_index: int, **changes: Any) -> FrozenRound:
    """Freezes a round of a run in `output_dir` behind those that are there."""
    output_dir, folder = Path(output_dir), LineageFolder(output_dir)
    records = [record(index) for index in range(round_index + 1)]
    calls = [call(k, round_index, a.row_id) for k, a in enumerate(records[-1].annotations)]
    import_calls(output_dir / "journal.sqlite", calls)
    partial = folder.partial(round_index)
    write_training_state(partial / "student/training_state")
    save_file({"weight": np.full(300, float(round_index), np.float32)}, partial / "student/model.safetensors")
    (partial / "student/config.json").write_text('{"model_type": "llama"}')
    history = [
        {**r.figures(), "eval_accuracy": 0.1 * (r.round + 1), "total_teacher_tokens": 120 * (r.round + 1)}
        for r in records
    ]
    contents = {
        "records": records,
        "rows": ROWS,
        "seeds": [],
        "conversational_annotations": False,
        "max_attempts": 2,
        "journal": output_dir / "journal.sqlite",
        "run": "train",
        "known_ids": {row.row_id for row in ROWS},
        "settings": SETTINGS,
        "configuration": {"seed": 7},
        "state": {"global_step": records[-1].global_step, "stop_reason": None, "caps": [], "rounds": round_index + 1},
        "history": history,
        "facts": RunFacts("tiny", records, history, SETTINGS),
        **changes,
    }
    return freeze(folder, partial, RoundContents(**contents))
