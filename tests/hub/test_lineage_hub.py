"""Rounds on a Hub: pushed, loaded at a tag, restored; two runs with one name; a Hub that fails."""

from __future__ import annotations

import io
import json
from collections import Counter

import numpy as np
import pyarrow.parquet
import pytest
from lineage_helpers import hub_restored_run, hub_run


REPOS = {"student": ("models", "me/tiny"), "pool": ("datasets", "me/tiny-pool")}
REPOS["annotations"] = ("datasets", "me/tiny-annotations")


def round_json(hub, part: str, revision: str) -> dict:
    return json.loads(hub.store.files(*REPOS[part], revision)["round.json"])


def load_table(name: str, table: str, revision: str) -> list[dict]:
    from datasets import load_dataset

    return load_dataset(name, table, revision=revision, split="train").to_list()


def test_a_run_becomes_three_repositories_with_a_tag_a_round(hub, hub_client, tmp_path):
    done = hub_client(hub_run, str(tmp_path / "run"), "me/tiny")
    assert done["error"] is None and done["stop_reason"] == "rounds"
    for part, (kind, name) in REPOS.items():
        repo = hub.store.repo(kind, name)
        assert repo.private
        tags = hub.store.refs(repo, "tag")
        assert sorted(tags) == ["round-000", "round-001", "round-002"]
        # One commit a round, and the one that made the repository.
        assert len(hub.store.history(repo, "main")) == 4
        assert hub.store.revision(repo, "main").oid == tags["round-002"]
        for tag in tags:
            commits = round_json(hub, part, tag)["commits"]
            before = {"pool": [], "annotations": ["pool"], "student": ["pool", "annotations"]}[part]
            assert commits == {other: hub.store.refs(hub.store.repo(*REPOS[other]), "tag")[tag] for other in before}
    # A round uploads what is new.
    shards = [f"annotations/round-{r:03d}.parquet" for r in range(3)]
    for r in range(3):
        files = hub.store.files(*REPOS["annotations"], f"round-{r:03d}")
        assert [path for path in files if path.startswith("annotations/")] == shards[: r + 1]
    uploaded = [line for seen in hub.requests if "/tiny-annotations/commit/" in seen.path for line in seen.lines]
    paths = [line["value"]["path"] for line in uploaded if line["key"] == "lfsFile"]
    assert sorted(p for p in paths if p.startswith("annotations/")) == shards

    annotations = hub_client(load_table, "me/tiny-annotations", "annotations", "round-001")
    assert [row["row_id"] for row in annotations] == [
        annotation["row_id"] for record in done["rounds"][:2] for annotation in record["annotations"]
    ]
    scores = hub_client(load_table, "me/tiny-pool", "scores", "round-000")
    assert {row["row_id"]: row["score"] for row in scores} == done["rounds"][0]["scores"]
    assert len(hub_client(load_table, "me/tiny-pool", "rows", "round-002")) == 40

    for r in (0, 1):
        again = hub_client(hub_restored_run, str(tmp_path / f"from-{r}"), "me/tiny", f"round-{r:03d}")
        assert again["rounds"] == done["rounds"]
        assert not Counter(again["requests"]) - Counter(done["requests"])
        for name, expected in done["weights"].items():
            assert np.array_equal(expected, again["weights"][name]), name


def everything(hub) -> list[tuple[str, str]]:
    """(place, text) of all that a Hub holds, at every commit, and of every request's body."""
    found = []
    for kind, name in REPOS.values():
        for commit in hub.store.history(hub.store.repo(kind, name), "main"):
            for path, content in hub.store.files(kind, name, commit.oid).items():
                found.append((f"{name}/{path}", content.decode("utf-8", "replace")))
                if path.endswith(".parquet"):
                    table = pyarrow.parquet.read_table(io.BytesIO(content))
                    found.append((f"{name}/{path}", json.dumps(table.to_pylist(), ensure_ascii=False)))
    found += [(seen.line, seen.body.decode("utf-8", "replace")) for seen in hub.requests]
    return found


def test_nothing_private_is_pushed(hub, hub_client, tmp_path):
    secret = "teacher-password-9317"
    done = hub_client(hub_run, str(tmp_path / "run"), "me/tiny", args={"teacher_token": secret, "num_rounds": 2})
    assert done["error"] is None
    texts = everything(hub)
    assert len(texts) > 40
    for forbidden in (secret, "hf_local_token_of_me", str(tmp_path), "/run/", "training_args.bin", "optimizer.pt"):
        assert [place for place, text in texts if forbidden in text] == []


@pytest.mark.parametrize("where", ["token", "path"])
def test_a_row_with_a_secret_is_not_pushed_and_the_run_goes_on(where, hub, hub_client, tmp_path):
    text = {"token": "my key is hf_abcdefghijklmnopqrstuvwxyz012345", "path": f"it lies in {tmp_path}/run"}[where]
    done = hub_client(hub_run_with_row, str(tmp_path / "run"), text)
    assert done["stop_reason"] == "rounds"
    assert done["error"].startswith("LeakError: rows/round-000.parquet, column 'prompt' of row")
    assert "hf_abcdef" not in done["error"]
    assert all(set(hub.store.files(kind, name)) <= {".gitattributes"} for kind, name in REPOS.values())


def hub_run_with_row(output_dir: str, text: str) -> dict:
    import tiny_run

    before = tiny_run.POOL
    tiny_run.POOL = [*before[:20], {"prompt": f"{text}: how much is 3 and 4?"}]
    try:
        return hub_run(output_dir, "me/tiny", args={"num_rounds": 1})
    finally:
        tiny_run.POOL = before


def test_a_second_run_with_the_name_overwrites_nothing(hub, hub_client, tmp_path):
    first = hub_client(hub_run, str(tmp_path / "first"), "me/tiny", args={"num_rounds": 1})
    before = {part: hub.store.revision(hub.store.repo(*repo), "main").oid for part, repo in REPOS.items()}
    second = hub_client(hub_run, str(tmp_path / "second"), "me/tiny", args={"num_rounds": 2, "seed": 8})
    assert first["error"] is None and second["stop_reason"] == "rounds"
    assert second["error"].startswith("LineageConflictError: me/tiny-pool holds the rounds of another run")
    assert before == {part: hub.store.revision(hub.store.repo(*repo), "main").oid for part, repo in REPOS.items()}
    assert hub_client(push_elsewhere, str(tmp_path / "second"), "me/other") == [0, 1]
    assert sorted(hub.store.refs(hub.store.repo("models", "me/other"), "tag")) == ["round-000", "round-001"]


def push_elsewhere(output_dir: str, name: str) -> list[int]:
    from hf_active_distill.hub import LineageFolder, Secrets, open_store, push_waiting

    return push_waiting(open_store(name, create=True), LineageFolder(output_dir), Secrets(), wait=lambda s: False)
