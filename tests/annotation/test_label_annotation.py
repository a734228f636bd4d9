"""Labels from a teacher: over real sockets by both protocols, and every way in which a row can fail."""

import asyncio
import dataclasses
import math

import pytest
from scripted_asks import ListedAsk

from hf_active_distill.annotation import AnnotationItem, AnnotationSettings, Demonstrations, get_annotation
from hf_active_distill.annotation.label_prompts import label_prompt, read_label_prompt
from hf_active_distill.annotation.run import annotate_rows
from hf_active_distill.asking import Budget, Dispatcher, Journal, JournalReader
from hf_active_distill.errors import ConfigurationError, DataError, TeacherAuthError, TeacherRequestError
from hf_active_distill.functional import annotate as annotate_dataset
from hf_active_distill.records import PoolRow
from hf_active_distill.serving import EmbeddedServer
from hf_active_distill.serving.scripted_labels import LabelTeacher
from hf_active_distill.synthetic import get_world
from hf_active_distill.tasks import get_task
from hf_active_distill.teachers import GenerationParams, TeacherInfo, TeacherReply, TopToken, load_teacher
from hf_active_distill.teachers.labels import lettered


WORLD = get_world("support_messages")
TASK = get_task("classification", labels=WORLD.labels, descriptions=WORLD.descriptions)
ROWS = WORLD.problems(12, 3, "train")
ERROR_RATE = 0.2
TEACHER = LabelTeacher(WORLD, error_rate=ERROR_RATE)
SMALL = get_task("classification", labels=["good", "bad"], abstain="unclear")
MANY = get_task("classification", labels=["joy", "anger", "fear"], multi_label=True)
DESKS = get_task("classification", labels=[f"desk {i}" for i in range(63)])
ROW = PoolRow("r1", "What a day.", "good")
KNOWN = TeacherInfo("listed", door="tgi", supports_logprobs=True, supports_grammar=True)


@pytest.fixture(scope="module")
def url():
    with EmbeddedServer("--scripted", "support_messages", "--error-rate", str(ERROR_RATE)) as server:
        yield server.url


def annotate_all(address, method, rows=ROWS, *, journal=None, budget=None, attempt=0):
    dispatcher = Dispatcher(load_teacher(address), journal=journal, budget=budget)
    try:
        items = [AnnotationItem(row, round=2, attempt=attempt) for row in rows]
        return annotate_rows(dispatcher, method, items, progress=False), dispatcher.spent
    finally:
        dispatcher.close()


@pytest.mark.parametrize("door", ["tgi", "openai"])
@pytest.mark.parametrize("kind", ["auto", "samples"])
def test_over_real_sockets_the_record_holds_what_the_teacher_thinks(url, door, kind):
    settings = AnnotationSettings(GenerationParams(seed=11))
    method = get_annotation("label", TASK, settings, method=kind, samples=20)
    records, spent = annotate_all(f"{door}+{url}", method)
    # No page of an unknown server says whether it gives log-probabilities: one call finds out.
    examined = door == "openai" and kind == "auto"
    assert spent.calls == examined + sum(record.usage.calls for record in records)
    for row, record in zip(ROWS, records, strict=True):
        exact = TEACHER.distribution(row.prompt)
        assert (record.status, record.kind, record.round, record.reason) == ("ok", "label", 2, None)
        assert list(record.distribution) == WORLD.labels
        assert sum(record.distribution.values()) == pytest.approx(1)
        assert record.label == record.answer == max(record.distribution, key=record.distribution.get)
        assert record.confidence == pytest.approx(record.distribution[record.label])
        assert TASK.read_answer(record.completion) == record.label
        if kind == "samples":
            for label, p in exact.items():
                assert abs(record.distribution[label] - p) < 4.5 * math.sqrt(p * (1 - p) / 20) + 0.11
        else:
            # OpenAI's protocol has no regex grammar: of six letters the server shows five, the least is left out.
            assert record.distribution == pytest.approx(exact, abs=1e-6 if door == "tgi" else 0.01)
            # Six letters, five shown: one free request, then five and two of them bound.
            assert record.usage.calls == (3 if door == "tgi" else 1)
            assert record.mass == pytest.approx(0.97, abs=0.01)
        assert record.teacher == "scripted/support_messages-e0.2-s0"


def test_rotations_and_plain_text_measure_the_same_distribution(url):
    for options, calls in (({"rotations": 2, "min_mass": 0}, 4), ({"chat": False}, 3)):
        records, spent = annotate_all(url, get_annotation("label", TASK, **options), ROWS[:3])
        assert spent.calls == 3 * calls
        for row, record in zip(ROWS, records, strict=False):
            assert record.distribution == pytest.approx(TEACHER.distribution(row.prompt), abs=1e-6)


