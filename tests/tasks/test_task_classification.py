"""Label sets, references as data sets write them, and labels as models write them."""

import json

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.errors import ConfigurationError, DataError
from hf_active_distill.records import PoolRow
from hf_active_distill.tasks import LabelSet, get_task
from hf_active_distill.tasks.labels import normalised


TOPICS = ["World News", "sports", "sci.space", "C++", "C#", "U.S. politics"]
TASK = get_task("classification", labels=TOPICS, abstain="none of these")
MANY = get_task("classification", labels=["joy", "anger", "fear"], multi_label=True)
PAIRS = get_task("classification", labels=["yes", "no"], text_columns=("premise", "hypothesis"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "two labels"),
        ({"labels": ["one"]}, "two labels"),
        ({"labels": "spam"}, "list of names"),
        ({"labels": ["yes", False]}, "quotes"),
        ({"labels": ["Sci-Fi", "sports", "sci fi."]}, "'Sci-Fi' and 'sci fi.'.*rename"),
        ({"labels": ["\u00c9t\u00e9", "e\u0301te\u0301"]}, "same"),
        ({"labels": ["+", "--"]}, "name it in words"),
        ({"labels": ["a", "b"], "abstain": "B."}, "abstain.*differ"),
        ({"labels": ["a", "b"], "abstain": "c", "multi_label": True}, "leave `abstain` out"),
        ({"labels": ["a", "b"], "descriptions": {"d": "x"}}, "'d', which is no label"),
        ({"labels": ["a, b", "c"], "multi_label": True}, "rename"),
        ({"labels": ["None", "c"], "multi_label": True}, "rename"),
        ({"labels": ["a", "b"], "text_columns": ("x", "x")}, "text_columns"),
        ({"labels": ["a", "b"], "text_columns": ("x", "y", "z")}, "text_columns"),
        ({"labels": ["a", "b"], "answer_format": "no slot"}, "answer_format"),
    ],
)
def test_what_cannot_be_told_apart_is_refused_with_the_cure(options, words):
    with pytest.raises(ConfigurationError, match=words):
        get_task("classification", **options)


def test_indices_names_and_options():
    assert TASK.id2label == dict(enumerate(TOPICS)) and TASK.label2id["C#"] == 4
    assert [TASK.label_index(name) for name in ("world_news", "c#", "SPORTS!")] == [0, 4, 1]
    assert TASK.options == [*TOPICS, "none of these"] and TASK.answer_choices(PoolRow("r", "x")) == TOPICS
    assert MANY.answer_choices(PoolRow("r", "x")) is None
    with pytest.raises(DataError, match="no label of this task.*sports"):
        TASK.label_index("cooking")


@given(st.text(max_size=20))
def test_normalising_twice_changes_nothing_and_case_does_not_matter(text):
    assert normalised(normalised(text)) == normalised(text)
    assert normalised(f" *{text}.") == normalised(text)


@pytest.mark.parametrize(
    ("value", "name"),
    [("sports", "sports"), (" Sci_Space ", "sci.space"), (1, "sports"), (np.int64(4), "C#"), ("3", "C++")]
    + [(None, None), ("", None), (-1, None), ("-1", None)],
)
def test_reads_references_as_names_and_ids(value, name):
    assert TASK.read_row({"text": "x", "label": value}).reference == name


@pytest.mark.parametrize("value", [6, -2, "cooking", 1.5, ["sports"]])
def test_refuses_what_is_no_label(value):
    with pytest.raises(DataError):
        TASK.read_row({"text": "x", "label": value})


def test_a_number_that_may_be_a_name_or_an_id_is_refused():
    stars = LabelSet(["1", "2", "3"])
    assert stars.read("2") == "2"
    for value in (1, 2, 3):
        with pytest.raises(DataError, match="as text"):
            stars.read(value)
    assert stars.read(0) == "1"
    same = LabelSet(["0", "1"])
    assert [same.read(value) for value in (0, 1, "1", True)] == ["0", "1", "1", "1"]
    assert LabelSet(["true", "false"]).read(True) == "true"


def test_reads_a_class_label_column_of_a_data_set():
    features = Features({"text": Value("string"), "label": ClassLabel(names=["ham", "spam"])})
    data = Dataset.from_dict({"text": ["a", "b"], "label": ["spam", "ham"]}, features=features)
    task = get_task("classification", labels=features["label"].names)
    assert [task.read_row(example).reference for example in data] == ["spam", "ham"]


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (["fear", "joy"], ["joy", "fear"]),
        ([2, 0], ["joy", "fear"]),
        (np.array([1]), ["anger"]),
        ([1.0, 0.0, 1.0], ["joy", "fear"]),
        ([1, 0, 1], ["joy", "fear"]),
        (np.array([0, 0, 1]), ["fear"]),
        ([0, 0, 0], []),
        ([True, False, True], ["joy", "fear"]),
        (np.array([False, False, False]), []),
        ("[0, 1, 0]", ["anger"]),
        ([0], ["joy"]),
        ('["anger"]', ["anger"]),
        ("anger", ["anger"]),
        ([], []),
        (None, None),
    ],
)
def test_reads_references_of_several_labels(value, names):
    row = MANY.read_row({"text": "x", "labels": value})
    assert (row.reference and json.loads(row.reference)) == (names if names is not None else None)
    if names is not None:
        assert MANY.verify(row, MANY.join(names)) is True
        assert MANY.verify(row, MANY.join([n for n in MANY.labels if n not in names])) is False


