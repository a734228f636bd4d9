"""`hf-active-distill forget`: one row, deleted from every round."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .rounds import add_target


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("forget", help="delete a row from every round of a run")
    add_target(parser)
    parser.add_argument("row_id", help="id of the row")
    parser.add_argument(
        "--squash", action="store_true", help="take their history from all commits, so that old ones lead nowhere"
    )
    parser.add_argument("--run_dir", type=Path, help="the run's folder, to delete the row from it too")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from ..hub import open_store
    from ..hub.forget import forget_in_run, forget_row

    done = forget_row(open_store(args.target, token=args.token), args.row_id, squash=args.squash)
    print(f"{done.files} tables of {len(done.commits)} rounds were written anew without row {args.row_id}.")
    if args.run_dir is not None:
        places = forget_in_run(args.run_dir, args.row_id, done.settings)
        print(f"{places} places in {args.run_dir} were cleared.")
    if not args.squash:
        print("Old commits can still be read by whoever knows their id: `--squash` cuts them off.")
    print("What the student learnt from the row is in its weights. Take the row out of your own data too.")
    return 0
