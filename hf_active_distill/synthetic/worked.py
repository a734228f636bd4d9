"""
Word problems of the package `reasoning-gym` as worlds: each problem comes with a worked solution, which a scripted
teacher can write, judge a student's steps by, and go on from.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, count
from typing import Any

from ..errors import ConfigurationError, DataError
from ..records import PoolRow
from .base import Solution, register_world


#: Where the corpora of the worlds begin; the pretraining texts come from other problems.
SEED = 20240213
#: Numbers up to here: a student of a million parameters does not learn to multiply three digits by heart.
LARGEST = 200
# Templates of gsm_symbolic whose worked solutions are two or more whole-numbered equations that can be checked.
TEMPLATES = (4, 9, 10, 12, 14, 15, 16, 20, 31, 34, 40, 43, 45, 48, 51, 54, 57, 58, 62, 72)
KNOWN_TEMPLATES = frozenset(TEMPLATES[::2])
UNKNOWN_ANIMALS = frozenset({"flatworm", "starfish", "woodlouse", "lobster", "scorpion", "human", "firefly", "sheep"})

_NUMBER = r"\d+(?:\.0)?"
_EQUATION = re.compile(rf"({_NUMBER}(?:\s*[-+*/x×]\s*{_NUMBER})+)\s*=\s*({_NUMBER})(?!\s*[-+*/x×]\s*\d|[\d.]*\d)")
_STEP = re.compile(r"(?:([A-Za-z ]+):)?\s*([\d+*/ -]+)=\s*(\d+)")


@dataclass(frozen=True)
class Worked:
    """A problem: its text, its steps, its answer, and whether the student of this world was taught its kind."""

    question: str
    steps: tuple[str, ...]
    answer: str
    kind: str
    unknown: bool


def value_of(expression: str) -> float | None:
    """Value of sums, products and quotients, products first and from the left; `None` where it divides by zero."""
    total = 0.0
    for sign, term in re.findall(r"([+-]?)\s*([\d*/ ]+)", expression):
        factors = re.findall(r"([*/]?)\s*(\d+)", term)
        product = float(factors[0][1])
        for operator, number in factors[1:]:
            if operator == "/" and not int(number):
                return None
            product = product * int(number) if operator == "*" else product / int(number)
        total += -product if sign == "-" else product
    return total


def equations(text: str) -> list[str] | None:
    """The equations of a worked solution as `3 * 35 = 105`; `None` where one is wrong or leaves whole numbers."""
    plain = re.sub(r"(?<=\d),(?=\d{3})|[$€£%]", "", text)
    found = []
    for left, right in _EQUATION.findall(plain):
        left = re.sub(r"\s*([-+*/])\s*", r" \1 ", re.sub("[x×]", "*", left)).replace(".0", "")
        right = right.removesuffix(".0")
        if value_of(left) != int(right):
            return None
        found.append(f"{left} = {right}")
    return found


def _read(step: str) -> tuple[str, Any, int] | None:
    """Label, numbers (in any order where only sums or only products are taken) and value of a step."""
    match = _STEP.fullmatch(step.strip().rstrip("."))
    if match is None:
        return None
    label, left, value = (match[1] or "").strip().lower(), match[2].replace(" ", ""), int(match[3])
    numbers = re.findall(r"\d+", left)
    free = len(set(re.findall(r"[-+*/]", left)) & {"-", "/"}) == 0 and len(set(re.findall(r"[+*]", left))) == 1
    return label, (Counter(numbers), left[len(numbers[0])]) if free and numbers else left, value


class WorkedWorld:
    """
    Problems of which each has a worked solution.

    A step is right when it is one of the solution's that is still open: the same numbers (in any order where only a
    sum or only a product is taken) and the same value. Steps may come in any order in which none takes a value that an
    open step gives.

    Args:
        name (`str`): Name of the world.
        corpus (`Iterable[Worked]`): Pool and evaluation rows; a question that comes again is dropped.
        pretraining (`Iterable[Worked]`): More problems, read when they are wanted.
        drills (`float`, *optional*, defaults to `0.0`): Share of pretraining texts that ask for one equation alone. It
            is taken from a problem of any kind, also of those that the student shall not know: it can reckon, and
            lacks what to reckon.
    """

    def __init__(self, name: str, corpus: Iterable[Worked], pretraining: Iterable[Worked] = (), drills: float = 0.0):
        self.name = name
        self._drills = drills
        self._corpus: dict[str, Worked] = {}
        for worked in corpus:
            self._corpus.setdefault(worked.question, worked)
        self._pretraining = iter(pretraining)

    def problems(self, n: int, seed: int, split: str) -> list[PoolRow]:
        """
        `n` different rows of a split, `"train"` or `"eval"`, to one of which a question belongs by a hash of its text.
        The column `kind` names the template or skills, `unknown` says whether the world's student lacks some of it.
        """
        if split not in ("train", "eval"):
            raise ConfigurationError(f"Unknown split {split!r}: this world has 'train' and 'eval'.")
        own = [worked for worked in self._corpus.values() if _split_of(worked.question) == split]
        if n > len(own):
            raise DataError(f"World {self.name!r} has {len(own)} rows in {split!r}. Ask for fewer rows.")
        chosen = random.Random(f"{self.name}/{split}/{seed}").sample(own, n)
        return [self._row(worked) for worked in chosen]

    def solve(self, question: str) -> Solution:
        """All steps, and the answer."""
        return self.continue_from(question, [])

    def check_step(self, question: str, previous_steps: Sequence[str], step: str) -> bool:
        """Whether `step` is one of the solution's that is still open and can be taken now."""
        worked = self._find(question)
        return _open_step(worked, _done(worked, previous_steps), step) is not None

    def continue_from(self, question: str, previous_steps: Sequence[str]) -> Solution:
        """The steps that no right step of `previous_steps` stands for, and the answer."""
        worked = self._find(question)
        done = _done(worked, previous_steps)
        return [step for index, step in enumerate(worked.steps) if index not in done], worked.answer

    def pretraining_text(self, generator: random.Random, *, early: float = 0.06) -> tuple[str, str]:
        """
        One (prompt, completion) pair of a kind that the student shall know, from outside of the corpus, or a drill.

        Args:
            generator (`random.Random`): Decides which explanations are cut.
            early (`float`, *optional*, defaults to `0.06`): Share of explanations cut before the last step and closed
                by the answer all the same, which teaches the student to answer when it is made to.
        """
        drill = generator.random() < self._drills
        worked = next(w for w in self._pretraining if (drill or not w.unknown) and w.question not in self._corpus)
        if drill:
            step = generator.choice(worked.steps)
            expression, _, value = step.rpartition(" = ")
            return f"Question: What is {expression}?\n", f"{step}\nThe answer is {value}"
        steps = list(worked.steps)
        if generator.random() < early:
            steps = steps[: generator.randrange(len(steps))]
        return worked.question, "\n".join([*steps, f"The answer is {worked.answer}"])

    def _row(self, worked: Worked) -> PoolRow:
        row_id = f"{self.name}-{hashlib.sha256(worked.question.encode()).hexdigest()[:16]}"
        return PoolRow(row_id, worked.question, worked.answer, {"kind": worked.kind, "unknown": worked.unknown})

    def _find(self, question: str) -> Worked:
        # A prompt may have lost its line break, or have a head.
        start = question.find("Question: ")
        worked = self._corpus.get(question[max(start, 0) :].split("\n")[0].strip() + "\n")
        if worked is None:
            raise DataError(f"This is no question of the world {self.name!r}: {question[:200]!r}.")
        return worked


