"""Pushing frozen rounds to a Hub that fails, is shared, or dies, and mending what was begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest
from frozen_rounds import frozen_round
from hub_server import Fault

from hf_active_distill.cli.main import main
from hf_active_distill.errors import LineageConflictError, LineageUnreachableError
from hf_active_distill.hub import LineageFolder, Secrets, open_store, push_waiting
from hf_active_distill.hub.push import RoundPusher, push_round


REPOS = {"pool": ("datasets", "me/tiny-pool"), "annotations": ("datasets", "me/tiny-annotations")}
REPOS["student"] = ("models", "me/tiny")
NO_WAIT = (0.0, 0.0, 0.0)


def push(output_dir: str, name: str = "me/tiny") -> list[int]:
    store = open_store(name, create=True)
    return push_waiting(store, LineageFolder(output_dir), Secrets(), wait=lambda s: False, waits=NO_WAIT)


def assert_whole(hub, rounds: int = 1) -> None:
    """Every part has a commit and a tag a round, and nothing twice."""
    for part, repo in REPOS.items():
        found = hub.store.repo(*repo)
        history = hub.store.history(found, "main")
        assert [commit.title for commit in history][:rounds] == [f"Round {r}" for r in reversed(range(rounds))], part
        assert len(history) == rounds + 1
        tags = hub.store.refs(found, "tag")
        assert tags == {f"round-{r:03d}": history[rounds - 1 - r].oid for r in range(rounds)}


FAULTS = {
    "rate limit": Fault("POST .*/commit/", status=429, headers={"Retry-After": "0"}, times=2),
    "server error": Fault("POST .*/tiny-annotations/commit/", status=500),
    "unavailable while reading": Fault("GET .*/refs", status=503),
    "no repository yet": Fault("POST /api/repos/create", status=502),
    "cut in the middle of a commit": Fault("POST .*/tiny/commit/", cut_after=100),
    "cut in the middle of a large file": Fault("PUT /large-files", cut_after=100),
    "committed, but the answer is lost": Fault("POST .*/tiny-annotations/commit/", lose_answer=True),
    "tagged, but the answer is lost": Fault("POST .*/tiny/tag/", lose_answer=True),
    "tag refused once": Fault("POST .*/tiny-pool/tag/", status=504),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_passes_is_waited_for_and_nothing_is_done_twice(name, hub, hub_client, tmp_path):
    frozen_round(tmp_path, 0)
    frozen_round(tmp_path, 1)
    fault = FAULTS[name]
    hub.faults.append(Fault(**{**vars(fault)}))
    outcome = hub_client(push_patiently, str(tmp_path))
    assert outcome == [0, 1]
    assert hub.faults[0].times == 0
    assert_whole(hub, rounds=2)
    assert LineageFolder(tmp_path).waiting() == []


def push_patiently(output_dir: str) -> list[int]:
    """As the thread of a run does it, opening included."""
    folder = LineageFolder(output_dir)
    before = {frozen.round for frozen in folder.waiting()}
    pusher = RoundPusher(lambda: open_store("me/tiny", create=True), folder, Secrets(), waits=NO_WAIT)
    pusher.notify()
    error = pusher.join()
    if error is not None:
        raise error
    return sorted(before - {frozen.round for frozen in folder.waiting()})


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "hf auth login"), (403, "hf auth login"), (413, "no files of that size"), (400, "refuses")],
)
def test_what_does_not_pass_is_said_at_once(status, says, hub, hub_client, tmp_path):
    frozen_round(tmp_path, 0)
    hub.faults.append(Fault("POST .*/tiny-pool/commit/", status=status, times=None))
    raised = hub_client(push, str(tmp_path))
    assert "LineageError" in raised.kinds and says in raised.text
    assert len(hub.lines("/tiny-pool/commit/")) == 1
    assert [frozen.round for frozen in LineageFolder(tmp_path).waiting()] == [0]


def test_rounds_that_came_while_the_hub_was_away_are_tried_together(tmp_path):
    tries, trying, go_on = [], threading.Event(), threading.Event()

    def nowhere():
        tries.append(1)
        trying.set()
        assert go_on.wait(60)
        raise LineageUnreachableError("away")

    pusher = RoundPusher(nowhere, LineageFolder(tmp_path), Secrets(), waits=(0.0,))
    pusher.notify()
    assert trying.wait(60)
    for _ in range(5):
        pusher.notify()
    go_on.set()
    assert str(pusher.join()) == "away"
    assert len(tries) == 2 * 2  # once and again for the first, once and again for all others


def test_a_hub_that_stays_away_costs_nothing_but_the_push(hub, hub_client, tmp_path):
    frozen_round(tmp_path, 0)
    hub.faults.append(Fault("commit", status=503, times=None))
    raised = hub_client(push_patiently, str(tmp_path))
    assert "LineageUnreachableError" in raised.kinds and "503" in raised.text
    assert len(hub.lines("/tiny-pool/commit/")) == 1 + len(NO_WAIT)
    hub.faults.clear()
    assert hub_client(push, str(tmp_path)) == [0]
    assert_whole(hub)


def test_a_commit_made_by_hand_meanwhile_is_kept(hub, hub_client, tmp_path):
    """The parent is stale at the very moment of the commit: 412, and the next try stands on the new head."""
    frozen_round(tmp_path, 0)
    assert hub_client(push, str(tmp_path)) == [0]
    frozen_round(tmp_path, 1)

    def by_hand() -> None:
        note = {"key": "file", "value": {"path": "NOTES.md", "content": b"by hand"}}
        hub.store.commit(hub.store.repo(*REPOS["pool"]), "main", [note], title="By hand")

    hub.faults.append(Fault("POST .*/tiny-pool/commit/", before=by_hand))
    assert hub_client(push, str(tmp_path)) == [1]
    assert 412 in [seen.status for seen in hub.requests if "/tiny-pool/commit/" in seen.path]
    titles = [commit.title for commit in hub.store.history(hub.store.repo(*REPOS["pool"]), "main")]
    assert titles[:3] == ["Round 1", "By hand", "Round 0"]
    assert hub.store.files(*REPOS["pool"], "round-001")["NOTES.md"] == b"by hand"


def test_two_runs_at_once_with_one_name(hub, hub_client, tmp_path):
    """Both see an empty repository; the second one's commit finds that it is not any more."""
    frozen_round(tmp_path / "first", 0)
    frozen_round(tmp_path / "second", 0)
    others = []

    def overtake() -> None:
        process = subprocess.run(
            [sys.executable, "-m", "hf_active_distill.cli.main", "push", str(tmp_path / "first"), "--to", "me/tiny"],
            env={**hub.environment(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        others.append(process)

    hub.faults.append(Fault("POST .*/tiny-pool/commit/", before=overtake))
    raised = hub_client(push, str(tmp_path / "second"))
    assert others[0].returncode == 0, others[0].stderr
    assert "LineageConflictError" in raised.kinds and "holds the rounds of another run" in raised.text
    assert_whole(hub)
    assert hub_client(push, str(tmp_path / "second"), "me/other") == [0]


def test_two_processes_that_go_on_from_one_round(hub, hub_client, tmp_path):
    frozen_round(tmp_path / "first", 0)
    assert hub_client(push, str(tmp_path / "first")) == [0]
    lineage = LineageFolder(tmp_path / "first").id()
    frozen_round(tmp_path / "first", 1)
    # As restored from round 0 elsewhere: the same lineage, another copy of round 1.
    last = LineageFolder(tmp_path / "first").rounds()[0]
    info = {"lineage": lineage, "round": 0, "frozen": last.id, "journal_id": last.journal_id, "base_model": None}
    LineageFolder(tmp_path / "second").adopt_round(info, target="me/tiny", commits={}, files=[])
    frozen_round(tmp_path / "second", 1)
    assert hub_client(push, str(tmp_path / "first")) == [1]
    raised = hub_client(push, str(tmp_path / "second"))
    assert "LineageConflictError" in raised.kinds and "round-001" in raised.text
    assert_whole(hub, rounds=2)


def test_a_repository_of_something_else_is_left_alone(hub, hub_client, tmp_path):
    repo = hub.store.create("datasets", "me/tiny-annotations", private=False, author="me")
    note = {"key": "file", "value": {"path": "data.csv", "content": b"1,2"}}
    hub.store.commit(repo, "main", [note], title="Data")
    frozen_round(tmp_path, 0)
    raised = hub_client(push, str(tmp_path))
    assert "me/tiny-annotations holds something else than rounds" in raised.text
    assert [commit.title for commit in hub.store.history(repo, "main")][0] == "Data"
    assert hub.lines("/commit/") == []


KILLED_AT = {
    "before the first commit": Fault("POST .*/tiny-pool/commit/", status=500),
    "after the pool's commit, before its tag": Fault("POST .*/tiny-pool/tag/", status=500),
    "in the middle of a large file": Fault("PUT /large-files", status=500, skip=3),
    "after the student's commit, before its tag": Fault("POST .*/tiny/tag/", status=500),
    "in the second round": Fault("POST .*/tiny-annotations/commit/", status=500, skip=1),
}


@pytest.mark.parametrize("place", KILLED_AT)
def test_killed_in_the_middle_of_a_push_and_mended(place, hub, tmp_path):
    frozen_round(tmp_path / "run", 0)
    frozen_round(tmp_path / "run", 1)
    command = [sys.executable, "-m", "hf_active_distill.cli.main", "push", str(tmp_path / "run"), "--to", "me/tiny"]
    env = {**hub.environment(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def kill() -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    hub.faults.append(Fault(**{**vars(KILLED_AT[place]), "before": kill}))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    hub.faults.clear()
    # A round exists when the student has its tag, and not before.
    student = hub.store.refs(hub.store.repo(*REPOS["student"]), "tag")
    assert set(student) == ({"round-000"} if "second" in place else set())
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Pushed to me/tiny: round-00") and "round-001" in done.stdout
    assert_whole(hub, rounds=2)


def push_round_twice(output_dir: str) -> list[dict[str, str]]:
    [frozen] = LineageFolder(output_dir).waiting()
    return [push_round(open_store("me/tiny", create=True), frozen, Secrets()) for _ in range(2)]


def test_a_round_that_was_pushed_and_not_noted_is_found(hub, hub_client, tmp_path):
    frozen_round(tmp_path, 0)
    first, second = hub_client(push_round_twice, str(tmp_path))
    assert first == second
    assert_whole(hub)


def test_an_organisation_that_is_public_by_default_gets_private_repositories(hub, hub_client, tmp_path):
    hub.hub.accounts.private_by_default.clear()
    try:
        frozen_round(tmp_path, 0)
        assert hub_client(push, str(tmp_path), "org/tiny") == [0]
        assert all(repo.private for repo in hub.store.repos()) and len(hub.store.repos()) == 3
    finally:
        hub.hub.accounts.private_by_default.add("org")
    listing = (tmp_path / "lineage/leaves_this_machine.txt").read_text()
    assert "org/tiny-pool (private)" in listing and "rows/round-000.parquet" in listing


def test_the_rounds_of_a_run_stay_together(tmp_path):
    frozen_round(tmp_path / "run", 0)
    assert push(str(tmp_path / "run"), str(tmp_path / "one")) == [0]
    frozen_round(tmp_path / "run", 1)
    with pytest.raises(LineageConflictError, match="Earlier rounds of this run are at"):
        push(str(tmp_path / "run"), str(tmp_path / "two"))
    assert main(["push", str(tmp_path / "run"), "--to", str(tmp_path / "one")]) == 0
