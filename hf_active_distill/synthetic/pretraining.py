"""What the shipped student read before it was shipped: known operations, and unknown words used loosely."""

from __future__ import annotations

import random

from .arithmetic import Problem, draw_problem, split_of, write_step
from .operations import UNKNOWN, Meaning, loose_meaning


def pretraining_text(generator: random.Random, *, loose: float = 0.2, early: float = 0.06) -> tuple[str, str]:
    """
    One (prompt, completion) pair from the split `"pretrain"`.

    Args:
        generator (`random.Random`): Source of all randomness.
        loose (`float`, *optional*, defaults to `0.2`): Share of problems in which the unknown words appear, with a
            meaning drawn anew for every problem. It makes the student unsure of them, not ignorant of their looks.
        early (`float`, *optional*, defaults to `0.06`): Share of explanations cut before the last step and closed by
            the answer all the same, which teaches the student to answer when it is made to.
    """
    unknown = generator.random() < loose
    while True:
        meanings = {op.name: loose_meaning(op, generator) for op in UNKNOWN} if unknown else {}
        problem = draw_problem(generator, unknown, meanings)
        if problem is not None and split_of(problem.text()) == "pretrain":
            break
    steps, answer = _explain(problem, meanings, generator)
    if generator.random() < early:
        steps = steps[: generator.randrange(len(steps))]
    return problem.text(), "\n".join(steps) + f"\nThe answer is {answer}"


def _explain(problem: Problem, meanings: dict[str, Meaning], generator: random.Random) -> tuple[list[str], str]:
    """Steps in the order of the sentences; now and then in another valid order."""
    worked_out = problem.work_out(meanings)
    open_sentences, done, steps = list(problem.sentences), set[str](), list[str]()
    reorder = generator.random() < 0.1
    while open_sentences:
        ready = [s for s in open_sentences if s.inputs() <= done]
        sentence = generator.choice(ready) if reorder else ready[0]
        open_sentences.remove(sentence)
        done.add(sentence.name)
        steps.append(write_step(sentence.name, *worked_out[sentence.name]))
    return steps, str(worked_out[problem.asked][1])
