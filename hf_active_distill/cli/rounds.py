"""`hf-active-distill rounds`: the rounds of a lineage and their figures."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("rounds", help="list the rounds of a run on the Hub or in a folder")
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, all figures")


def add_target(parser: argparse.ArgumentParser) -> None:
    """The arguments that name a lineage."""
    parser.add_argument("target", help="user/name on the Hub, or a folder")
    parser.add_argument("--token", help="Hub token, the stored login where not given")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from rich.console import Console
    from rich.table import Table

    from ..hub import open_store
    from ..hub.listing import list_rounds

    rounds = list_rounds(open_store(args.target, token=args.token))
    if args.json:
        for row in rounds:
            print(json.dumps(row))
        return 0
    table = Table(box=None, header_style="bold")
    for name in ("round", "selected", "used", "accepted", "calls", "tokens", "cost", "accuracy", "commit"):
        table.add_column(name, justify="left" if name in ("round", "commit") else "right")
    for row in rounds:
        table.add_row(*_cells(row))
    Console().print(table if rounds else f"{args.target} holds no round yet.")
    return 0


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["tag"],
        _number(row.get("selected"), ","),
        _number(row.get("annotated"), ","),
        _number(row.get("accept_rate"), ".0%"),
        _number(row.get("teacher_calls"), ","),
        _number(row.get("teacher_tokens"), ","),
        _number(row.get("teacher_cost"), ".4f"),
        _number(row.get("eval_accuracy"), ".3f"),
        row["commit"][:8],
    ]


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