def test_the_journal_answers_a_second_run_and_not_a_second_try(url, tmp_path):
    method, path = get_annotation("label", TASK), tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        first, spent = annotate_all(url, method, ROWS[:4], journal=journal)
    with Journal(path) as journal:
        again, replayed = annotate_all(url, method, ROWS[:4], journal=journal)
        assert replayed == spent and [a.distribution for a in again] == [a.distribution for a in first]
        _, after = annotate_all(url, method, ROWS[:4], journal=journal, attempt=1)
        assert after.calls == 2 * spent.calls
    calls = list(JournalReader(path).rows())
    assert {call.kind for call in calls} == {"label"} and sorted({call.turn for call in calls}) == [0, 1, 2]


def test_the_budget_holds(url):
    method = get_annotation("label", TASK, method="top_tokens")
    records, spent = annotate_all(url, method, budget=Budget(max_calls=5))
    assert spent.calls == 5 and [record is None for record in records] == [False] * 5 + [True] * 7


def test_a_text_that_the_teacher_does_not_know_is_outside(url):
    for options in ({}, {"method": "samples"}):
        [record], _ = annotate_all(url, get_annotation("label", TASK, **options), [PoolRow("x", "Quantum chess?")])
        assert (record.status, record.reason, record.label) == ("failed", "outside_labels", None)
        assert record.completion is None and record.mass < 0.1


def letters(*probabilities):
    return TeacherReply("A", top_tokens=[[TopToken("ABCDEFG"[i], math.log(p)) for i, p in enumerate(probabilities)]])


def one(task, *replies, settings=None, attempt=0, row=ROW, info=KNOWN, **options):
    ask = ListedAsk(*replies)
    ask.info = info
    method = get_annotation("label", task, settings or AnnotationSettings(), **options)
    record = asyncio.run(method.annotate(AnnotationItem(row, round=1, attempt=attempt), ask))
    assert not ask.replies, "fewer turns than expected"
    return record, ask


def test_a_doubt_that_goes_to_abstaining_lowers_the_confidence():
    record, ask = one(SMALL, letters(0.6, 0.2, 0.1))
    assert (record.status, record.label, record.mass) == ("ok", "good", pytest.approx(0.9))
    assert record.distribution == {"good": pytest.approx(0.75), "bad": pytest.approx(0.25)}
    assert record.confidence == pytest.approx(0.6 / 0.9)
    assert "A. good\nB. bad\nC. unclear" in ask.requests[0].message_list()[0]["content"]


@pytest.mark.parametrize(
    ("reply", "options", "reason"),
    [
        (letters(0.2, 0.1, 0.5), {}, "abstained"),
        (letters(0.02, 0.01, 0.01), {}, "outside_labels"),
        (letters(0.02, 0.01, 0.01), {"min_mass": 0.05}, "outside_labels"),
        (letters(0.1, 0.5, 0.1), {"settings": AnnotationSettings(verify=True)}, "wrong_answer"),
        (TeacherRequestError("too long", status=413), {}, "teacher_refused"),
    ],
)
def test_a_row_that_fails_says_why_and_has_no_label(reply, options, reason):
    record, _ = one(SMALL, reply, **options)
    assert (record.status, record.reason) == ("failed", reason)
    assert record.label is record.labels is record.completion is None
    # What a reference contradicts stays readable: an audit counts it.
    assert record.answer == ("bad" if reason == "wrong_answer" else None)
    if reason != "teacher_refused":
        assert set(record.distribution) == {"good", "bad"}


@pytest.mark.parametrize("least", [0.0, 0.1])
def test_a_teacher_that_never_names_a_label_is_outside_whatever_the_least_mass(least):
    replies = [TeacherReply("Well.") for _ in range(3)]
    record, _ = one(SMALL, *replies, method="samples", samples=3, min_mass=least)
    assert (record.status, record.reason, record.label, record.mass) == ("failed", "outside_labels", None, 0)


