"""`hf-active-distill revisions`: what the teacher changed, as coloured diffs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import DataError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("revisions", help="show what the teacher changed in a run, step by step")
    parser.add_argument("output_dir", type=Path, help="the run's folder")
    parser.add_argument("--round", type=int, help="of this round only")
    parser.add_argument("--row", help="of this row only")
    parser.add_argument("--show", choices=("all", "changed", "failed"), default="changed", help="default: changed")
    parser.add_argument("--limit", type=int, default=5, help="most revisions to show, 0 for all (default: 5)")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from rich.console import Console

    from ..annotation import failure_counts, render_revision
    from ..rounds import RoundStore

    records = RoundStore(args.output_dir).records()
    if not records:
        raise DataError(f"{args.output_dir} holds no finished round: name the `output_dir` of a run.")
    found = [
        annotation
        for record in records
        for annotation in record.annotations
        if args.round in (None, record.round) and args.row in (None, annotation.row_id)
    ]
    wanted = {
        "all": found,
        "changed": [annotation for annotation in found if annotation.first_rejected is not None],
        "failed": [annotation for annotation in found if annotation.status != "ok"],
    }[args.show]
    shown = wanted[: args.limit] if args.limit else wanted
    console = Console()
    for annotation in shown:
        console.rule(f"round {annotation.round}, row {annotation.row_id}")
        console.print(render_revision(annotation))
    judged = sum(annotation.judged_steps for annotation in found)
    accepted = sum(annotation.accepted_steps for annotation in found)
    summary = f"{len(shown)} of {len(wanted)} shown; {len(found)} annotations, {accepted} of {judged} steps accepted"
    failures = ", ".join(f"{count} {reason}" for reason, count in failure_counts(found).items())
    console.print(f"{summary}; failed: {failures}" if failures else summary)
    return 0
