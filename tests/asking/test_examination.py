"""What no page of a server tells is found out by one call, before a run relies on it."""

import logging

import pytest
from asking_helpers import ScriptedTeacher, dispatcher, reply
from fault_server import FaultServer, chatted, openai_routes

from hf_active_distill.asking import Budget, Dispatcher
from hf_active_distill.errors import TeacherRequestError
from hf_active_distill.teachers import TeacherInfo, TopToken, load_teacher


UNKNOWN = TeacherInfo("unknown", door="openai")


def test_a_server_that_ignores_logprobs_is_noticed_by_one_call_which_is_recorded(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "journal.sqlite"
    with FaultServer(openai_routes(owned_by="someone")) as server:
        for _ in range(2):
            with Dispatcher(load_teacher(f"openai+{server.url}"), journal=path) as desk:
                assert desk.examine_teacher().supports_logprobs is False
                assert desk.examine_teacher().supports_logprobs is False
                assert desk.info.supports_logprobs is False
        assert server.count("/v1/chat/completions") == 1, "the second run is told by the journal"
        sent = server.last("/v1/chat/completions").json
        assert (sent["max_tokens"], sent["logprobs"], sent["top_logprobs"]) == (1, True, 2)
    with Dispatcher(ScriptedTeacher(), journal=path) as desk:
        (row,) = desk.journal.rows()
        assert (row.kind, row.state, desk.spent.calls) == ("probe", "answered", 1)
    warned = [record.getMessage() for record in caplog.records if "examined" in record.getMessage()]
    assert warned and "no logprobs: label confidence will be estimated from samples" in warned[0]


def test_a_server_that_gives_logprobs_is_believed():
    position = {"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "A", "logprob": -0.1}]}
    routes = openai_routes(owned_by="someone")
    routes["/v1/chat/completions"] = chatted("A", logprobs={"content": [position]})
    with FaultServer(routes) as server, Dispatcher(load_teacher(f"openai+{server.url}")) as desk:
        assert desk.examine_teacher().supports_logprobs is True


@pytest.mark.parametrize(
    "info",
    [
        TeacherInfo("told", door="openai", supports_logprobs=False),
        TeacherInfo("told", door="tgi", supports_logprobs=True),
        TeacherInfo("a function", door="function"),
    ],
)
def test_what_is_known_or_no_server_is_not_asked(info):
    teacher = ScriptedTeacher(info=info)
    desk = dispatcher(teacher)
    assert desk.examine_teacher() == info and teacher.asked == []


def test_a_refusal_says_no_and_an_empty_budget_nothing():
    async def refuse(request, number):
        raise TeacherRequestError("top_logprobs is not supported", status=400)

    assert dispatcher(ScriptedTeacher(refuse, info=UNKNOWN)).examine_teacher().supports_logprobs is False
    teacher = ScriptedTeacher(info=UNKNOWN)
    assert dispatcher(teacher, budget=Budget(max_calls=0)).examine_teacher().supports_logprobs is None
    assert teacher.asked == []


def test_the_question_is_one_token():
    async def answer(request, number):
        assert request.params.max_new_tokens == 1 and request.params.top_logprobs == 2
        answered = reply("A", 12, 1)
        answered.top_tokens = [[TopToken("A", -0.1)]]
        return answered

    desk = dispatcher(ScriptedTeacher(answer, info=UNKNOWN))
    assert desk.examine_teacher().supports_logprobs is True and desk.spent.completion_tokens == 1