def _split_of(question: str) -> str:
    return "eval" if hashlib.sha256(question.encode()).digest()[0] % 5 == 0 else "train"


def _open_step(worked: Worked, done: set[int], step: str) -> int | None:
    read = _read(step)
    given = set(re.findall(r"\d+", worked.question))
    open_steps = [(index, own) for index, own in enumerate(worked.steps) if index not in done]
    for index, own in open_steps:
        if read is None or _read(own) != read:
            continue
        wanted = set(re.findall(r"\d+", own.rpartition("=")[0])) - given
        pending = {other.rpartition("=")[2].strip() for at, other in open_steps if at < index}
        if not wanted & pending:
            return index
    return None


def _done(worked: Worked, steps: Sequence[str]) -> set[int]:
    done: set[int] = set()
    for step in steps:
        index = _open_step(worked, done, step)
        if index is not None:
            done.add(index)
    return done


def _dataset(name: str, **options: Any) -> Any:
    try:
        import reasoning_gym
    except ImportError as error:
        raise ConfigurationError(
            f"The world {name!r} comes from reasoning-gym: `pip install 'hf-active-distill[benchmarks]'`."
        ) from error
    return reasoning_gym.create_dataset(name, **options)


def _gsm_symbolic(seed: int, size: int) -> Iterator[Worked]:
    dataset = _dataset("gsm_symbolic", seed=seed, size=size)
    for index in range(size):
        template = dataset.task_indices[index]
        if template not in TEMPLATES:
            continue
        entry = dataset[index]
        steps = equations(entry["metadata"]["answer_cot"])
        if not steps or len(steps) < 2 or steps[-1].rpartition("= ")[2] != entry["answer"]:
            continue
        if any(int(number) > LARGEST for number in re.findall(r"\d+", " ".join(steps))):
            continue
        text = entry["question"].removesuffix("Give the result as your final answer. Do not include units.").strip()
        question = f"Question: {' '.join(text.split())}\n"
        yield Worked(question, tuple(steps), entry["answer"], str(template), template not in KNOWN_TEMPLATES)


