"""The pictures and the page of a comparison, and all of its files."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigurationError
from .comparison import COSTS, ArmSummary, Point, Question, arms_of, curves_of, markdown, summarise, tables
from .statistics import Curve, curve_at, mean_curve, mean_interval


_STYLES = ("-", "--", ":", "-.")  # one an annotation
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #222; }}
table {{ border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }}
th, td {{ border-bottom: 1px solid #ddd; padding: .3rem .7rem; text-align: right; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; }} tr.reference td {{ background: #f3f3f3; }}
svg {{ max-width: 100%; height: auto; }} pre {{ background: #f6f6f6; padding: 1rem; overflow-x: auto; }}
</style></head><body><h1>{title}</h1><p>{summary}</p>{body}</body></html>
"""


@dataclass(frozen=True)
class ComparisonFiles:
    """
    Args:
        names (`list[str]`): Files that were written, without their folder.
        text (`str`): The table of tokens to target, for a terminal.
    """

    names: list[str]
    text: str


def plot_comparison(
    points: Sequence[Point], question: Question, path: str | Path | io.IOBase, *, cost: str = "teacher_tokens"
) -> None:
    """
    Draws the mean of every arm over its seeds with a band of the 95% interval (Student's t, at each cost).

    Args:
        points (`Sequence[Mapping]`): Points of finished runs.
        question ([`~reports.comparison.Question`]): Metric, budgets, arms and their order.
        path (`str`, `Path` or file): Where to; a file takes SVG.
        cost (`str`, *optional*, defaults to `"teacher_tokens"`): One of [`~reports.comparison.COSTS`].

    Raises:
        [`~errors.ConfigurationError`]: When matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("Drawing needs matplotlib: `pip install 'hf-active-distill[compare]'`.") from error
    figure = Figure(figsize=(8.5, 4.8), layout="constrained")
    axes = figure.subplots()
    arms = arms_of(points, question)
    kinds = list(dict.fromkeys(str(_annotation(points, arm)) for arm in arms))
    selections = list(dict.fromkeys(_selection(points, arm) for arm in arms))
    limit = question.budgets[-1] if cost == "teacher_tokens" else math.inf
    for arm in arms:
        colour = f"C{selections.index(_selection(points, arm)) % 10}"
        style = _STYLES[kinds.index(str(_annotation(points, arm))) % len(_STYLES)]
        curves = list(curves_of(points, arm, question.metric, cost).values())
        if curves:
            _draw(axes, curves, limit, label=f"{arm} ({len(curves)})", color=colour, linestyle=style)
    axes.set_xlabel(COSTS[cost])
    axes.set_ylabel(question.metric)
    axes.xaxis.set_major_formatter("{x:,.0f}" if cost != "student_hours" else "{x:.3g}")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), title="arm (seeds)")
    # The same points give the same file, and its text can be searched.
    with matplotlib.rc_context({"svg.hashsalt": cost, "svg.fonttype": "none"}):
        if isinstance(path, io.IOBase):
            figure.savefig(path, format="svg", metadata={"Date": None})  # type: ignore[arg-type]
        else:
            figure.savefig(str(path), dpi=150)


def _draw(axes: Any, curves: Sequence[Curve], limit: float, **look: Any) -> None:
    """One arm: its mean and the band around it."""
    knots, mean = mean_curve(curves, limit)
    axes.plot(knots, mean, linewidth=1.6, **look)
    if len(curves) > 1:
        intervals = [mean_interval(column) for column in np.stack([curve_at(curve, knots) for curve in curves]).T]
        low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
        axes.fill_between(knots, low, high, color=look["color"], alpha=0.1, linewidth=0)


def write_comparison(
    points: Sequence[Point], question: Question, folder: str | Path, *, settings: str = "", facts: str = ""
) -> ComparisonFiles:
    """
    Writes `comparison.md`, `comparison.html` (one file, nothing loaded from elsewhere) and `curve.png`.

    Args:
        points (`Sequence[Mapping]`): Points of finished runs.
        question ([`~reports.comparison.Question`]): What is asked of them.
        folder (`str` or `Path`): Where to.
        settings (`str`, *optional*): Shown at the end of the page.
        facts (`str`, *optional*): One line about the runs.
    """
    folder = Path(folder)
    summaries = summarise(points, question)
    text = markdown(summaries, question)
    (folder / "comparison.md").write_text(f"{facts}\n\n{text}\n" if facts else f"{text}\n", encoding="utf-8")
    plot_comparison(points, question, folder / "curve.png")
    page = comparison_page(points, summaries, question, settings=settings, facts=facts)
    (folder / "comparison.html").write_text(page, encoding="utf-8")
    return ComparisonFiles(["comparison.md", "comparison.html", "curve.png"], text)


def comparison_page(
    points: Sequence[Point],
    summaries: Sequence[ArmSummary],
    question: Question,
    *,
    settings: str = "",
    facts: str = "",
) -> str:
    """One self-contained HTML page: pictures over every cost, tables, settings."""
    parts = []
    for cost, name in COSTS.items():
        if any(point.get(cost) for point in points):
            parts.append(f"<h2>{html.escape(question.metric)} against {name}</h2>{_svg(points, question, cost)}")
    for title, note, rows in tables(summaries, question):
        parts.append(f"<h2>{html.escape(title)}</h2><p>{html.escape(note)}</p>{_html_table(rows, question.reference)}")
    if settings:
        parts.append(f"<h2>Settings</h2><pre>{html.escape(settings)}</pre>")
    title = f"{html.escape(question.metric)} for teacher tokens"
    return _PAGE.format(title=title, summary=html.escape(facts), body="\n".join(parts))


def _svg(points: Sequence[Point], question: Question, cost: str) -> str:
    buffer = io.BytesIO()
    plot_comparison(points, question, buffer, cost=cost)
    text = buffer.getvalue().decode("utf-8")
    return text[text.index("<svg") :]


def _html_table(rows: Sequence[Sequence[str]], reference: str) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in rows[0])
    lines = [f"<tr>{head}</tr>"]
    for row in rows[1:]:
        mark = ' class="reference"' if row[0] == reference else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>")
    return f"<table>{''.join(lines)}</table>"


def _first(points: Sequence[Mapping[str, Any]], arm: str, key: str) -> Any:
    return next((point.get(key) for point in points if point["arm"] == arm), None)


def _annotation(points: Sequence[Mapping[str, Any]], arm: str) -> Any:
    return _first(points, arm, "annotation")


def _selection(points: Sequence[Mapping[str, Any]], arm: str) -> Any:
    # Two forms of one strategy are two colours: an arm's name without its annotation tells them apart.
    return arm.removesuffix(f"+{_annotation(points, arm)}")
