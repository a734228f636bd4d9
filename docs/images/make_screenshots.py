"""
The pictures of the report in README and docs, from a run's folder:

    make demo ARGS="--compare random"
    python docs/images/make_screenshots.py out/elad_quickstart

Needs Debian's packages `chromium` and `chromium-driver`, selenium and Pillow.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
from pathlib import Path

from PIL import Image


ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from chromium import Browser, chromium  # noqa: E402

from hf_active_distill.reports import write_report  # noqa: E402


COLOURS = 128  # of the palette: flat colours, so that nothing is lost and the files stay small
# name: (scheme, width, first element, last element), the picture reaches from one to the other.
PICTURES = {
    "report_light": ("light", 1100, "header.top", "#spent .data-table"),
    "report_dark": ("dark", 1100, "header.top", "#spent .data-table"),
    "report_scores": ("light", 1100, "#unknown", "#unknown .grid"),
    "report_revisions": ("light", 1100, "#changed", "#changed .card:nth-of-type(3)"),
    "report_sure": ("light", 1100, "#sure", "#sure"),
    "report_narrow": ("dark", 400, "header.top", "#spent figure"),
}


def shoot(browser: Browser, width: int, first: str, last: str) -> Image.Image:
    """The page between two elements, over its whole width."""
    # The bar of questions would lie over whatever the picture begins with.
    box = browser.ask(
        """
        document.querySelector("nav").style.position = "static";
        const [first, last] = [...arguments].map((name) => document.querySelector(name).getBoundingClientRect());
        return [first.top + scrollY, last.bottom + scrollY];
        """,
        first,
        last,
    )
    clip = {"x": 0, "y": box[0], "width": width, "height": box[1] - box[0] + 16, "scale": 1}
    shot = browser.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
    return Image.open(io.BytesIO(base64.b64decode(shot["data"]))).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output_dir", type=Path, help="folder of a run, best with one beside it")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent)
    args = parser.parse_args()
    page = write_report(args.output_dir)
    with chromium() as browser:
        for name, (scheme, width, first, last) in PICTURES.items():
            browser.prefer(scheme)
            browser.size(width, scale=1.5)
            browser.open(page)
            # Drawn in the frame after the size is known.
            browser.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
            picture = shoot(browser, width, first, last).quantize(COLOURS, dither=Image.Dither.NONE)
            picture.save(args.target / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
