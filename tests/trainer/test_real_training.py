"""A training run on real text, where `DATA_DIR` names it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest


DATA_DIR = os.environ.get("DATA_DIR")


@pytest.mark.skipif(DATA_DIR is None, reason="DATA_DIR names the folder with the real files")
def test_the_students_loss_on_held_out_teacher_text_falls(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    for name in ("real_explanations", "real_training"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    figures = importlib.import_module("real_training").run(Path(DATA_DIR), rounds=2, samples=16, limit=120)
    assert figures["rows trained on"] == 32
    assert figures["held-out loss after"] < figures["held-out loss before"] - 1.0