def _leg_counting(start: int, stop: int) -> Iterator[Worked]:
    options = {"min_animals": 2, "max_animals": 4, "max_instances": 9}
    dataset = _dataset("leg_counting", seed=SEED, size=400_000, **options)
    from reasoning_gym.arithmetic.leg_counting import ANIMALS

    for entry in map(dataset.__getitem__, range(start, stop)):
        animals: dict[str, int] = entry["metadata"]["animals"]
        legs = {animal: count * ANIMALS[animal] for animal, count in animals.items()}
        steps = [f"{animal}: {count} * {ANIMALS[animal]} = {legs[animal]}" for animal, count in animals.items()]
        totals = list(accumulate(legs.values()))
        steps += [
            f"{total} + {more} = {total + more}" for total, more in zip(totals, list(legs.values())[1:], strict=False)
        ]
        told = ", ".join(f"{count} {animal}{'s' if count > 1 else ''}" for animal, count in animals.items())
        question = f"Question: How many legs are there in total if you have {told}?\n"
        unknown = bool(UNKNOWN_ANIMALS & set(animals))
        yield Worked(question, tuple(steps), entry["answer"], "+".join(sorted(animals)), unknown)


@register_world("gsm_symbolic")
def gsm_symbolic(size: int = 18000) -> WorkedWorld:
    """
    School problems in English after the templates of GSM-Symbolic, with numbers up to 200; the student knows every
    other template, and can reckon.

    Args:
        size (`int`, *optional*, defaults to `18000`): Problems that the corpus is taken from; some 18% can be used.
    """
    # Pretraining reads more problems than one set may have, so it goes through sets of other seeds.
    pretraining = chain.from_iterable(_gsm_symbolic(seed, 20_000) for seed in count(SEED + 1))
    return WorkedWorld("gsm_symbolic", _gsm_symbolic(SEED, size), pretraining, drills=0.4)


@register_world("leg_counting")
def leg_counting(size: int = 5000) -> WorkedWorld:
    """
    How many legs have these animals? The student knows the legs of four animals in five.

    Args:
        size (`int`, *optional*, defaults to `5000`): Problems in the corpus.
    """
    return WorkedWorld("leg_counting", _leg_counting(0, size), _leg_counting(size, 400_000))
