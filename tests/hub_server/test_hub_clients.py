"""The server against `datasets` and `transformers`: what was pushed at a tag is read at it, by the known requests."""

from __future__ import annotations

import re

from helpers_models import tiny_model, tiny_tokenizer

from .faults import Fault


def push_dataset(values, tag, config="default"):
    from datasets import Dataset
    from huggingface_hub import HfApi

    made = Dataset.from_dict({"text": values}).push_to_hub("me/rows", config)
    HfApi().create_tag("me/rows", tag=tag, revision=made.oid, repo_type="dataset")
    return made.oid


def load(revision, config="default", **options):
    from datasets import load_dataset

    return [row["text"] for row in load_dataset("me/rows", config, split="train", revision=revision, **options)]


def test_a_data_set_is_read_as_it_was_at_each_tag(hub, hub_client):
    first = hub_client(push_dataset, ["a", "b"], "round-000")
    seen = hub.lines()
    # The order that is known of `Dataset.push_to_hub`: the shard first, then what is there, the card and one commit.
    order = ["/api/repos/create", "/preupload/main", "objects/batch", "PUT /large-files/", "lfs/verify"]
    order += ["GET /api/datasets/me/rows/tree/", "/api/validate-yaml", "/preupload/main", "/commit/main", "/tag/"]
    rest = iter(seen)
    assert all(any(part in line for line in rest) for part in order), seen
    [commit] = [request for request in hub.requests if "/commit/" in request.path]
    header, *files = commit.lines
    assert header["value"]["parentCommit"] == hub.store.history(hub.store.repo("datasets", "me/rows"), first)[1].oid
    assert {file["value"]["path"]: file["key"] for file in files} == {
        "README.md": "file",
        "data/train-00000-of-00001.parquet": "lfsFile",
    }

    hub_client(push_dataset, ["c"], "round-001")
    hub_client(push_dataset, ["x", "y", "z"], "round-002", "other")
    assert hub_client(load, "round-000") == hub_client(load, first) == ["a", "b"]
    assert hub_client(load, "round-001") == hub_client(load, "round-002") == ["c"]
    assert hub_client(load, "round-002", "other") == ["x", "y", "z"]
    assert "ValueError" in hub_client(load, "round-001", "other").kinds
    assert hub_client(load, "round-000", streaming=True) == ["a", "b"]


def push_rows(values):
    from datasets import Dataset

    return Dataset.from_dict({"text": values}).push_to_hub("me/rows").oid


def test_a_data_set_is_not_pushed_over_what_another_writer_did_meanwhile(hub, hub_client):
    hub_client(push_dataset, ["a"], "round-000")

    def write():
        operation = {"key": "file", "value": {"path": "theirs.txt", "content": b"theirs"}}
        hub.store.commit(hub.store.repo("datasets", "me/rows"), "main", [operation], title="theirs")

    hub.faults.append(Fault("POST .*/commit/", before=write))
    assert hub_client(push_rows, ["b"]).status == 412
    assert hub_client(load, hub_client(push_rows, ["b"])) == ["b"]
    assert "theirs.txt" in hub.store.files("datasets", "me/rows")


def push_model(folder, scale, tag):
    from huggingface_hub import HfApi
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder)
    model.lm_head.weight.data.fill_(scale)
    model.push_to_hub("me/student")
    AutoTokenizer.from_pretrained(folder).push_to_hub("me/student")
    HfApi().create_tag("me/student", tag=tag)


def load_model(revision):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained("me/student", revision=revision)
    words = len(AutoTokenizer.from_pretrained("me/student", revision=revision))
    return model.lm_head.weight.mean().item(), words


def test_a_model_is_read_as_it_was_at_each_tag(hub, hub_client, tmp_path):
    tokenizer = tiny_tokenizer()
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    hub_client(push_model, tmp_path, 0.5, "round-000")
    hub_client(push_model, tmp_path, 0.25, "round-001")
    assert hub_client(load_model, "round-000") == (0.5, len(tokenizer))
    hub.requests.clear()
    assert hub_client(load_model, "round-001") == (0.25, len(tokenizer))
    # HEAD before GET; the token does not follow a large file to its storage.
    lines = hub.lines()
    large = re.compile("/me/student/resolve/[^/]+/model.safetensors")
    [head, *_] = [index for index, line in enumerate(lines) if line.startswith("HEAD") and large.search(line)]
    [got] = [index for index, line in enumerate(lines) if line.startswith("GET /large-files/")]
    assert head < got and not hub.requests[got].authorized and hub.requests[head].authorized
    hub.requests.clear()
    first = hub.store.refs(hub.store.repo("models", "me/student"), "tag")["round-000"]
    assert hub_client(load_model, first) == (0.5, len(tokenizer))
    assert not hub.lines("large-files"), "the content is in the cache under its ETag"
