"""`hf-active-distill plan`: what a run will cost, and after it, what it did cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser(
        "plan",
        help="forecast what a run will cost, or compare the forecast with what was spent",
        description=(
            "What a run will cost: rounds, teacher calls, tokens and money as ranges, hours of the student, and one "
            "rendered prompt of each kind. No teacher is asked."
        ),
        epilog="All other options are those of recipes/elad.py: --config FILE, and whatever shall differ from it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--spent", type=Path, metavar="OUTPUT_DIR", help="show the forecast of this run beside what it has spent"
    )
    parser.set_defaults(takes_further_options=True)


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    if args.spent is not None:
        if args.further_options:
            raise ConfigurationError(f"--spent takes no other option: leave out {' '.join(args.further_options)}.")
        from ..asking import spending_lines

        print("\n".join(spending_lines(args.spent)))
        return 0
    print(_plan(args.further_options))
    return 0


def _plan(words: list[str]) -> Any:
    from datasets import disable_progress_bars
    from transformers.utils import logging
    from trl import TrlParser

    from .recipe import DATACLASSES, make_trainer

    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        parsed = TrlParser(DATACLASSES, prog="hf-active-distill plan").parse_args_and_config(words)
    except (ValueError, OSError) as error:  # an option, a value or a file that the parser refuses
        raise ConfigurationError(str(error)) from error
    script_args, training_args, model_args = parsed
    return make_trainer(script_args, training_args, model_args, script_args.teacher).plan()
