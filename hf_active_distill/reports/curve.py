"""The learning curve: what was gained, against what the teacher cost."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError


def read_metrics(output_dir: str | Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, one a round; the first is the student before any teacher call."""
    path = Path(output_dir) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def plot_learning_curves(
    arms: Mapping[str, Sequence[Mapping[str, Any]]],
    path: str | Path,
    *,
    metric: str = "eval_accuracy",
    title: str | None = None,
) -> Path:
    """
    Draws one line an arm: the metric against the teacher tokens spent so far, with one standard error.

    Args:
        arms (`Mapping[str, Sequence[Mapping]]`): Rows of `metrics.jsonl` by the arm's name.
        path (`str` or `Path`): Picture to write; the ending names the format.
        metric (`str`, *optional*, defaults to `"eval_accuracy"`): What to draw.
        title (`str`, *optional*): Put above.

    Returns:
        `Path`: The picture.

    Raises:
        [`~errors.ConfigurationError`]: When matplotlib is not installed, or no row holds the metric.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigurationError("Drawing needs matplotlib: `pip install 'hf-active-distill[plot]'`.") from error
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    drawn = 0
    for name, rows in arms.items():
        points = [row for row in rows if row.get(metric) is not None]
        if not points:
            continue
        drawn += 1
        tokens = [row["total_teacher_tokens"] for row in points]
        values = [row[metric] for row in points]
        errors = [row.get(f"{metric}_stderr") or 0.0 for row in points]
        (line,) = axes.plot(tokens, values, marker="o", label=f"{name} ({values[-1]:.2f})")
        low = [value - error for value, error in zip(values, errors, strict=True)]
        high = [value + error for value, error in zip(values, errors, strict=True)]
        axes.fill_between(tokens, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    if not drawn:
        raise ConfigurationError(f"No round holds {metric!r}: pass an `eval_dataset` to get a learning curve.")
    axes.set_xlabel("teacher tokens spent")
    axes.set_ylabel(metric.removeprefix("eval_"))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend()
    if title:
        axes.set_title(title)
    figure.savefig(path, dpi=150)
    return Path(path)
