"""
Teachers written in code: no weights, deterministic, for demos and tests. They answer the prompts of `annotation` in
free text of changing form, as a chat model would.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Sequence

from ..annotation.prompts import ReadPrompt, read_prompt
from ..annotation.solutions import read_wording
from ..annotation.verdicts import read_verdict
from ..errors import ConfigurationError, DataError, TeacherRequestError
from ..exchange import ServedModel, ServedReply, ServedToken, ServingParams, TokenListener, TokenSpan, fit_length
from ..records import Messages, Usage
from ..synthetic import LabelWorld, World, get_world
from ..tasks import ReasoningTask
from ..teachers.base import TopToken
from .scripted_labels import LabelTeacher, NextToken


#: Gives the whole answer to a conversation, or the distribution of its only token.
Responder = Callable[[Messages, ServingParams], str | NextToken]

_PIECE = re.compile(r"\s?[^\W\d_]{1,8}|\s?\d{1,3}|\s?[^\w\s]|\s|_")
_MAX_TOTAL_TOKENS = 32768

# {step} is the teacher's own wording.
_YES = (
    "Yes\nStep: {step}",
    "Yes, we can go on with this step.\nStep: {step}",
    "Correct. In my own words:\nStep: {step}",
    "**Yes**, the step is right.\n\n**Step:** {step}",
    "That's right.\n{step}",
    "Yes. {step}",
    "Let me check that first. It holds.\n\nYes, this step is fine.\nStep: {step}",
    "I agree with this step.\nStep: {step}",
    "Yes, that works: {step}",
)
# {steps} are lines, {answer} is the answer line.
_NO = (
    "No\n{steps}\n{answer}",
    "No, this step is wrong.\n{steps}\n{answer}",
    "I disagree with this step.\n\nRemaining steps:\n{steps}\n\n{answer}",
    "That is not right.\n{steps}\n{answer}",
    "No \u2014 there is a mistake in it. The right steps are:\n{steps}\n{answer}",
    "**No.** We cannot use this step.\n\n{steps}\n\n**{answer}**",
    "Let me check that first. The numbers do not fit.\n\nNo\n{steps}\n{answer}",
)
_COT = ("{steps}\n{answer}", "{steps}\n\n{answer}", "Here are the steps:\n{steps}\n{answer}")
_CLOSE = ("{answer}", "Nothing is missing.\n{answer}", "All steps stand.\n\n{answer}")
_UNKNOWN = "I cannot solve this problem."


class ScriptedBackend:
    """
    A backend whose answers come from a function.

    Args:
        model (`str`): Served model id.
        respond (`Callable`): Messages and parameters to the whole answer. A plain prompt arrives as one user turn.
    """

    def __init__(self, model: str, respond: Responder):
        self._model = ServedModel(
            model=model,
            dtype="none",
            max_input_tokens=_MAX_TOTAL_TOKENS - 1,
            max_total_tokens=_MAX_TOTAL_TOKENS,
        )
        self._respond = respond

    def info(self) -> ServedModel:
        """What is served."""
        return self._model

    def tokenize(self, text: str) -> list[TokenSpan]:
        """Word pieces, single digits groups and signs: a count near that of a real tokenizer."""
        return [TokenSpan(_token_id(m[0]), m[0], m.start(), m.end()) for m in _PIECE.finditer(text)]

    async def generate(self, prompt: str, params: ServingParams, on_token: TokenListener | None = None) -> ServedReply:
        """Continues a text."""
        return self._write([{"role": "user", "content": prompt}], params)

    async def chat(
        self, messages: Messages, params: ServingParams, on_token: TokenListener | None = None
    ) -> ServedReply:
        """Answers a conversation."""
        return self._write(messages, params)

    def close(self) -> None:
        """Nothing runs in the background."""

    def _write(self, messages: Messages, params: ServingParams) -> ServedReply:
        if params.prefill_logprobs:
            raise TeacherRequestError("A scripted teacher has no log-probabilities of a prompt.", status=422)
        prompt_tokens = sum(len(self.tokenize(turn["content"])) for turn in messages)
        most = fit_length(prompt_tokens, params, self._model)
        said = self._respond(messages, params)
        first = said.bound(params) if isinstance(said, NextToken) else None
        text = first.choose(params) if first is not None else str(said)
        stopped = min((end for stop in params.stop if (end := text.find(stop)) >= 0), default=None)
        if stopped is not None:
            stop = next(stop for stop in params.stop if text.startswith(stop, stopped))
            text = text[: stopped + len(stop)]
        spans = self.tokenize(text)
        # Without a stop string the end-of-text token needs room, too.
        cut = len(spans) + (stopped is None) > most
        spans = spans[:most]
        tokens = [ServedToken(span.id, span.text, 0.0) for span in spans]
        if not cut and stopped is None:
            tokens.append(ServedToken(0, "</s>", 0.0, special=True))
        top = [[TopToken(token.text, 0.0, token.id)] for token in tokens]
        if first is not None:
            tokens[0].logprob = first.logprobs[text]
            best = first.top(params.top_logprobs or 0)
            top[0] = [TopToken(token.text, token.logprob, _token_id(token.text)) for token in best]
        return ServedReply(
            text=text[: spans[-1].stop] if cut else text,
            finish_reason="length" if cut else "stop",
            usage=Usage(calls=1, prompt_tokens=prompt_tokens, completion_tokens=len(tokens)),
            top_tokens=top if params.top_logprobs else None,
            tokens=tokens,
            stopped_by_sequence=stopped is not None and not cut,
            seed=params.seed,
        )


def _token_id(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) % 50_000 + 1


def scripted_backend(name: str, *, error_rate: float = 0.0, seed: int = 0) -> ScriptedBackend:
    """
    A teacher that knows the built-in world `name`.

    Args:
        name (`str`): Name of a world ([`~synthetic.get_world`]).
        error_rate (`float`, *optional*, defaults to `0.0`): Share of steps that it judges or writes wrongly, of texts
            that it takes for another class.
        seed (`int`, *optional*, defaults to `0`): Seed of its mistakes.
    """
    if not 0 <= error_rate <= 1:
        raise ConfigurationError(f"error_rate={error_rate} must be a share between 0 and 1.")
    world = get_world(name)
    kind = LabelTeacher if isinstance(world, LabelWorld) else WorldTeacher
    teacher = kind(world, error_rate=error_rate, seed=seed)
    suffix = f"-e{error_rate:g}-s{seed}" if error_rate else ""
    return ScriptedBackend(f"scripted/{name}{suffix}", teacher)


class WorldTeacher:
    """
    Answers annotation prompts from what a world knows; a plain question is answered with a whole solution.

    The same conversation always gets the same answer. Which of its phrasings it uses depends on a hash of the
    conversation, whether it errs at a step on a hash of question, step and seed.

    Args:
        world ([`World`]): Solves, checks and continues.
        error_rate (`float`, *optional*, defaults to `0.0`): Share of steps that it judges or writes wrongly.
        seed (`int`, *optional*, defaults to `0`): Seed of its mistakes.
    """

    def __init__(self, world: World, *, error_rate: float = 0.0, seed: int = 0):
        self.world = world
        self.error_rate = error_rate
        self.seed = seed
        self._task = ReasoningTask()

    def __call__(self, messages: Messages, params: ServingParams) -> str:
        read = read_prompt(messages)
        choice = _number("phrasing", json.dumps(messages, sort_keys=True))
        try:
            if read is None:
                question = messages[-1]["content"]
                steps, answer = self._own(question, *self.world.solve(question))
                return _fill(_COT[0], steps, self._task.render_completion([], answer))
            if read.kind == "one_call":
                return self._one_call(read, fenced=params.grammar is None and choice % 2 == 0)
            if read.kind == "clear":
                return self._judge(read, choice)
            if read.kind == "clear_close":
                steps, answer = self.world.continue_from(read.question, self._accepted(read))
                return _fill(_pick(_CLOSE, choice), steps, _answer_line(read, answer))
            steps, answer = self._own(read.question, *self.world.solve(read.question))
            return _fill(_pick(_COT, choice), steps, _answer_line(read, answer))
        except DataError:
            return _UNKNOWN

    def _judge(self, read: ReadPrompt, choice: int) -> str:
        accepted = self._accepted(read)
        step = read.step or ""
        right = self.world.check_step(read.question, accepted, step) != self._errs(read.question, step)
        if right:
            return _pick(_YES, choice).format(step=self._reworded(read.question, accepted, step))
        steps, answer = self._own(read.question, *self.world.continue_from(read.question, accepted))
        return _fill(_pick(_NO, choice), steps, _answer_line(read, answer))

    def _one_call(self, read: ReadPrompt, *, fenced: bool) -> str:
        words: list[str] = []
        first_wrong = None
        for index, step in enumerate(read.steps):
            if self.world.check_step(read.question, words, step) == self._errs(read.question, step):
                first_wrong = index + 1
                break
            words.append(self._reworded(read.question, words, step))
        rest, answer = self._own(read.question, *self.world.continue_from(read.question, words))
        revision = {"first_wrong_step": first_wrong, "steps": words + rest, "answer": answer}
        text = json.dumps(revision, ensure_ascii=False)
        return f"```json\n{text}\n```" if fenced else text

    def _accepted(self, read: ReadPrompt) -> list[str]:
        """Its own wordings of the steps that it accepted before."""
        words = [read_wording(self._task, read_verdict(reply).rest) for reply in read.replies]
        return [wording for wording in words if wording is not None]

    def _reworded(self, question: str, previous: Sequence[str], step: str) -> str:
        """The world's wording of a right step; a wrong one that it lets stand keeps its own."""
        missing, _ = self.world.continue_from(question, previous)
        left, _ = self.world.continue_from(question, [*previous, step])
        return next((own for own in missing if own not in left), step)

    def _own(self, question: str, steps: list[str], answer: str) -> tuple[list[str], str]:
        """Steps that it writes itself, some of them with a wrong number."""
        written = [_spoiled(step) if self._errs(question, f"own {step}") else step for step in steps]
        if steps and written[-1] != steps[-1]:
            answer = re.findall(r"\d+", written[-1])[-1]
        return written, answer

    def _errs(self, question: str, step: str) -> bool:
        share = _number("mistake", str(self.seed), question, step) % 1_000_000 / 1_000_000
        return share < self.error_rate


def _spoiled(step: str) -> str:
    """With its last number one too high."""
    return re.sub(r"\d+(?=\D*$)", lambda number: str(int(number[0]) + 1), step)


def _number(*parts: str) -> int:
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big")


def _pick(phrasings: Sequence[str], choice: int) -> str:
    return phrasings[choice % len(phrasings)]


def _fill(phrasing: str, steps: Sequence[str], answer: str) -> str:
    text = phrasing.replace("{answer}", answer)
    return text.replace("{steps}", "\n".join(steps)) if steps else re.sub(r"\{steps\}\n*", "", text)


def _answer_line(read: ReadPrompt, answer: str) -> str:
    """The answer in the form that the prompt asks for."""
    lines = [line for line in read.form.split("\n") if "<answer>" in line] or ["The answer is <answer>"]
    return lines[-1].replace("<answer>", answer)
