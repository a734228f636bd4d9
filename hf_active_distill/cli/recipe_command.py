"""A recipe as a subcommand: what `elad` and `llkd` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any


def recipe_command(name: str, words: str) -> tuple[Callable[[Any], None], Callable[[argparse.Namespace], int]]:
    """`add_parser` and `run` of the subcommand that runs a recipe; `words` say what it is for."""

    def add_parser(subparsers: Any) -> None:
        parser = subparsers.add_parser(
            name,
            help=words,
            description=f"The same as recipes/{name}.py.",
            epilog="All options are those of the recipe: --config FILE, and whatever shall differ from it.",
            allow_abbrev=False,
        )
        parser.set_defaults(takes_further_options=True)

    def run(args: argparse.Namespace) -> int:
        from .arms import run_command

        return run_command(name, args.further_options)

    return add_parser, run
