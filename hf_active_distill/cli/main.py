"""
The `hf-active-distill` command. A subcommand is a module of this folder, named in `COMMANDS`, with
`add_parser(subparsers)` and `run(args)`; only the one that is called is imported, and it imports what is heavy inside
`run`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from .. import __version__
from ..errors import EXIT_INTERRUPTED, ActiveDistillError


COMMANDS = (
    "compare",
    "diff",
    "elad",
    "export",
    "forget",
    "journal",
    "llkd",
    "plan",
    "push",
    "report",
    "restore",
    "revisions",
    "rounds",
    "serve",
)


def load_command(name: str) -> ModuleType:
    """The module of a subcommand."""
    return importlib.import_module(f"{__package__}.{name}")


def build_parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser with these subcommands."""
    parser = argparse.ArgumentParser(
        prog="hf-active-distill", description="Active distillation of language models in the Hugging Face ecosystem."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands:
        load_command(name).add_parser(subparsers)
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """
    The parsed command line. A subcommand whose parser sets `takes_further_options` gets the words that are not its own
    in `further_options`; elsewhere they are refused.
    """
    called = [name for name in COMMANDS if list(words[:1]) == [name]]
    parser = build_parser(called or COMMANDS)
    args, rest = parser.parse_known_args(words)
    if rest and not getattr(args, "takes_further_options", False):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.further_options = rest
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and gives the exit code."""
    args = parse(sys.argv[1:] if argv is None else argv)
    try:
        return load_command(args.command).run(args) or 0
    except ActiveDistillError as error:
        print(f"hf-active-distill {args.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
