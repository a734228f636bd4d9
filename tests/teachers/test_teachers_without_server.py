"""Functions and recorded answers as teachers, and the telling of thoughts from words."""

import asyncio
import json
import sqlite3
import threading

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.asking import Dispatcher, Journal
from hf_active_distill.asking.rows import Call
from hf_active_distill.errors import (
    ConfigurationError,
    TeacherGenerationError,
    TeacherOverloadedError,
    TeacherProtocolError,
    TeacherRequestError,
)
from hf_active_distill.records import Annotation, Usage
from hf_active_distill.teachers import (
    FunctionTeacher,
    GenerationParams,
    ReplayTeacher,
    TeacherReply,
    TeacherRequest,
    load_teacher,
)
from hf_active_distill.teachers.replies import cut_at_stop, repair


PARAMS = GenerationParams(max_new_tokens=9)


def chat(text, **kwargs):
    return TeacherRequest.chat([{"role": "user", "content": text}], PARAMS, **kwargs)


def ask(teacher, request):
    return asyncio.run(teacher.ask(request))


def test_functions_of_every_kind():
    async def coroutine(messages):
        return messages[-1]["content"].upper()

    class Callable:
        async def __call__(self, messages, params):
            return TeacherReply(f"{params.max_new_tokens}", usage=Usage(1, 2, 3))

    assert ask(load_teacher(coroutine), chat("why?")).text == "WHY?"
    assert ask(load_teacher(lambda messages: coroutine(messages)), chat("why?")).text == "WHY?"
    reply = ask(load_teacher(Callable()), chat("why?"))
    assert (reply.text, reply.usage) == ("9", Usage(1, 2, 3))
    assert ask(load_teacher(lambda prompt, params: prompt + "!"), TeacherRequest.generate("a", PARAMS)).text == "a!"


def test_a_plain_function_blocks_nobody():
    barrier = threading.Barrier(3, timeout=10)

    def together(messages):
        barrier.wait()
        return "<think>hm</think>done"

    async def three():
        teacher = load_teacher(together)
        return await asyncio.gather(*(teacher.ask(chat(str(i))) for i in range(3)))

    replies = asyncio.run(three())
    assert {(reply.text, reply.reasoning, reply.usage.estimated) for reply in replies} == {("done", "hm", True)}


def test_what_a_function_raises_or_returns_becomes_a_named_error():
    def boom(messages):
        raise ConnectionResetError("gone")

    def busy(messages):
        raise TeacherOverloadedError("wait", retry_after=3)

    with pytest.raises(TeacherGenerationError, match="boom raised ConnectionResetError: gone.*Another try") as caught:
        ask(load_teacher(boom), chat("a"))
    assert caught.value.retryable
    with pytest.raises(TeacherOverloadedError, match="wait"):
        ask(load_teacher(busy), chat("a"))
    with pytest.raises(TeacherProtocolError, match="returned int") as caught:
        ask(load_teacher(lambda messages: 3), chat("a"))
    assert not caught.value.retryable


@pytest.mark.parametrize("is_async", [False, True])
def test_a_mistake_in_the_function_ends_the_run_at_once_as_it_was_raised(is_async, tmp_path):
    asked = []

    def wrong(messages):
        asked.append(messages)
        return messages[-1]["text"]  # no such key

    async def async_wrong(messages):
        return wrong(messages)

    async def work(desk, text):
        try:
            await desk.ask(chat(text))
        except KeyError:
            return "hidden by the work"

    teacher = load_teacher(async_wrong if is_async else wrong)
    with Dispatcher(teacher, journal=tmp_path / "journal.sqlite", max_concurrency=1) as desk:
        with pytest.raises(KeyError, match="text") as caught:
            desk.run_all(range(20), lambda number: work(desk, str(number)), progress=False)
        assert len(asked) == 1
        assert caught.traceback[-1].name == "wrong", "the traceback leads into the function"
        (row,) = desk.journal.rows()
        assert (row.state, row.error) == ("failed", "KeyError: 'text'")


def test_the_name_of_a_function_teacher():
    def solver(messages):
        return ""

    named = asyncio.run(FunctionTeacher(solver, model="mine", revision="2").info())
    assert (named.model, named.revision, named.door) == ("mine", "2", "function")
    assert asyncio.run(FunctionTeacher(solver).info()).model.endswith("solver")
    with pytest.raises(ConfigurationError):
        FunctionTeacher("no function")


def test_replay_from_a_mapping_finds_the_question_inside_any_prompt():
    teacher = load_teacher({"What is 2 + 2?": "4", "Is it true: What is 2 + 2?": "yes"})
    assert ask(teacher, chat("What is  2 + 2?\n")).text == "4"
    assert ask(teacher, chat("Solve step by step.\n\nQuestion: What is 2 + 2? Answer:")).text == "4"
    assert ask(teacher, TeacherRequest.generate("Q. Is it true: What is 2 + 2?", PARAMS)).text == "yes"
    with pytest.raises(TeacherRequestError, match="No recorded answer in memory .2 questions.*What is 3") as caught:
        ask(teacher, chat("What is 3 + 3?"))
    assert not caught.value.retryable


