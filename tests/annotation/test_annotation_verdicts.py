"""Reading yes and no in free text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.annotation import read_verdict
from hf_active_distill.annotation.solutions import read_remaining, read_wording
from hf_active_distill.tasks import get_task


TASK = get_task("reasoning")

ACCEPTING = [
    "Yes",
    "Yes, we can start with this step.",
    "yes.",
    "**Yes**",
    "**Yes.** We can go on.",
    "Correct.",
    "Correct so far.",
    "That's right",
    "That is right, go on.",
    "That\u2019s correct!",
    "Right.",
    "Exactly.",
    "Yep",
    "Yeah, looks good",
    "I agree.",
    "I agree with this step.",
    "Indeed.",
    "\u2705 The step holds.",
    "\u2713",
    '"Yes"',
    "- Yes",
    "> Yes",
    "### Yes",
    "Verdict: Yes",
    "**Verdict:** yes",
    "My verdict is: correct",
    "Let me check: 3 * 4 = 12, which matches. Yes, we can continue.",
    "Okay, so 3 + 4 is 7. So yes, this step is fine.",
    "<think>Hmm no, wait</think>Yes",
    "This step is correct.",
    "The first step is correct.",
    "We can continue with this step.",
    "You can start with it.",
    "Looks good to me.",
    "No problem, we can continue.",
    "No mistakes here.",
    "There is no error in this step.",
    "I see no mistake.",
    "I can't find any mistake.",
    "Not wrong.",
    "Of course, go on.",
    "Sure.",
    "Yes we can",
    "Yes it is",
    "Yes \u2014 that works.",
    "YES!",
    "Yes: the total is 12.",
    "Absolutely. That step is right.",
    "Sure, let me check. 3*4 = 12. Yes, it is right.",
    "The step makes sense.",
    "Nothing wrong with it.",
    "Well, yes.",
    "Yes, but let me put it more clearly: Ann has 3.",
    "Agreed \u2014 go ahead.",
    "Let's continue with it.",
    "Yes, absolutely.",
    "(Yes)",
    "Answer: Yes\nStep: Ann has 3.",
    "Yes\n\nStep: No apples remain.",
    "the student's step is right",
    "Hmm, let me think. Ann has 3 apples.\n\nYes",
]
REJECTING = [
    "No",
    "No.",
    "no, that's wrong",
    "**No**",
    "No \u2014 7 - -28 is 35, not -21.",
    "I disagree.",
    "I disagree with this step.",
    "Incorrect.",
    "Wrong.",
    "That's not right.",
    "That is incorrect.",
    "This step is wrong.",
    "Not quite.",
    "Not correct.",
    "Nope.",
    "We can't continue with this step.",
    "We cannot start with this step.",
    "Unfortunately, the step is wrong.",
    "There is a mistake in this step.",
    "I see an error here.",
    "\u274c",
    "Verdict: No",
    "**Verdict**: incorrect",
    "My verdict is no.",
    "Let me check. 3*4 = 12, not 13. No, we can't go on.",
    "I do not agree.",
    "I don't think this step is right.",
    "The calculation is not correct.",
    "The student made a mistake here.",
    "No, the step is wrong because 3*4 is 12.",
    "<think>yes</think>\nNo",
    "Sure, let me check the step. 3*4 = 12. No, the step is wrong.",
    "I'm afraid that is wrong.",
    "No we can not",
    "I must disagree here.",
    "It isn't correct.",
    "False.",
    "This doesn't follow.",
    "The step contains an error.",
    "No\nRemaining steps:\n3*4=12\nThe answer is 12",
    "I would not accept this step.",
    "We should not continue with this step.",
    "Sorry, no.",
    "No: 12.",
    "That step does not help.",
]
UNREADABLE = [
    "Maybe.",
    "3 * 4 = 12",
    "Yes and no.",
    "Yes, but this step is wrong.",
    "Yes. Wait, no. That is wrong.",
    "Ja, das stimmt.",
    "S\xed, podemos continuar con este paso.",
    "Oui, c'est correct.",
    "No, este paso es incorrecto porque la suma no es doce.",
    "\u662f\u7684\uff0c\u8fd9\u4e00\u6b65\u662f\u5bf9\u7684\u3002",
    "\u0414\u0430, \u0432\u0435\u0440\u043d\u043e.",
    "Let me think about it.",
    "Okay, let's see.",
    "Ann has 3 apples. No apples remain.",
    "The answer is 12.",
    "I am not sure.",
    "Natalia sold 24 clips in May.",
    "No apples remain after that.",
    "Correct answer should be 12",
    "<think>yes yes",
    "Right now she has 5.",
    "It depends.",
    "As an AI model I cannot judge.",
    "?",
    "No, we can continue with this step.",
    "Good question!",
]


@pytest.mark.parametrize("reply", ACCEPTING)
def test_reads_yes(reply):
    assert read_verdict(reply).accepted is True


@pytest.mark.parametrize("reply", REJECTING)
def test_reads_no(reply):
    assert read_verdict(reply).accepted is False


@pytest.mark.parametrize("reply", UNREADABLE)
def test_reads_neither(reply):
    verdict = read_verdict(reply)
    assert verdict.accepted is None
    assert verdict.problem in ("unreadable_verdict", "other_language")


@pytest.mark.parametrize(
    "reply",
    [
        "Ja, das stimmt.",
        "S\u00ed, podemos continuar con este paso.",
        "Oui, c'est correct.",
        "No, este paso es incorrecto porque la suma no es doce.",
        "\u662f\u7684\uff0c\u8fd9\u4e00\u6b65\u662f\u5bf9\u7684\u3002",
        "\u0414\u0430, \u0432\u0435\u0440\u043d\u043e.",
    ],
)
def test_flags_another_language(reply):
    assert read_verdict(reply).problem == "other_language"


def test_a_problem_in_another_language_may_be_answered_in_it():
    reply = "No\n3 y 4 son 7.\nEl total es 7 con el resto.\nThe answer is 7"
    assert read_verdict(reply).problem == "other_language"
    assert (
        read_verdict(reply, question="Ana tiene 3 y compra 4. Cu\u00e1l es el total con el resto?").accepted is False
    )


@given(st.text(max_size=120))
def test_reading_never_raises(text):
    verdict = read_verdict(text)
    assert (verdict.accepted is None) == (verdict.problem is not None)


@given(st.sampled_from(ACCEPTING[:8]), st.integers(0, 99), st.integers(0, 99))
def test_wording_behind_the_label_comes_back(reply, a, b):
    step = f"Ann has {a} + {b} = {a + b} apples."
    verdict = read_verdict(f"{reply}\nStep: {step}")
    assert verdict.accepted is True
    assert read_wording(TASK, verdict.rest) == step


@pytest.mark.parametrize(
    ("reply", "wording"),
    [
        ("Yes", None),
        ("Yes, that's right.", None),
        ("Yes, we can continue with this step.", None),
        ("Yes, we can start with this step: Ann sold 24.", "Ann sold 24."),
        ("Yes, we can start by computing 3*4=12.", "we can start by computing 3*4=12."),
        ("Yes. In my own words: Ann has 3.", "Ann has 3."),
        ("That's right, Ann has 3.", "Ann has 3."),
        ("**Yes**, the step is right.\n\n**Step:** Ann has 3", "Ann has 3"),
        ("Yes\nStep 1: Ann has 3\nStep 2: Ben has 4\nThe answer is 7", "Ann has 3"),
        ("Yes\nAnn has 3.\nBen has 4.\nThe answer is 7", "Ann has 3."),
        ("Yes\nAnn has 3.\nThat is more than 2.", "Ann has 3. That is more than 2."),
        ("Yes\nStep: -5 + 3 = -2", "-5 + 3 = -2"),
        ("Yes\n-5 + 3 = -2", "-5 + 3 = -2"),
        ("Yes.\n```\nAnn has 3\n```", "Ann has 3"),
        ("Verdict: yes\nAnn has 3", "Ann has 3"),
    ],
)
def test_reads_the_teachers_wording(reply, wording):
    verdict = read_verdict(reply)
    assert verdict.accepted is True
    assert read_wording(TASK, verdict.rest) == wording


@pytest.mark.parametrize(
    ("reply", "steps", "answer"),
    [
        ("No\n3 + 4 = 7\n7 - 2 = 5\nThe answer is 5", ["3 + 4 = 7", "7 - 2 = 5"], "5"),
        ("No, the step is wrong: 3 + 4 is not 8.\n3 + 4 = 7\nThe answer is 7", ["3 + 4 = 7"], "7"),
        ("No, we need 3 + 4 = 7.\n7 - 2 = 5\nThe answer is 5", ["we need 3 + 4 = 7.", "7 - 2 = 5"], "5"),
        (
            "I disagree.\n\nRemaining steps:\n1. 3 + 4 = 7\n2. 7 - 2 = 5\n\n**The answer is 5**",
            ["3 + 4 = 7", "7 - 2 = 5"],
            "5",
        ),
        ("No.\nReason: it forgets Ben.\n- 3 + 4 = 7\n- 7 - 2 = 5\n#### 5", ["3 + 4 = 7", "7 - 2 = 5"], "5"),
        (
            "No. Ann has 7. She eats 2, so 5 are left. The answer is 5.",
            ["Ann has 7.", "She eats 2, so 5 are left."],
            "5",
        ),
        ("No\n\n**Step 1:** 3 + 4 = 7\n**Step 2:** 7 - 2 = 5\n\n\\boxed{5}", ["3 + 4 = 7", "7 - 2 = 5"], "5"),
        ("No, that's wrong.", [], None),
        ("No. The answer is 5.", [], "5"),
    ],
)
def test_reads_the_remaining_steps(reply, steps, answer):
    verdict = read_verdict(reply)
    assert verdict.accepted is False
    assert read_remaining(TASK, verdict.rest, verdict.remark) == (steps, answer)
