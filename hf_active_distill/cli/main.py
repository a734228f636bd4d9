"""
The `hf-active-distill` command. Every module of this folder is a subcommand: it has `add_parser(subparsers)`, which
sets `run` as the parser's default, and imports what is heavy inside `run` only.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence

from .. import __version__, cli
from ..errors import EXIT_INTERRUPTED, ActiveDistillError


def build_parser() -> argparse.ArgumentParser:
    """The parser with all subcommands."""
    parser = argparse.ArgumentParser(
        prog="hf-active-distill", description="Active distillation of language models in the Hugging Face ecosystem."
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in sorted(module.name for module in pkgutil.iter_modules(cli.__path__)):
        if name != "main" and not name.startswith("_"):
            command = importlib.import_module(f"{cli.__name__}.{name}")
            command.add_parser(subparsers).set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand and gives the exit code."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except ActiveDistillError as error:
        print(f"hf-active-distill {args.command}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
