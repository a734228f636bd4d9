"""From a configuration to a dispatcher: the teacher, the journal and the budget of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..asking import Budget, Dispatcher, Prices
from ..errors import ConfigurationError
from ..rounds import RoundStore
from ..teachers import Teacher, load_teacher
from .config import ActiveDistillationConfig


RUN = "train"


def open_dispatcher(
    args: ActiveDistillationConfig, teacher: str | Teacher | Callable | None, token: str | None
) -> Dispatcher:
    """
    Opens the journal, folds what was spent out of it, and makes sure that the teacher answers.

    Raises:
        [`~errors.ConfigurationError`]: When there is no teacher.
        [`~errors.TeacherError`]: When it cannot be reached, before a single row is scored.
        [`~errors.JournalError`]: When the journal cannot be written.
    """
    if teacher is None:
        raise ConfigurationError(
            "There is no teacher: pass `teacher='http://localhost:8080'` (a TGI endpoint), a Teacher object, or a "
            "Python function."
        )
    options: dict[str, str] = {}
    if isinstance(teacher, str):
        options |= {"token": token} if token is not None else {}
        options |= {"client": args.teacher_client} if args.teacher_client != "direct" else {}
    path, run = journal_and_run(args)
    dispatcher = Dispatcher(
        load_teacher(teacher, **options),
        journal=path,
        budget=make_budget(args),
        max_concurrency=args.teacher_concurrency,
        max_retries=args.teacher_max_retries,
        request_timeout=args.teacher_timeout,
        run=run,
    )
    try:
        dispatcher.run_all([], _nothing)  # asks for the server's facts
    except BaseException:
        dispatcher.close()
        raise
    return dispatcher


async def _nothing(item: object) -> None:
    """There are no items."""


def journal_and_run(args: ActiveDistillationConfig) -> tuple[Path, str]:
    """The journal's file, and the name under which the calls of a run that has begun stand in it."""
    if args.journal_path:
        return Path(args.journal_path), RoundStore(args.output_path).run_name()
    return args.output_path / "journal.sqlite", RUN


def make_budget(args: ActiveDistillationConfig) -> Budget:
    """The caps and prices of a configuration."""
    prices = None
    if args.teacher_input_price is not None and args.teacher_output_price is not None:
        prices = Prices(input=args.teacher_input_price, output=args.teacher_output_price)
    return Budget(
        max_calls=args.max_teacher_calls,
        max_tokens=args.max_teacher_tokens,
        max_cost=args.max_teacher_cost,
        prices=prices,
    )