def test_more_labels_than_letters_are_named_in_words():
    replies = [TeacherReply(text) for text in ("Desk 62.", "desk 6", "desk 62", "no idea")]
    record, ask = one(DESKS, *replies, samples=4)
    assert (record.status, record.label, record.confidence) == ("ok", "desk 62", pytest.approx(2 / 3))
    assert record.mass == pytest.approx(3 / 4) and record.distribution["desk 6"] == pytest.approx(1 / 3)
    shown = ask.requests[0].message_list()[0]["content"]
    assert shown.startswith("Which label fits the text best?\n\nLabels:\n- desk 0\n") and "- desk 62\n" in shown
    assert shown.endswith("What a day.\n\nAnswer with the name of one label only.")
    assert not get_annotation("label", DESKS).relies_on_logprobs


def test_errors_that_concern_every_row_end_the_run():
    with pytest.raises(TeacherAuthError):
        one(SMALL, TeacherAuthError("no"))


def test_a_server_that_refuses_grammars_is_asked_without_them():
    refusal = TeacherRequestError("grammar is not supported", status=422)
    record, ask = one(SMALL, letters(0.6), refusal, letters(0.6, 0.2, 0.1))
    assert record.status == "ok" and record.confidence == pytest.approx(0.6 / 0.9)
    assert [request.params.grammar is None for request in ask.requests] == [True, False, True]
    record, _ = one(SMALL, letters(0.6), refusal, method="grammar")
    assert (record.status, record.reason) == ("failed", "teacher_refused")


def test_several_labels_are_asked_about_one_by_one():
    record, ask = one(MANY, letters(0.8, 0.1), letters(0.1, 0.85), letters(0.5, 0.4))
    assert record.labels == ["joy", "fear"] and record.answer == "joy, fear" and record.label is None
    assert record.distribution == {
        "joy": pytest.approx(8 / 9),
        "anger": pytest.approx(2 / 19),
        "fear": pytest.approx(5 / 9),
    }
    assert record.confidence == pytest.approx(5 / 9) and record.mass == pytest.approx(0.9)
    asked = [read_label_prompt(request.message_list()) for request in ask.requests]
    assert [(read.label, read.options) for read in asked] == [(name, ["yes", "no"]) for name in MANY.labels]
    assert MANY.read_answer(record.completion) == record.answer
    assert ask.turns == [0, 1, 2]
    record, _ = one(MANY, *[letters(0.3, 0.6)] * 3, threshold=0.2)
    assert record.labels == MANY.labels
    record, _ = one(MANY, *[letters(0.1, 0.8)] * 3)
    assert (record.status, record.labels, record.answer) == ("ok", [], "none")


def test_a_temperature_calibrates_and_keeps_the_label():
    record, _ = one(SMALL, letters(0.64, 0.04, 0.01), calibration_temperature=2.0)
    assert record.confidence == pytest.approx(0.8 / 1.1) and record.label == "good"
    assert record.distribution["bad"] == pytest.approx(0.2)


def test_a_teacher_that_thinks_is_sampled():
    record, ask = one(SMALL, *["<think>hm</think>B"] * 3 + ["A"] * 2, info=dataclasses.replace(KNOWN, thinks=True))
    assert len(ask.requests) == 5 and ask.requests[0].params.max_new_tokens == 512
    assert [request.sample_index for request in ask.requests] == list(range(5))


def test_tries_of_a_row_are_told_apart():
    _, first = one(SMALL, letters(0.6, 0.2, 0.1))
    _, second = one(SMALL, letters(0.6, 0.2, 0.1), attempt=1)
    assert (first.requests[0].attempt, second.requests[0].attempt) == (0, 1)


def test_prompts_are_read_back():
    pairs = get_task(
        "classification", labels=["yes", "no"], text_columns=("premise", "hypothesis"), instruction="Well?"
    )
    row = pairs.read_row({"premise": "It rains.", "hypothesis": "A. It is wet."})
    prompt = label_prompt(pairs, row)
    assert prompt == "Well?\n\nText to label:\npremise: It rains.\nhypothesis: A. It is wet."
    read = read_label_prompt([{"role": "user", "content": lettered(prompt, pairs.options)}])
    assert (read.text, read.options, read.label) == (row.prompt, ["yes", "no"], None)
    assert read_label_prompt([{"role": "user", "content": lettered(prompt, pairs.options) + "\nAnswer: "}]) == read
    assert read_label_prompt([{"role": "user", "content": prompt}]) is None
    described = label_prompt(TASK, ROWS[0])
    assert "- returns: sending something back, exchange and refund\n" in described


EXAMPLES = [{"text": f"t{i}", "label": label} for i, label in enumerate(["good", "good", "good", "bad", "bad"])]