@pytest.mark.parametrize("value", [["glee"], [3], [0.5, 0.0, 1.0], [1.0], "[oops"])
def test_refuses_lists_that_are_no_labels(value):
    with pytest.raises(DataError):
        MANY.read_row({"text": "x", "label": value})


def test_rows_of_one_text():
    row = TASK.read_row({"text": "A match.", "label": 1, "prompt": "something else", "day": 3})
    assert (row.prompt, TASK.texts(row), row.columns) == (
        "A match.",
        ("A match.",),
        {"prompt": "something else", "day": 3},
    )
    assert TASK.texts(TASK.read_row({"question": "Why?"})) == ("Why?",)
    other = get_task("classification", labels=["a", "b"], text_columns=("sentence",))
    assert other.texts(other.read_row({"sentence": "s", "text": "t"})) == ("s",)
    with pytest.raises(DataError, match="'sentence'"):
        other.read_row({"text": "t"})


def test_rows_of_two_texts():
    row = PAIRS.read_row({"premise": "It rains.", "hypothesis": "It is wet.", "label": "yes"})
    assert PAIRS.texts(row) == ("It rains.", "It is wet.")
    assert row.prompt == "premise: It rains.\nhypothesis: It is wet." and row.reference == "yes"
    swapped = PAIRS.read_row({"premise": "It is wet.", "hypothesis": "It rains."})
    assert swapped.row_id != row.row_id
    with pytest.raises(DataError, match="'hypothesis'.*text_columns"):
        PAIRS.read_row({"premise": "It rains."})
    with pytest.raises(DataError, match="empty"):
        PAIRS.read_row({"premise": " ", "hypothesis": ""})
    with pytest.raises(DataError, match="read_row"):
        PAIRS.texts(PoolRow("r", "It rains."))


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("sports", "sports"),
        ("**Sports**.", "sports"),
        ("Label: U.S. politics", "U.S. politics"),
        ("It is about rockets.\nLabel: sci.space", "sci.space"),
        ("The label is C#", "C#"),
        ("<think>sports?</think>\nworld news", "World News"),
        ("I think it is this one:\nC++", "C++"),
        ("The answer is sports.", "sports"),
        ("Sports and politics", None),
        ("none of these", None),
        ("", None),
    ],
)
def test_reads_a_label(text, label):
    assert TASK.read_label(text) == TASK.read_answer(text) == label


def test_abstentions():
    assert TASK.is_abstention("Label: None of these.") and not TASK.is_abstention("sports")
    assert not PAIRS.is_abstention("none")


@pytest.mark.parametrize(
    ("text", "answer"),
    [("joy, fear", "joy, fear"), ("Label: fear; joy", "joy, fear"), ("none", "none"), ("glee, joy", None), ("", None)],
)
def test_reads_several_labels(text, answer):
    assert MANY.read_answer(text) == answer


@given(st.sets(st.sampled_from(MANY.labels)))
def test_several_labels_round_trip(names):
    answer = MANY.join(sorted(names))
    assert set(MANY.split(answer)) == names
    assert MANY.read_answer(MANY.render_completion([], answer)) == answer
    assert MANY.answers_equal(answer, answer.upper())


@pytest.mark.parametrize("label", TOPICS)
def test_a_causal_students_row_round_trips(label):
    row = TASK.read_row({"text": "Some words."})
    prompt, completion = TASK.student_prompt(row), TASK.render_completion([], label)
    assert prompt.startswith("Label this text.\n\nSome words.\n\nLabels: World News, ") and prompt.endswith("\n")
    assert TASK.read_answer(completion) == label and TASK.split_steps(completion) == []
    assert TASK.read_forced_answer(completion.removeprefix(TASK.answer_cue.strip())) == label
    talk = TASK.read_row({"messages": [{"role": "user", "content": "Some words."}]})
    assert TASK.student_prompt(talk) == [{"role": "user", "content": prompt.strip()}]


def test_an_instruction_of_ones_own():
    task = get_task("classification", labels=["a", "b"], instruction="Which desk gets this?")
    assert task.question(task.read_row({"text": "Help"})) == "Which desk gets this?\n\nHelp"


@pytest.mark.parametrize(
    ("columns", "held"),
    [
        ({"label": 1}, True),
        ({"label": "cats"}, True),
        ({"answer": 7, "target": None}, True),
        ({"label": -1}, False),
        ({"label": float("nan")}, False),
        ({"label": " "}, False),
        ({}, False),
    ],
)
def test_a_label_that_was_left_in_is_taken_off_whatever_it_is(columns, held):
    left, found = TASK.without_label({"text": "t", "source": "s", **columns})
    assert (left, found) == ({"text": "t", "source": "s"}, held)
    target = get_task("classification", labels=["yes", "no"], text_columns=("text", "target"))
    assert target.without_label({"text": "t", "target": "x"}) == ({"text": "t", "target": "x"}, False)
