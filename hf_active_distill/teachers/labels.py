"""
How sure a teacher is: p(label | text) over a closed set of labels, by the best way its server has.

Labels are put to the teacher as lettered options, so that every one is a single token: words of several tokens, and
words that begin alike, are then no special case.
"""

from __future__ import annotations

import math
import string
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import ConfigurationError, TeacherRequestError
from ..records import Messages, Prompt, Usage
from .base import GenerationParams, TeacherInfo, TeacherReply, TeacherRequest, TopToken


LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
METHODS = ("auto", "grammar", "top_tokens", "scored", "samples")

Asker = Callable[[TeacherRequest], Awaitable[TeacherReply]]

# Top tokens a server gives where it does not tell: TGI's default, OpenAI's limit; a local model has no cap, but naming
# them costs time.
_DEFAULT_CAPS = {"tgi": 5, "openai": 20, "hf-inference": 5}
_WITHOUT_CAP = 100
# Where vLLM masks a token it writes -9999.
_MASKED = -9000.0


@dataclass
class LabelDistribution:
    """
    What a teacher thinks of the labels.

    Args:
        labels (`list[str]`): In the order they were given.
        probabilities (`list[float]`): Of each, summing to 1; all equal where the teacher named none of them.
        mass (`float` or `None`): Probability that the teacher's next word is one of the labels at all, before
            renormalising; the most that it can be where none of them is among the top tokens; `None` where it was not
            asked for.
        method (`str`): `"grammar"`, `"top_tokens"`, `"scored"` or `"samples"`.
        usage (`Usage`): What it cost.
    """

    labels: list[str]
    probabilities: list[float]
    mass: float | None
    method: str
    usage: Usage = field(default_factory=Usage)

    @property
    def best(self) -> str:
        """The most probable label."""
        return self.labels[max(range(len(self.labels)), key=self.probabilities.__getitem__)]

    @property
    def confidence(self) -> float:
        """Probability of the best label."""
        return max(self.probabilities)


_ASK_LETTER = "\n\nAnswer with the letter of one option only."
ANSWER = "\nAnswer: "


def lettered(prompt: Prompt, labels: Sequence[str]) -> Prompt:
    """The prompt with the labels as lettered options; of a conversation, its last turn carries them."""
    options = "\n".join(f"{letter}. {label}" for letter, label in zip(LETTERS, labels, strict=False))
    tail = f"\n\n{options}{_ASK_LETTER}"
    if isinstance(prompt, str):
        return f"{prompt}{tail}{ANSWER}"
    turns: Messages = [dict(turn) for turn in prompt]
    turns[-1]["content"] += tail
    return turns


def read_lettered(text: str) -> tuple[str, list[str]] | None:
    """The prompt and the labels that [`lettered`] put together, `None` for other texts."""
    body, found, _ = text.removesuffix(ANSWER).rpartition(_ASK_LETTER)
    prompt, _, options = body.rpartition(f"\n\n{LETTERS[0]}. ")
    labels = f"{LETTERS[0]}. {options}".split("\n")
    if not found or any(not label.startswith(f"{letter}. ") for letter, label in zip(LETTERS, labels, strict=False)):
        return None
    return prompt, [label[3:] for label in labels]


async def label_distribution(
    ask: Asker,
    info: TeacherInfo,
    prompt: Prompt,
    labels: Sequence[str],
    *,
    method: str = "auto",
    letters: bool = True,
    mass: bool = True,
    samples: int = 5,
    temperature: float = 1.0,
    terminator: str = "\n",
    params: GenerationParams | None = None,
) -> LabelDistribution:
    """
    Asks a teacher how probable each label is.

    - `"top_tokens"`: one request; the probabilities of the letters among the top tokens, and so the mass on them. A
      server that takes names of tokens (vLLM) shows all of them.
    - `"grammar"`: the reply is bound to the letters, so that each has its probability whatever else the teacher would
      rather say. Where there are more labels than the server gives top tokens, sets that share a label are asked and
      joined by the ratios to it. With `mass`, the request of `"top_tokens"` comes first, and is enough where it shows
      all labels.
    - `"scored"`: one request a label, the log-probabilities of its tokens as part of the prompt summed. Plain prompts
      only. Where one label begins another, `terminator` is scored with them.
    - `"samples"`: the shares of the labels among sampled replies.

    Args:
        ask (`Callable`): `Teacher.ask`, or a dispatcher's `bind(...)`, which records and pays.
        info (`TeacherInfo`): What the server can do; decides the method.
        prompt (`str` or `list[dict]`): The text to judge, ending where the label shall stand.
        labels (`Sequence[str]`): At least two, all different.
        method (`str`, *optional*, defaults to `"auto"`):
            One of the above; `"auto"` takes what suits the server best.
        letters (`bool`, *optional*, defaults to `True`):
            Whether labels are put as lettered options. Without, they are scored or sampled word by word.
        mass (`bool`, *optional*, defaults to `True`): Whether the raw mass on the labels is wanted.
        samples (`int`, *optional*, defaults to `5`): Replies to sample.
        temperature (`float`, *optional*, defaults to `1.0`): Sampling temperature.
        terminator (`str`, *optional*, defaults to `"\\n"`): What ends a label that is the beginning of another.
        params (`GenerationParams`, *optional*): Further parameters of every request.
    """
    _check(labels, method, letters)
    candidates = list(LETTERS[: len(labels)]) if letters else list(labels)
    inquiry = _Inquiry(
        ask, info, lettered(prompt, labels) if letters else prompt, candidates, params or GenerationParams()
    )
    chosen = _first_possible(info, inquiry, letters) if method == "auto" else method
    logprobs: list[float] | None
    total: float | None
    if chosen in ("grammar", "top_tokens"):
        logprobs, total, chosen = await inquiry.by_top_tokens(bound=chosen == "grammar", mass=mass)
        if logprobs is None and method == "auto":
            # The server gave no top tokens after all, or no label among them.
            chosen = "samples"
    if chosen == "scored":
        logprobs, total = await inquiry.by_score(terminator)
    elif chosen == "samples":
        logprobs, total = await inquiry.by_samples(samples, temperature)
    if logprobs is None:
        raise TeacherRequestError(
            f"The teacher {info.model} gives no log-probabilities of these labels: use method='grammar' or 'samples'."
        )
    return LabelDistribution(list(labels), _normalised(logprobs), total, chosen, inquiry.usage)


