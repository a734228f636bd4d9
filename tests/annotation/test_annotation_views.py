"""Training rows, preference rows, failure counts, the diff."""

from dataclasses import replace

import pytest
from rich.console import Console
from scripted_asks import ROW, annotate

from hf_active_distill.annotation import (
    AnnotationSettings,
    completion_rows,
    failure_counts,
    preference_rows,
    render_revision,
    step_preference_rows,
    unpaired_preference_rows,
)
from hf_active_distill.records import Annotation, Explanation, PoolRow
from hf_active_distill.teachers.base import TeacherReply


REPLIES = ["Yes\nStep: Three and four make 7.", "No\n7 - 2 = 5\nThe answer is 5"]
TURNS = [{"role": "user", "content": ROW.prompt}]


def revision(row=ROW, **options):
    return annotate("clear", *REPLIES, row=row, **options)[0]


def test_plain_rows():
    failed = annotate("clear", "Yes", "No.")[0]
    assert completion_rows([revision(), failed]) == [
        {"prompt": ROW.prompt + "\n", "completion": "Three and four make 7.\n7 - 2 = 5\nThe answer is 5"}
    ]
    assert step_preference_rows([revision(), failed]) == [
        {
            "prompt": ROW.prompt + "\n",
            "chosen": "Three and four make 7.\n7 - 2 = 5",
            "rejected": "Three and four make 7.\n7 - 2 = 4",
        }
    ]


def test_conversational_rows():
    record = revision(PoolRow("r1", TURNS))
    (row,) = completion_rows([record])
    assert row["prompt"] == TURNS
    assert row["completion"] == [{"role": "assistant", "content": record.completion}]
    (whole,) = preference_rows([record])
    assert whole["chosen"] == row["completion"]
    assert whole["rejected"] == [{"role": "assistant", "content": record.student.text}]
    (pair,) = step_preference_rows([record])
    assert pair["prompt"] == TURNS
    assert [turn[0]["role"] for turn in (pair["chosen"], pair["rejected"])] == ["assistant", "assistant"]
    assert pair["rejected"][0]["content"].endswith("7 - 2 = 4")


def test_thinking_goes_where_templates_look_for_it():
    replies = [TeacherReply(REPLIES[0], reasoning="hm"), REPLIES[1]]
    settings = AnnotationSettings(keep_thinking=True)
    plain = annotate("clear", *replies, settings=settings)[0]
    assert completion_rows([plain])[0]["completion"].startswith("<think>\nhm\n</think>\n\nThree")
    chat = annotate("clear", *replies, settings=settings, row=PoolRow("r1", TURNS))[0]
    assert completion_rows([chat])[0]["completion"][0]["reasoning_content"] == "hm"


def test_no_pair_without_a_rejected_step_or_a_difference():
    accepted = annotate("clear", "Yes\nStep: a 7", "Yes\nStep: b 5", "The answer is 5")[0]
    same = annotate("clear", "Yes\nStep: a 7", "No\n7 - 2 = 4\nThe answer is 5")[0]
    assert completion_rows([accepted, same]) and step_preference_rows([accepted, same]) == []


def test_pairs_are_whole_solutions_for_trainers_put_an_end_behind_them():
    record = revision()
    assert preference_rows([record]) == [
        {"prompt": ROW.prompt + "\n", "chosen": record.completion, "rejected": record.student.text}
    ]
    assert record.student.text.endswith(record.student.answer) and record.completion.endswith("The answer is 5")


@pytest.mark.parametrize(
    ("answer", "pairs"), [("4", 1), (None, 1), ("5", 0), ("5.0", 0), ("$5", 0)], ids=lambda value: str(value)
)
def test_without_verdicts_another_answer_makes_a_pair(answer, pairs):
    solved = annotate("cot", "Three and four make 7.\n7 - 2 = 5\nThe answer is 5")[0]
    assert not solved.verdicts and solved.first_rejected is None
    solved.student = replace(solved.student, answer=answer)
    rows = preference_rows([solved])
    assert len(rows) == pairs and all(row["chosen"] == solved.completion for row in rows)
    assert step_preference_rows([solved]) == []


