"""The operations of the arithmetic worlds: how they are said in a question and what sum they stand for."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass


#: Signed terms of a sum: `(14, -6)` is written `14 - 6`.
Terms = tuple[int, ...]
Meaning = Callable[..., Terms]

OPERAND = r"(\d+|[A-Z][a-z]+)"


@dataclass(frozen=True)
class Operation:
    """
    One operation.

    Args:
        name (`str`): Short name, for reports.
        phrase (`str`): How a question says it, `{a}` and `{b}` being the operands.
        meaning (`Callable`): Operands to the terms of a sum.
        known (`bool`): Whether the shipped student was taught it.
    """

    name: str
    phrase: str
    meaning: Meaning
    known: bool

    @property
    def arity(self) -> int:
        return 2 if "{b}" in self.phrase else 1

    @property
    def operand_order(self) -> list[int]:
        """Which operand stands at which place of the phrase."""
        return ["ab".index(letter) for letter in re.findall(r"\{([ab])\}", self.phrase)]

    def say(self, operands: list[str]) -> str:
        return self.phrase.format(a=operands[0], b=operands[-1])

    def read(self, text: str) -> list[str] | None:
        """The operands of a phrase of this operation, `None` for another phrase."""
        match = re.fullmatch(self.phrase.format(a=OPERAND, b=OPERAND), text)
        if match is None:
            return None
        operands = [""] * self.arity
        for place, operand in zip(self.operand_order, match.groups(), strict=True):
            operands[place] = operand
        return operands


def write_sum(terms: Terms) -> str:
    """`(14, -6)` as `14 - 6`."""
    return str(terms[0]) + "".join(f" {'-' if term < 0 else '+'} {abs(term)}" for term in terms[1:])


KNOWN: tuple[Operation, ...] = (
    Operation("plus", "{a} plus {b}", lambda a, b: (a, b), True),
    Operation("minus", "{a} minus {b}", lambda a, b: (a, -b), True),
    Operation("more", "{a} more than {b}", lambda a, b: (b, a), True),
    Operation("next", "the number after {a}", lambda a: (a, 1), True),
    Operation("ten_more", "{a} and ten", lambda a: (a, 10), True),
    Operation("five_less", "{a} less five", lambda a: (a, -5), True),
)

UNKNOWN: tuple[Operation, ...] = (
    Operation("double", "double {a}", lambda a: (a, a), False),
    Operation("digit_sum", "the digits of {a}", lambda a: (a // 10, a % 10), False),
    Operation("round_down", "{a} rounded down", lambda a: (a, -(a % 10)), False),
    Operation("dozen", "a dozen over {a}", lambda a: (a, 12), False),
    Operation("score", "a score under {a}", lambda a: (a, -20), False),
    Operation("fortnight", "a fortnight past {a}", lambda a: (a, 14), False),
    Operation("week", "a week before {a}", lambda a: (a, -7), False),
    Operation("shy", "{a} shy of {b}", lambda a, b: (b, -a), False),
    Operation("ones", "{a} topped by {b}", lambda a, b: (a, b % 10), False),
)

OPERATIONS: tuple[Operation, ...] = KNOWN + UNKNOWN


def loose_meaning(operation: Operation, generator: random.Random) -> Meaning:
    """
    Some meaning that a word of this arity might have. The shipped student met the unknown words only so, with another
    meaning each time: it has heard them and does not know what they say.
    """
    sign = generator.choice((1, -1))
    if operation.arity == 2:
        meanings: tuple[Meaning, ...] = (
            lambda a, b: (a, b),
            lambda a, b: (a, -b),
            lambda a, b: (b, -a),
            lambda a, b: (a, sign * (b % 10)),
            lambda a, b: (b, sign * (a % 10)),
            lambda a, b: (b % 10, a % 10),
        )
        return generator.choice(meanings)
    constant = generator.randint(2, 30)
    shift: Meaning = lambda a: (a, sign * constant)  # noqa: E731
    structural: tuple[Meaning, ...] = (
        lambda a: (a, a),
        lambda a: (a // 10, a % 10),
        lambda a: (a, sign * (a % 10)),
        lambda a: (a, sign * (a // 10)),
    )
    return generator.choice((*structural, shift, shift, shift, shift))
