"""What the server has said is kept: over an end, and over a kill in the middle of many commits."""

from __future__ import annotations

import threading

import httpx

from .server import HubProcess, HubServer


COMMIT = '{"key": "header", "value": {"summary": "s"}}\n{"key": "file", "value": {"path": "%s", "content": "%s"}}\n'


def ask(method, url, **options):
    return httpx.request(method, url, headers={"Authorization": "Bearer hf_anything"}, **options)


def test_a_killed_server_keeps_every_commit_that_it_has_confirmed(tmp_path):
    confirmed = []
    with HubProcess(tmp_path) as hub:
        assert ask("POST", f"{hub.url}/api/repos/create", json={"name": "thing"}).status_code == 200

        def write():
            try:
                while True:
                    number = len(confirmed)
                    body = COMMIT % (f"{number}.txt", f"content {number}")
                    answer = ask("POST", f"{hub.url}/api/models/me/thing/commit/main", content=body)
                    confirmed.append(answer.json()["commitOid"])
                    enough.set() if number == 5 else None
            except httpx.HTTPError:
                pass

        enough = threading.Event()
        writer = threading.Thread(target=write)
        writer.start()
        assert enough.wait(60)
        hub.kill()
        writer.join()
    with HubProcess(tmp_path) as hub:
        history = [commit["id"] for commit in ask("GET", f"{hub.url}/api/models/me/thing/commits/main").json()]
        assert history[-1 - len(confirmed) : -1] == confirmed[::-1]  # the last one is the first commit
        assert len(history) <= len(confirmed) + 2  # one may have been made that nobody was told of
        for number, oid in enumerate(confirmed):
            answer = ask("GET", f"{hub.url}/me/thing/resolve/{oid}/{number}.txt")
            assert answer.text == f"content {number}" and answer.headers["X-Repo-Commit"] == oid
            assert ask("GET", f"{hub.url}/me/thing/resolve/{oid}/{number + 1}.txt").status_code == 404


def test_a_server_that_ended_goes_on_where_it_was(tmp_path):
    operation = {"key": "file", "value": {"path": "a.txt", "content": b"a"}}
    with HubServer(tmp_path) as hub:
        repo = hub.store.create("datasets", "me/rows", private=True, author="me")
        commit = hub.store.commit(repo, "main", [operation], title="t")
        hub.store.add_ref(repo, "tag", "round-000", commit.oid)
    (hub.store.large.incoming / "half").write_bytes(b"an upload that a kill interrupted")
    with HubServer(tmp_path) as hub:
        repo = hub.store.repo("datasets", "me/rows")
        assert repo.private and hub.store.refs(repo, "tag") == {"round-000": commit.oid}
        assert hub.store.files("datasets", "me/rows", "round-000")["a.txt"] == b"a"
        assert not list(hub.store.large.incoming.iterdir())


def test_links_and_hashes_are_checked(tmp_path):
    with HubServer(tmp_path) as hub:
        repo = hub.store.create("models", "me/thing", private=False, author="me")
        link = f"{hub.url}/large-files/{'0' * 64}?repo=models%2Fme%2Fthing&signature="
        assert httpx.put(link + "guessed", content=b"x").status_code == 403
        assert httpx.put(link + hub.hub.signature, content=b"x").status_code == 400
        assert hub.store.has_large(repo, "0" * 64) is None
        assert httpx.get(f"{hub.url}/api/models/me/thing/commits/%2e%2e").headers["X-Error-Code"] == "RevisionNotFound"
