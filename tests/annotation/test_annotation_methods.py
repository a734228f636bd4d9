"""The three methods against teachers that answer from a list."""

import json

import pytest
from scripted_asks import ROW, STUDENT, annotate

from hf_active_distill.annotation import AnnotationItem, AnnotationSettings, available_annotations, get_annotation
from hf_active_distill.errors import (
    BudgetExhaustedError,
    ConfigurationError,
    TeacherAuthError,
    TeacherGenerationError,
    TeacherGoneError,
    TeacherInterruptedError,
    TeacherRequestError,
)
from hf_active_distill.records import Annotation, Explanation, PoolRow, Usage
from hf_active_distill.tasks import get_task
from hf_active_distill.teachers.base import GenerationParams, TeacherReply


SOLUTION = "3 + 4 = 7\n7 - 2 = 5\nThe answer is 5"
REVISION = json.dumps({"first_wrong_step": 2, "steps": ["3 + 4 is 7", "7 - 2 = 5"], "answer": "5 apples"})


def contents(request):
    return [turn["content"] for turn in request.message_list()]


def test_cot_explains_from_scratch():
    record, ask = annotate("cot", SOLUTION)
    assert (record.status, record.steps, record.answer) == ("ok", ["3 + 4 = 7", "7 - 2 = 5"], "5")
    assert record.completion == SOLUTION and record.prompt == ROW.prompt + "\n"
    assert record.usage == Usage(calls=1, prompt_tokens=10, completion_tokens=2)
    assert (record.round, record.row_id, record.kind) == (3, "r1", "cot")
    (prompt,) = contents(ask.requests[0])
    assert ROW.prompt in prompt and "The answer is <answer>" in prompt
    assert STUDENT.steps[1] not in prompt


def test_the_prompt_shows_the_tasks_form_and_choices():
    task = get_task("multiple_choice", answer_format="#### {answer}")
    row = PoolRow("r", "Which?", columns={"choices": ["x", "y"]})
    _, ask = annotate("cot", "x is less.\n#### A", row=row, task=task)
    (prompt,) = contents(ask.requests[0])
    assert "#### <answer>" in prompt and "(B) y" in prompt and "one of: A, B" in prompt


def test_clear_goes_step_by_step_to_the_first_no():
    record, ask = annotate("clear", "Yes\nStep: Three and four make 7.", "No\n7 - 2 = 5\nThe answer is 5")
    assert record.steps == ["Three and four make 7.", "7 - 2 = 5"]
    assert record.completion == "Three and four make 7.\n7 - 2 = 5\nThe answer is 5"
    assert record.first_rejected == 1
    assert [(v.index, v.accepted, v.student_step, v.teacher_step) for v in record.verdicts] == [
        (0, True, "3 + 4 = 7", "Three and four make 7."),
        (1, False, "7 - 2 = 4", "7 - 2 = 5"),
    ]
    assert (record.accepted_steps, record.judged_steps, record.usage.calls) == (1, 2, 2)
    first, second = (contents(request) for request in ask.requests)
    assert "3 + 4 = 7" in first[0] and "7 - 2 = 4" not in first[0]
    # The history is sent again, with the teacher's own reply in it.
    assert second[:2] == [first[0], "Yes\nStep: Three and four make 7."]
    assert "7 - 2 = 4" in second[2] and len(second) == 3
    assert ask.turns == [0, 1]
    assert Annotation.from_dict(json.loads(json.dumps(record.to_dict()))) == record


def test_clear_closes_when_all_steps_stand():
    record, ask = annotate("clear", "Yes\nStep: a 7", "Yes\nStep: b 5", "So 5 are left.\nThe answer is 5")
    assert record.steps == ["a 7", "b 5", "So 5 are left."]
    assert (record.answer, record.first_rejected, len(ask.requests)) == ("5", None, 3)


