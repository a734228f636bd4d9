"""Short messages to the support desk of a shop, in six classes of very different size, some of them ambiguous."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable, Iterator, Mapping

from ..errors import ConfigurationError, DataError
from ..records import PoolRow
from .arithmetic import SPLITS, split_of
from .base import register_world
from .message_phrases import (
    CLOSINGS,
    CUES,
    DESCRIPTIONS,
    DETAILS,
    DISTRACTORS,
    ITEMS,
    MONTHS,
    NAMED,
    OPENINGS,
    REMARKS,
    TOWNS,
    VAGUE,
)


#: Share of each class among the messages of a pool.
POOL_SHARES = {
    "billing": 0.40,
    "delivery": 0.26,
    "account": 0.16,
    "returns": 0.10,
    "technical fault": 0.05,
    "cancellation": 0.03,
}
#: Kinds of messages and their shares. "noisy" ones name another class just to say that they are not about it.
KINDS = {"clear": 0.55, "noisy": 0.15, "mixed": 0.18, "vague": 0.12}
#: Of a message with two requests, how probable the first is what it is about.
FIRST = 0.7
#: Classes that are taken for one another.
CONFUSED = {
    "billing": "account",
    "account": "billing",
    "delivery": "returns",
    "returns": "delivery",
    "technical fault": "cancellation",
    "cancellation": "technical fault",
}

_SLOTS = {"item": ITEMS, "month": MONTHS, "town": TOWNS}
_ITEM = "(?:" + "|".join(ITEMS) + ")"


def _pattern(phrase: str) -> str:
    return re.escape(phrase).replace(re.escape("{item}"), _ITEM)


_PHRASES: list[tuple[re.Pattern[str], dict[str, float]]] = [
    *((re.compile(_pattern(cue)), {label: 1.0}) for label, cues in CUES.items() for cue in cues),
    *((re.compile(_pattern(phrase)), shares) for phrase, shares in VAGUE.items()),
]


class MessageWorld:
    """
    Messages made by code, the probability of every class given a message, and a label drawn from it.

    A message makes a request in one of many phrases of its class (`"clear"`); some also say what they are not about
    (`"noisy"`); some make two requests, of which the first is what counts in 7 of 10 (`"mixed"`); some could come from
    several classes (`"vague"`). The label is drawn from [`posterior`] by a hash of the text: it is fixed, and nobody
    can know more of it than the posterior says.

    Args:
        name (`str`): Name of the world.
        shares (`Mapping[str, float]`, *optional*): Share of each class in the splits `"train"` and `"pretrain"`. The
            split `"eval"` has all classes about as often, so that rare ones count.

    Attributes:
        labels (`list[str]`): Names of the classes, the most frequent first.
        descriptions (`dict[str, str]`): What each means.
    """

    def __init__(self, name: str = "support_messages", *, shares: Mapping[str, float] | None = None):
        self.name = name
        self.shares = dict(POOL_SHARES if shares is None else shares)
        self.labels = list(POOL_SHARES)
        self.descriptions = dict(DESCRIPTIONS)
        if set(self.shares) != set(self.labels) or min(self.shares.values()) < 0 or not sum(self.shares.values()):
            raise ConfigurationError(f"`shares` must give each of {', '.join(self.labels)} a share of 0 or more.")

    def problems(self, n: int, seed: int, split: str) -> list[PoolRow]:
        """
        `n` different rows with their label as the reference. A text belongs to one split by its hash. The column
        `kind` says what sort of message it is.
        """
        if split not in SPLITS:
            raise ConfigurationError(f"Unknown split {split!r}. Choose one of {', '.join(SPLITS)}.")
        generator = random.Random(f"{self.name}/{split}/{seed}")
        rows: dict[str, PoolRow] = {}
        for kind, text in self._texts(generator, dict.fromkeys(self.labels, 1.0) if split == "eval" else self.shares):
            if len(rows) >= n:
                break
            if split_of(text) == split and text not in rows:
                row_id = f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
                rows[text] = PoolRow(row_id, text, self.label(text), {"kind": kind})
        return list(rows.values())

    def posterior(self, text: str) -> dict[str, float]:
        """
        The probability of every class given a message.

        Raises:
            [`~errors.DataError`]: For a text without a request of this world.
        """
        found = sorted((m.start(), i) for i, (pattern, _) in enumerate(_PHRASES) if (m := pattern.search(text)))
        if not 1 <= len(found) <= 2:
            raise DataError(f"This is no message of the world {self.name!r}: {text[:200]!r}.")
        weights = [1.0] if len(found) == 1 else [FIRST, 1 - FIRST]
        probabilities = dict.fromkeys(self.labels, 0.0)
        for weight, (_, index) in zip(weights, found, strict=True):
            for label, share in _PHRASES[index][1].items():
                probabilities[label] += weight * share
        return probabilities

    def label(self, text: str) -> str:
        """What a message is about: drawn from its posterior, always the same for the same text."""
        return draw(self.posterior(text), share_of("label", text))

    def confused(self, label: str) -> str:
        """The class that this one is taken for."""
        return CONFUSED[label]

    def _texts(self, generator: random.Random, shares: Mapping[str, float]) -> Iterator[tuple[str, str]]:
        labels, weights = list(shares), list(shares.values())
        while True:
            (kind,) = generator.choices(list(KINDS), list(KINDS.values()))
            (label,) = generator.choices(labels, weights)
            yield kind, _write(kind, label, generator)


def _write(kind: str, label: str, generator: random.Random) -> str:
    others = [other for other in POOL_SHARES if other != label]
    if kind == "vague":
        # A phrase as probable as it points to the class.
        (phrase,) = generator.choices(list(VAGUE), [shares.get(label, 0.0) for shares in VAGUE.values()])
        body = [phrase]
    else:
        body = [generator.choice(CUES[label])]
        if kind == "mixed":
            body.append("also, " + generator.choice(CUES[generator.choice(others)]))
        elif generator.random() < 0.5:
            body.append(generator.choice(DETAILS[label]))
        if kind == "noisy":
            body.insert(generator.randint(0, 1), generator.choice(DISTRACTORS).format(NAMED[generator.choice(others)]))
    if generator.random() < 0.7:
        body.insert(generator.randint(0, len(body)), generator.choice(REMARKS))
    parts = [generator.choice(OPENINGS), *body, generator.choice(CLOSINGS)]
    filled = [part.format(**{slot: generator.choice(words) for slot, words in _SLOTS.items()}) for part in parts]
    return " ".join(f"{sentence}." for sentence in filled if sentence)


def share_of(*parts: str) -> float:
    """A number from 0 to 1 that depends on the texts alone."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def draw(probabilities: Mapping[str, float], point: float) -> str:
    """The label at `point` of the cumulated probabilities."""
    reached, names = 0.0, [name for name, p in probabilities.items() if p > 0]
    for name in names:
        reached += probabilities[name]
        if point < reached:
            return name
    return names[-1]


def vocabulary() -> list[str]:
    """Every word that messages are made of, sorted."""
    groups: list[Iterable[str]] = [OPENINGS, CLOSINGS, REMARKS, DISTRACTORS, VAGUE, NAMED.values(), ["also"]]
    groups += [*CUES.values(), *DETAILS.values(), *_SLOTS.values()]
    text = " ".join(re.sub(r"\{\w*\}", "", phrase) for group in groups for phrase in group)
    return sorted(set(re.findall("[a-z]+", text.lower())))


@register_world("support_messages")
def support_messages() -> MessageWorld:
    """Messages to a support desk: two classes are frequent in the pool, two are rare."""
    return MessageWorld("support_messages")
