"""
The words in which a teacher is asked. The one home of their wording: what reads a prompt back (the scripted teacher)
does it with the same constants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..records import Messages, PoolRow
from ..tasks.base import Task
from ..tasks.steps import one_line


PROBLEM = "Problem:\n"
FIRST_STEP = "First step of the student:\n"
NEXT_STEP = "Next step of the student:\n"
ALL_STEPS = "Steps of the student:\n"
STUDENT_ANSWER = "Answer of the student: "

COT_INTRO = "Work out the problem below, step by step."
COT_FORM = "Write short steps, one step a line, without numbers, headings or other remarks, and end like this:\n"

CLEAR_INTRO = (
    "I will show you a student's solution of the problem below, one step at a time. Think the problem through step by "
    "step, and judge whether the solution can go through the student's step."
)
CLEAR_RULES = """Reply in one of two ways.
If the step is right and helps, write:
Yes
Step: <the step in your own words, on one line>
If the step is wrong or leads nowhere, write the word No, and below it all the steps that are still to be made, one a \
line, and the answer:
No
"""
CLEAR_START = "Can the solution start with this step?"
CLEAR_GO_ON = "Can the solution go on with this step?"
CLEAR_CLOSE = (
    "All steps of the student stand. If steps are still missing, write them, one a line. Then end like this:\n"
)

ONE_CALL_INTRO = "Check a student's solution of the problem below, step by step."
ONE_CALL_RULES = """Reply with one JSON object and nothing else:
"first_wrong_step": the number of the first step that is wrong or leads nowhere, null if there is none;
"steps": the whole solution in your own words, as a list of strings, one a step: each step of the student up to the \
wrong one, then right steps to the end;
"answer": the final answer, as a string."""

ASK_VERDICT_AGAIN = (
    "I cannot tell whether you accept the step. Judge the same step again, in English: begin with the word Yes or the "
    "word No, and write the rest as described above."
)
ASK_ANSWER_AGAIN = "I cannot find the final answer in your reply. Write it again, and end as described above."
ASK_JSON_AGAIN = "Your reply is not the JSON object described above. Write that object again and nothing else."

_SLOTS = ["<step>", "<step>"]
_ANSWER_SLOT = "<answer>"


def form(task: Task, steps: bool = True) -> str:
    """What a solution looks like in this task, with slots for its parts."""
    return task.render_completion(_SLOTS if steps else [], _ANSWER_SLOT)


def _problem(task: Task, row: PoolRow) -> str:
    choices = task.answer_choices(row)
    said = f"\n\nThe answer is one of: {', '.join(choices)}." if choices else ""
    return f"{PROBLEM}{task.question(row)}{said}"


def cot_prompt(task: Task, row: PoolRow) -> str:
    """Asks for a whole solution."""
    return f"{COT_INTRO}\n\n{_problem(task, row)}\n\n{COT_FORM}{form(task)}"


def clear_prompt(task: Task, row: PoolRow, step: str) -> str:
    """Opens the dialogue with the first step."""
    rules = f"{CLEAR_RULES}{form(task)}"
    return f"{CLEAR_INTRO}\n\n{_problem(task, row)}\n\n{rules}\n\n{FIRST_STEP}{one_line(step)}\n\n{CLEAR_START}"


def clear_next_prompt(step: str) -> str:
    """Shows a later step."""
    return f"{NEXT_STEP}{one_line(step)}\n\n{CLEAR_GO_ON}"


def clear_closing_prompt(task: Task) -> str:
    """Asks for the answer when all steps stand."""
    return f"{CLEAR_CLOSE}{form(task, steps=False)}"


def one_call_prompt(task: Task, row: PoolRow, steps: Sequence[str], answer: str | None) -> str:
    """Shows all steps at once."""
    numbered = "\n".join(f"{number}. {one_line(step)}" for number, step in enumerate(steps, 1))
    said = f"\n{STUDENT_ANSWER}{answer}" if answer else ""
    return f"{ONE_CALL_INTRO}\n\n{_problem(task, row)}\n\n{ALL_STEPS}{numbered}{said}\n\n{ONE_CALL_RULES}"


#: JSON grammar of a one-call reply.
ONE_CALL_SCHEMA = {
    "type": "object",
    "properties": {
        "first_wrong_step": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "steps": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "answer": {"type": "string"},
    },
    "required": ["first_wrong_step", "steps", "answer"],
}


@dataclass
class ReadPrompt:
    """
    What a prompt of this module asks.

    Args:
        kind (`str`): `"cot"`, `"clear"` (judge a step), `"clear_close"` (answer of an accepted solution) or
            `"one_call"`.
        question (`str`): The problem as the teacher was shown it.
        step (`str` or `None`): The step to judge.
        steps (`list[str]`): All student steps of a one-call prompt.
        replies (`list[str]`): The teacher's earlier replies of the dialogue, one a step that it accepted.
        form (`str`): The form in which the solution shall end.
    """

    kind: str
    question: str
    step: str | None = None
    steps: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    form: str = ""


def read_prompt(messages: Messages) -> ReadPrompt | None:
    """Reads a conversation of this module back, `None` if it is none."""
    turns = [turn for turn in messages if turn["role"] != "system"]
    if not turns:
        return None
    opening = turns[0]["content"]
    if opening.startswith(COT_INTRO):
        return ReadPrompt("cot", _between(opening, PROBLEM, COT_FORM), form=opening.rpartition(COT_FORM)[2])
    if opening.startswith(ONE_CALL_INTRO):
        steps = _between(opening, ALL_STEPS, ONE_CALL_RULES).split("\n")
        steps = [re.sub(r"^\d+\. ", "", step) for step in steps if not step.startswith(STUDENT_ANSWER)]
        return ReadPrompt("one_call", _between(opening, PROBLEM, ALL_STEPS), steps=steps)
    if opening.startswith(CLEAR_INTRO):
        return _read_clear(turns)
    return None


def _read_clear(turns: Messages) -> ReadPrompt:
    opening = turns[0]["content"]
    question = _between(opening, PROBLEM, CLEAR_RULES)
    shape = _between(opening, CLEAR_RULES, FIRST_STEP)
    # A turn that was asked again counts once: its first reply was not read.
    asked: list[str] = []
    replies: list[str] = []
    for turn in turns:
        if turn["role"] == "assistant":
            replies.append(turn["content"])
        elif turn["content"] in (ASK_VERDICT_AGAIN, ASK_ANSWER_AGAIN):
            replies.pop()
        else:
            asked.append(turn["content"])
    last = asked[-1]
    if last.startswith(CLEAR_CLOSE):
        return ReadPrompt("clear_close", question, replies=replies, form=shape)
    if last.startswith(CLEAR_INTRO):
        step = _between(last, FIRST_STEP, CLEAR_START)
    else:
        step = _between(last, NEXT_STEP, CLEAR_GO_ON)
    return ReadPrompt("clear", question, step=step, replies=replies, form=shape)


def _between(text: str, start: str, end: str) -> str:
    """Between the first `start` and the last `end`, blank lines around it left out."""
    begin = text.find(start)
    begin = 0 if begin < 0 else begin + len(start)
    stop = text.rfind(end)
    return text[begin : stop if stop >= begin else len(text)].strip()
