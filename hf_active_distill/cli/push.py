"""`hf-active-distill push`: what a run has frozen and not yet pushed."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from ..errors import DataError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("push", help="push the rounds of a run that wait for it")
    parser.add_argument("output_dir", type=Path, help="the run's folder")
    parser.add_argument("--to", help="user/name or a folder; where the run was told to push to, if not given")
    parser.add_argument("--token", help="Hub token, the stored login where not given")
    parser.add_argument("--public", action="store_true", help="make repositories that are created public")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from ..hub import LineageFolder, Secrets, open_store, push_waiting

    folder = LineageFolder(args.output_dir)
    target = args.to or folder.target()
    if target is None or not folder.rounds():
        raise DataError(f"{args.output_dir} holds no frozen round: train with `push_rounds` or `lineage_dir`.")
    store = open_store(
        Path(target) if os.path.isabs(target) else target, token=args.token, private=not args.public, create=True
    )
    secrets = Secrets.of_machine([args.token] if args.token else [], [args.output_dir])
    done = push_waiting(store, folder, secrets, wait=_wait)
    names = ", ".join(f"round-{index:03d}" for index in done)
    print(f"Pushed to {store.name}: {names}." if done else f"Nothing waits: all rounds are at {store.name}.")
    return 0


def _wait(seconds: float) -> bool:
    """Nobody stops a command but by Ctrl-C."""
    time.sleep(seconds)
    return False
