"""`hf-active-distill export`: annotations in the formats of other trainers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


# As in `hub.exports`, which is imported when it is used.
FORMATS = ("prompt_completion", "preference", "step_preference", "unpaired_preference", "stepwise", "classification")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("export", help="write annotations in the format of another trainer")
    parser.add_argument("source", help="a run's folder, a parquet file, or a name on the Hub")
    parser.add_argument("--format", choices=FORMATS, required=True, help="columns of the rows, by TRL's names")
    parser.add_argument("--output", type=Path, required=True, help="file (.parquet, .jsonl, .csv) or folder")
    parser.add_argument("--revision", help="tag, branch or commit of a name on the Hub, such as round-003")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from ..hub.exports import export_annotations, write_export

    rows = export_annotations(args.source, args.format, revision=args.revision)
    print(f"{len(rows)} rows written to {write_export(rows, args.output)}")
    return 0
