"""The server against `huggingface_hub` itself: what a client writes is what a client reads, at every revision."""

from __future__ import annotations

import hashlib
import threading

from .gitobjects import blob_oid
from .server import OTHER_TOKEN, READ_TOKEN


WEIGHTS = bytes(range(256)) * 50


def make(**options):
    from huggingface_hub import HfApi

    return str(HfApi().create_repo("me/thing", **options))


def commit(files, *, deleted=(), repo="me/thing", token=None, **options):
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    operations += [CommitOperationDelete(path) for path in deleted]
    return HfApi(token=token).create_commit(repo, operations, commit_message="a commit", **options).oid


def read(path, revision=None, **options):
    from huggingface_hub import hf_hub_download

    with open(hf_hub_download("me/thing", path, revision=revision, **options), "rb") as file:
        return file.read()


def metadata(path, revision, **options):
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url("me/thing", path, revision=revision), **options)
    return found.commit_hash, found.etag, found.size


def api(method, *args, **options):
    from huggingface_hub import HfApi

    answer = getattr(HfApi(token=options.pop("token", None)), method)(*args, **options)
    return list(answer) if hasattr(answer, "__next__") else answer


def test_a_commit_holds_regular_and_large_files_together(hub, hub_client):
    hub_client(make)
    oid = hub_client(commit, {"notes.txt": b"hello\n", "model.safetensors": WEIGHTS, "deep/er/a b.json": b"{}"})
    assert hub.lines() == [
        "POST /api/repos/create",
        "POST /api/models/me/thing/preupload/main",
        "POST /me/thing.git/info/lfs/objects/batch",
        f"PUT /large-files/{hashlib.sha256(WEIGHTS).hexdigest()}",
        "POST /me/thing.git/info/lfs/verify",
        "POST /api/models/me/thing/commit/main",
    ]
    assert [line["key"] for line in hub.requests[-1].lines] == ["header", "file", "lfsFile", "file"]
    assert not hub.requests[3].authorized and all(seen.authorized for seen in hub.requests if seen.method == "POST")
    assert oid == hub.store.revision(hub.store.repo("models", "me/thing"), "main").oid
    for path, content in (("notes.txt", b"hello\n"), ("model.safetensors", WEIGHTS), ("deep/er/a b.json", b"{}")):
        assert hub_client(read, path) == content


def test_what_was_uploaded_once_is_not_uploaded_again(hub, hub_client):
    hub_client(make)
    first = hub_client(commit, {"a.txt": b"a", "model.safetensors": WEIGHTS})
    hub.requests.clear()
    assert hub_client(commit, {"copy.safetensors": WEIGHTS}) != first
    assert not hub.lines("PUT")
    before = hub_client(api, "repo_info", "me/thing").sha
    assert hub_client(commit, {"a.txt": b"a", "model.safetensors": WEIGHTS}) == before
    assert len(hub.lines("/commit/")) == 1


def test_a_tag_and_an_old_commit_give_their_own_content(hub, hub_client):
    hub_client(make)
    commits = {}
    for word in ("one", "two"):
        commits[word] = hub_client(commit, {"a.txt": word.encode(), "w.safetensors": word.encode() * 9})
        hub_client(api, "create_tag", "me/thing", tag=f"v/{word}", revision=commits[word])
    for word, oid in commits.items():
        for revision in (oid, f"v/{word}"):
            assert hub_client(read, "a.txt", revision) == word.encode()
            assert hub_client(read, "w.safetensors", revision) == word.encode() * 9
            assert hub_client(metadata, "a.txt", revision) == (oid, blob_oid(word.encode()), 3)
            etag = hashlib.sha256(word.encode() * 9).hexdigest()
            assert hub_client(metadata, "w.safetensors", revision) == (oid, etag, 27)
    assert hub_client(read, "a.txt") == b"two"


