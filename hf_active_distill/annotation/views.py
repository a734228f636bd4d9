"""What annotations become: rows for supervised and for preference training, and a coloured diff for the terminal."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from ..records import Annotation, Explanation, Prompt
from ..tasks.answers import same_answer
from ..tasks.base import as_messages
from ..tasks.steps import one_line


if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

AnswersEqual: TypeAlias = Callable[[str | None, str | None], bool]


def completion_rows(annotations: Iterable[Annotation]) -> list[dict[str, Any]]:
    """
    Prompt-completion rows of all usable annotations. A conversational prompt gets a conversational completion.

    Reasoning that was kept stands in `<think>` tags before a plain completion, and as `reasoning_content` of a
    conversational one, where chat templates look for it.
    """
    rows = []
    for annotation in annotations:
        if annotation.status == "ok" and annotation.completion is not None:
            completion = _completion(annotation.prompt, annotation.completion, annotation.thinking)
            rows.append({"prompt": annotation.prompt, "completion": completion})
    return rows


def preference_rows(
    annotations: Iterable[Annotation], answers_equal: AnswersEqual = same_answer
) -> list[dict[str, Any]]:
    """
    Preference rows `{prompt, chosen, rejected}`: the teacher's solution against the one that the student had written,
    of all rows of which the teacher rejected a step or gave another answer.

    Both are whole, since trainers put an end of sequence behind them; [`step_preference_rows`] are not. What was cut
    off by a limit of length is left out, and so are labels of a student that does not write them.

    Args:
        annotations (`Iterable[Annotation]`): Those that failed are left out.
        answers_equal (`Callable[[str | None, str | None], bool]`, *optional*):
            `Task.answers_equal`; by default numbers are compared by value, text without regard to case.
    """
    rows = []
    for annotation in annotations:
        student = annotation.student
        if annotation.status != "ok" or annotation.completion is None or student is None:
            continue
        if not _is_whole(annotation, student) or not _is_rejected(annotation, student, answers_equal):
            continue
        # Whether there is reasoning before it is not what shall be learnt from a pair.
        thinks = bool(annotation.thinking and student.thinking)
        chosen = _completion(annotation.prompt, annotation.completion, annotation.thinking if thinks else None)
        rejected = _completion(annotation.prompt, student.text, student.thinking if thinks else None)
        rows.append({"prompt": annotation.prompt, "chosen": chosen, "rejected": rejected})
    return rows


def _is_whole(annotation: Annotation, student: Explanation) -> bool:
    is_head = (annotation.label is not None or annotation.labels is not None) and student.num_tokens == 0
    return bool(student.text.strip()) and student.finish_reason != "length" and not is_head


def _is_rejected(annotation: Annotation, student: Explanation, answers_equal: AnswersEqual) -> bool:
    if annotation.first_rejected is not None:
        return one_line(student.text) != one_line(annotation.completion or "")
    return annotation.answer is not None and not answers_equal(student.answer, annotation.answer)


def step_preference_rows(annotations: Iterable[Annotation]) -> list[dict[str, Any]]:
    """
    Preferences between steps `{prompt, chosen, rejected}`, of all revisions in which a step was rejected: the accepted
    steps in the teacher's words, followed by the teacher's step or by the student's rejected one. Nothing follows that
    step, so a trainer that puts an end of sequence behind each teaches the student to stop there.
    """
    rows = []
    for annotation in annotations:
        at = annotation.first_rejected
        if annotation.status != "ok" or at is None or at >= len(annotation.steps):
            continue
        rejected = next(verdict.student_step for verdict in annotation.verdicts if verdict.index == at)
        prefix, preferred = annotation.steps[:at], annotation.steps[at]
        if one_line(rejected) == one_line(preferred):
            continue
        rows.append(
            {
                "prompt": annotation.prompt,
                "chosen": _completion(annotation.prompt, "\n".join([*prefix, preferred])),
                "rejected": _completion(annotation.prompt, "\n".join([*prefix, one_line(rejected)])),
            }
        )
    return rows


def unpaired_preference_rows(
    annotations: Iterable[Annotation], answers_equal: AnswersEqual = same_answer
) -> list[dict[str, Any]]:
    """
    Unpaired preference rows `{prompt, completion, label}`: what the teacher wrote is wanted (`True`), what the student
    had written is not where [`preference_rows`] reject it.

    Args:
        annotations (`Iterable[Annotation]`): Those that failed are left out.
        answers_equal (`Callable[[str | None, str | None], bool]`, *optional*): As for [`preference_rows`].
    """
    annotations = list(annotations)
    wanted = [{**row, "label": True} for row in completion_rows(annotations)]
    pairs = preference_rows(annotations, answers_equal)
    unwanted = [{"prompt": pair["prompt"], "completion": pair["rejected"], "label": False} for pair in pairs]
    return wanted + unwanted


def stepwise_rows(annotations: Iterable[Annotation]) -> list[dict[str, Any]]:
    """
    Rows for stepwise supervision `{prompt, completions, labels}`: the student's own steps with the teacher's verdicts,
    up to the first rejected step, behind which nothing was judged, or the first verdict that could not be read. A
    conversation becomes text, its turns separated by blank lines.
    """
    rows = []
    for annotation in annotations:
        verdicts = []
        for verdict in sorted(annotation.verdicts, key=lambda verdict: verdict.index):
            if verdict.accepted is None:
                break
            verdicts.append(verdict)
        if annotation.status == "ok" and verdicts:
            rows.append(
                {
                    "prompt": "\n\n".join(message["content"] for message in as_messages(annotation.prompt)),
                    "completions": [one_line(verdict.student_step) for verdict in verdicts],
                    "labels": [verdict.accepted for verdict in verdicts],
                }
            )
    return rows


def failure_counts(annotations: Iterable[Annotation]) -> dict[str, int]:
    """How many rows failed for each reason, the most frequent first."""
    reasons = Counter(annotation.reason or "unknown" for annotation in annotations if annotation.status != "ok")
    return dict(reasons.most_common())


def _completion(prompt: Prompt, text: str, thinking: str | None = None) -> Prompt:
    if isinstance(prompt, str):
        return f"<think>\n{thinking}\n</think>\n\n{text}" if thinking else text
    message = {"role": "assistant", "content": text}
    return [{**message, "reasoning_content": thinking} if thinking else message]


def render_revision(annotation: Annotation) -> RenderableType:
    """
    A revision for the terminal: each student step beside the verdict and the teacher's step, changed words coloured,
    both answers below. Print it with `rich.print`.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(show_edge=False, pad_edge=False, expand=True)
    table.add_column("", justify="right", style="dim", no_wrap=True)
    table.add_column("student", ratio=1)
    table.add_column("", justify="center", no_wrap=True)
    table.add_column("teacher", ratio=1)
    verdicts = {verdict.index: verdict for verdict in annotation.verdicts}
    student_steps = annotation.student.steps if annotation.student is not None else []
    for index in range(max(len(student_steps), len(annotation.steps))):
        verdict = verdicts.get(index)
        student = student_steps[index] if index < len(student_steps) else ""
        fallback = annotation.steps[index] if index < len(annotation.steps) else ""
        teacher = (verdict.teacher_step if verdict else None) or fallback
        left, right = _diff(student, teacher) if verdict else (Text(student, style="dim"), Text(teacher))
        table.add_row(str(index + 1), left, _sign(verdict.accepted) if verdict else Text(""), right)
    student_answer = annotation.student.answer if annotation.student is not None else None
    left, right = _diff(student_answer or "", annotation.answer or "")
    table.add_section()
    table.add_row("", left or Text("no answer", style="dim"), Text("answer"), right or Text("no answer", style="dim"))
    head = Text.assemble((_question(annotation), "bold"))
    status = Text("" if annotation.status == "ok" else f"failed: {annotation.reason}", style="red")
    return Group(head, table, status) if status.plain else Group(head, table)


def _question(annotation: Annotation) -> str:
    return one_line(as_messages(annotation.prompt)[-1]["content"])


def _sign(accepted: bool | None) -> Text:
    from rich.text import Text

    sign, style = {True: ("yes", "green"), False: ("no", "bold red"), None: ("?", "yellow")}[accepted]
    return Text(sign, style=style)


def _diff(before: str, after: str) -> tuple[Text, Text]:
    """Both texts, words that went struck out in red, words that came in green."""
    from rich.text import Text

    left, right = Text(), Text()
    old, new = before.split(), after.split()
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(a=old, b=new, autojunk=False).get_opcodes():
        same = kind == "equal"
        for words, text, style in ((old[i1:i2], left, "red strike"), (new[j1:j2], right, "green")):
            for word in words:
                text.append(" " if text else "")
                text.append(word, style="" if same else style)
    return left, right
