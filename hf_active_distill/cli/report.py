"""`hf-active-distill report`: a run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser(
        "report",
        help="write what a run spent, chose, changed and gained as one HTML page",
        description="Writes OUTPUT_DIR/report/index.html from the run's folder alone, also while the run goes on.",
    )
    parser.add_argument("output_dir", type=Path, help="the run's folder")
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="DIR",
        help="folders of further runs to compare with: other selections, or other seeds",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write this file instead")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from ..reports import write_report

    try:
        path = write_report(args.output_dir, beside=args.beside, path=args.output)
    except OSError as error:
        raise ConfigurationError(f"The page cannot be written ({error}): name another file with --output.") from error
    print(path)
    if args.open:
        import webbrowser

        if not webbrowser.open(path.resolve().as_uri()):
            raise ConfigurationError(f"There is no browser to open {path} with: leave out --open.")
    return 0
