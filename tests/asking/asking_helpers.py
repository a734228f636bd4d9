"""Virtual time and teachers that do as they are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hf_active_distill.asking import Call, Dispatcher, Journal
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import GenerationParams, TeacherInfo, TeacherReply, TeacherRequest


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it. Work for threads is done at once."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> Any:
            events = select(0)
            if not events and timeout is None:
                raise RuntimeError("Nothing will ever happen again: the code under test hangs.")
            if not events and timeout:
                self._now += timeout
            return events

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._now

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


Answer = Callable[[TeacherRequest, int], Awaitable[TeacherReply]]


class ScriptedTeacher:
    """Answers as `answer(request, number of the call)` says; keeps what was asked and how much at once."""

    def __init__(self, answer: Answer | None = None, *, latency: float = 0.1, info: TeacherInfo | None = None):
        self._answer = answer
        self.latency = latency
        self.facts = info or TeacherInfo("scripted", "r1")
        self.asked: list[TeacherRequest] = []
        self.times: list[float] = []
        self.active = 0
        self.most_active = 0
        self.closed = 0

    async def info(self) -> TeacherInfo:
        return self.facts

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        number = len(self.asked)
        self.asked.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            if self._answer is not None:
                return await self._answer(request, number)
            await asyncio.sleep(self.latency)
            return reply(f"answer to {text_of(request)}")
        finally:
            self.active -= 1

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        return None

    async def aclose(self) -> None:
        self.closed += 1


def question(text: str, *, max_new_tokens: int = 20, **kwargs: Any) -> TeacherRequest:
    return TeacherRequest.chat(
        [{"role": "user", "content": text}], GenerationParams(max_new_tokens=max_new_tokens), **kwargs
    )


def text_of(request: TeacherRequest) -> str:
    return request.message_list()[-1]["content"]


def reply(text: str, prompt: int = 10, completion: int = 5, **kwargs: Any) -> TeacherReply:
    return TeacherReply(text, usage=Usage(1, prompt, completion, **kwargs))


BOUND = Usage(1, 100, 20, estimated=True)


def call(text: str = "q", **kwargs) -> Call:
    request = question(text, **{k: kwargs.pop(k) for k in ("sample_index", "attempt") if k in kwargs})
    return Call(request, request.key("m", None), "m", **kwargs)


def record(journal: Journal, text: str = "q", answer: str = "a", **kwargs) -> int:
    call_id = journal.sending(call(text, **kwargs), BOUND, cost=0.5)
    journal.answered(call_id, reply(answer), cost=0.25, latency=1.5, clock=3.0)
    return call_id


def dispatcher(teacher, **kwargs) -> Dispatcher:
    return Dispatcher(teacher, **{"loop_factory": VirtualLoop, **kwargs})


def ask_all(desk: Dispatcher, texts, **kwargs) -> list:
    return desk.run_all(texts, lambda text: desk.ask(question(text), row_id=text), progress=False, **kwargs)


def texts(count: int) -> list[str]:
    return [f"q{index}" for index in range(count)]


def dialogue(desk: Dispatcher, turns):
    async def work(index: int) -> str:
        ask = desk.bind(row_id=str(index), round=1, kind="clear")
        for turn in range(turns(index)):
            await ask(question(f"{index}.{turn}"), turn=turn)
        return f"{index}: {ask.usage.calls} calls, {ask.usage.total_tokens} tokens"

    return work
