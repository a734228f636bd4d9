"""Whose a run's folder is: settings, teacher, and claims of a former version."""

from __future__ import annotations

import json

import pytest

from hf_active_distill import errors
from hf_active_distill.cli.compare import teacher_maker
from hf_active_distill.cli.compare_run import exit_code_of
from hf_active_distill.comparison import ComparisonConfig
from hf_active_distill.comparison.claims import CLAIM_FILE, is_finished, teacher_facts, teachers_of, write_claim
from hf_active_distill.errors import CheckpointError
from hf_active_distill.teachers import TeacherInfo


SKEWED = teacher_facts({}, TeacherInfo("arithmetic_skewed"))


def comparison(folder, teacher: str = "scripted:arithmetic_skewed", **changes) -> ComparisonConfig:
    arms = [{"selection": "random", "annotation": "cot"}]
    return ComparisonConfig(str(folder / "out"), teacher, arms, [100], seeds=2, **changes)


@pytest.fixture
def runs(tmp_path):
    found = comparison(tmp_path).runs()
    for run in found:
        run.folder.mkdir(parents=True)
    return found


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_another_teacher_is_refused_finished_or_half_done(runs, finished):
    write_claim(runs[0], finished=finished, teacher=SKEWED)
    assert is_finished(runs[0], SKEWED) is is_finished(runs[0]) is finished
    others = {
        "model": teacher_facts({}, TeacherInfo("arithmetic_balanced")),
        "kwargs": teacher_facts({"error_rate": 0.1}, TeacherInfo("arithmetic_skewed")),
    }
    for name, other in others.items():
        with pytest.raises(CheckpointError, match=f"another teacher .{name} .*output_dir"):
            is_finished(runs[0], other)
    # Only where both say it: a server that does not tell its revision has not changed.
    is_finished(runs[0], teacher_facts({}, TeacherInfo("arithmetic_skewed", "2")))
    write_claim(runs[0], finished=finished, teacher=teacher_facts({}, TeacherInfo("arithmetic_skewed", "1")))
    with pytest.raises(CheckpointError, match="revision 1 before, 2 now"):
        is_finished(runs[0], teacher_facts({}, TeacherInfo("arithmetic_skewed", "2")))


def test_a_claim_of_a_former_version_is_accepted(runs):
    """It says nothing of the teacher."""
    claim = {"arm": "random+cot", "seed": 0, "fingerprint": runs[0].fingerprint, "finished": True, "cpu_seconds": 1.0}
    (runs[0].folder / CLAIM_FILE).write_text(json.dumps({**claim, "settings": dict(runs[0].settings)}))
    assert is_finished(runs[0], teacher_facts({"error_rate": 0.1}, TeacherInfo("any", "1")))
    assert teachers_of(runs[:1], "scripted:x") == "scripted:x"
    write_claim(runs[1], finished=True, teacher=teacher_facts({}, TeacherInfo("new", "0123456789abcdef")))
    assert teachers_of(runs, "scripted:x") == "scripted:x (1 runs), new@0123456789ab (1 runs)"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"finished": true}'])
def test_a_claim_that_cannot_be_read_is_named(runs, text):
    (runs[0].folder / CLAIM_FILE).write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read.*remove"):
        is_finished(runs[0])


def test_facts_hold_no_address_and_no_secret():
    options = {"api_key": "abc-123", "headers": {"Authorization": "Token abc-123"}, "timeout": 3, "seed": 1}
    facts = teacher_facts(options, TeacherInfo("m", "r", server="http://localhost:1"))
    assert facts == {"model": "m", "revision": "r", "kwargs": {"api_key": "[secret]", "seed": 1}}
    assert teacher_facts({}) == {"kwargs": {}}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("TeacherError", 1),  # none of this arm's rows can be trained on
        ("TeacherRequestError", 1),
        ("TeacherProtocolError", 1),
        ("TeacherOverloadedError", 1),
        ("TeacherGoneError", 4),
        ("TeacherConnectionError", 4),
        ("TeacherAuthError", 4),
        ("JournalError", 5),
        ("ConfigurationError", 2),
    ],
)
def test_only_what_every_run_would_meet_ends_all(kind, code):
    assert exit_code_of(getattr(errors, kind)("x")) == code
    assert exit_code_of(ValueError("x")) == 2


@pytest.mark.parametrize("teacher", ["replay:answers", "local:student", "http:host", "hf-inference:model", "Replay:a"])
def test_an_address_is_no_module(tmp_path, teacher):
    """Making the teacher may fail later, for want of that file: nothing is imported by that name."""
    assert callable(teacher_maker(comparison(tmp_path, teacher)))


def test_a_module_is_one(tmp_path, monkeypatch):
    (tmp_path / "my_teachers.py").write_text("def answer(messages):\n    return 'yes'\n")
    monkeypatch.chdir(tmp_path)
    assert teacher_maker(comparison(tmp_path, "my_teachers:answer"))() is not None
    with pytest.raises(errors.ConfigurationError, match="cannot be imported"):
        teacher_maker(comparison(tmp_path, "my_teachers:nobody"))
