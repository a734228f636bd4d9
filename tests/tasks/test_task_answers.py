"""Reading final answers and comparing them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.tasks import get_task
from hf_active_distill.tasks.answers import canonical_answer, same_answer


TASK = get_task("reasoning")

ANSWERS = {
    "She has 3 + 4 = 7.\n#### 7": "7",
    "#### $1,200": "1200",
    "So 12 * 3 = \\boxed{36}.": "36",
    "The answer is $\\boxed{\\frac{3}{4}}$.": "0.75",
    "A nested \\boxed{\\text{18 dollars}}": "18",
    "The answer is 5.": "5",
    "the final answer is: **5 apples**.": "5",
    "**Final Answer:** 42": "42",
    "### Final Answer\n\n42": "42",
    "Answer = 3/4": "0.75",
    "3 + 4 is 7.\nA: 7": "7",
    "A: 2,125": "2125",
    "First. So the answer is (B)": "B",
    "The answer is (B) The Great Gatsby.": "B",
    "The answer is 5, since she ate 2.": "5",
    "The answer is 5 because she ate 2.": "5",
    "The answer is 3 + 4 = 7.": "7",
    "The answer is (10 * 45).": "450",
    "The answer is (12 - 2) - 7.": "3",
    "The answer is \u22125.": "-5",
    "The answer is 20%.": "20%",
    "The answer is Paris.": "Paris",
    "The answer is 4. No: the answer is 5.": "5",
    "The answer is 5.\n\nQ: What is 2 + 2?\nA: 4. The answer is 4.": "5",
    "5 + 5 = 10. The answer is 10.\n\nQuestion: Next?\nThe answer is 3": "10",
    "<think>the answer is 3</think>The answer is 4": "4",
}
NO_ANSWER = [
    "",
    "She has 5 apples.",
    "The answer is",
    "The answer is \\boxed{12",
    "The answer is (10 * 4",
    "The answer is 10 *",
    "#### ",
    "<think>the answer is 3",
    "A: green, B: blue\nB: red, A: blue, then",
]


@pytest.mark.parametrize(("text", "answer"), ANSWERS.items())
def test_reads_answer(text, answer):
    assert TASK.read_answer(text) == answer


@pytest.mark.parametrize("text", NO_ANSWER)
def test_text_without_a_full_answer_has_none(text):
    assert TASK.read_answer(text) is None


def test_last_number_is_an_option():
    assert get_task("reasoning", last_number=True).read_answer("She has 3 + 4 = 1,007 apples left.") == "1007"


FORCED = {
    " 5.": "5",
    ": **42** apples\nQ: next": "42",
    " $18 per day. Then": "18",
    " (B).": "B",
    " 3 + 4 = 7": "7",
    "": None,
    "\n 5": "5",
    " (10 * ": None,
}


@pytest.mark.parametrize(("text", "answer"), FORCED.items())
def test_reads_forced_answer(text, answer):
    assert TASK.read_forced_answer(text) == answer


def test_forced_answer_ends_with_the_box():
    task = get_task("reasoning", answer_format="\\boxed{{answer}}")
    assert task.answer_cue == "\n\\boxed{"
    assert task.read_forced_answer("12} apples}") == "12"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("18", "18", True),
        ("18", "18.0", True),
        ("0.75", "3/4", True),
        ("1/3", "0.3333333333", True),
        ("1/3", "0.33", False),
        ("1000000", "1000001", False),
        ("20%", "20", True),
        ("20%", "0.2", True),
        ("20%", "0.3", False),
        ("Paris", "paris", True),
        ("Paris", "London", False),
        ("B", "A", False),
        ("5", None, False),
        (None, None, False),
    ],
)
def test_equality(first, second, same):
    assert same_answer(first, second) is same
    assert same_answer(second, first) is same


@given(st.one_of(st.text(max_size=40), st.fractions().map(str), st.decimals(allow_nan=False).map(str)))
def test_canonical_form_is_a_fixed_point(text):
    canonical = canonical_answer(text)
    if canonical is not None:
        assert canonical_answer(canonical) == canonical
        assert same_answer(canonical, canonical)


@given(st.text(max_size=300))
def test_reading_never_raises(text):
    for name in ("reasoning", "multiple_choice", "yes_no"):
        task = get_task(name)
        answer = task.read_answer(text)
        assert answer is None or answer.strip()
        assert task.answers_equal(answer, None) is False
        for span in task.split_steps(text):
            assert text[span.start : span.end] == span.text


def test_svamp_labels_are_evaluated():
    assert TASK.read_reference("( 10.0 - ( 6.0 + 3.0 ) )") == "1"
    assert TASK.answers_equal(TASK.read_answer("The answer is (10 - (3 + 6))."), TASK.read_reference("( 1.0 )"))
