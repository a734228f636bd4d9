"""
The parts without the trainer: `score`, `select` and `annotate` take data sets and give data sets, `select_rows` takes
arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from datasets import Dataset

from .errors import BudgetExhaustedError, ConfigurationError, DataError
from .pool import Pool
from .records import Explanation, PoolRow
from .selection import select_rows as select_rows
from .tasks import Task, get_task


if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .annotation import AnnotationMethod, AnnotationSettings
    from .asking import Budget
    from .selection import SelectionStrategy
    from .teachers import Teacher

Rows: TypeAlias = Dataset | Sequence[Mapping[str, Any]]


def score(
    model: str | PreTrainedModel,
    dataset: Rows,
    *,
    selection: str | SelectionStrategy | Callable = "egss",
    selection_kwargs: dict[str, Any] | None = None,
    task: str | Task = "reasoning",
    processing_class: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = 256,
    batch_size: int = 16,
    seed: int = 0,
    chat_template_kwargs: dict[str, Any] | None = None,
) -> Dataset:
    """
    Lets a student explain every row and scores how unsure it is.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]): The student.
        dataset ([`~datasets.Dataset`] or sequence of dicts): Rows with a `"prompt"`, or a column that
            [`~tasks.row_from_example`] knows.
        selection (`str`, strategy or function, *optional*, defaults to `"egss"`): What to score by.
        selection_kwargs (`dict[str, Any]`, *optional*): Options of a strategy given by name.
        task (`str` or [`~tasks.Task`], *optional*, defaults to `"reasoning"`): How steps and answers look.
        processing_class ([`~transformers.PreTrainedTokenizerBase`], *optional*): The student's tokenizer.
        max_new_tokens (`int`, *optional*, defaults to `256`): Longest explanation.
        batch_size (`int`, *optional*, defaults to `16`): Rows at a time.
        seed (`int`, *optional*, defaults to `0`): Seed of all sampling.
        chat_template_kwargs (`dict[str, Any]`, *optional*): Passed to the chat template.

    Returns:
        [`~datasets.Dataset`]: The rows in their order, duplicates left out, with `row_id`, `explanation`, `steps`,
        `answer`, `finish_reason` (`"length"` where it was cut off) and `score` (higher: ask sooner).
    """
    from .selection import as_strategy, choose
    from .selection.base import SelectionContext

    strategy = as_strategy(selection, **(selection_kwargs or {}))
    task = get_task(task) if isinstance(task, str) else task
    rows = list(Pool(_rows(dataset, task)).rows.values())
    student = _student(model, processing_class, task, max_new_tokens, batch_size, seed, chat_template_kwargs)
    candidates = student.candidates(rows, strategy.requests())
    if any(candidate.explanation is None for candidate in candidates):
        for candidate, explanation in zip(candidates, student.explain(rows), strict=True):
            candidate.explanation = explanation
    context = SelectionContext(
        candidates, len(candidates), np.random.default_rng(seed), answers_equal=student.task.answers_equal
    )
    scores = choose(strategy, context).scores
    return Dataset.from_list(
        [
            {
                "row_id": candidate.row_id,
                "prompt": candidate.row.prompt,
                "reference": candidate.row.reference,
                "explanation": candidate.explanation.text,
                "steps": candidate.explanation.steps,
                "answer": candidate.explanation.answer,
                "finish_reason": candidate.explanation.finish_reason,
                "score": scores[candidate.row_id],
            }
            for candidate in candidates
            if candidate.explanation is not None
        ]
    )


def select(dataset: Rows, n: int, *, random_share: float = 0.0, seed: int = 0) -> Dataset:
    """
    Takes the rows with the highest `score`, ties in random order, and a share of the others at random.

    Args:
        dataset ([`~datasets.Dataset`] or sequence of dicts): Rows with a `score`, as [`score`] gives them.
        n (`int`): How many.
        random_share (`float`, *optional*, defaults to `0.0`): Share of the `n` rows drawn at random.
        seed (`int`, *optional*, defaults to `0`): Seed of ties and random rows.

    Returns:
        [`~datasets.Dataset`]: The chosen rows, best first, with a `selected_because`.
    """
    from .selection import RandomShare, as_strategy, choose
    from .selection.base import Candidate, SelectionContext

    examples = [dict(example) for example in dataset]
    if not examples or any(example.get("score") is None for example in examples):
        columns = ", ".join(examples[0]) if examples else "none"
        raise DataError(f"`select` needs a 'score' in every row (columns: {columns}): call `score(model, dataset)`.")
    scores = {str(index): float(example["score"]) for index, example in enumerate(examples)}
    context = SelectionContext(
        [Candidate(PoolRow(row_id=row_id, prompt="")) for row_id in scores],
        min(n, len(scores)),
        np.random.default_rng(seed),
    )
    strategy = as_strategy(lambda _: scores)
    result = choose(RandomShare(strategy, random_share) if random_share else strategy, context)
    because = {row_id: "random" if row_id in result.uniform else "score" for row_id in result.ids}
    return Dataset.from_list([{**examples[int(row_id)], "selected_because": because[row_id]} for row_id in result.ids])


def annotate(
    dataset: Rows,
    teacher: str | Teacher | Callable,
    *,
    annotation: str | AnnotationMethod = "clear",
    annotation_kwargs: dict[str, Any] | None = None,
    task: str | Task = "reasoning",
    settings: AnnotationSettings | None = None,
    budget: Budget | None = None,
    journal_path: str | None = None,
    max_concurrency: int = 8,
    teacher_token: str | None = None,
    progress: bool | None = None,
) -> Dataset:
    """
    Asks a teacher about rows.

    Args:
        dataset ([`~datasets.Dataset`] or sequence of dicts): Rows with a prompt; methods that revise need the
            student's `explanation` too, as [`score`] gives it.
        teacher (`str`, [`~teachers.Teacher`] or `Callable`): See [`~teachers.load_teacher`].
        annotation (`str` or [`~annotation.AnnotationMethod`], *optional*, defaults to `"clear"`): How to ask.
        annotation_kwargs (`dict`, *optional*): Options of a method given by name.
        task (`str` or [`~tasks.Task`], *optional*, defaults to `"reasoning"`): How steps and answers look.
        settings ([`~annotation.AnnotationSettings`], *optional*): How the teacher shall answer.
        budget ([`~asking.Budget`], *optional*): Hard caps. Rows that it does not reach are left out.
        journal_path (`str`, *optional*): SQLite file with every answer. With it nothing is ever paid for twice.
        max_concurrency (`int`, *optional*, defaults to `8`): Calls in flight at once.
        teacher_token (`str`, *optional*): Bearer token; `HF_TOKEN` is read where it is not given.
        progress (`bool`, *optional*): Whether to show a bar; on a terminal by default.

    Returns:
        [`~datasets.Dataset`]: One row an annotation, failed ones included (`status`): those with `status="ok"` are
        prompt-completion rows. See [`~tables.annotations_to_dataset`].
    """
    from .annotation import AnnotationSettings, get_annotation
    from .annotation.base import AnnotationItem
    from .annotation.run import annotate_rows
    from .asking import Dispatcher
    from .tables import annotations_to_dataset
    from .teachers import load_teacher

    task = get_task(task) if isinstance(task, str) else task
    method = (
        get_annotation(annotation, task, settings or AnnotationSettings(), **(annotation_kwargs or {}))
        if isinstance(annotation, str)
        else annotation
    )
    examples = [dict(example) for example in dataset]
    rows = _rows(examples, task)
    items = [
        AnnotationItem(row, _explanation(row, example, task)) for row, example in zip(rows, examples, strict=True)
    ]
    if method.needs_explanation and any(item.explanation is None for item in items):
        raise ConfigurationError(
            f"`annotation={method.name!r}` revises the student's own text and needs an 'explanation' in every row: "
            "call `score(model, dataset)` first, or use `annotation='cot'`."
        )
    options = {"token": teacher_token} if teacher_token is not None else {}
    dispatcher = Dispatcher(
        load_teacher(teacher, **options),
        journal=journal_path,
        budget=budget,
        max_concurrency=max_concurrency,
    )
    try:
        outcomes = annotate_rows(dispatcher, method, items, progress=progress)
    finally:
        dispatcher.close()
    annotations = [outcome for outcome in outcomes if outcome is not None]
    if not annotations:
        raise BudgetExhaustedError("The budget does not reach for a single row: raise it, or lower `max_new_tokens`.")
    return annotations_to_dataset(annotations)


def _rows(dataset: Iterable[Mapping[str, Any]], task: Task) -> list[PoolRow]:
    rows = [task.read_row(example) for example in dataset]
    if not rows:
        raise DataError("The data set is empty: pass at least one row.")
    return rows


def _explanation(row: PoolRow, example: Mapping[str, Any], task: Task) -> Explanation | None:
    text = example.get("explanation")
    if not isinstance(text, str):
        return None
    steps = [span.text for span in task.split_steps(text)]
    finish_reason = example.get("finish_reason") or "stop"
    return Explanation(row.row_id, text, steps, task.read_answer(text), finish_reason)


def _student(model, processing_class, task, max_new_tokens, batch_size, seed, chat_template_kwargs):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .students import Student

    if isinstance(model, str):
        processing_class = processing_class or AutoTokenizer.from_pretrained(model)
        model = AutoModelForCausalLM.from_pretrained(model)
    elif processing_class is None:
        raise ConfigurationError("Pass the student's `processing_class` beside a model that is loaded already.")
    return Student(
        model,
        processing_class,
        get_task(task) if isinstance(task, str) else task,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        seed=seed,
        chat_template_kwargs=chat_template_kwargs,
    )