@pytest.mark.parametrize("closing", ["5", "5 apples.", "The answer is 5", "All steps stand. The answer is 5."])
def test_closing_turn_may_be_terse(closing):
    record, _ = annotate("clear", "Yes\nStep: a 7", "Yes\nStep: b 5", closing)
    assert (record.steps, record.answer) == (["a 7", "b 5"], "5")


def test_clear_may_take_the_students_answer():
    record, ask = annotate("clear", "Yes\nStep: a 7", "Yes\nStep: b 4", answer_from="student")
    assert (record.answer, len(ask.requests)) == ("4", 2)
    no_answer = Explanation("r1", "3 + 4 = 7", ["3 + 4 = 7"], None)
    record, ask = annotate("clear", "Yes\nStep: a 7", "The answer is 5", student=no_answer, answer_from="student")
    assert (record.answer, len(ask.requests)) == ("5", 2)


def test_a_missing_wording_keeps_the_verdicts_and_fails_the_row():
    record, _ = annotate("clear", "Yes", "No\n7 - 2 = 5\nThe answer is 5")
    assert (record.status, record.reason, record.first_rejected) == ("failed", "no_wording", 1)
    assert record.completion is None and record.accepted_steps == 1
    record, _ = annotate("clear", "Yes", "No\n7 - 2 = 5\nThe answer is 5", missing_wording="student")
    assert (record.status, record.steps) == ("ok", ["3 + 4 = 7", "7 - 2 = 5"])


@pytest.mark.parametrize("kind", ["clear", "one_call"])
def test_without_student_steps_the_teacher_explains(kind):
    record, ask = annotate(kind, SOLUTION, student=Explanation("r1", "", [], None))
    assert (record.status, record.kind, record.verdicts, len(record.steps)) == ("ok", kind, [], 2)


@pytest.mark.parametrize("kind", ["clear", "one_call"])
def test_revising_needs_an_explanation(kind):
    with pytest.raises(ConfigurationError, match="explanation"):
        annotate(kind, student=None)


def test_an_unreadable_verdict_is_asked_again():
    settings = AnnotationSettings(max_unreadable=2)
    replies = ["Hm.", "", "Yes\nStep: a 7", "No\n7 - 2 = 5\nThe answer is 5"]
    record, ask = annotate("clear", *replies, settings=settings, attempt=1)
    assert record.status == "ok" and record.usage.calls == 4
    assert [request.attempt for request in ask.requests] == [3, 4, 5, 3]
    assert len({request.key("m", None) for request in ask.requests}) == 4
    # The bad reply is shown back, an empty one cannot be; neither stays in the history.
    assert contents(ask.requests[1])[1] == "Hm." and len(contents(ask.requests[1])) == 3
    assert len(contents(ask.requests[2])) == 1 and "Yes or the word No" in contents(ask.requests[2])[0]
    assert contents(ask.requests[3])[1] == "Yes\nStep: a 7" and len(contents(ask.requests[3])) == 3


def test_a_second_try_of_a_row_repeats_no_key():
    keys = set()
    for attempt in range(3):
        _, ask = annotate("clear", "Hm.", "Hm.", attempt=attempt)
        keys |= {request.key("m", None) for request in ask.requests}
    assert len(keys) == 6


LENGTH = TeacherReply("Yes\nStep: Three and", finish_reason="length")


