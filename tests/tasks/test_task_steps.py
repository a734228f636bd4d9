"""Splitting into steps, and its round trip with the training target."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.tasks import get_task
from hf_active_distill.tasks.sentences import sentence_spans


FORMATS = ["The answer is {answer}", "#### {answer}", "\\boxed{{answer}}", "A: {answer}", "=> {answer} <="]

line = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=40)
# Lines that look like what the splitter looks for.
tricky = st.sampled_from(
    [
        "The answer is 4.",
        "#### 3",
        "A: 5",
        "\\boxed{",
        "Q: What?",
        "Answer:",
        "1. First. Second.",
        "- 5 + 3",
        "<think>",
    ]
)
steps = st.lists(st.one_of(line, tricky).map(str.strip).filter(bool), max_size=12)
answers = st.one_of(st.integers(-(10**9), 10**9).map(str), st.sampled_from(["0.5", "1/3", "20%", "B", "Paris"]))


def texts(task, text):
    return [span.text for span in task.split_steps(text)]


@given(steps, answers, st.sampled_from(FORMATS), st.sampled_from(["auto", "line"]))
def test_target_splits_into_its_steps(steps, answer, answer_format, step_split):
    task = get_task("reasoning", answer_format=answer_format, step_split=step_split)
    assert texts(task, task.render_completion(steps, answer)) == steps


@given(st.lists(line.map(str.strip).filter(bool).filter(lambda s: "<" not in s), max_size=8), answers)
def test_target_gives_back_its_answer(steps, answer):
    for answer_format in FORMATS:
        task = get_task("reasoning", answer_format=answer_format)
        assert task.read_answer(task.render_completion(steps, answer)) == answer


@given(st.text(max_size=200))
def test_spans_are_ordered_and_lie_in_the_text(text):
    for mode in ("auto", "line", "sentence"):
        spans = get_task("reasoning", step_split=mode).split_steps(text)
        position = 0
        for span in spans:
            assert span.start >= position and span.end > span.start
            assert text[span.start : span.end] == span.text == span.text.strip()
            position = span.end


def test_lines_are_steps_and_the_answer_is_none():
    text = "Natalia sold 48/2 = <<48/2=24>>24 clips.\n\nShe sold 48+24 = 72 clips. That is all.\n#### 72\n"
    assert texts(get_task("reasoning"), text) == [
        "Natalia sold 48/2 = <<48/2=24>>24 clips.",
        "She sold 48+24 = 72 clips. That is all.",
    ]


def test_one_line_falls_into_sentences():
    text = "They put 10.5 seeds in each bed. Mr. Smith has 45 beds, e.g. Roses. So 10 * 45 is 450. The answer is 450."
    assert texts(get_task("reasoning"), text) == [
        "They put 10.5 seeds in each bed.",
        "Mr. Smith has 45 beds, e.g. Roses.",
        "So 10 * 45 is 450.",
    ]


def test_sentence_mode_splits_every_line():
    text = "One is 1. Two is 2.\nThree is 3.\nThe answer is 3."
    assert texts(get_task("reasoning", step_split="sentence"), text) == ["One is 1.", "Two is 2.", "Three is 3."]


@pytest.mark.parametrize(
    "invented", ["\n\nQ: What is 2 + 2?\nA: 4", "\n\nQuestion 2: Why?\nBecause.", "\n \nHuman: hi"]
)
def test_an_invented_question_is_cut(invented):
    assert texts(get_task("reasoning"), "1 + 1 = 2\n2 + 2 = 4\nThe answer is 4." + invented) == [
        "1 + 1 = 2",
        "2 + 2 = 4",
    ]


def test_what_follows_the_answer_is_no_step():
    assert texts(get_task("reasoning"), "1 + 1 = 2\n#### 2\nI hope this helps!\nBye") == ["1 + 1 = 2"]


def test_an_answer_under_a_heading_is_no_step():
    assert texts(get_task("reasoning"), "1 + 1 = 2\n### Final Answer\n2") == ["1 + 1 = 2"]


def test_an_answer_within_a_step_stays_in_it():
    text = "A is 3.\nThen A + B = 4. So the answer is 4"
    assert texts(get_task("reasoning"), text) == ["A is 3.", "Then A + B = 4. So the answer is 4"]


def test_letters_before_colons_are_steps():
    text = "A: green, B: blue\nA: blue, B: green"
    assert texts(get_task("reasoning"), text) == ["A: green, B: blue", "A: blue, B: green"]


def test_a_name_before_a_colon_ends_no_explanation():
    assert texts(get_task("reasoning"), "A: 7\nB: 9\nSo A + B = 16") == ["A: 7", "B: 9", "So A + B = 16"]
    assert texts(get_task("reasoning"), "A: 7\nB: 9\nA: 16") == ["A: 7", "B: 9"]


def test_the_rest_joins_the_last_step():
    task = get_task("reasoning", max_steps=2)
    spans = task.split_steps("a\nb\nc\nThe answer is 1")
    assert [span.text for span in spans] == ["a", "b\nc"]
    assert task.render_completion([span.text for span in spans], "1") == "a\nb c\nThe answer is 1"


def test_prefix_of_steps():
    task = get_task("reasoning")
    text = "  a\nb\nThe answer is 1"
    spans = task.split_steps(text)
    assert [task.step_prefix(text, spans, count) for count in range(3)] == ["", "  a", "  a\nb"]


def test_sentence_spans_cover_all_words():
    text = 'One. Two! "Three?" Four 4.5 end'
    spans = sentence_spans(text)
    assert [text[start:end] for start, end in spans] == ["One.", "Two!", '"Three?"', "Four 4.5 end"]