def _check(labels: Sequence[str], method: str, letters: bool) -> None:
    if method not in METHODS:
        raise ConfigurationError(f"Unknown method {method!r}: it is one of {', '.join(METHODS)}.")
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(labels):
        raise ConfigurationError("A label set needs at least two labels, all different and none empty.")
    if letters and len(labels) > len(LETTERS):
        raise ConfigurationError(f"At most {len(LETTERS)} labels have letters: pass letters=False for more.")
    if not letters and method in ("grammar", "top_tokens"):
        raise ConfigurationError(f"method={method!r} needs lettered options: words may share their first token.")


def _first_possible(info: TeacherInfo, inquiry: _Inquiry, letters: bool) -> str:
    if letters and info.supports_logprobs is not False:
        return "grammar" if info.supports_grammar else "top_tokens"
    if info.supports_prefill_logprobs and isinstance(inquiry.prompt, str):
        return "scored"
    return "samples"


@dataclass
class _Inquiry:
    """One prompt and its candidates: the requests, and what they cost."""

    ask: Asker
    info: TeacherInfo
    prompt: Prompt
    candidates: list[str]
    params: GenerationParams
    usage: Usage = field(default_factory=Usage)
    #: Most probability that the candidates can have together which are not among the top tokens of a free request.
    hidden: float = 1.0

    async def _send(self, prompt: Prompt, sample_index: int = 0, **fields: Any) -> TeacherReply:
        params = replace(self.params, **fields)
        if isinstance(prompt, str):
            request = TeacherRequest.generate(prompt, params, sample_index=sample_index)
        else:
            request = TeacherRequest.chat(prompt, params, sample_index=sample_index)
        reply = await self.ask(request)
        self.usage = self.usage + reply.usage
        return reply

    async def by_top_tokens(self, *, bound: bool, mass: bool) -> tuple[list[float] | None, float | None, str]:
        """Log-probabilities (relative ones), raw mass and method; `None` where the server gives no top tokens."""
        free = None
        if mass or not bound or self.info.supports_named_logprobs:
            free = await self._row(self.candidates, bound=False)
            if free is None:
                return None, None, "top_tokens"
            if not bound or all(value > -math.inf for value in free.values()):
                seen = sum(math.exp(value) for value in free.values())
                if not seen:
                    return None, None, "top_tokens"
                return [free[c] for c in self.candidates], min(1.0, seen), "top_tokens"
        logprobs = await self._joined()
        if logprobs is None:
            return None, None, "grammar"
        bound_to = dict(zip(self.candidates, logprobs, strict=True))
        return logprobs, None if free is None else _mass(free, bound_to, self.hidden), "grammar"

    async def _joined(self) -> list[float] | None:
        """Bound to the candidates; in sets that share the best candidate so far where the server's cap is smaller."""
        cap = max(2, self._cap())
        known: dict[str, float] = {}
        left = list(self.candidates)
        while left:
            pivot = max(known, key=known.__getitem__) if known else None
            chunk = left[: cap - (pivot is not None)]
            left = left[len(chunk) :]
            # In the candidates' order: servers keep compiled grammars, so the same set is the same text.
            asked = sorted([*chunk, *([pivot] if pivot else [])], key=self.candidates.index)
            row = await self._row(asked, bound=True)
            if row is None:
                return None
            shift = 0.0 if pivot is None or row[pivot] == -math.inf else known[pivot] - row[pivot]
            known.update((candidate, row[candidate] + shift) for candidate in chunk)
        return [known[candidate] for candidate in self.candidates]

    def _cap(self) -> int:
        without = max(_WITHOUT_CAP, len(self.candidates))
        return self.info.max_top_tokens or _DEFAULT_CAPS.get(self.info.door, without)

    async def _row(self, asked: list[str], *, bound: bool) -> dict[str, float] | None:
        """Log-probability of each candidate as the first token; minus infinity where it is not among the top ones."""
        grammar = {"type": "regex", "value": f"({'|'.join(asked)})"} if bound else None
        cap = self._cap()
        reply = await self._send(
            self.prompt,
            max_new_tokens=1,
            temperature=0.0,
            grammar=grammar,
            top_logprobs=min(cap, len(asked)) if bound else cap,
            # Named, every candidate is shown, however many there are: no second request.
            logprob_tokens=() if bound or not self.info.supports_named_logprobs else tuple(asked),
        )
        if not reply.top_tokens:
            return None
        if not bound:
            self.hidden = _hidden(reply.top_tokens[0], len(asked))
        return {candidate: _logsumexp(_matching(reply.top_tokens[0], candidate)) for candidate in asked}

    async def by_score(self, terminator: str) -> tuple[list[float], float | None]:
        """Summed log-probabilities of each candidate's own tokens."""
        if not isinstance(self.prompt, str):
            raise TeacherRequestError(
                "Labels are scored after a plain prompt, not in a dialogue: use method='samples'."
            )
        nested = any(a != b and b.startswith(a) for a in self.candidates for b in self.candidates)
        end = terminator if nested else ""
        replies = [
            await self._send(self.prompt + candidate + end, max_new_tokens=1, temperature=0.0, prefill_logprobs=True)
            for candidate in self.candidates
        ]
        if any(reply.prefill is None for reply in replies):
            raise TeacherRequestError(f"The teacher {self.info.model} gives no log-probabilities of the prompt.")
        texts = [[(token.token_id, token.text) for token in reply.prefill or []] for reply in replies]
        # Where prompt and label meet, a token may hold both: what all candidates share is left out, no more.
        columns = enumerate(zip(*texts, strict=False))
        shared = next((i for i, column in columns if len(set(column)) > 1), min(map(len, texts)))
        scores = [sum(t.logprob or 0.0 for t in (reply.prefill or [])[shared:]) for reply in replies]
        return scores, min(1.0, sum(map(math.exp, scores)))

    async def by_samples(self, count: int, temperature: float) -> tuple[list[float], float | None]:
        """Shares among sampled replies, as logarithms; the mass is the share of readable ones."""
        longest = max(map(len, self.candidates))
        hits = dict.fromkeys(self.candidates, 0)
        for index in range(count):
            reply = await self._send(
                self.prompt,
                sample_index=index,
                temperature=temperature,
                max_new_tokens=max(self.params.max_new_tokens if self.info.thinks else 0, 4 + longest),
                seed=None if self.params.seed is None else self.params.seed + index,
            )
            label = read_label(reply.text, self.candidates)
            if label is not None:
                hits[label] += 1
        readable = sum(hits.values())
        shares = [math.log(hits[c] / readable) if hits[c] else -math.inf for c in self.candidates]
        return shares, readable / count