def test_a_stale_parent_is_refused_and_nothing_changes(hub, hub_client):
    hub_client(make)
    first = hub_client(commit, {"a.txt": b"1"})
    second = hub_client(commit, {"a.txt": b"2"}, parent_commit=first)
    stale = hub_client(commit, {"a.txt": b"3"}, parent_commit=first)
    assert stale.status == 412 and "A commit has happened since" in stale.text
    assert hub_client(api, "repo_info", "me/thing").sha == second
    assert hub_client(read, "a.txt") == b"2"
    assert hub_client(commit, {"a.txt": b"3"}, parent_commit=second[:7]) != second


def test_a_commit_in_between_makes_the_parent_stale(hub, hub_client):
    from .faults import Fault

    hub_client(make)
    head = hub_client(commit, {"a.txt": b"1"})
    repo = hub.store.repo("models", "me/thing")
    addition = {"key": "file", "value": {"path": "b.txt", "content": b"theirs"}}
    hub.faults.append(Fault("POST .*/commit/", before=lambda: hub.store.commit(repo, "main", [addition], title="t")))
    assert hub_client(commit, {"a.txt": b"2"}, parent_commit=head).status == 412
    assert hub.store.files("models", "me/thing")["b.txt"] == b"theirs"


def test_files_and_folders_are_deleted(hub, hub_client):
    hub_client(make)
    hub_client(commit, {"a.txt": b"a", "old/b.txt": b"b", "old/deep/c.txt": b"c", "older.txt": b"d"})
    hub_client(commit, {"new.txt": b"e"}, deleted=["a.txt", "old/"])
    assert set(hub.store.files("models", "me/thing")) == {".gitattributes", "older.txt", "new.txt"}
    missing = hub_client(commit, {}, deleted=["a.txt"])
    assert "EntryNotFoundError" in missing.kinds and "doesn't exist" in missing.text


def test_concurrent_commits_all_arrive(hub, hub_client):
    hub_client(make)
    repo = hub.store.repo("models", "me/thing")

    def add(number):
        content = {"path": f"{number}.txt", "content": b"%d" % number}
        hub.store.commit(repo, "main", [{"key": "file", "value": content}], title=f"{number}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    hub_client(commit, {"mine.txt": b"mine"})
    for thread in threads:
        thread.join()
    assert set(hub.store.files("models", "me/thing")) >= {f"{number}.txt" for number in range(8)} | {"mine.txt"}
    assert len(hub_client(api, "list_repo_commits", "me/thing")) == 10


def test_of_two_commits_on_one_parent_one_is_made(hub, hub_client):
    from .errors import HubError

    hub_client(make)
    repo = hub.store.repo("models", "me/thing")
    head = hub.store.revision(repo, "main").oid
    outcomes = []

    def add(number):
        operation = {"key": "file", "value": {"path": "a.txt", "content": b"%d" % number}}
        try:
            outcomes.append(hub.store.commit(repo, "main", [operation], title="t", parent=head).oid)
        except HubError as error:
            outcomes.append(error.status)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(412) == 7
    assert hub.store.revision(repo, "main").oid in outcomes


def test_tags_and_branches(hub, hub_client):
    hub_client(make)
    first = hub_client(commit, {"a.txt": b"1"})
    hub_client(api, "create_branch", "me/thing", branch="side", revision=first)
    second = hub_client(commit, {"a.txt": b"2"}, revision="side")
    hub_client(api, "create_tag", "me/thing", tag="v1", revision="side", tag_message="the first")
    again = hub_client(api, "create_tag", "me/thing", tag="v1")
    assert again.status == 409
    hub_client(api, "create_tag", "me/thing", tag="v1", exist_ok=True)
    refs = hub_client(api, "list_repo_refs", "me/thing")
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "side": second}
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("v1", "refs/tags/v1", second)]
    hub_client(api, "delete_tag", "me/thing", tag="v1")
    hub_client(api, "delete_branch", "me/thing", branch="side")
    assert "RevisionNotFoundError" in hub_client(read, "a.txt", "v1").kinds
    assert "RevisionNotFoundError" in hub_client(api, "create_tag", "me/thing", tag="v2", revision="nowhere").kinds
    assert hub_client(read, "a.txt", second) == b"2"  # a commit outlives its names


