"""`hf-active-distill elad`: the recipe of that name as a command."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser(
        "elad",
        help="explanation-guided active distillation: a student that reasons",
        description="The same as recipes/elad.py.",
        epilog="All options are those of the recipe: --config FILE, and whatever shall differ from it.",
        allow_abbrev=False,
    )
    parser.set_defaults(takes_further_options=True)


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from .arms import run_command

    return run_command("elad", args.further_options)
