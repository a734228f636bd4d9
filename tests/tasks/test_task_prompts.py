"""Prompts, rows from data sets, options, and a task of one's own."""

from dataclasses import dataclass

import pytest

from hf_active_distill.errors import ConfigurationError, DataError
from hf_active_distill.records import PoolRow
from hf_active_distill.tasks import ReasoningTask, Task, available_tasks, get_task, register_task, row_from_example


SHOTS = [("1 + 1?", "1 + 1 = 2\nThe answer is 2")]


def test_plain_prompt_is_the_question_and_a_line_break():
    assert get_task("reasoning").student_prompt(PoolRow("r", "What is 2 + 2?\n")) == "What is 2 + 2?\n"


def test_plain_prompt_with_system_prompt_and_shots():
    task = get_task("reasoning", system_prompt="Be brief.", few_shot=SHOTS)
    assert task.student_prompt(PoolRow("r", "2 + 2?")) == (
        "Be brief.\n\nQ: 1 + 1?\nA:\n1 + 1 = 2\nThe answer is 2\n\nQ: 2 + 2?\nA:\n"
    )


def test_plain_prompt_by_template():
    task = get_task("reasoning", prompt_template="### {question}\n")
    assert task.student_prompt(PoolRow("r", "2 + {2}?")) == "### 2 + {2}?\n"


def test_conversation_keeps_its_turns_and_joins_system_prompts():
    turns = [
        {"role": "system", "content": "Own."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "2 + 2?"},
    ]
    task = get_task("reasoning", system_prompt="Be brief.", few_shot=SHOTS)
    assert task.student_prompt(PoolRow("r", turns)) == [
        {"role": "system", "content": "Be brief.\n\nOwn."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "1 + 1 = 2\nThe answer is 2"},
        *turns[1:],
    ]
    assert task.question(PoolRow("r", turns)) == "User: Hi\n\nAssistant: Hello\n\nUser: 2 + 2?"
    assert task.question(PoolRow("r", turns[-1:])) == "2 + 2?"


def test_prompting_leaves_the_row_as_it_is():
    row = PoolRow("r", [{"role": "user", "content": "Which?"}], columns={"choices": ["a", "b"]})
    before = row.to_dict()
    prompt = get_task("multiple_choice").student_prompt(row)
    assert prompt[-1]["content"] == "Which?\n(A) a\n(B) b"
    assert row.to_dict() == before


@pytest.mark.parametrize("column", ["prompt", "question", "input", "problem", "text"])
def test_row_from_usual_columns(column):
    row = row_from_example({column: "2 + 2?", "answer": 4, "topic": "sums"})
    assert (row.prompt, row.reference, row.columns) == ("2 + 2?", "4", {"topic": "sums"})


def test_row_from_conversation_ends_with_the_question():
    turns = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    row = row_from_example({"messages": turns})
    assert row.prompt == turns[:1] and row.reference is None


def test_row_from_typed_parts():
    parts = [{"type": "text", "text": "2 + 2?"}]
    assert row_from_example({"prompt": [{"role": "user", "content": parts}]}).prompt[0]["content"] == "2 + 2?"


def test_row_ids():
    first, second = row_from_example({"prompt": "a"}), row_from_example({"prompt": "a ", "answer": "1"})
    assert first.row_id == second.row_id != row_from_example({"prompt": "b"}).row_id
    assert row_from_example({"prompt": "a", "key": 7}, id_column="key").row_id == "7"


@pytest.mark.parametrize(
    ("example", "options", "words"),
    [
        ({"body": "a", "label": 1}, {}, ["body, label", "prompt_column"]),
        ({"question": "a"}, {"prompt_column": "query"}, ["'query'", "question"]),
        ({"question": "a"}, {"reference_column": "gold"}, ["'gold'", "reference_column"]),
        ({"question": "a"}, {"id_column": "id"}, ["'id'", "id_column"]),
        ({"question": " "}, {}, ["empty"]),
        ({"question": 3}, {}, ["int"]),
        ({"messages": [{"role": "assistant", "content": "a"}]}, {}, ["no user turn"]),
        ({"messages": [{"from": "human", "value": "a"}]}, {}, ["from", "value"]),
    ],
)
def test_bad_rows_say_what_is_wrong(example, options, words):
    with pytest.raises(DataError) as error:
        row_from_example(example, **options)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"answer_format": "no slot"}, "answer_format"),
        ({"answer_format": "{answer}"}, "answer_format"),
        ({"answer_format": "two\n{answer}"}, "answer_format"),
        ({"step_split": "word"}, "step_split"),
        ({"max_steps": 0}, "max_steps"),
        ({"prompt_template": "none"}, "prompt_template"),
        ({"colour": "red"}, "step_split"),
    ],
)
def test_bad_options_say_what_is_wrong(options, word):
    with pytest.raises(ConfigurationError, match=word):
        get_task("reasoning", **options)


def test_registry():
    assert available_tasks()[:2] == ["classification", "multiple_choice"]
    task = get_task("yes_no")
    assert get_task(task) is task
    with pytest.raises(ConfigurationError, match="no options|no further options"):
        get_task(task, max_steps=3)
    with pytest.raises(ConfigurationError, match="multiple_choice, reasoning"):
        get_task("poetry")
    with pytest.raises(ConfigurationError, match="taken"):
        register_task("reasoning")(type("Other", (Task,), {}))


def test_a_task_of_ones_own():
    @register_task("roman_numerals")
    @dataclass
    class RomanTask(ReasoningTask):
        name = "roman_numerals"
        answer_format: str = "Ergo {answer}"

        def canonical(self, raw):
            return raw.strip(" .").upper() or None

    task = get_task("roman_numerals")
    text = task.render_completion(["I and I are II"], "II")
    assert text == "I and I are II\nErgo II"
    assert [span.text for span in task.split_steps(text)] == ["I and I are II"]
    assert task.read_answer("I and I are II\nergo sum\nErgo ii.") == "II"
    assert task.verify(PoolRow("r", "I + I?", "ii"), "II") is True
    assert task.verify(PoolRow("r", "I + I?"), "II") is None
