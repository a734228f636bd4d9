"""`hf-active-distill diff`: what a round added, what the teacher changed, where the student moved."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from .rounds import add_target


if TYPE_CHECKING:
    from rich.console import Console

    from ..hub.listing import Comparison
    from ..records import Annotation

_FIGURES = ("eval_", "accept_rate", "probe_accept_rate", "total_")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand to the parser of the command line."""
    parser = subparsers.add_parser("diff", help="compare two rounds: rows, steps, answers, figures, scores")
    add_target(parser)
    parser.add_argument("old", help="round-002, or 2")
    parser.add_argument("new", help="round-003, or 3")
    parser.add_argument("--limit", type=int, default=5, help="most rows of each kind to show, 0 for all (default: 5)")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")


def run(args: argparse.Namespace) -> int:
    """Does what the parsed command line says."""
    from ..hub import open_store
    from ..hub.layout import parse_tag
    from ..hub.listing import compare_rounds

    store = open_store(args.target, token=args.token)
    found = compare_rounds(store, parse_tag(args.old), parse_tag(args.new))
    if args.json:
        print(json.dumps(_as_dict(found), ensure_ascii=False))
    else:
        _print(found, args.limit)
    return 0


def _as_dict(found: Comparison) -> dict[str, Any]:
    return {
        **vars(found),
        "added": [annotation.to_dict() for annotation in found.added],
        "changed": [[old.to_dict(), new.to_dict()] for old, new in found.changed],
    }


def _print(found: Comparison, limit: int) -> None:
    from rich.console import Console
    from rich.markup import escape

    from ..annotation import render_revision

    console = Console(highlight=False)
    cut = slice(limit or None)
    used = sum(annotation.status == "ok" for annotation in found.added)
    judged = sum(annotation.judged_steps for annotation in found.added)
    accepted = sum(annotation.accepted_steps for annotation in found.added)
    console.print(f"[bold]{found.old} -> {found.new}[/]: {len(found.added)} annotations added, {used} of them used")
    for name, (before, after) in found.figures.items():
        if name.startswith(_FIGURES):
            console.print(f"  {escape(name)}: {_figure(before)} -> {_figure(after)}")
    revised = [annotation for annotation in found.added if annotation.first_rejected is not None]
    if judged:
        console.print(f"\n{accepted} of {judged} steps of the student accepted; {len(revised)} rows revised")
    for annotation in revised[cut]:
        console.rule(f"round {annotation.round}, row {escape(annotation.row_id)}")
        console.print(render_revision(annotation))
    _print_labels(console, [annotation for annotation in found.added if annotation.distribution is not None], limit)
    for old, new in found.changed[cut]:
        before, after = old.label or old.answer or old.reason, new.label or new.answer or new.reason
        console.print(f"row {escape(new.row_id)}, asked again: {escape(str(before))} -> {escape(str(after))}")
    if found.moved:
        mean = sum(after - before for _, before, after in found.moved) / len(found.moved)
        console.print(f"\n{len(found.moved)} rows scored in both rounds; their score moved by {mean:+.3f} on average")
    for row_id, before, after in found.moved[cut]:
        console.print(f"  row {escape(row_id)}: {before:.3f} -> {after:.3f}")


def _print_labels(console: Console, annotations: list[Annotation], limit: int) -> None:
    """What the teacher called the rows: how many of each label, and the rows, least sure first."""
    from rich.markup import escape

    from ..tasks import as_messages

    if not annotations:
        return
    counts = Counter(name for annotation in annotations for name in _labels(annotation))
    failed = sum(annotation.status != "ok" for annotation in annotations)
    console.print(f"\nlabels: {escape(', '.join(f'{name} {n}' for name, n in counts.most_common()))}; {failed} failed")
    for annotation in sorted(annotations, key=lambda one: one.confidence or 0.0)[: limit or None]:
        said = ", ".join(_labels(annotation)) or ("no label" if annotation.status == "ok" else str(annotation.reason))
        sure = "" if annotation.confidence is None else f" ({annotation.confidence:.0%} sure)"
        text = " ".join(as_messages(annotation.prompt)[-1]["content"].split())
        console.print(f"  row {escape(annotation.row_id)}: {escape(said)}{sure}: {escape(text)}", soft_wrap=True)


def _labels(annotation: Annotation) -> list[str]:
    if annotation.labels is not None:
        return annotation.labels
    return [] if annotation.label is None else [annotation.label]


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
