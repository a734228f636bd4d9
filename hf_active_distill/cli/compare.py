"""`hf-active-distill compare`: does it pay? Arms at equal teacher tokens, over seeds, with intervals."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EXIT_TERMINATED, ConfigurationError


if TYPE_CHECKING:
    from ..comparison import AnswerServer, ComparisonConfig, Outcome, Run
    from ..reports.comparison import Question
    from ..teachers import Teacher

SCRIPTED = "scripted:"


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser(
        "compare",
        help="run arms over seeds at equal teacher tokens, and compare them",
        description=(
            "Runs every arm of a YAML file with every seed, side by side, and writes curves, tables and tests to its "
            "output_dir. Finished runs are kept: the same command again goes on where it was stopped."
        ),
    )
    parser.add_argument("config", type=Path, help="YAML file that describes the comparison")
    parser.add_argument("--output_dir", help="instead of the file's own")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="runs at a time (default: cores)")
    parser.add_argument("--max_minutes", type=float, help="stop after so long; running runs save themselves")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="run these arms only; the report shows all")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="run these seeds only")
    parser.add_argument("--list", action="store_true", help="print the runs and how far each is, and stop")
    parser.add_argument("--report", action="store_true", help="run nothing: write the report of what is finished")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from ..comparison import Outcome, read_comparison
    from ..comparison.claims import is_finished, teacher_facts

    config = read_comparison(args.config, output_dir=args.output_dir)
    runs = _chosen(config, args.arms, args.seeds)
    if args.list:
        return _list_runs(config, runs)
    facts = teacher_facts(config.teacher_kwargs)
    finished = [run for run in runs if is_finished(run, facts)]
    if args.report or len(finished) == len(runs):
        outcome = Outcome(finished)  # the teacher need not even be there
    else:
        outcome = _run_all(config, runs, args.processes, args.max_minutes)
    written = _write_report(config)
    if not args.report:
        print(f"{len(outcome.finished)} of {len(runs)} runs are finished.")
    for label, code in outcome.failed.items():
        print(f"{label} ended with exit code {code}: see log.txt in its folder.", file=sys.stderr)
    print(written)
    if outcome.failed:
        return next(iter(outcome.failed.values()))
    return EXIT_TERMINATED if outcome.left else 0


def _chosen(config: ComparisonConfig, arms: list[str] | None, seeds: list[int] | None) -> list[Run]:
    names = [arm.name for arm in config.arm_list]
    unknown = sorted(set(arms or []) - set(names))
    if unknown:
        raise ConfigurationError(f"There is no arm {', '.join(unknown)}: the arms are {', '.join(names)}.")
    runs = [run for run in config.runs() if (not arms or run.arm in arms) and (not seeds or run.seed in seeds)]
    if not runs:
        raise ConfigurationError("No arm has any of these seeds.")
    return runs


def _list_runs(config: ComparisonConfig, runs: list[Run]) -> int:
    from ..comparison.claims import is_finished, teacher_facts, teachers_of

    facts = teacher_facts(config.teacher_kwargs)
    for run in runs:
        state = "finished" if is_finished(run, facts) else "begun" if (run.folder / "rounds").is_dir() else "to do"
        teacher = teachers_of([run], "")
        print(f"{state:9} {run.label}" + (f", teacher {teacher}" if teacher else ""))
    return 0


def _run_all(config: ComparisonConfig, runs: list[Run], processes: int, minutes: float | None) -> Outcome:
    from ..asking import Budget
    from ..comparison import AnswerServer, run_side_by_side
    from ..comparison.claims import is_finished, teacher_facts
    from ..comparison.sharing import JOURNAL
    from .compare_run import check_settings

    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    for run in {run.arm: run for run in runs}.values():
        try:
            check_settings(dict(run.settings))
        except ConfigurationError as error:
            raise ConfigurationError(f"Arm {run.arm}: {error}") from error
    base = config.base
    server = AnswerServer(
        teacher_maker(config),
        config.folder / JOURNAL,
        budget=Budget(max_tokens=config.max_paid_tokens),
        max_concurrency=config.teacher_concurrency,
        request_timeout=float(base.get("teacher_timeout", 120.0)),
        max_retries=int(base.get("teacher_max_retries", 6)),
        run="comparison",
    )
    with server, _ProgressLine(len(runs), server) as line:
        facts = teacher_facts(config.teacher_kwargs, server.info)
        for run in config.runs():
            is_finished(run, facts)  # those that are not chosen too: one report shows all
        return run_side_by_side(
            runs,
            "hf_active_distill.cli.compare_run:make_run",
            server.address,
            processes=processes,
            threads=config.threads,
            keep_students=config.keep_students,
            deadline=deadline,
            teacher=facts,
            on_change=line.show,
        )


def teacher_maker(config: ComparisonConfig) -> Callable[[], Teacher]:
    """
    What makes the teacher of a comparison.

    Raises:
        [`~errors.ConfigurationError`]: When the configuration names none.
    """
    from ..teachers import load_teacher
    from ..teachers.loading import DOORS

    name, options = config.teacher, config.teacher_kwargs
    if name.startswith(SCRIPTED):
        from ..serving.in_process import ScriptedTeacher

        return lambda: ScriptedTeacher.of_world(name.removeprefix(SCRIPTED), **options)
    module, _, attribute = name.partition(":")
    is_module = all(part.isidentifier() for part in module.split("."))
    if is_module and attribute.isidentifier() and module.lower() not in DOORS:
        found = _import(module, attribute)
        return lambda: load_teacher(found(**options) if options else found)
    return lambda: load_teacher(name, **options)


def _import(module: str, attribute: str) -> Any:
    sys.path.insert(0, os.getcwd())
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"The teacher {module}:{attribute} cannot be imported ({error}): name a module that is installed or lies "
            "in this folder, and a function or teacher in it."
        ) from error
    finally:
        sys.path.pop(0)


class _ProgressLine:
    """
    One line: runs done and running, what was paid and what the journal answered, time gone and left. Where nobody
    watches, one line for every run that ends.
    """

    def __init__(self, total: int, server: AnswerServer):
        from tqdm.auto import tqdm

        self._server = server
        self._bar = tqdm(total=total, unit="run", dynamic_ncols=True, disable=not sys.stderr.isatty())
        self._total = total
        self._done: int | None = None

    def __enter__(self) -> _ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, outcome: Outcome, active: list[Run]) -> None:
        """Brings the line up to date."""
        done = len(outcome.finished) + len(outcome.failed)
        if self._done is None:
            self._bar.initial = done  # finished before this process began: no part of its speed
        facts = f"{self._server.paid.total_tokens:,} tokens paid, {self._server.replayed:,} answers from the journal"
        facts += f", {len(outcome.failed)} failed" if outcome.failed else ""
        if not self._bar.disable:
            self._bar.set_postfix_str(f"{facts}; {', '.join(run.label for run in active)}", refresh=False)
            self._bar.n = done
            self._bar.refresh()
        elif done != self._done:
            print(f"{done} of {self._total} runs, {facts}", file=sys.stderr, flush=True)
        self._done = done


def question_of(config: ComparisonConfig) -> Question:
    """What a comparison asks of its points."""
    from ..reports.comparison import Question

    return Question(
        budgets=config.budgets,
        reference=str(config.reference),
        metric=config.metric,
        targets=config.targets,
        greater_is_better=config.greater_is_better,
        arms=[arm.name for arm in config.arm_list],
    )


def _write_report(config: ComparisonConfig) -> str:
    from ..asking.rows import redact
    from ..comparison import write_points
    from ..comparison.claims import is_finished, teacher_facts, teachers_of
    from ..comparison.points import points_of
    from ..reports.comparison_files import write_comparison

    facts = teacher_facts(config.teacher_kwargs)
    runs = [run for run in config.runs() if is_finished(run, facts)]
    points = [point for run in runs for point in points_of(run)]
    if not points:
        return "No run is finished yet: there is nothing to report."
    write_points(points, config.folder / "points.parquet")
    teacher = redact(teachers_of(runs, config.teacher))
    files = write_comparison(
        points,
        question_of(config),
        config.folder,
        settings=redact(config.shown()),
        facts=f"{len(runs)} of {len(config.runs())} runs, teacher {teacher}.",
    )
    return f"{files.text}\n\nWritten to {config.output_dir}: points.parquet, {', '.join(files.names)}."
