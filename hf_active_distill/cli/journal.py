"""`hf-active-distill journal`: look into a journal, export it, make it smaller."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..asking import Journal, JournalReader, JournalRow
from ..asking.progress import figures
from ..errors import ConfigurationError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("journal", help="look into a journal of teacher calls, export it, compact it")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    listing = actions.add_parser("list", help="one line a call, and what each run has spent")
    listing.add_argument("path", type=Path, help="the journal")
    _add_filters(listing)
    listing.add_argument("--limit", type=int, default=50, help="last calls to show, 0 for all (default: 50)")
    listing.add_argument("--json", action="store_true", help="one JSON object a line, whole requests and answers")

    show = actions.add_parser("show", help="one exchange in full")
    show.add_argument("path", type=Path, help="the journal")
    show.add_argument("id", type=int, help="number of the call, as `list` shows it")

    export = actions.add_parser("export", help="write calls to a parquet file")
    export.add_argument("path", type=Path, help="the journal")
    export.add_argument("target", type=Path, help="the parquet file")
    _add_filters(export)

    compact = actions.add_parser("compact", help="drop requests of failed calls, give free space back")
    compact.add_argument("path", type=Path, help="the journal")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    actions = {"list": _list, "show": _show, "export": _export, "compact": _compact}
    return actions[args.action](args)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", dest="of_run", help="calls of this run")
    parser.add_argument("--row", help="calls about this row")
    parser.add_argument("--round", type=int, help="calls of this round")
    parser.add_argument("--kind", help="calls of this annotation method")
    parser.add_argument("--state", choices=("sending", "answered", "failed"), help="calls in this state")


def _filters(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "run": args.of_run,
        "row_id": args.row,
        "round": args.round,
        "kind": args.kind,
        "state": args.state,
    }


def _list(args: argparse.Namespace) -> int:
    with JournalReader(args.path) as journal:
        rows = journal.rows(limit=args.limit or None, **_filters(args))
        if args.json:
            for row in rows:
                print(json.dumps(row.to_dict()))
            return 0
        _print_table(rows)
        for name in journal.runs():
            spent, seconds = journal.spent(name)
            states = ", ".join(f"{count} {state}" for state, count in sorted(journal.states(name).items()))
            print(f"run {name!r}: {figures(spent, journal.cost(name))}, asking {seconds:.0f} s; {states}")
    return 0


def _print_table(rows: Iterable[JournalRow]) -> None:
    print(
        f"{'id':>7}  {'state':<8}  {'row':<16}  {'round':>5}  {'kind':<9}  {'turn':>4}  {'tokens':>7}  what came back"
    )
    for row in rows:
        reply = row.reply
        outcome = reply.text if reply is not None else row.error or ""
        print(
            f"{row.id:>7}  {row.state:<8}  {_cut(row.row_id, 16):<16}  {row.round:>5}  {_cut(row.kind, 9):<9}  "
            f"{row.turn:>4}  {row.usage.total_tokens:>7}  {_cut(outcome, 60)}"
        )


def _cut(text: str, width: int) -> str:
    line = " ".join(_printable(text).split())
    return line if len(line) <= width else line[: width - 3] + "..."


def _printable(text: str) -> str:
    """What a teacher wrote must not steer the terminal, nor fail to be encoded for it."""
    encoding = sys.stdout.encoding or "utf-8"
    visible = "".join(
        letter if letter.isprintable() or letter in "\n\t" else f"\\x{ord(letter):02x}" for letter in text
    )
    return visible.encode(encoding, "backslashreplace").decode(encoding)


def _show(args: argparse.Namespace) -> int:
    with JournalReader(args.path) as journal:
        row = next(journal.rows(id=args.id), None)
    if row is None:
        raise ConfigurationError(
            f"{args.path} has no call {args.id}: `hf-active-distill journal list` shows the numbers."
        )
    for name, value in row.to_dict().items():
        if name not in ("content", "answer", "error") and value is not None:
            print(f"{name}: {_printable(str(value))}")
    content = json.loads(row.content) if row.content else {}
    for message in content.get("messages") or []:
        print(f"\n--- {_printable(message['role'])}\n{_printable(message['content'])}")
    if content.get("prompt") is not None:
        print(f"\n--- prompt\n{_printable(content['prompt'])}")
    reply = row.reply
    if reply is not None and reply.reasoning is not None:
        print(f"\n--- reasoning\n{_printable(reply.reasoning)}")
    if reply is not None:
        print(f"\n--- answer\n{_printable(reply.text)}")
    if row.error is not None:
        print(f"\n--- error\n{_printable(row.error)}")
    return 0


def _export(args: argparse.Namespace) -> int:
    with JournalReader(args.path) as journal:
        count = journal.export_parquet(args.target, **_filters(args))
    print(f"{count} calls written to {args.target}")
    return 0


def _compact(args: argparse.Namespace) -> int:
    if not args.path.exists():
        raise ConfigurationError(f"There is no journal at {args.path}.")
    before = args.path.stat().st_size
    with Journal(args.path) as journal:
        journal.compact()
    print(f"{args.path}: {before:,} bytes, now {args.path.stat().st_size:,}")
    return 0