def test_listings_come_in_pages(hub, hub_client):
    hub_client(make)
    hub_client(commit, {f"folder/{number:02}.txt": b"%d" % number for number in range(7)} | {"a.txt": b"a"})
    last = hub_client(commit, {"folder/03.txt": b"new", "w.safetensors": WEIGHTS})
    all_at_once = [
        hub_client(api, "list_repo_commits", "me/thing"),
        hub_client(api, "list_repo_tree", "me/thing", recursive=True, expand=True),
    ]
    asked = hub.requests[-1].path
    hub.hub.page_size = 2
    in_pages = [
        hub_client(api, "list_repo_commits", "me/thing"),
        hub_client(api, "list_repo_tree", "me/thing", recursive=True, expand=True),
    ]
    assert in_pages == all_at_once
    assert len(hub.lines(asked)) == 1 + 6  # 11 entries, 2 a page
    assert [entry.title for entry in in_pages[0]] == ["a commit", "a commit", "initial commit"]
    entries = {entry.path: entry for entry in in_pages[1]}
    assert entries["folder"].last_commit.oid == entries["folder/03.txt"].last_commit.oid == last
    assert entries["folder/02.txt"].last_commit.oid != last
    assert entries["w.safetensors"].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    top = hub_client(api, "list_repo_tree", "me/thing")
    assert [entry.path for entry in top] == [".gitattributes", "a.txt", "folder", "w.safetensors"]
    inside = hub_client(api, "list_repo_tree", "me/thing", "folder")
    assert len(inside) == 7
    assert "EntryNotFoundError" in hub_client(api, "list_repo_tree", "me/thing", "nowhere").kinds


def test_paths_info_skips_what_is_not_there(hub, hub_client):
    hub_client(make, repo_type="dataset")
    oid = hub_client(commit, {"data/a.parquet": WEIGHTS}, repo_type="dataset")
    paths = ["data", "data/a.parquet", "missing"]
    found = hub_client(api, "get_paths_info", "me/thing", paths, repo_type="dataset", expand=True)
    assert [entry.path for entry in found] == ["data", "data/a.parquet"]
    assert found[1].size == len(WEIGHTS) and found[1].last_commit.oid == oid


def test_repositories_are_made_once_and_deleted(hub, hub_client):
    assert hub_client(make).endswith("/me/thing")
    assert hub_client(make).status == 409
    assert hub_client(make, exist_ok=True).endswith("/me/thing")
    assert hub_client(make, repo_type="dataset").endswith("/datasets/me/thing")
    assert [info.id for info in hub_client(api, "list_models", author="me")] == ["me/thing"]
    hub_client(api, "delete_repo", "me/thing")
    assert "RepositoryNotFoundError" in hub_client(api, "repo_info", "me/thing").kinds
    assert hub_client(api, "repo_info", "me/thing", repo_type="dataset").id == "me/thing"


def test_private_repositories_are_seen_by_their_owners_alone(hub, hub_client):
    hub_client(make, private=True)
    hub_client(commit, {"a.txt": b"mine"})
    assert hub_client(api, "repo_info", "me/thing").private
    for token, status in ((OTHER_TOKEN, 404), (False, 401)):
        refused = hub_client(api, "repo_info", "me/thing", token=token)
        assert "RepositoryNotFoundError" in refused.kinds and refused.status == status
        assert "RepositoryNotFoundError" in hub_client(metadata, "a.txt", "main", token=token).kinds
    hub_client(api, "update_repo_settings", "me/thing", private=False)
    assert not hub_client(api, "repo_info", "me/thing", token=False).private
    # An organisation whose repositories are private unless something else is said.
    hub_client(api, "create_repo", "org/thing")
    assert hub_client(api, "repo_info", "org/thing").private
    hub_client(api, "create_repo", "org/open", private=False)
    assert not hub_client(api, "repo_info", "org/open").private


def test_tokens_allow_what_they_are_for(hub, hub_client):
    assert hub_client(api, "whoami")["name"] == "me"
    assert [org["name"] for org in hub_client(api, "whoami")["orgs"]] == ["org"]
    hub_client(make)
    assert hub_client(api, "whoami", token="hf_nobody").status == 401
    assert hub_client(api, "create_repo", "other/thing").status == 403
    assert hub_client(commit, {"a.txt": b"1"}, token=OTHER_TOKEN).status == 403
    assert hub_client(commit, {"a.txt": b"1"}, token=READ_TOKEN).status == 403
    assert hub_client(commit, {"a.txt": b"1"}, token=False).status == 401


