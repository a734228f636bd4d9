"""Runs in odd surroundings: inside a running event loop."""

from __future__ import annotations

import asyncio

from counting_teacher import rule
from tiny_run import build


def teacher(messages, params):
    return rule(messages)


def test_training_inside_a_running_event_loop_as_in_a_notebook(tmp_path):
    async def cell():
        trainer = build(str(tmp_path), teacher, {"args": {"num_rounds": 1, "num_train_epochs": 1}})
        trainer.train()
        return trainer.stop_reason

    assert asyncio.run(cell()) == "rounds"
