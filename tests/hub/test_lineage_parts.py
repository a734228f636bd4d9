"""What a lineage stands on: tables, training state, the search for secrets, and the store in a folder."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import load_dataset
from frozen_rounds import ROWS, frozen_round, record
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, LeakError, LineageConflictError, LineageError
from hf_active_distill.hub import LineageFolder, Secrets, open_store, push_waiting, shards
from hf_active_distill.hub.layout import Changes, parse_tag, repo_id
from hf_active_distill.hub.leaks import refuse_leaks
from hf_active_distill.hub.local_store import LocalStore
from hf_active_distill.hub.training_state import random_state, save_training_state, write_pickles
from hf_active_distill.records import Annotation, Explanation, PoolRow, StepVerdict, Usage


# ---------------------------------------------------------------- tables

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": TEXT}), min_size=1, max_size=3)
MAYBE = st.none() | TEXT
NUMBER = st.floats(allow_nan=False)
VERDICTS = st.builds(StepVerdict, st.integers(0, 9), TEXT, st.none() | st.booleans(), MAYBE, TEXT)
POOL_ROWS = st.builds(PoolRow, TEXT, TEXT | MESSAGES, MAYBE, st.dictionaries(TEXT, MAYBE | st.integers()))
ANNOTATIONS = st.builds(
    Annotation,
    row_id=TEXT,
    kind=TEXT,
    status=st.sampled_from(["ok", "failed"]),
    prompt=TEXT | MESSAGES,
    reason=MAYBE,
    steps=st.lists(TEXT, max_size=2),
    answer=MAYBE,
    completion=MAYBE,
    thinking=MAYBE,
    student=st.none() | st.builds(Explanation, row_id=TEXT, text=TEXT, steps=st.lists(TEXT, max_size=2), answer=MAYBE),
    verdicts=st.lists(
        st.builds(StepVerdict, st.integers(0, 9), TEXT, st.none() | st.booleans(), MAYBE, TEXT), max_size=2
    ),
    first_rejected=st.none() | st.integers(0, 9),
    usage=st.builds(Usage, *[st.integers(0, 2**40)] * 5, st.booleans()),
    cost=st.none() | NUMBER,
    labels=st.none() | st.lists(TEXT, max_size=2),
    distribution=st.none() | st.dictionaries(TEXT, NUMBER, max_size=2),
    confidence=st.none() | NUMBER,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(ANNOTATIONS, max_size=4))
def test_annotations_come_back_as_they_were(tmp_path_factory, annotations):
    wide = any(not isinstance(annotation.prompt, str) for annotation in annotations)
    path = tmp_path_factory.mktemp("table") / "annotations/round-000.parquet"
    rows = [shards.lineage_annotation_row(annotation, wide) for annotation in annotations]
    shards.write_table(path, rows, shards.annotations_features(wide))
    assert [shards.lineage_annotation_from(row) for row in shards.read_table([path])] == annotations


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.builds(PoolRow, TEXT, TEXT | MESSAGES, MAYBE, st.dictionaries(TEXT, MAYBE | st.integers())), max_size=4
    )
)
def test_pool_rows_come_back_as_they_were(tmp_path_factory, rows):
    wide = shards.is_conversational(rows)
    path = tmp_path_factory.mktemp("table") / "rows.parquet"
    shards.write_table(path, [shards.pool_row(row, wide) for row in rows], shards.rows_features(wide))
    assert [shards.pool_row_from(row) for row in shards.read_table([path])] == rows


def test_half_a_character_is_written_as_an_escape(tmp_path):
    shards.write_table(
        tmp_path / "t", [shards.pool_row(PoolRow("1", "half \ud83d"), False)], shards.rows_features(False)
    )
    assert shards.read_table([tmp_path / "t"])[0]["prompt"] == "half \\ud83d"


# ---------------------------------------------------------------- training state

OPTIMIZERS = {
    "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.1, betas=(0.8, 0.9)),
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
    "adafactor": lambda weights: torch.optim.Adafactor(weights, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimiser_schedule_and_random_state_come_back(name, tmp_path):
    weights = [torch.nn.Parameter(torch.randn(3, 2)), torch.nn.Parameter(torch.randn(2))]
    optimizer = OPTIMIZERS[name](weights)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 5)
    for _ in range(3):
        sum((weight**2).sum() for weight in weights).backward()
        optimizer.step()
        scheduler.step()
    random.gauss(0, 1), np.random.standard_normal()  # both keep a second value for the next call
    state = random_state()
    save_training_state(
        tmp_path / "state", optimizer=optimizer.state_dict(), scheduler=scheduler.state_dict(), random_states=[state]
    )
    expected = random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist()
    assert {path.suffix for path in (tmp_path / "state").iterdir()} == {".json", ".safetensors"}
    write_pickles(tmp_path / "state", tmp_path)
    # As `Trainer` reads them: nothing but data.
    found = torch.load(tmp_path / "optimizer.pt", weights_only=True)
    assert str(found) == str(optimizer.state_dict())
    assert str(torch.load(tmp_path / "scheduler.pt", weights_only=True)) == str(scheduler.state_dict())
    with torch.serialization.safe_globals(_numpy_types()):
        generators = torch.load(tmp_path / "rng_state.pth", weights_only=True)
    random.setstate(generators["python"])
    np.random.set_state(generators["numpy"])
    torch.random.set_rng_state(generators["cpu"])
    assert expected == (random.gauss(0, 1), np.random.standard_normal(), torch.rand(2).tolist())


def _numpy_types() -> list:
    core = np._core if hasattr(np, "_core") else np.core
    return [core.multiarray._reconstruct, np.ndarray, np.dtype, type(np.dtype(np.uint32))]


def test_every_process_has_its_random_state_and_a_fresh_optimiser_has_no_moments(tmp_path):
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].sum().backward()
    optimizer.step()
    parts = {"optimizer": optimizer.state_dict(), "scheduler": {"last_epoch": 1}, "fresh_optimizer": True}
    save_training_state(tmp_path / "state", random_states=[random_state(), random_state()], **parts)
    write_pickles(tmp_path / "state", tmp_path)
    assert sorted(path.name for path in tmp_path.glob("rng*")) == ["rng_state_0.pth", "rng_state_1.pth"]
    assert torch.load(tmp_path / "optimizer.pt", weights_only=True)["state"] == {}


def test_a_state_that_only_a_pickle_could_hold_is_refused(tmp_path):
    with pytest.raises(LineageError, match="holds Odd, which neither JSON nor safetensors") as error:
        save_training_state(tmp_path, optimizer={"state": {}}, scheduler={"odd": Odd()}, random_states=[])
    assert "round_start='restart'" in str(error.value)
    with pytest.raises(LineageError, match="no optimiser state"):
        write_pickles(tmp_path / "none", tmp_path)


class Odd:
    """Nothing that JSON knows."""


# ---------------------------------------------------------------- secrets

MINE = Secrets(("s3cretword", "dummy"), ("/home/ann/out", "/tmp"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("nothing here", None),
        ("a dummy key, which is a word", None),
        ("my s3cretword", "a secret of this machine"),
        ("see /home/ann/out/journal.sqlite", "a path of this machine (/home/ann/out)"),
        ("/home/ann/outing is another", None),
        ("in /tmp/x", None),
        ("hf_" + "a" * 34, "something that looks like a Hugging Face token"),
        ("hf_trainer is a name", None),
        ("key sk-proj-" + "b1" * 14, "something that looks like an API key"),
        ("https://ann:pw@example.org/x", "an address with credentials"),
        ("https://example.org:8080/a@b", None),
        ("mail ann@example.org: token=5, bearer bonds", None),
    ],
)
def test_what_is_taken_for_a_secret(text, found):
    assert MINE.found_in(text) == found


def test_every_kind_of_file_is_searched(tmp_path):
    safe = {"row_id": "r1", "prompt": "p", "text_prompt": True, "reference": None, "columns": "{}"}
    hidden = {**safe, "row_id": "r2", "columns": '{"note": "s3cret\\u0077ord"}'}
    for name, rows in {"safe": [safe], "hidden": [safe, hidden]}.items():
        shards.write_table(tmp_path / f"{name}.parquet", rows, shards.rows_features(False))
    (tmp_path / "a.json").write_text('{"x": "s3cretword"}')
    (tmp_path / "b.bin").write_bytes(b"")
    refuse_leaks(Changes({"rows.parquet": tmp_path / "safe.parquet"}), MINE, "me/x")
    with pytest.raises(LeakError, match="column 'columns' of row 'r2' holds a secret") as error:
        refuse_leaks(Changes({"rows.parquet": tmp_path / "hidden.parquet"}), MINE, "me/x")
    assert "s3cret" not in str(error.value)
    with pytest.raises(LeakError, match="a.json holds a secret"):
        refuse_leaks(Changes({"a.json": tmp_path / "a.json"}), MINE, "me/x")
    with pytest.raises(LeakError, match="b.bin is a pickled file"):
        refuse_leaks(Changes({"b.bin": tmp_path / "b.bin"}), MINE, "me/x")
    with pytest.raises(LeakError, match="holds a secret"):
        refuse_leaks(Changes({"s3cretword.txt": tmp_path / "a.json"}), Secrets(("s3cretword",)), "me/x")


def test_secrets_of_the_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_API_KEY", "value-of-a-key")
    monkeypatch.chdir(tmp_path)
    known = Secrets.of_machine(["told-by-hand"], [tmp_path / "out"])
    assert {"value-of-a-key", "told-by-hand"} <= set(known.texts)
    assert {str(tmp_path), str(tmp_path / "out")} <= set(known.paths)


# ---------------------------------------------------------------- a store in a folder


def files(folder: Path, **texts: str) -> Changes:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return Changes.of_folder(folder)


def test_commits_follow_one_another_or_are_refused(tmp_path):
    store = LocalStore(tmp_path / "lineage")
    store.prepare()
    first = store.commit("pool", files(tmp_path / "1", a="one", b="two"), parent=None, message="first")
    with pytest.raises(LineageConflictError, match="committed to by another process"):
        store.commit("pool", files(tmp_path / "2", a="other"), parent=None, message="late")
    changes = Changes(files(tmp_path / "3", c="three").files, deleted=("b", "never"))
    second = store.commit("pool", changes, parent=first, message="second")
    assert (store.files("pool", first), store.files("pool", second)) == (["a", "b"], ["a", "c"])
    assert store.head("pool") == second and first != second
    store.tag("pool", "round-000", first)
    store.tag("pool", "round-000", first)
    with pytest.raises(LineageConflictError, match="has a `round-000` already"):
        store.tag("pool", "round-000", second)
    one, two = (store.fetch("pool", revision, ["a"])["a"] for revision in (first, second))
    assert one.stat().st_ino == two.stat().st_ino  # takes no room twice
    with pytest.raises(LineageError, match="has no revision 'round-009'"):
        store.files("pool", "round-009")


def test_tables_in_a_folder_load_as_those_on_the_hub(tmp_path):
    for index in range(2):
        frozen_round(tmp_path / "run", index)
    store = open_store(tmp_path / "lineage", create=True)
    push_waiting(store, LineageFolder(tmp_path / "run"), Secrets(), wait=lambda s: True)

    def load(part: str, table: str, revision: str) -> list[dict]:
        folder = str(tmp_path / "lineage" / part / revision)
        return load_dataset(folder, table, split="train", cache_dir=str(tmp_path / "cache")).to_list()

    assert [row["row_id"] for row in load("pool", "rows", "round-001")] == [row.row_id for row in ROWS]
    assert len(load("annotations", "annotations", "round-000")) == 3
    annotations = load("annotations", "annotations", "round-001")
    assert [row["row_id"] for row in annotations] == [a.row_id for r in (0, 1) for a in record(r).annotations]
    states = load("pool", "states", "round-001")
    assert [(row["state"], row["attempts"]) for row in states if row["row_id"] == "row-2"] == [
        ("failed", 1),
        ("annotated", 2),
    ]


def test_names(tmp_path, monkeypatch):
    assert parse_tag("3") == "round-003" == parse_tag("round-003")
    with pytest.raises(ConfigurationError, match="is no round"):
        parse_tag("main")
    assert repo_id("me/x", "annotations") == "me/x-annotations"
    with pytest.raises(ConfigurationError, match="of at most 84"):
        repo_id("me/" + "x" * 90, "pool")
    with pytest.raises(LineageError, match="holds no lineage"):
        open_store(str(tmp_path))