def test_missing_things_are_told_apart(hub, hub_client):
    hub_client(make)
    assert "EntryNotFoundError" in hub_client(read, "missing.txt").kinds
    assert "RevisionNotFoundError" in hub_client(read, "missing.txt", "nowhere").kinds
    assert "RepositoryNotFoundError" in hub_client(commit, {"a.txt": b"1"}, repo="me/missing").kinds
    assert "RevisionNotFoundError" in hub_client(commit, {"a.txt": b"1"}, revision="nowhere").kinds


def test_a_card_with_bad_metadata_is_refused_before_anything_is_uploaded(hub, hub_client):
    hub_client(make)
    good = b"---\nlicense: mit\ntags: [a]\nbase_model: me/other\n---\n# Hello\n"
    hub_client(commit, {"README.md": good})
    assert hub_client(api, "model_info", "me/thing").card_data.license == "mit"
    bad = (b"---\nlicense: [\n---\n", b"---\nlicense: mine\n---\n", b"---\nbase_model: /home/me\n---\n")
    for content in (*bad, b"---\nmodel-index:\n- name: x\n  results: [{task: {}}]\n---\n"):
        hub.requests.clear()
        refused = hub_client(commit, {"README.md": content, "w.safetensors": WEIGHTS})
        assert "ValueError" in refused.kinds and "Invalid metadata in README.md" in refused.text
        assert hub.lines() == ["POST /api/validate-yaml"]
    bad = b"---\nconfigs:\n- data_files: x\n---\n"
    hub_client(make, repo_type="dataset")
    assert "config_name" in hub_client(commit, {"README.md": bad}, repo_type="dataset").text


def upload(folder, **options):
    from huggingface_hub import HfApi

    return HfApi().upload_folder(repo_id="me/thing", folder_path=folder, **options).oid


def snapshot(revision):
    from pathlib import Path

    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download("me/thing", revision=revision))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_goes_up_and_comes_down_at_its_revision(hub, hub_client, tmp_path):
    hub_client(make)
    (tmp_path / "deep").mkdir()
    files = {"a.txt": b"a", "deep/b.json": b"{}", "w.safetensors": WEIGHTS}
    for path, content in files.items():
        (tmp_path / path).write_bytes(content)
    first = hub_client(upload, tmp_path)
    (tmp_path / "a.txt").write_bytes(b"new")
    hub_client(upload, tmp_path, delete_patterns="deep/*", ignore_patterns="deep/*")
    old, new = (hub_client(snapshot, revision) for revision in (first, "main"))
    assert {path: old[path] for path in files} == files
    assert new["a.txt"] == b"new" and "deep/b.json" not in new and new["w.safetensors"] == WEIGHTS


def resume(path):
    """Asks for the second half of a large file, as an interrupted download does."""
    import io

    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.file_download import http_get

    url = get_hf_file_metadata(hf_hub_url("me/thing", path)).location
    file = io.BytesIO(WEIGHTS[:5000])
    file.seek(5000)
    http_get(url, file, resume_size=5000, expected_size=len(WEIGHTS))
    return file.getvalue()


def test_a_download_goes_on_where_it_stopped(hub, hub_client):
    hub_client(make)
    hub_client(commit, {"w.safetensors": WEIGHTS})
    assert hub_client(resume, "w.safetensors") == WEIGHTS
    assert hub.requests[-1].status == 206


def test_files_over_the_threshold_are_large_whatever_their_name(hub, hub_client):
    hub_client(make)
    content = b"x" * (10 * 1024 * 1024)
    hub_client(commit, {"big.txt": content, "small.txt": content[:-1]})
    entries = hub.store.revision(hub.store.repo("models", "me/thing"), "main").tree
    assert entries["big.txt"].sha256 and not entries["small.txt"].sha256
    assert hub_client(read, "big.txt") == content and hub_client(read, "small.txt") == content[:-1]
