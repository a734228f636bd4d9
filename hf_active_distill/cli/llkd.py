"""`hf-active-distill llkd`: the recipe of that name as a command."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser(
        "llkd",
        help="active distillation of a student that puts texts into classes",
        description="The same as recipes/llkd.py.",
        epilog="All options are those of the recipe: --config FILE, and whatever shall differ from it.",
        allow_abbrev=False,
    )
    parser.set_defaults(takes_further_options=True)


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from .arms import run_command

    return run_command("llkd", args.further_options)
