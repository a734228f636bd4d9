"""Each fault as the real client meets it, and what it leaves behind."""

from __future__ import annotations

import hashlib
import threading

import httpx
import pytest

from .faults import Fault
from .test_hub_api import WEIGHTS, api, commit, make


COMMIT = "POST .*/commit/"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, "RepoNotFound", "RepositoryNotFoundError"),
        (403, "GatedRepo", "GatedRepoError"),
        (404, "RevisionNotFound", "RevisionNotFoundError"),
        (404, "EntryNotFound", "EntryNotFoundError"),
        (400, None, "BadRequestError"),
        (403, None, "HfHubHTTPError"),
        (409, None, "HfHubHTTPError"),
        (412, None, "HfHubHTTPError"),
        (413, None, "HfHubHTTPError"),
        (429, None, "HfHubHTTPError"),
        (500, None, "HfHubHTTPError"),
        (503, None, "HfHubHTTPError"),
    ],
)
def test_a_refused_commit_changes_nothing_and_can_be_made_again(hub, hub_client, status, code, kind):
    hub_client(make)
    before = hub.store.files("models", "me/thing")
    hub.faults.append(Fault(COMMIT, status=status, code=code, message="no, not now"))
    refused = hub_client(commit, {"a.txt": b"1"})
    assert kind in refused.kinds and refused.status == status
    assert "no, not now" in refused.text
    assert hub.store.files("models", "me/thing") == before
    hub_client(commit, {"a.txt": b"1"})
    assert hub.store.files("models", "me/thing")["a.txt"] == b"1"


def test_an_upload_that_the_storage_refuses_is_made_again(hub, hub_client):
    hub_client(make)
    hub.faults.append(Fault("PUT /large-files/", status=503))
    hub_client(commit, {"w.safetensors": WEIGHTS})
    assert [seen.status for seen in hub.requests if seen.method == "PUT"] == [503, 200]
    assert hub.store.files("models", "me/thing")["w.safetensors"] == WEIGHTS


def test_a_connection_cut_in_mid_upload_leaves_nothing_and_the_upload_is_made_again(hub, hub_client):
    hub_client(make)
    content = WEIGHTS * 400  # larger than what sockets hold
    kept = []

    def look():
        stored = hub.store.large.path(hashlib.sha256(content).hexdigest())
        kept.extend([*hub.store.large.incoming.iterdir(), *([stored] if stored.exists() else [])])

    hub.faults.extend([Fault("PUT /large-files/", cut_after=100_000), Fault("PUT /large-files/", before=look)])
    hub_client(commit, {"w.safetensors": content})
    assert [seen.status for seen in hub.requests if seen.method == "PUT"] == [None, 200]
    assert kept == []
    assert hub.store.files("models", "me/thing")["w.safetensors"] == content


def test_a_connection_cut_in_a_commit_commits_nothing(hub, hub_client):
    hub_client(make)
    hub.faults.append(Fault(COMMIT, cut_after=1))
    assert hub_client(commit, {"a.txt": b"1"}).status is None
    assert "a.txt" not in hub.store.files("models", "me/thing")


def test_a_lost_answer_is_a_commit_that_was_made(hub, hub_client):
    hub_client(make)
    hub.faults.append(Fault(COMMIT, lose_answer=True))
    assert hub_client(commit, {"a.txt": b"1"}).status is None
    head = hub.store.revision(hub.store.repo("models", "me/thing"), "main").oid
    assert hub_client(commit, {"a.txt": b"1"}) == head  # made again it changes nothing, and gives the first one


def test_rules_hold_as_often_and_from_when_they_say(hub, hub_client):
    hub_client(make)
    hub.faults.append(Fault("GET /api/models/me/thing", status=500, skip=1, times=2))
    answers = [hub_client(api, "repo_info", "me/thing") for _ in range(4)]
    assert [getattr(answer, "status", 200) for answer in answers] == [200, 500, 500, 200]
    hub.faults[:] = [Fault("whoami", status=429, headers={"Retry-After": "7"})]
    told = httpx.get(f"{hub.url}/api/whoami-v2")
    assert told.status_code == 429 and told.headers["Retry-After"] == "7"
    hub.faults[:] = [Fault("/commit/", status=500, times=None)]
    assert [hub_client(commit, {"a.txt": b"1"}).status for _ in range(3)] == [500] * 3


def test_a_request_can_be_held_until_a_test_lets_it_go(hub, hub_client):
    hub_client(make)
    arrived, go = threading.Event(), threading.Event()

    def hold():
        arrived.set()
        go.wait()

    hub.faults.append(Fault(COMMIT, before=hold))
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(hub_client(commit, {"a.txt": b"1"})))
    thread.start()
    assert arrived.wait(30)
    assert "a.txt" not in hub.store.files("models", "me/thing")
    go.set()
    thread.join()
    assert outcome == [hub.store.revision(hub.store.repo("models", "me/thing"), "main").oid]