@pytest.mark.parametrize(
    ("kind", "replies", "reason"),
    [
        ("clear", ["Hm.", "Well."], "unreadable_verdict"),
        ("clear", ["Ja, das stimmt.", "Ja."], "other_language"),
        ("clear", ["", ""], "empty"),
        ("clear", ["<think>Yes", "<think>Yes"], "empty"),
        ("clear", [LENGTH], "length"),
        ("clear", ["No, that is wrong."], "no_answer"),
        ("clear", ["No. The answer is 5."], "no_steps"),
        ("clear", ["Yes\nStep: a 7", "Yes\nStep: b 5", "Done.", "I have no idea."], "no_answer"),
        ("clear", [TeacherRequestError("too long", status=422)], "teacher_refused"),
        ("clear", [TeacherGenerationError("broken")], "teacher_error"),
        ("clear", [TeacherInterruptedError("timed out")], "teacher_error"),
        ("cot", [""], "empty"),
        ("cot", ["3 + 4 = 7\n7 - 2 = 5"], "no_answer"),
        ("cot", ["The answer is 5"], "no_steps"),
        ("cot", [TeacherReply(SOLUTION, finish_reason="length")], "length"),
        ("cot", ["Ana tiene 3 y compra 4, que son 7.\nSe come 2 y le quedan 5.\n#### 5"], "other_language"),
        ("one_call", ["No idea.", "{}"], "unreadable_json"),
        ("one_call", [REVISION.replace("2,", "9,"), "[]"], "unreadable_json"),
    ],
)
def test_failures_become_records(kind, replies, reason):
    record, _ = annotate(kind, *replies)
    assert (record.status, record.reason, record.completion, record.answer) == ("failed", reason, None, None)
    assert record.student == STUDENT


def test_an_unread_verdict_is_kept_with_its_reply():
    record, _ = annotate("clear", "Yes\nStep: a 7", "Hm.", "Well.")
    assert [(v.accepted, v.reply) for v in record.verdicts] == [(True, "Yes\nStep: a 7"), (None, "Well.")]
    assert (record.accepted_steps, record.judged_steps) == (1, 1)


@pytest.mark.parametrize("error", [BudgetExhaustedError("cap"), TeacherAuthError("401"), TeacherGoneError("gone")])
@pytest.mark.parametrize("kind", ["cot", "clear", "one_call"])
def test_what_ends_the_run_passes(kind, error):
    with pytest.raises(type(error)):
        annotate(kind, error)


@pytest.mark.parametrize("kind", ["cot", "one_call"])
def test_verify_fails_an_answer_against_the_reference(kind):
    settings = AnnotationSettings(verify=True)
    reply = SOLUTION if kind == "cot" else REVISION
    assert annotate(kind, reply, settings=settings)[0].status == "ok"
    wrong = PoolRow("r1", ROW.prompt, "6")
    record, _ = annotate(kind, reply, settings=settings, row=wrong)
    assert (record.status, record.reason) == ("failed", "wrong_answer")
    assert annotate(kind, reply, settings=settings, row=PoolRow("r1", ROW.prompt))[0].status == "ok"
    assert annotate(kind, reply, row=wrong)[0].status == "ok"


def test_thinking_is_kept_on_request():
    replies = [TeacherReply("Yes\nStep: a 7", reasoning="one"), "<think>two</think>No\n7 - 2 = 5\nThe answer is 5"]
    assert annotate("clear", *replies)[0].thinking is None
    record, ask = annotate("clear", *replies, settings=AnnotationSettings(keep_thinking=True))
    assert record.thinking == "one\n\ntwo"
    assert record.completion == "a 7\n7 - 2 = 5\nThe answer is 5"
    assert "one" not in contents(ask.requests[1])