def test_replay_of_samples_and_attempts_takes_the_next_answer():
    rows = [{"question": "Why?", "text": text} for text in ("first", "second")]
    teacher = ReplayTeacher(rows)
    texts = [ask(teacher, chat("Why?", sample_index=s, attempt=a)).text for s, a in ((0, 0), (1, 0), (0, 1))]
    assert texts == ["first", "second", "second"]


def test_replay_with_a_look_up_of_ones_own():
    teacher = ReplayTeacher({"7": "seven"}, find=lambda request: request.message_list()[0]["content"].split("#")[-1])
    assert ask(teacher, chat("question #7")).text == "seven"
    with pytest.raises(TeacherRequestError):
        ask(teacher, chat("question #8"))


@pytest.mark.parametrize("form", ["jsonl", "json", "mapping", "parquet", "folder"])
def test_replay_from_files(tmp_path, form):
    rows = [{"question": f"Question {i}?", "solution": f"Answer {i}"} for i in range(12)]
    file = tmp_path / f"rows.{form}"
    if form == "jsonl":
        file.write_text("\n".join(map(json.dumps, rows)))
    elif form == "json":
        file.write_text(json.dumps(rows))
    elif form == "mapping":
        file = tmp_path / "rows.json"
        file.write_text(json.dumps({row["question"]: row["solution"] for row in rows}))
    elif form == "parquet":
        datasets.Dataset.from_list(rows).to_parquet(str(file))
    else:
        datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(str(file))
    teacher = load_teacher(f"replay:{file}")
    assert ask(teacher, chat("Question 11?")).text == "Answer 11"
    info = asyncio.run(teacher.info())
    assert info.door == "replay" and file.name in info.model


def test_replay_of_annotations_and_conversations():
    done = Annotation("a", "cot", "ok", prompt="Why?", completion="Because.", thinking="hm").to_dict()
    failed = Annotation("b", "cot", "failed", prompt="How?", reason="empty").to_dict()
    turns = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "Now."}]
    teacher = ReplayTeacher([done, failed, {"messages": turns}])
    reply = ask(teacher, chat("Why?"))
    assert (reply.text, reply.reasoning) == ("Because.", "hm")
    assert ask(teacher, chat("When?")).text == "Now."
    with pytest.raises(TeacherRequestError):
        ask(teacher, chat("How?"))


def test_replay_from_a_journal(tmp_path):
    path = tmp_path / "journal.db"
    requests = [chat("Why?"), chat("Why?", sample_index=1), TeacherRequest.generate("Go on", PARAMS)]

    with Journal(path) as journal:
        for number, request in enumerate(requests):
            call = Call(request, request.key("big/model", "abc"), "big/model", "abc")
            row = journal.sending(call, Usage(1, 10, 9))
            journal.answered(row, TeacherReply(f"text {number}", "length", reasoning="hm"))
    teacher = load_teacher(f"replay:{path}")
    assert [ask(teacher, request).text for request in requests] == ["text 0", "text 1", "text 2"]
    reply = ask(teacher, requests[0])
    assert (reply.finish_reason, reply.reasoning) == ("length", "hm")
    info = asyncio.run(teacher.info())
    assert (info.model, info.revision) == ("big/model", "abc")


def test_what_cannot_be_replayed_says_what_can(tmp_path):
    with pytest.raises(ConfigurationError, match="no recorded answers at .*missing.*journal"):
        load_teacher(f"replay:{tmp_path}/missing.jsonl")
    (tmp_path / "bad.jsonl").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_teacher(f"replay:{tmp_path}/bad.jsonl")
    (tmp_path / "other.jsonl").write_text('{"colour": "red"}')
    with pytest.raises(ConfigurationError, match="It has the columns: colour"):
        load_teacher(f"replay:{tmp_path}/other.jsonl")
    sqlite3.connect(tmp_path / "empty.db").executescript("CREATE TABLE x (y)")
    with pytest.raises(ConfigurationError, match="not a journal"):
        load_teacher(f"replay:{tmp_path}/empty.db")


@given(st.text(), st.lists(st.text(min_size=1, max_size=3), max_size=6))
def test_cut_text_holds_no_stop_string(text, stop):
    kept, was_cut = cut_at_stop(text, stop)
    assert text.startswith(kept) and not any(string in kept for string in stop)
    assert was_cut is any(string in text for string in stop)


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_repaired_text_can_be_written_anywhere(text):
    repaired = repair(text)
    repaired.encode("utf-8")
    assert repaired == text or any("\ud800" <= letter <= "\udfff" for letter in text)
