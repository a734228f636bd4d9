"""SIGKILL on a real process that asks a real server; the full number of rounds is in `benchmarks/journal_crash.py`."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def crash():
    path = Path(__file__).parents[2] / "benchmarks" / "journal_crash.py"
    spec = importlib.util.spec_from_file_location("journal_crash", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["journal_crash"] = module
    spec.loader.exec_module(module)
    return module


def test_killed_at_random_moments_nothing_is_lost_and_nothing_paid_twice(crash, tmp_path):
    with crash.CrashRig(tmp_path, seed=1) as rig:
        for _ in range(40):
            rig.round()
            if rig.kills >= 6 and rig.completed >= 1:
                break
        assert rig.problems == []
        assert rig.kills >= 6 and rig.completed >= 1


def test_a_journal_that_commits_after_use_is_caught(crash, tmp_path):
    with crash.CrashRig(tmp_path, seed=2, late=True) as rig:
        for _ in range(40):
            rig.round()
            if rig.problems:
                break
        assert any("used, not committed" in problem for problem in rig.problems)
