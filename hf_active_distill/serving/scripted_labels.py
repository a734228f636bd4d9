"""A teacher written in code that labels the texts of a world, with probabilities that mean what they say."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..annotation.label_prompts import YES, read_label_prompt
from ..errors import ConfigurationError, DataError
from ..exchange import ServingParams
from ..records import Messages
from ..synthetic import LabelWorld
from ..synthetic.messages import share_of
from ..tasks.classification import ClassificationTask
from ..teachers.base import TopToken
from ..teachers.labels import LETTERS


#: Probability that the next word is one of the letters; the rest is what a chat model would say instead.
MASS = 0.97
_CHATTER = {"The": 0.02, "I": 0.01}
#: No label is ever out of the question.
_FLOOR = 1e-4
_UNKNOWN = "I do not know this kind of text."


@dataclass(frozen=True)
class NextToken:
    """A reply of one token, drawn from these natural log-probabilities."""

    logprobs: dict[str, float]

    def bound(self, params: ServingParams) -> NextToken:
        """As grammar and temperature leave it: what a server reports is what it draws from."""
        logprobs = self.logprobs
        if params.grammar is not None and params.grammar.get("type") == "regex":
            allowed = {token: p for token, p in logprobs.items() if re.fullmatch(params.grammar["value"], token)}
            logprobs = allowed or logprobs
        temperature = params.temperature or 1.0
        scaled = {token: value / temperature for token, value in logprobs.items()}
        total = math.log(math.fsum(math.exp(value) for value in scaled.values()))
        return NextToken({token: value - total for token, value in scaled.items()})

    def choose(self, params: ServingParams) -> str:
        """The most probable token, or a sampled one."""
        if params.temperature == 0:
            return max(self.logprobs, key=self.logprobs.__getitem__)
        weights = [math.exp(value) for value in self.logprobs.values()]
        return random.Random(params.seed).choices(list(self.logprobs), weights)[0]

    def top(self, count: int) -> list[TopToken]:
        """The most probable tokens, best first."""
        best = sorted(self.logprobs.items(), key=lambda item: -item[1])[:count]
        return [TopToken(token, value) for token, value in best]


class LabelTeacher:
    """
    Answers the prompts of the annotation `"label"` from what a world knows.

    It looks at a text with a reliability *r* of its own, from a hash of the text and the seed; with probability *r* it
    sees the posterior as it is, else with the two classes exchanged that are taken for one another. It reports what it
    sees, mixed with the exchanged one by *r* and 1 - *r*: a probability of 0.8 is right 8 times in 10. On average
    1 - *r* is `error_rate`, on top of what the texts leave open themselves.

    Args:
        world ([`LabelWorld`]): Knows the posterior.
        error_rate (`float`, *optional*, defaults to `0.0`): Share of texts that it takes for another class, up to 0.5.
        seed (`int`, *optional*, defaults to `0`): Seed of its mistakes.
    """

    def __init__(self, world: LabelWorld, *, error_rate: float = 0.0, seed: int = 0):
        if not 0 <= error_rate <= 0.5:
            raise ConfigurationError(f"error_rate={error_rate} of a teacher that labels must be between 0 and 0.5.")
        self.world = world
        self.error_rate = error_rate
        self.seed = seed

    def distribution(self, text: str) -> dict[str, float]:
        """How probable it holds every label; [`~errors.DataError`] for a text that it does not know."""
        truth = self.world.posterior(text)
        low, high = max(0.0, 2 * self.error_rate - 0.5), min(2 * self.error_rate, 0.5)
        wrong = low + (high - low) * share_of("reliability", str(self.seed), text)
        misled = share_of("misled", str(self.seed), text) < wrong
        exchanged = {label: truth[self.world.confused(label)] for label in truth}
        seen, other = (exchanged, truth) if misled else (truth, exchanged)
        mixed = {label: max(_FLOOR, (1 - wrong) * seen[label] + wrong * other[label]) for label in truth}
        total = math.fsum(mixed.values())
        return {label: p / total for label, p in mixed.items()}

    def __call__(self, messages: Messages, params: ServingParams) -> str | NextToken:
        read = read_label_prompt(messages)
        try:
            if read is None:
                probabilities = self.distribution(messages[-1]["content"])
                best = max(probabilities, key=probabilities.__getitem__)
                return ClassificationTask(labels=self.world.labels).render_completion([], best)
            probabilities = self.distribution(read.text)
        except DataError:
            return _UNKNOWN
        if read.label is not None:
            p = self._of(probabilities, read.label)
            options = [p if option == YES else 1 - p for option in read.options]
        else:
            options = [self._of(probabilities, option) for option in read.options]
        return _lettered(options)

    @staticmethod
    def _of(probabilities: Mapping[str, float], option: str) -> float:
        """An option that is no label of the world, such as "none of these", is hardly ever right."""
        return probabilities.get(option, _FLOOR)


def _lettered(options: list[float]) -> NextToken:
    total = math.fsum(options)
    tokens = {letter: MASS * max(p, 1e-9) / total for letter, p in zip(LETTERS, options, strict=False)}
    return NextToken({token: math.log(p) for token, p in (tokens | _CHATTER).items()})