def read_label(text: str, candidates: Sequence[str]) -> str | None:
    """The candidate that a reply begins with: the longest, at a word's end; `None` where there is none."""
    text = text.strip().lstrip("([*\"'`")
    for candidate in sorted(candidates, key=len, reverse=True):
        rest = text[len(candidate) :]
        exact = text.startswith(candidate)
        if (exact or len(candidate) > 1 and text.lower().startswith(candidate.lower())) and not rest[:1].isalnum():
            return candidate
    return None


def _matching(row: Sequence[TopToken], candidate: str) -> list[float]:
    # The chosen token may be listed twice, as chosen and as named; " A" and "A" are two tokens.
    found = {
        (token.token_id, token.text): token.logprob
        for token in row
        if token.text.strip() == candidate and token.logprob is not None and token.logprob > _MASKED
    }
    return list(found.values())


def _hidden(row: Sequence[TopToken], count: int) -> float:
    """Most probability that `count` tokens beside the top ones can have: each at most what the last of these has."""
    shown = [math.exp(token.logprob) for token in row if token.logprob is not None and token.logprob > _MASKED]
    return min(max(0.0, 1 - sum(shown)), count * min(shown, default=1.0))


def _mass(free: dict[str, float], bound: dict[str, float], hidden: float) -> float:
    """Raw mass: what a candidate has freely over what it has among the candidates alone, the best known one's."""
    seen = [candidate for candidate, value in free.items() if value > -math.inf and bound[candidate] > -math.inf]
    if not seen:
        return hidden
    best = max(seen, key=free.__getitem__)
    share = bound[best] - _logsumexp(list(bound.values()))
    return min(1.0, math.exp(free[best] - share))


def _normalised(logprobs: Sequence[float]) -> list[float]:
    total = _logsumexp(logprobs)
    if total == -math.inf:
        return [1 / len(logprobs)] * len(logprobs)
    return [math.exp(value - total) for value in logprobs]


def _logsumexp(values: Sequence[float]) -> float:
    top = max(values, default=-math.inf)
    return top if top == -math.inf else top + math.log(sum(math.exp(value - top) for value in values))
