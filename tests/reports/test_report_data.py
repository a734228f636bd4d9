"""What the report says, against the records it was made from."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import labelling, make_run

from hf_active_distill.errors import DataError
from hf_active_distill.evaluation import wilson_interval
from hf_active_distill.records import Annotation, Usage
from hf_active_distill.reports.arms import differences, gains, over_seeds, read_arms
from hf_active_distill.reports.gathering import LIMITS, fitting_rows, gather, probe_rows, score_histograms, spent_on
from hf_active_distill.reports.rows import PageRows
from hf_active_distill.reports.values import clip, number
from hf_active_distill.rounds import RoundRecord, RoundStore


ROOM = 1_000_000


def test_figures_are_finite_and_short():
    assert number(float("nan")) is None and number(float("inf")) is None and number(True) is None
    assert number(0.123456789) == 0.123457 and number(12_345_678) == 12_345_678
    assert clip("abcdef", 6) == "abcdef"
    assert clip("abcdefg", 6) == "abcdef… [1 more characters]"


def test_histograms_count_every_score_once():
    scores = {f"r{n}": value for n, value in enumerate(np.random.default_rng(0).gamma(2, size=200).tolist())}
    scores |= {"odd": float("nan")}
    record = RoundRecord(0, selected_ids=["r1", "r2", "r3"], random_ids=["r3"], scores=scores)
    later = RoundRecord(1, selected_ids=["s"], scores={"s": 30.0})
    made = score_histograms([record, later])
    edges, first = made["edges"], made["rounds"][0]
    assert edges[0] == pytest.approx(min(v for v in scores.values() if v == v), rel=1e-5) and edges[-1] == 30.0
    slow = Counter()
    for value in (v for v in scores.values() if v == v):
        slow[sum(value >= edge for edge in edges[1:-1])] += 1
    assert first["all"] == [slow[index] for index in range(len(edges) - 1)]
    assert sum(first["chosen"]) == 2 and first["without"] == 1
    assert made["rounds"][1]["all"][-1] == 1
    assert score_histograms([RoundRecord(0)]) is None


def test_what_was_spent_adds_up(tmp_path):
    make_run(tmp_path, rows=40)
    records = RoundStore(tmp_path).records()
    records[-1].unfinished_ids, records[-1].unfinished_usage = ["a", "b"], Usage(3, 300, 30)
    groups = {group["what"]: group for group in spent_on(records)}
    assert set(groups) == {"used", "failed: no_answer", "not reached by the budget"}
    total = sum((record.usage for record in records), Usage())
    assert sum(group["tokens"] for group in groups.values()) == total.total_tokens
    assert sum(group["calls"] for group in groups.values()) == total.calls
    assert groups["used"]["rows"] == sum(len(record.succeeded) for record in records)
    assert groups["not reached by the budget"]["tokens"] == 330


def test_arms_are_found_once_and_compared_at_their_ends(tmp_path):
    make_run(tmp_path / "out", accuracies=[0.4, 0.5, 0.6, 0.7])
    make_run(tmp_path / "out" / "compare-random", selection="random", accuracies=[0.4, 0.4, 0.4, 0.5])
    make_run(tmp_path / "other", seed=1, accuracies=[0.4, 0.5, 0.6, 0.8])
    twice = tmp_path / "out" / ".." / "out" / "compare-random"
    arms = read_arms(tmp_path / "out", [tmp_path / "other", twice])
    assert [(arm.name, arm.settings["seed"]) for arm in arms] == [("egss", 0), ("random", 0), ("egss", 1)]
    first, random, _ = gains(arms, "eval_accuracy")
    assert first["gain"] == pytest.approx(0.3) and random["gain"] == pytest.approx(0.1)
    both = 1.96 * math.sqrt(0.03**2 + 0.03**2)
    assert first["half"] == pytest.approx(1.96 * 0.03) and first["gain_half"] == pytest.approx(both, rel=1e-4)
    against = {(row["arm"], row["seed"]): row for row in differences(arms, "eval_accuracy")}
    assert against["random", 0]["difference"] == pytest.approx(0.2)
    assert against["random", 0]["half"] == pytest.approx(both, rel=1e-4)
    assert against["egss", 1]["difference"] == pytest.approx(-0.1)
    seeds = {row["arm"]: row for row in over_seeds(arms, "eval_accuracy")}
    # Student's t with one degree of freedom: 12.706, times s / sqrt(2) = 0.05.
    half = pytest.approx(12.7062 * 0.05, rel=1e-4)
    assert seeds["egss"] == {"arm": "egss", "seeds": 2, "mean": 0.75, "half": half, "low": 0.7, "high": 0.8}
    assert seeds["random"]["seeds"] == 1 and seeds["random"]["half"] is None


def test_arms_that_differ_in_more_than_the_seed_have_names_of_their_own(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "b", seed=1)
    make_run(tmp_path / "c")
    path = tmp_path / "c/rounds/run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"annotation": "cot", "samples_per_round": 40}))
    arms = read_arms(tmp_path / "a", [tmp_path / "b", tmp_path / "c"])
    assert [arm.name for arm in arms] == ["egss, clear", "egss, clear", "egss, cot, samples_per_round=40"]


def test_a_point_knows_what_had_been_spent(tmp_path):
    make_run(tmp_path)
    data = gather(tmp_path, max_bytes=ROOM)
    records = RoundStore(tmp_path).records()
    points = data["arms"][0]["points"]
    assert [point["round"] for point in points] == [-1, 0, 1, 2]
    assert points[0]["tokens"] == 0 and points[0]["values"]["eval_accuracy"] == [0.4, 0.03]
    spent = np.cumsum([record.usage.total_tokens for record in records])
    assert [point["tokens"] for point in points[1:]] == spent.tolist()
    assert points[-1]["cost"] == pytest.approx(0.001 * 60)
    assert data["metrics"][0] == "eval_accuracy" and "accept_rate" in data["metrics"]


def test_random_rows_stand_beside_chosen_ones(tmp_path):
    make_run(tmp_path, rounds=1, rows=30)
    record = RoundStore(tmp_path).read(0)
    rows = {row["group"]: row for row in probe_rows(record)}
    assert rows["random"]["rows"] == 2 and rows["chosen"]["rows"] == 28
    chosen = [a for a in record.annotations if a.row_id not in record.random_ids]
    whole = [all(v.accepted for v in a.verdicts) for a in chosen]
    assert rows["chosen"]["accepted"][:2] == [sum(whole), 28]
    low, high = wilson_interval(sum(whole), 28)
    assert rows["chosen"]["accepted"][2:] == [pytest.approx(low, rel=1e-5), pytest.approx(high, rel=1e-5)]
    usable = [a for a in chosen if a.status == "ok"]
    assert rows["chosen"]["agreed"][:2] == [sum(a.answer == "4" for a in usable), len(usable)]


def test_labels_are_compared_as_answers_are(tmp_path):
    make_run(tmp_path, rounds=1, rows=30, make=labelling)
    record = RoundStore(tmp_path).read(0)
    chosen = probe_rows(record)[1]
    agreed = [a.student.answer == a.label for a in record.annotations if a.row_id not in record.random_ids]
    assert chosen["accepted"] is None and chosen["agreed"][:2] == [sum(agreed), 28]
    [row, *_] = PageRows(500).of_round(record)
    first = record.annotations[0]
    assert row["label"] == first.label and row["student_answer"] == first.student.answer
    assert [label for label, _ in row["distribution"]] == sorted(
        first.distribution, key=first.distribution.get, reverse=True
    )


def test_a_row_holds_what_the_annotation_holds(tmp_path):
    make_run(tmp_path, rounds=1, rows=40)
    record = RoundStore(tmp_path).read(0)
    for row, annotation in zip(PageRows(500).of_round(record), record.annotations, strict=True):
        assert row["prompt"] == annotation.prompt and row["steps"] == annotation.steps
        assert row["student"] == annotation.student.steps
        for found, verdict in zip(row["verdicts"], annotation.verdicts, strict=True):
            assert found[0] == verdict.index and (found[1] == 1) is verdict.accepted
        # Its own words are there once: as the step of the same index, or with the verdict.
        shown = [found[2] if len(found) > 2 else annotation.steps[found[0]] for found in row["verdicts"]]
        assert all(v.teacher_step in (None, text) for v, text in zip(annotation.verdicts, shown, strict=True))
        assert ("replies" in row) is (annotation.status != "ok")
        assert row["rank"] == record.selected_ids.index(annotation.row_id) + 1


def test_earlier_turns_are_kept_once():
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How much is 2 and 3?"}]
    annotations = [Annotation(f"r{n}", "cot", "ok", turns, steps=["5"], answer="5") for n in range(3)]
    maker = PageRows(500)
    rows = maker.of_round(RoundRecord(0, selected_ids=["r0", "r1", "r2"], annotations=annotations))
    assert maker.shared["contexts"] == ["system: Be brief."]
    assert [row["context"] for row in rows] == [0, 0, 0] and rows[0]["prompt"] == "How much is 2 and 3?"


@settings(max_examples=25, deadline=None)
@given(length=st.integers(0, 3000), count=st.integers(1, 30), room=st.integers(2_000, 60_000))
def test_rows_fit_into_the_room_there_is(length, count, room):
    annotations = [
        Annotation(f"r{n}", "cot", "ok", "x" * length, steps=["é" * length], answer=str(n)) for n in range(count)
    ]
    record = RoundRecord(0, selected_ids=[a.row_id for a in annotations], annotations=annotations)
    made = fitting_rows([record], room)
    size = len(json.dumps(made["rows"], ensure_ascii=False, separators=(",", ":")).encode())
    assert size <= room
    assert len(made["rows"]) + made["left_out"] == count
    assert [row["id"] for row in made["rows"]] == [f"r{n}" for n in range(made["left_out"], count)]
    if made["left_out"]:
        assert made["text_limit"] == LIMITS[-1]  # nothing is left out while texts could still be cut
    if length <= LIMITS[-1]:
        assert all(row.get("prompt", "") == "x" * length for row in made["rows"])


def test_a_folder_without_rounds_is_refused(tmp_path):
    with pytest.raises(DataError, match="holds no round yet"):
        gather(tmp_path, max_bytes=ROOM)


def test_a_run_in_progress_has_a_round_without_figures(tmp_path):
    make_run(tmp_path, rounds=3, trained=2)
    data = gather(tmp_path, max_bytes=ROOM)
    assert [row["trained"] for row in data["rounds"]] == [True, True, False]
    assert data["stop_reason"] is None and len(data["rows"]) == 60
    assert [point["round"] for point in data["arms"][0]["points"]] == [-1, 0, 1]


def test_no_path_of_this_machine_is_told(tmp_path):
    make_run(tmp_path / "out")
    make_run(tmp_path / "elsewhere", seed=1)
    data = gather(tmp_path / "out", beside=[tmp_path / "elsewhere"], max_bytes=ROOM)
    assert str(tmp_path) not in json.dumps(data) and str(Path.home()) not in json.dumps(data)


def test_a_round_reads_back_as_it_was_written_whatever_its_text(tmp_path):
    """A small model may write half of a surrogate pair, or any separator of lines."""
    make_run(tmp_path, rounds=1, rows=5, text=lambda text: f"\ud83d{text}\0\u2028\x85\r\n")
    store = RoundStore(tmp_path)
    first = store.read(0)
    assert first.annotations[0].teacher == "\ud83dteacher/large\0\u2028\x85\r\n"
    store.write(first)
    assert store.read(0) == first
    store.begin(store.settings(), resuming=True, overwrite=False)
