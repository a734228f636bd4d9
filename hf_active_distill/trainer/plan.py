"""What a run will cost, before it is run: not a single teacher call is made."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..annotation.base import AnnotationItem, AnnotationMethod
from ..asking.forecast import Forecast, Range, forecast
from ..engine import inference
from ..records import Explanation, PoolRow
from ..teachers.base import TeacherRequest
from .desk import make_budget


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

PROBE_ROWS = 4
# A backward pass takes about twice as long as a forward pass.
FORWARD_TO_STEP = 3.0


@dataclass(frozen=True)
class Plan:
    """
    Args:
        rounds (`list[dict]`): Per round: `new` and `rows` (annotated rows planned), `steps` (optimiser steps) and
            `candidates` (rows that the student explains).
        teacher ([`~asking.forecast.Forecast`]): Calls, tokens and cost as ranges.
        student_hours ([`~asking.forecast.Range`]): Time of scoring, training and evaluating on this machine.
        prompts (`dict[str, str]`): One rendered prompt of each kind.
    """

    rounds: list[dict[str, int]]
    teacher: Forecast
    student_hours: Range
    prompts: dict[str, str]

    def __str__(self) -> str:
        lines = ["Rounds"]
        lines += [
            f"  {index}: {row['candidates']} rows scored, {row['new']} asked, {row['rows']} trained on, "
            f"{row['steps']} steps"
            for index, row in enumerate(self.rounds)
        ]
        lines += ["Teacher", *(f"  {line}" for line in self.teacher.lines())]
        lines += ["Student", f"  hours on this machine: {self.student_hours} (timed on {PROBE_ROWS} rows)"]
        for kind, text in self.prompts.items():
            lines += ["", f"--- {kind} ---", text]
        return "\n".join(lines)


def make_plan(trainer: ActiveDistillationTrainer) -> Plan:
    """Times the student on a few rows, and plans the teacher's calls on what it wrote for them."""
    schedule = trainer.schedule
    rows = list(trainer.data.pool.rows.values())[:PROBE_ROWS]
    explanations, seconds_per_row, seconds_per_step = _probe_student(trainer, rows)
    items = [AnnotationItem(row, explanation) for row, explanation in zip(rows, explanations, strict=True)]
    evaluated = sum(len(part) for part in trainer.data.eval_parts.values())
    rounds = _rounds(trainer)
    scored = sum(row["candidates"] for row in rounds) if trainer.strategy.requests() else 0
    student_rows = scored + evaluated * (schedule.num_rounds + 1)
    hours = (student_rows * seconds_per_row + schedule.total_steps * seconds_per_step) / 3600
    most = hours
    if trainer.gating is not None:  # at least one batch of candidates is scored for a step
        scored_hours = schedule.total_steps * schedule.batch_size * seconds_per_row / 3600
        hours, most = hours + scored_hours, hours + trainer.args.gate_max_draws * scored_hours
    return Plan(
        rounds=rounds,
        teacher=teacher_forecast(trainer, items),
        student_hours=Range(round(hours * 0.5, 4), round(most * 2, 4)),
        prompts=_prompts(trainer, items[0], trainer.method),
    )


def teacher_forecast(trainer: ActiveDistillationTrainer, items: Sequence[AnnotationItem]) -> Forecast:
    """What the teacher will be asked in the whole run, planned on some of its rows."""
    asked = trainer.schedule.planned_rows(trainer.schedule.num_rounds - 1) - trainer.schedule.seed_rows
    plans = [trainer.method.plan(item) for item in items]
    rows = [asked / len(items)] * len(items)
    if trainer.data.unanswered_eval_rows:
        comparison = trainer.kind.answering_method(trainer.method, trainer.annotation_settings)
        plans += [comparison.plan(item) for item in items]
        rows += [trainer.data.unanswered_eval_rows / len(items)] * len(items)
    return forecast(plans, rows=rows, budget=make_budget(trainer.args))


def _rounds(trainer: ActiveDistillationTrainer) -> list[dict[str, int]]:
    schedule = trainer.schedule
    rounds = []
    before = schedule.seed_rows
    for index in range(schedule.num_rounds):
        rows = schedule.planned_rows(index)
        left = schedule.pool_size - (before - schedule.seed_rows)
        candidates = trainer.args.resolved_candidates_per_round
        rounds.append(
            {
                "new": rows - before,
                "rows": rows,
                "steps": schedule.round_steps(index),
                "candidates": left if candidates is None else min(candidates, left),
            }
        )
        before = rows
    return rounds


def _probe_student(
    trainer: ActiveDistillationTrainer, rows: list[PoolRow]
) -> tuple[Sequence[Explanation | None], float, float]:
    """Explanations of a few rows, seconds to score a row, and seconds of an optimiser step."""
    with trainer.open_student() as student:
        started = time.perf_counter()
        explanations, inputs = trainer.kind.probe(student, rows, trainer.strategy.requests())
        seconds_per_row = (time.perf_counter() - started) / len(rows)
        started = time.perf_counter()
        with inference(student.model):
            for row in inputs:
                device = trainer.args.device
                student.model(**{name: torch.tensor([values], device=device) for name, values in row.items()})
        forward = (time.perf_counter() - started) / len(rows)
    rows_a_step = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
    return explanations, seconds_per_row, forward * FORWARD_TO_STEP * rows_a_step


def _prompts(trainer: ActiveDistillationTrainer, item: AnnotationItem, method: AnnotationMethod) -> dict[str, str]:
    student_prompt = trainer.kind.shown(item.row)
    prompts = {"student": student_prompt if isinstance(student_prompt, str) else _turns(student_prompt)}
    requests: dict[str, TeacherRequest] = {}
    for request in method.plan(item)[1]:
        requests.setdefault(f"teacher, {len(request.message_list()) or 1} messages", request)
    names = list(requests)
    # The first and the longest dialogue show all there is.
    for name in dict.fromkeys([names[0], names[-1]]):
        request = requests[name]
        prompts[name] = request.prompt if request.prompt is not None else _turns(request.message_list())
    return prompts


def _turns(messages: list[dict[str, str]]) -> str:
    return "\n".join(f"[{turn['role']}]\n{turn['content']}" for turn in messages)