def test_balanced_demonstrations_take_labels_in_turn_and_never_the_row_itself():
    shown = Demonstrations(SMALL, EXAMPLES, count=3)
    assert [(row.prompt, label) for row, label in shown.of(ROW)] == [("t0", "good"), ("t3", "bad"), ("t1", "good")]
    own = SMALL.read_row(EXAMPLES[0])
    assert [row.prompt for row, _ in shown.of(own)] == ["t3", "t1", "t4"]
    _, ask = one(SMALL, letters(0.6, 0.2, 0.1), demonstrations=EXAMPLES[:1])
    assert (
        "Example text:\nt0\nLabel: good\n\nText to label:\nWhat a day." in ask.requests[0].message_list()[0]["content"]
    )


def test_nearest_demonstrations_go_by_cosine_and_stand_nearest_last():
    rows = [SMALL.read_row(example) for example in EXAMPLES]
    vectors = [[1, 0], [0, 1], [3, 3], [-1, 0], [5, 1]]
    embeddings = {row.row_id: vector for row, vector in zip(rows, vectors, strict=True)} | {"r1": [2, 0.1]}
    shown = Demonstrations(SMALL, rows, count=3, choose="nearest", embeddings=embeddings)
    assert [row.prompt for row, _ in shown.of(ROW)] == ["t2", "t4", "t0"]
    assert [row.prompt for row, _ in shown.of(rows[0])] == ["t1", "t2", "t4"]
    with pytest.raises(DataError, match="no vector of row"):
        shown.of(PoolRow("r9", "x"))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"choose": "best"}, ConfigurationError, "balanced, nearest"),
        ({"choose": "nearest"}, ConfigurationError, "embeddings"),
        ({"count": 0}, ConfigurationError, "at least 1"),
        ({"rows": [{"text": "x"}]}, DataError, "no label"),
    ],
)
def test_odd_demonstrations_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        Demonstrations(SMALL, options.pop("rows", EXAMPLES), **options)


@pytest.mark.parametrize(
    ("task", "options", "words"),
    [
        (get_task("reasoning"), {}, "task='classification'"),
        (DESKS, {"method": "grammar"}, "63 labels are more than the 62 letters.*leave `method` out"),
        (SMALL, {"method": "magic"}, "auto, grammar"),
        (SMALL, {"method": "scored"}, "chat=False"),
        (SMALL, {"min_mass": 2}, "min_mass"),
        (SMALL, {"calibration_temperature": 0}, "above 0"),
        (SMALL, {"colour": 1}, "refused its options"),
    ],
)
def test_odd_options_are_refused(task, options, words):
    with pytest.raises(ConfigurationError, match=words):
        get_annotation("label", task, **options)


@pytest.mark.parametrize(
    ("task", "options", "fewest", "most"),
    [
        (SMALL, {}, 1, 6),  # a free request without a letter in sight, five samples
        (TASK, {}, 1, 6),
        (TASK, {"method": "grammar"}, 1, 3),  # a free one, five letters, the sixth beside the best
        (TASK, {"method": "samples", "samples": 4}, 4, 4),
        (TASK, {"method": "top_tokens", "rotations": 3}, 3, 3),
        (MANY, {"method": "top_tokens"}, 3, 3),
        (TASK, {"method": "scored", "chat": False}, 6, 6),
        (DESKS, {}, 5, 5),
        (DESKS, {"chat": False}, 63, 63),
    ],
)
def test_the_plan_holds_the_calls_that_are_made(task, options, fewest, most):
    method = get_annotation("label", task, **options)
    few, many = method.plan(AnnotationItem(ROW))
    assert (len(few), len(many)) == (fewest, most)
    assert few[0].content() == many[0].content()


def test_the_plan_brackets_what_a_server_needs(url):
    method = get_annotation("label", TASK)
    plans = [method.plan(AnnotationItem(row)) for row in ROWS]
    records, _ = annotate_all(url, method)
    for (few, many), record in zip(plans, records, strict=True):
        assert len(few) <= record.usage.calls <= len(many)


def test_a_data_set_of_texts_in_and_a_data_set_of_labels_out(url):
    examples = [{"text": row.prompt, "label": index % 6} for index, row in enumerate(ROWS[:3])]
    found = annotate_dataset(
        examples, url, annotation="label", annotation_kwargs={"min_mass": 0}, task=TASK, progress=False
    )
    assert list(found["status"]) == ["ok"] * 3 and len(found) == 3
    for row, record in zip(ROWS, found, strict=False):
        exact = TEACHER.distribution(row.prompt)
        assert record["label"] == max(exact, key=exact.get) and row.prompt in record["prompt"]
        assert [one["label"] for one in record["distribution"]] == WORLD.labels