def test_one_call_reads_the_revision():
    record, ask = annotate("one_call", REVISION)
    assert (record.steps, record.answer, record.first_rejected) == (["3 + 4 is 7", "7 - 2 = 5"], "5", 1)
    assert [(v.accepted, v.teacher_step) for v in record.verdicts] == [(True, "3 + 4 is 7"), (False, "7 - 2 = 5")]
    (prompt,) = contents(ask.requests[0])
    assert "1. 3 + 4 = 7\n2. 7 - 2 = 4\nAnswer of the student: 4" in prompt
    grammar = ask.requests[0].params.grammar
    assert grammar["type"] == "json" and set(grammar["value"]["properties"]) == set(json.loads(REVISION))


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        (f"```json\n{REVISION}\n```", 1),
        (f"Here it is:\n{REVISION}\nI hope it helps.", 1),
        (REVISION[:-1], 1),
        (REVISION.replace(" 2,", ' "2",').replace('"answer": "5 apples"', '"answer": 5'), 1),
        (REVISION.replace(" 2,", ' "step 2",'), 1),
        (REVISION.replace("2,", "null,"), None),
        (REVISION.replace("2,", '"none",'), None),
        (REVISION.replace("]", ",]"), 1),
        (REVISION.replace('"7 - 2 = 5"', '"7 - 2 = 5", "The answer is 5."'), 1),
        ('{"first_wrong_step": 2, "steps": "1. 3 + 4 is 7\\n2. 7 - 2 = 5", "answer": "5"}', 1),
        ("First wrong step: 2\nSteps:\n1. 3 + 4 is 7\n2. 7 - 2 = 5\nThe answer is 5", 1),
        ("First wrong step: none\n3 + 4 is 7\n7 - 2 = 5\nThe answer is 5", None),
    ],
)
def test_one_call_reads_what_ignored_the_grammar(reply, first):
    record, _ = annotate("one_call", reply)
    assert (record.steps, record.answer, record.first_rejected) == (["3 + 4 is 7", "7 - 2 = 5"], "5", first)
    assert record.judged_steps == 2


def test_one_call_goes_on_without_a_refused_grammar():
    record, ask = annotate("one_call", TeacherRequestError("Grammar is not supported", status=422), REVISION)
    assert record.status == "ok" and record.first_rejected == 1
    assert [request.params.grammar is None for request in ask.requests] == [False, True]
    assert ask.requests[0].messages == ask.requests[1].messages


def test_one_call_asks_again_for_json():
    record, ask = annotate("one_call", "Step 2 is wrong.", REVISION)
    assert record.status == "ok" and [request.attempt for request in ask.requests] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "replies"),
    [
        ("cot", [SOLUTION]),
        ("clear", ["No\n3 + 4 = 7\nThe answer is 5"]),
        ("clear", ["Hm.", "Yes\nStep: a 7", "Hm.", "Yes\nStep: b 5", "Hm.", "The answer is 5"]),
        ("one_call", [REVISION]),
        ("one_call", ["Hm.", REVISION]),
    ],
)
def test_calls_lie_within_the_plan(kind, replies):
    params = GenerationParams(max_new_tokens=77)
    method = get_annotation(kind, get_task("reasoning"), AnnotationSettings(params))
    fewest, most = method.plan(AnnotationItem(ROW, STUDENT))
    _, ask = annotate(kind, *replies, settings=AnnotationSettings(params))
    assert len(fewest) <= len(replies) <= len(most)
    # The first call is the very one that the plan shows.
    assert ask.requests[0] == fewest[0] == most[0]
    assert all(request.params.max_new_tokens == 77 for request in most)


def test_plans_without_an_explanation():
    for kind in available_annotations():
        task = get_task("classification", labels=["few", "many"]) if kind == "label" else get_task("reasoning")
        fewest, most = get_annotation(kind, task).plan(AnnotationItem(ROW))
        assert 1 == len(fewest) <= len(most)
    empty = Explanation("r1", "", [], None)
    plan = get_annotation("clear", get_task("reasoning")).plan(AnnotationItem(ROW, empty))
    assert [len(calls) for calls in plan] == [1, 1]


def test_annotation_registry_names_the_cure():
    task = get_task("reasoning")
    with pytest.raises(ConfigurationError, match="clear, cot, label, one_call"):
        get_annotation("poem", task)
    with pytest.raises(ConfigurationError, match="answer_from"):
        get_annotation("clear", task, answer_from="nobody")
    with pytest.raises(ConfigurationError, match="missing_wording"):
        get_annotation("clear", task, missing_wording="none")
    with pytest.raises(ConfigurationError, match="colour"):
        get_annotation("cot", task, colour="red")
