"""Multiple choice and yes/no."""

import pytest

from hf_active_distill.records import PoolRow
from hf_active_distill.tasks import get_task


CHOICE, YES_NO = get_task("multiple_choice"), get_task("yes_no")
IN_TEXT = PoolRow("r", "Alice has\nOptions:\n(A) The Great Gatsby.\n(B) Ulysses.\n(C) Moby Dick.", "(B)")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So the answer is (B)", "B"),
        ("The answer is B.", "B"),
        ("The answer is (b) Ulysses.", "B"),
        ("#### C", "C"),
        ("\\boxed{\\text{A}}", "A"),
        ("Answer: option D", "D"),
        ("The answer is a dog.", "a dog"),
        ("The answer is 3.5", "3.5"),
        ("I think so.", None),
    ],
)
def test_reads_the_letter(text, answer):
    assert CHOICE.read_answer(text) == answer


@pytest.mark.parametrize(
    ("columns", "choices"),
    [
        ({"choices": ["x", "y"]}, {"A": "x", "B": "y"}),
        ({"options": ["A)21", "B)21.5"]}, {"A": "21", "B": "21.5"}),
        ({"choices": {"label": ["1", "2"], "text": ["x", "y"]}}, {"1": "x", "2": "y"}),
        ({"choices": {"text": ["x", "y"]}}, {"A": "x", "B": "y"}),
        ({"options": {"P": "x", "Q": "y"}}, {"P": "x", "Q": "y"}),
    ],
)
def test_reads_options_from_columns(columns, choices):
    row = PoolRow("r", "Which?", columns=columns)
    assert CHOICE.choices(row) == choices
    assert CHOICE.answer_choices(row) == list(choices)
    assert CHOICE.question(row) == "Which?\n" + "\n".join(f"({k}) {v}" for k, v in choices.items())


def test_options_in_the_text_are_not_shown_twice():
    assert CHOICE.answer_choices(IN_TEXT) == ["A", "B", "C"]
    assert CHOICE.question(IN_TEXT) == IN_TEXT.prompt
    assert CHOICE.student_prompt(IN_TEXT) == IN_TEXT.prompt + "\n"


@pytest.mark.parametrize(
    ("answer", "right"),
    [("B", True), ("Ulysses", True), ("ulysses", True), ("C", False), ("Hamlet", False), (None, False)],
)
def test_verifies_letter_or_text(answer, right):
    assert CHOICE.verify(IN_TEXT, answer) is right


def test_verifies_against_an_index():
    row = PoolRow("r", "Which?", "1", {"choices": ["x", "y"]})
    assert CHOICE.verify(row, "B") is True
    assert CHOICE.verify(row, "A") is False


def test_numeric_options_beat_indices():
    row = PoolRow("r", "1 + 1?", "2", {"choices": ["3", "2", "1"]})
    assert CHOICE.verify(row, "B") is True


def test_choice_round_trip():
    text = CHOICE.render_completion(["Bob has Ulysses."], "B")
    assert text.endswith("The answer is (B)")
    assert CHOICE.read_answer(text) == "B"
    assert CHOICE.read_forced_answer(" (B)") == CHOICE.read_forced_answer("B)") == "B"
    assert CHOICE.answer_cue == "\nThe answer is ("


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is yes.", "yes"),
        ("#### No", "no"),
        ("The answer is **True**", "yes"),
        ("Whales are mammals. So, yes, they breathe air.", "yes"),
        ("No, whales are no fish.", "no"),
        ("No one knows.", None),
        ("The answer is 5.", None),
        ("Thus the answer: false", "no"),
    ],
)
def test_reads_yes_or_no(text, answer):
    assert YES_NO.read_answer(text) == answer


@pytest.mark.parametrize(
    ("reference", "answer"), [("True", "yes"), ("0", "no"), ("1", "yes"), ("no", "no"), ("#### yes", "yes")]
)
def test_reads_yes_no_references(reference, answer):
    assert YES_NO.verify(PoolRow("r", "Is it?", reference), answer) is True


def test_yes_no_round_trip():
    text = YES_NO.render_completion(["Whales are mammals."], "yes")
    assert YES_NO.read_answer(text) == "yes"
    assert YES_NO.answer_choices(PoolRow("r", "Is it?")) == ["yes", "no"]
