"""The door to recorded answers: no server, no cost, the same words every time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigurationError, TeacherRequestError
from ..records import Messages, Prompt, Usage
from .base import TeacherInfo, TeacherReply, TeacherRequest
from .recordings import Recorded, RecordedSource, read_recordings, rows_of


class ReplayTeacher:
    """
    Answers with what was recorded.

    A request is looked up, in this order, as a whole (content, sample and attempt), as a conversation or prompt, by
    its last user turn, and by the longest recorded question that stands in it, so that a plain data set of questions
    and solutions serves as a teacher whatever prompt is put around the question.

    Args:
        source (`str`, `dict` or `Sequence[dict]`):
            A journal, a `.jsonl`, `.json` or `.parquet` file, a data set folder or Hub id; or a mapping from question
            to text; or rows with a question and a text.
        find (`Callable`, *optional*):
            Takes a [`TeacherRequest`] and returns the recorded question in place of the look-up above; `None` from it
            means: not recorded.
        model (`str`, *optional*): Name under which answers are recorded anew.
        split (`str`, *optional*, defaults to `"train"`): Split of a data set that has several.
    """

    def __init__(
        self,
        source: str | Mapping[str, str] | list[dict[str, Any]],
        *,
        find: Callable[[TeacherRequest], str | None] | None = None,
        model: str | None = None,
        split: str = "train",
    ):
        loaded = _load(source, split)
        self._name = source if isinstance(source, str) else "memory"
        self._model = model or loaded.model
        self._revision = loaded.revision
        self._find = find
        self._by_content: dict[tuple[str, int, int], Recorded] = {}
        self._by_question: dict[str, list[Recorded]] = {}
        self._questions: list[str] = []
        for row in loaded.rows:
            self._add(row)
        # The longest first: a short question may be part of a longer one.
        self._questions.sort(key=len, reverse=True)

    def _add(self, row: Recorded) -> None:
        if row.content is not None:
            self._by_content.setdefault((row.content, row.sample_index, row.attempt), row)
        if row.question is None:
            return
        asked = _last_user(row.question)
        if asked and asked not in self._by_question:
            self._questions.append(asked)
        for key in {_conversation(row.question), asked} - {""}:
            self._by_question.setdefault(key, []).append(row)

    async def info(self) -> TeacherInfo:
        return TeacherInfo(
            model=self._model,
            revision=self._revision,
            door="replay",
            supports_logprobs=False,
            supports_prefill_logprobs=False,
            supports_grammar=False,
            supports_seed=True,
        )

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        row = self._look_up(request)
        if row is None:
            asked = request.prompt if request.kind == "generate" else _last_user(request.message_list())
            raise TeacherRequestError(
                f"No recorded answer in {self._name} ({len(self._questions)} questions) to: {_shown(asked or '')!r}. "
                "Record it, or pass `find` to say how questions are found."
            )
        return TeacherReply(row.text, row.finish_reason, Usage(calls=1), row.reasoning)

    def _look_up(self, request: TeacherRequest) -> Recorded | None:
        if self._find is not None:
            question = self._find(request)
            return None if question is None else self._pick(_folded(question), request)
        whole = self._by_content.get((request.content(), request.sample_index, request.attempt))
        if whole is not None:
            return whole
        prompt: Prompt = request.prompt or "" if request.kind == "generate" else request.message_list()
        asked = _last_user(prompt)
        for key in (_conversation(prompt), asked):
            row = self._pick(key, request)
            if row is not None:
                return row
        within = next((question for question in self._questions if question in asked), None)
        return None if within is None else self._pick(within, request)

    def _pick(self, key: str, request: TeacherRequest) -> Recorded | None:
        """Of several answers to one question, the one of the request's sample; a further attempt takes the next."""
        rows = self._by_question.get(key)
        if not rows:
            return None
        return rows[(request.sample_index + request.attempt) % len(rows)]

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        return 0

    async def aclose(self) -> None:
        return None

    def __repr__(self) -> str:
        return f"ReplayTeacher({self._name!r}, {len(self._questions)} questions)"


def _load(source: Any, split: str) -> RecordedSource:
    if isinstance(source, str):
        return read_recordings(source, split=split)
    if isinstance(source, Mapping):
        rows = [Recorded(text=text, question=question) for question, text in source.items()]
        if not all(isinstance(row.text, str) and isinstance(row.question, str) for row in rows):
            raise ConfigurationError("A mapping of recorded answers goes from question to text, both strings.")
        return RecordedSource(rows, "replay:memory")
    if isinstance(source, list):
        return RecordedSource(list(rows_of(source, where="the given list")), "replay:memory")
    raise ConfigurationError(f"Recorded answers come from a path, a mapping or a list of rows, not {type(source)}.")


def _conversation(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return _folded(prompt)
    turns: Messages = [{"role": turn["role"], "content": turn["content"]} for turn in prompt]
    return json.dumps(turns, ensure_ascii=False)


def _last_user(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return _folded(prompt)
    return _folded(next((turn["content"] for turn in reversed(prompt) if turn.get("role") == "user"), ""))


def _folded(text: str) -> str:
    return " ".join(text.split())


def _shown(text: str) -> str:
    return text if len(text) <= 200 else text[:200] + "..."