def test_nothing_to_prefer():
    same = annotate("clear", "Yes\nStep: a 7", "No\n7 - 2 = 4\nThe answer is 5")[0]
    same.student = replace(same.student, text=same.completion)
    silent, alone, failed = revision(), revision(), revision()
    silent.student = replace(silent.student, text=" \n")
    alone.student = None
    failed.status = "failed"
    without_answers = replace(revision(), first_rejected=None, answer=None)
    assert preference_rows([same, silent, alone, failed, without_answers]) == []


@pytest.mark.parametrize("own", ["well", None])
@pytest.mark.parametrize("keep", [True, False])
def test_reasoning_stands_before_both_of_a_pair_or_before_none(keep, own):
    replies = [TeacherReply(REPLIES[0], reasoning="hm"), REPLIES[1]]
    record = annotate("clear", *replies, settings=AnnotationSettings(keep_thinking=keep))[0]
    record.student = replace(record.student, thinking=own)
    (pair,) = preference_rows([record])
    both = bool(keep and own)
    assert pair["chosen"].startswith("<think>\nhm") == pair["rejected"].startswith("<think>\nwell") == both
    assert ("<think>" in pair["chosen"]) == ("<think>" in pair["rejected"]) == both


def test_what_was_cut_off_is_no_whole_solution():
    record = revision()
    record.student = replace(record.student, finish_reason="length")
    assert preference_rows([record]) == [] and len(step_preference_rows([record])) == 1


def test_the_task_may_say_which_answers_are_equal():
    solved = annotate("cot", "Three and four make 7.\n7 - 2 = 5\nThe answer is 5")[0]
    solved.student = replace(solved.student, answer="five")
    assert len(preference_rows([solved])) == 1
    assert preference_rows([solved], lambda first, second: {first, second} == {"five", "5"}) == []
    assert [row["label"] for row in unpaired_preference_rows([solved], lambda *_: False)] == [True, False]


@pytest.mark.parametrize(("num_tokens", "pairs"), [(0, 0), (3, 1)])
def test_a_label_makes_a_pair_where_the_student_wrote_its_own(num_tokens, pairs):
    student = Explanation("r1", "Label: good", [], "good", num_tokens=num_tokens)
    record = Annotation("r1", "label", "ok", "?", answer="bad", completion="Label: bad", label="bad", student=student)
    assert len(preference_rows([record])) == pairs


def test_failures_are_counted_by_reason():
    records = [
        annotate("clear", "No.")[0],
        annotate("clear", "Hm.", "Hm.")[0],
        annotate("clear", "No.")[0],
        revision(),
    ]
    assert failure_counts(records) == {"no_answer": 2, "unreadable_verdict": 1}


def rendered(record, **options):
    console = Console(width=100, record=True, file=open("/dev/null", "w"), **options)
    console.print(render_revision(record))
    return console


def test_revision_shows_both_sides():
    text = rendered(revision()).export_text()
    assert ROW.prompt in text
    second = next(line for line in text.splitlines() if "7 - 2 = 4" in line)
    assert "no" in second and "7 - 2 = 5" in second
    assert any("answer" in line and "4" in line and "5" in line for line in text.splitlines())


def test_changed_words_are_coloured():
    html = rendered(revision(), force_terminal=True, color_system="truecolor").export_html(inline_styles=True)
    assert "line-through" in html.split("4</span>")[0].rsplit("<span", 1)[1]


@pytest.mark.parametrize("replies", [["Hm.", "Hm."], ["Yes\nStep: [bold]a[/bold]", "No."]])
def test_failed_revisions_are_shown_with_their_reason(replies):
    record = annotate("clear", *replies)[0]
    text = rendered(record).export_text()
    assert f"failed: {record.reason}" in text
    assert "[bold]" in text or record.reason == "unreadable_verdict"


def test_cot_is_shown_without_a_student():
    record = annotate("cot", "3 + 4 = 7\nThe answer is 7", student=None)[0]
    assert "3 + 4 = 7" in rendered(record).export_text()
