"""Chained arithmetic told in sentences: every sentence gives somebody a number, the last one is asked for."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import ConfigurationError, DataError
from ..records import PoolRow
from .base import Solution, register_world
from .operations import KNOWN, OPERATIONS, UNKNOWN, Meaning, Operation, Terms, write_sum


NAMES = ("Ann", "Ben", "Dan", "Eva", "Kim", "Leo", "Mia", "Tom")
SPLITS = ("pretrain", "train", "eval")
LARGEST = 50

# Which earlier sentences each sentence of a problem builds on. With one of two operands given, the other is a number.
_SHAPES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((), (0,)),
    ((), (0,), (1,)),
    ((), (), (0, 1)),
    ((), (), (0,), (2, 1)),
)


@dataclass(frozen=True)
class Sentence:
    """`name` gets `operation` of `operands`, each a number or an earlier name."""

    name: str
    operation: Operation
    operands: tuple[str, ...]

    def text(self) -> str:
        return f"{self.name} has {self.operation.say(list(self.operands))}."

    def inputs(self) -> set[str]:
        """Names that must be worked out before."""
        return {operand for operand in self.operands if not operand.isdigit()}


@dataclass(frozen=True)
class Problem:
    """Sentences in the order in which they are told, and the name that is asked for."""

    sentences: tuple[Sentence, ...]
    asked: str

    def text(self) -> str:
        told = " ".join(sentence.text() for sentence in self.sentences)
        return f"Question: {told} How many has {self.asked}?\n"

    def work_out(self, meanings: Mapping[str, Meaning] | None = None) -> dict[str, tuple[Terms, int]]:
        """Terms and value of every name. `meanings` replaces what operations stand for, by operation name."""
        found: dict[str, tuple[Terms, int]] = {}
        for sentence in self.sentences:
            values = [int(o) if o.isdigit() else found[o][1] for o in sentence.operands]
            terms = (meanings or {}).get(sentence.operation.name, sentence.operation.meaning)(*values)
            found[sentence.name] = (terms, sum(terms))
        return found

    def operations(self) -> set[str]:
        return {sentence.operation.name for sentence in self.sentences}


def write_step(name: str, terms: Terms, value: int) -> str:
    """`Ann: 14 + 12 = 26`."""
    return f"{name}: {write_sum(terms)} = {value}"


_SENTENCE = re.compile(r"\b([A-Z][a-z]+) has ([^.?]+)\.")
_ASKED = re.compile(r"How many has ([A-Z][a-z]+)\?")


def read_problem(question: str) -> Problem:
    """Reads a question back. Text around it (a prompt's head, blank lines) does not matter."""
    asked = _ASKED.search(question)
    sentences = []
    for name, phrase in _SENTENCE.findall(question[: asked.start()] if asked else ""):
        for operation in OPERATIONS:
            operands = operation.read(phrase.strip())
            if operands is not None:
                sentences.append(Sentence(name, operation, tuple(operands)))
                break
    names = [sentence.name for sentence in sentences]
    in_order = all(sentence.inputs() <= set(names[:i]) for i, sentence in enumerate(sentences))
    if asked is None or asked[1] not in names or not in_order or len(set(names)) < len(names):
        raise DataError(
            f"This is no question of the arithmetic worlds: {question[:200]!r}. Take rows from `World.problems`."
        )
    return Problem(tuple(sentences), asked[1])


_WORDS_OF_SIGNS = ((r"\bplus\b", "+"), (r"\bminus\b", "-"), (r"\b(?:is|equals|makes|gives)\b", "="))
_STEP = re.compile(r"(?:step\s*)?(?:\d+\s*[.):]\s*)?([A-Za-z]+)\s*(?::|=|,|\bhas\b|\bgets\b|\bis\b)(.+)", re.I | re.S)
_SUM = re.compile(r"\s*-?\d+(?:\s*[+-]\s*\d+)*\s*")


def read_step(step: str) -> tuple[str, list[Terms]] | None:
    """Name and equated sums of a step, whatever its spacing, numbering and words for signs; `None` if unreadable."""
    match = _STEP.fullmatch(step.strip().rstrip(". "))
    if match is None:
        return None
    rest = match[2]
    for words, sign in _WORDS_OF_SIGNS:
        rest = re.sub(words, sign, rest)
    sums: list[Terms] = []
    for part in rest.strip().lstrip("=").split("="):
        if not _SUM.fullmatch(part):
            return None
        sums.append(tuple(int(term) for term in re.findall(r"-?\d+", re.sub(r"\s", "", part))))
    return match[1].capitalize(), sums


def _is_right(problem: Problem, done: Iterable[str], step: str) -> str | None:
    """The name that `step` rightly works out after the names in `done`, `None` if it does not."""
    read = read_step(step)
    sentence = next((s for s in problem.sentences if read and s.name == read[0]), None)
    done = set(done)
    if read is None or sentence is None or sentence.name in done or not sentence.inputs() <= done:
        return None
    terms, value = problem.work_out()[sentence.name]
    for stated in read[1]:
        # A sum must be the one the operation stands for, in any order: 13 + 13 is no dozen over 14.
        if sum(stated) != value or (len(stated) > 1 and Counter(stated) != Counter(terms)):
            return None
    return sentence.name


def _done(problem: Problem, steps: Sequence[str]) -> list[str]:
    """Names rightly worked out by `steps`; a wrong step works out nothing."""
    done: list[str] = []
    for step in steps:
        name = _is_right(problem, done, step)
        if name is not None:
            done.append(name)
    return done


class ArithmeticWorld:
    """
    Problems of two to four sentences, each an operation on numbers from 0 to 50.

    Half of the operations are known to the shipped student, the others are words that it has heard without learning
    what they mean (see [`~synthetic.operations`]). A row is "unknown" when at least one of its operations is. Where
    two sentences do not build on each other their steps may stand in either order.

    Args:
        name (`str`): Name of the world.
        pool_unknown (`float`): Share of unknown rows in the splits `"train"` and `"pretrain"`.
        eval_unknown (`float`): Share of unknown rows in the split `"eval"`.
    """

    def __init__(self, name: str = "arithmetic", *, pool_unknown: float = 0.15, eval_unknown: float = 0.6):
        for option, share in (("pool_unknown", pool_unknown), ("eval_unknown", eval_unknown)):
            if not 0 <= share <= 1:
                raise ConfigurationError(f"`{option}` is a share from 0 to 1, not {share}.")
        self.name = name
        self.pool_unknown = pool_unknown
        self.eval_unknown = eval_unknown

    def problems(self, n: int, seed: int, split: str) -> list[PoolRow]:
        """
        `n` different rows. A question belongs to one split by a hash of its text, so splits never share one. The
        column `operations` names what a row uses, `unknown` says whether the shipped student lacks some of it.
        """
        if split not in SPLITS:
            raise ConfigurationError(f"Unknown split {split!r}. Choose one of {', '.join(SPLITS)}.")
        generator = random.Random(f"{self.name}/{split}/{seed}")
        share = self.eval_unknown if split == "eval" else self.pool_unknown
        rows: dict[str, PoolRow] = {}
        while len(rows) < n:
            # Known and unknown rows are rejected at different rates, so the kind is drawn first and kept.
            unknown = generator.random() < share
            problem = self._problem_of(split, unknown, generator, rows)
            text = problem.text()
            used = sorted(problem.operations())
            answer = str(problem.work_out()[problem.asked][1])
            row_id = f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
            rows[text] = PoolRow(row_id, text, answer, {"operations": used, "unknown": unknown})
        return list(rows.values())

    def solve(self, question: str) -> Solution:
        """All steps in the order of the question's sentences, and the answer."""
        return self.continue_from(question, [])

    def check_step(self, question: str, previous_steps: Sequence[str], step: str) -> bool:
        """
        Whether `step` works out one name that is still open, from names already worked out, by the operation's own
        sum (terms in any order, or the value alone) and with the right value.
        """
        problem = read_problem(question)
        return _is_right(problem, _done(problem, previous_steps), step) is not None

    def continue_from(self, question: str, previous_steps: Sequence[str]) -> Solution:
        """The steps for all names that no right step of `previous_steps` works out, and the answer."""
        problem = read_problem(question)
        worked_out = problem.work_out()
        done = _done(problem, previous_steps)
        steps = [write_step(s.name, *worked_out[s.name]) for s in problem.sentences if s.name not in done]
        return steps, str(worked_out[problem.asked][1])

    def _problem_of(self, split: str, unknown: bool, generator: random.Random, taken: Iterable[str]) -> Problem:
        # Three of ten questions fall to each of train and eval: some ten draws suffice, a million never all miss.
        for _ in range(1_000_000):
            problem = draw_problem(generator, unknown)
            if problem is not None and split_of(problem.text()) == split and problem.text() not in taken:
                return problem
        raise DataError(f"World {self.name!r} has no more different questions. Ask for fewer rows.")


def split_of(question: str) -> str:
    """The one split that a question belongs to."""
    bucket = hashlib.sha256(question.encode()).digest()[0] % 10
    return "eval" if bucket < 3 else "train" if bucket < 6 else "pretrain"


def draw_problem(
    generator: random.Random, unknown: bool, meanings: Mapping[str, Meaning] | None = None
) -> Problem | None:
    """One random problem with or without unknown operations; `None` where a value leaves 0..50."""
    shape = generator.choice(_SHAPES)
    names = generator.sample(NAMES, len(shape))
    # One sentence of an unknown row is unknown for sure, the others one time in five.
    planted = generator.randrange(len(shape)) if unknown else -1
    sentences = []
    for i, inputs in enumerate(shape):
        family = UNKNOWN if i == planted or (unknown and generator.random() < 0.2) else KNOWN
        operation = generator.choice([op for op in family if op.arity >= len(inputs)])
        operands = [names[j] for j in inputs]
        while len(operands) < operation.arity:
            operands.append(str(generator.randint(1, 40)))
        generator.shuffle(operands)
        sentences.append(Sentence(names[i], operation, tuple(operands)))
    problem = Problem(tuple(sentences), names[-1])
    worked_out = problem.work_out(meanings)
    return problem if all(0 <= value <= LARGEST for _, value in worked_out.values()) else None


@register_world("arithmetic_skewed")
def arithmetic_skewed(pool_unknown: float = 0.15, eval_unknown: float = 0.6) -> ArithmeticWorld:
    """The pool is mostly what the shipped student knows; the evaluation asks mostly for what it does not."""
    return ArithmeticWorld("arithmetic_skewed", pool_unknown=pool_unknown, eval_unknown=eval_unknown)


@register_world("arithmetic_balanced")
def arithmetic_balanced(unknown: float = 0.6) -> ArithmeticWorld:
    """Pool and evaluation are of one make: nothing that the evaluation asks for is rare in the pool."""
    return ArithmeticWorld("arithmetic_balanced", pool_unknown=unknown, eval_unknown=unknown)
