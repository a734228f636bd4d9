"""
The report of a large run: its size, the time to write it, and the time until headless Chromium shows it.

Needs Debian's packages `chromium` and `chromium-driver`. The run is made, not trained: revisions of four steps with
verdicts, and ten times as many candidates as rows.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from chromium import Browser, chromium  # noqa: E402
from made_runs import make_run  # noqa: E402

from hf_active_distill.reports import write_report  # noqa: E402


def seconds_to_open(browser: Browser, page: Path) -> float:
    """From the beginning of the navigation until the page has drawn itself, by the page's own clock."""
    browser.driver.get("about:blank")
    browser.open(page)
    return browser.ask("return performance.getEntriesByName('drawn')[0].startTime") / 1000


def seconds_to_filter(browser: Browser) -> float:
    """A search over all rows, the slowest thing that a reader can ask for."""
    return browser.ask(
        """
        const started = performance.now();
        const box = document.querySelector("#changed input[type=search]");
        const before = document.querySelector("#changed .status").textContent;
        box.value = "counted twice";
        box.dispatchEvent(new Event("input"));
        const waiting = 150; // the pause after the last key
        return new Promise((done) => {
          const look = () => {
            const now = document.querySelector("#changed .status").textContent;
            if (now === before) requestAnimationFrame(look);
            else done((performance.now() - started - waiting) / 1000);
          };
          look();
        });
        """
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--rows", type=int, default=200, help="annotations a round")
    parser.add_argument("--words", type=int, default=1, help="each text so many times over")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        longer = " ".join
        make_run(Path(folder), rounds=args.rounds, rows=args.rows, text=lambda text: longer([text] * args.words))
        started = time.process_time()
        page = write_report(folder)
        wrote = time.process_time() - started
        times = [seconds_to_open(browser, page) for _ in range(args.repeats)]
        search = seconds_to_filter(browser)
        size = page.stat().st_size / 1e6
        print(f"{args.rounds * args.rows:,} annotations: {size:.1f} MB, written in {wrote:.1f} s of CPU time")
        print(f"opened in {statistics.median(times):.2f} s (of {len(times)}: {min(times):.2f} to {max(times):.2f})")
        print(f"searched in {search:.2f} s")


if __name__ == "__main__":
    main()
