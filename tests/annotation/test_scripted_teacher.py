"""The scripted teacher through the real methods."""

import asyncio
import subprocess
import sys

import pytest

from hf_active_distill.annotation import AnnotationItem, AnnotationSettings, get_annotation
from hf_active_distill.annotation.prompts import read_prompt
from hf_active_distill.errors import ConfigurationError, TeacherRequestError
from hf_active_distill.exchange import ServingParams
from hf_active_distill.records import Explanation
from hf_active_distill.serving.backend import Backend
from hf_active_distill.serving.scripted import scripted_backend
from hf_active_distill.synthetic import get_world
from hf_active_distill.tasks import get_task


WORLD = get_world("arithmetic_skewed")
ROWS = WORLD.problems(40, 0, "train")
TASKS = [get_task("reasoning"), get_task("reasoning", answer_format="#### {answer}")]


class BackendAsk:
    """Asks a backend without a server."""

    def __init__(self, backend):
        self.backend = backend
        self.replies = []

    async def __call__(self, request, *, turn=0):
        params = ServingParams(max_new_tokens=request.params.max_new_tokens, grammar=request.params.grammar)
        reply = await self.backend.chat(request.message_list(), params)
        self.replies.append(reply.text)
        return reply


def with_mistake(row, at):
    """An explanation by the solver with step `at` wrong; none is wrong where `at` is past the end."""
    steps, answer = WORLD.solve(row.prompt)
    if at < len(steps):
        steps[at] = steps[at].rsplit(" ", 1)[0] + " 98"
    return Explanation(row.row_id, "\n".join(steps), steps, answer)


def annotated(kind, backend, task=TASKS[0], settings=None):
    method = get_annotation(kind, task, settings or AnnotationSettings())
    ask = BackendAsk(backend)
    found = []
    for index, row in enumerate(ROWS):
        solution, _ = WORLD.solve(row.prompt)
        at = index % (len(solution) + 1)
        record = asyncio.run(method.annotate(AnnotationItem(row, with_mistake(row, at)), ask))
        found.append((row, solution, at if at < len(solution) else None, record))
    return found, ask


def test_it_is_a_backend():
    backend = scripted_backend("arithmetic_skewed")
    assert isinstance(backend, Backend) and backend.info().model == "scripted/arithmetic_skewed"
    text = "Ann: 14 + 12 = 26\n\nIs \u00e9t\u00e9 it_right?"
    assert "".join(span.text for span in backend.tokenize(text)) == text
    backend.close()


@pytest.mark.parametrize("kind", ["cot", "clear", "one_call"])
@pytest.mark.parametrize("task", TASKS, ids=["the_answer_is", "hashes"])
def test_without_mistakes_every_row_is_right(kind, task):
    found, ask = annotated(kind, scripted_backend("arithmetic_skewed"), task, AnnotationSettings(verify=True))
    for _, solution, at, record in found:
        assert (record.status, record.first_rejected) == ("ok", None if kind == "cot" else at)
        assert sorted(record.steps) == sorted(solution)
        assert record.usage.prompt_tokens > record.usage.completion_tokens > 0
    openings = {reply.split("\n")[0][:12] for reply in ask.replies}
    assert len(openings) > 3 if kind != "one_call" else openings == {'{"first_wron'}


@pytest.mark.parametrize("kind", ["cot", "clear", "one_call"])
def test_mistakes_come_at_about_their_rate_and_by_seed(kind):
    def wrong(seed):
        found, _ = annotated(kind, scripted_backend("arithmetic_skewed", error_rate=0.3, seed=seed))
        return [sorted(record.steps) != sorted(solution) for _, solution, _, record in found]

    assert wrong(1) == wrong(1) != wrong(2)
    assert 4 <= sum(wrong(1)) <= 36


def test_same_conversation_same_answer():
    first, second = (annotated("clear", scripted_backend("arithmetic_skewed"))[1].replies for _ in range(2))
    assert first == second


def say(backend, content, **params):
    return asyncio.run(backend.chat([{"role": "user", "content": content}], ServingParams(**params)))


def test_answers_a_plain_question_and_admits_what_it_does_not_know():
    backend = scripted_backend("arithmetic_skewed")
    answer = WORLD.solve(ROWS[0].prompt)[1]
    assert say(backend, ROWS[0].prompt).text.endswith(f"The answer is {answer}")
    assert "cannot" in say(backend, "What is the capital of France?").text
    generated = asyncio.run(backend.generate(ROWS[0].prompt, ServingParams()))
    assert generated.text.endswith(f"The answer is {answer}")


def test_limits_and_stops():
    backend = scripted_backend("arithmetic_skewed")
    whole = say(backend, ROWS[0].prompt)
    cut = say(backend, ROWS[0].prompt, max_new_tokens=4, top_logprobs=1)
    assert cut.finish_reason == "length" and whole.text.startswith(cut.text)
    assert cut.usage.completion_tokens == len(cut.tokens) == len(cut.top_tokens) == 4
    stopped = say(backend, ROWS[0].prompt, stop=("The answer",))
    assert stopped.stopped_by_sequence and stopped.text.endswith("The answer") and stopped.finish_reason == "stop"
    with pytest.raises(TeacherRequestError):
        say(backend, ROWS[0].prompt, prefill_logprobs=True)
    with pytest.raises(TeacherRequestError):
        say(backend, ROWS[0].prompt, max_new_tokens=40_000)


def test_an_error_rate_is_a_share():
    with pytest.raises(ConfigurationError, match="share"):
        scripted_backend("arithmetic_skewed", error_rate=3)


def test_other_conversations_are_not_annotation_prompts():
    assert read_prompt([]) is None
    assert read_prompt([{"role": "user", "content": "Hello"}]) is None


def test_no_torch_is_loaded():
    code = "import sys, hf_active_distill.serving.scripted as s; s.scripted_backend('arithmetic_skewed'); "
    code += "print(any(name in sys.modules for name in ('torch', 'transformers')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
