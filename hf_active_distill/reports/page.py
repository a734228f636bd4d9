"""The report: one HTML file that holds everything it shows, and asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .gathering import gather


REPORT_FILE = "report/index.html"
#: Room for the rows: with everything else a page stays under 15 MB.
MAX_ROW_BYTES = 12_000_000
STYLES = ("vendor/uPlot.min.css", "page.css")
SCRIPTS = (
    "vendor/uPlot.iife.min.js",
    "vendor/diff.min.js",
    "elements.js",
    "tables.js",
    "charts.js",
    "spending.js",
    "selection.js",
    "revisions.js",
    "trust.js",
    "page.js",
)
# Characters that would end the script element, open a comment in it, or that UTF-8 cannot hold.
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def write_report(output_dir: str | Path, *, beside: Iterable[str | Path] = (), path: str | Path | None = None) -> Path:
    """
    Writes `output_dir/report/index.html` from what stands in the folder. A reader sees the old page or the new one.

    Args:
        output_dir (`str` or `Path`): Folder of a run, finished or not. Runs in `compare-NAME` folders of it are drawn
            beside it.
        beside (`Iterable`, *optional*): Folders of further runs: other selections, or other seeds.
        path (`str` or `Path`, *optional*): Another file to write.

    Returns:
        `Path`: The page.

    Raises:
        [`~errors.DataError`]: When the folder holds no round.
    """
    target = Path(output_dir) / REPORT_FILE if path is None else Path(path)
    text = render_page(gather(output_dir, beside=beside, max_bytes=MAX_ROW_BYTES))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, encoding="utf-8", newline="")
    os.replace(partial, target)
    return target


def render_page(data: dict[str, Any]) -> str:
    """The page as text: the gathered data in the template, behind a policy that lets nothing else run or load."""
    style, script = _assets()
    return _template().render(
        name=_printable(str(data["name"])),
        policy="; ".join(
            [
                "default-src 'none'",
                f"script-src '{_digest(script)}'",
                f"style-src '{_digest(style)}'",
                "base-uri 'none'",
                "form-action 'none'",
                "require-trusted-types-for 'script'",
                "trusted-types 'none'",
            ]
        ),
        style=style,
        script=script,
        data=embedded_json(data),
    )


def embedded_json(data: Any) -> str:
    """JSON that stands safely in a script element: whatever it holds, it is neither a tag nor a comment."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


@cache
def _assets() -> tuple[str, str]:
    """Style and script of the page, each as one text."""
    folder = files(__package__) / "assets"
    style, script = (
        "\n".join((folder / name).read_text(encoding="utf-8") for name in names) for names in (STYLES, SCRIPTS)
    )
    return style, script


@cache
def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("hf_active_distill.reports", "assets")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined).get_template("page.html.jinja")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _printable(name: str) -> str:
    """A folder's name may hold bytes that are no text."""
    return name.encode("utf-8", "replace").decode("utf-8")
