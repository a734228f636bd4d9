"""`hf-active-distill restore`: a run's folder from a round, to go on from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .rounds import add_target


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("restore", help="bring back a run's folder from a round, to go on from")
    add_target(parser)
    parser.add_argument("round", help="round-003, or 3")
    parser.add_argument("--output_dir", type=Path, required=True, help="a new folder")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    import pyarrow
    import pyarrow.parquet

    from ..hub import open_store, restore_round
    from ..hub.layout import parse_tag

    restored = restore_round(open_store(args.target, token=args.token), parse_tag(args.round), args.output_dir)
    pool = args.output_dir / "pool.parquet"
    rows = [
        {**row.columns, "row_id": row.row_id, "prompt": row.prompt, "reference": row.reference}
        for row in restored.rows
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), pool)
    print(
        f"{restored.info['tag']} of {args.target} is in {args.output_dir}: student in {restored.checkpoint.name}, "
        f"{restored.info['round'] + 1} rounds, the teacher's answers in journal.sqlite, the pool in {pool.name}. Go "
        "on with the recipe's `--resume_from_checkpoint true` and this `--output_dir`, or `trainer.train("
        "resume_from_checkpoint=True)`."
    )
    return 0
