"""
Fills `docs/does_it_pay.md` from the points of finished comparisons.

    python benchmarks/write_does_it_pay.py --collect    # after benchmarks/elad.py: takes its points from out/
    python benchmarks/write_does_it_pay.py              # writes tables and pictures of the page from them

Points lie in `benchmarks/results/NAME.parquet`, one file a comparison of `benchmarks/configs`. Everything between
`<!-- results: NAME -->` and `<!-- end -->` on the page is written by this script.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "does_it_pay.md"
POOLS = ("skewed", "balanced", "gsm_symbolic", "leg_counting", "erring_teacher")
COMPARED = ("random+cot", "egss+cot", "random+one_call", "egss+one_call", "random+clear", "egss+clear")
# Where more selections than the two were run.
SELECTED = ("skewed", "balanced", "leg_counting", "erring_teacher", "fresh_skewed", "fresh_balanced")
# Where every selection was run with every annotation.
CROSSED = ("skewed", "balanced")
ANNOTATIONS = ("cot", "one_call", "clear")
# Whose pictures show every arm.
WHOLE = ("settings", "fresh_skewed", "fresh_balanced")
NOT_MEASURED = "Not measured yet."
_BLOCK = re.compile(r"(<!-- results: ([\w ]+) -->\n).*?(<!-- end -->)", re.S)


def load(name: str):
    """Points, question and summaries of a comparison; `None` where it was not run."""
    from hf_active_distill.cli.compare import question_of
    from hf_active_distill.comparison import read_comparison, read_points
    from hf_active_distill.reports.comparison import summarise

    path = RESULTS / f"{name}.parquet"
    if not path.is_file():
        return None
    question = question_of(read_comparison(ROOT / "benchmarks" / "configs" / f"elad_{name}.yaml"))
    points = read_points(path)
    return points, question, summarise(points, question)


def write_pool(name: str, assets: Path) -> str:
    """All tables of one comparison, its picture, and the command that made them."""
    from hf_active_distill.reports.comparison import budget_table, difference_table, price_table, table
    from hf_active_distill.reports.comparison_files import plot_comparison

    loaded = load(name)
    if loaded is None:
        return NOT_MEASURED
    points, question, summaries = loaded
    picture = assets / f"does_it_pay_{name}.png"
    plot_comparison([point for point in points if point["arm"] in COMPARED or name in WHOLE], question, picture)
    last = f"{question.budgets[-1]:,}"
    differences = difference_table(summaries, question)
    shown = [differences[0], *(row for row in differences[1:] if row[1] == last)]
    command = f"hf-active-distill compare benchmarks/configs/elad_{name}.yaml"
    return "\n\n".join(
        [
            f"```shell\n{command}\n```",
            f"![{question.metric} against teacher tokens, mean and 95% interval over seeds](assets/{picture.name})",
            table(budget_table(summaries, question)),
            f"Teacher tokens until the mean curve reaches what {question.reference} has at {last}, with a 95% "
            "bootstrap interval over seeds:",
            table(price_table(summaries, question)),
            f"Against {question.reference} at {last} tokens, seed by seed:",
            table(shown),
        ]
    )


def write_overview() -> str:
    """
    One line a pool: the share of the tokens that each way needs for what random rows with `cot` reach, and how far
    each ends above or below them.
    """
    from hf_active_distill.reports.comparison import show_interval, show_share, table

    ways = [arm for arm in COMPARED if arm != "random+cot"]
    shares = [["pool", "random+cot at its full budget", *(f"share, {arm}" for arm in COMPARED)]]
    ends = [["pool", *ways]]
    for name in POOLS:
        loaded = load(name)
        if loaded is None:
            continue
        _, question, summaries = loaded
        by_arm = {summary.arm: summary for summary in summaries}
        cells = [show_interval(by_arm["random+cot"].at_budget[-1])] if "random+cot" in by_arm else [""]
        for arm in COMPARED:
            price = by_arm[arm].prices[0] if arm in by_arm else None
            absent = "not run" if arm not in by_arm else "not reached"
            cells.append(absent if price is None else show_share(price, question.budgets[-1]) or absent)
        shares.append([name, *cells])
        tests = [by_arm[arm].against[-1] if arm in by_arm and by_arm[arm].against else None for arm in ways]
        ends.append([name, *("not run" if test is None else show_interval(test.difference, "+") for test in tests)])
    if len(shares) == 1:
        return NOT_MEASURED
    return f"{table(shares)}\n\nAccuracy at 26,000 tokens, less that of random+cot, seed by seed:\n\n{table(ends)}"


def write_selections() -> str:
    """Every selection with whole solutions, beside random rows of the same seeds."""
    from hf_active_distill.reports.comparison import price_table, show_interval, table

    rows = [["pool", "selection", "seeds", "at the full budget", "against random", "on the way", "tokens", "share"]]
    for name in SELECTED:
        loaded = load(name)
        if loaded is None:
            continue
        _, question, summaries = loaded
        prices = {arm: cells for arm, *cells in price_table(summaries, question)}
        for summary in (one for one in summaries if "+cot" in one.arm):
            tests = (summary.against[-1] if summary.against else None, summary.area_against)
            differences = ["" if test is None else show_interval(test.difference, "+") for test in tests]
            shown = [show_interval(summary.at_budget[-1]), *differences, *prices[summary.arm]]
            rows.append([name, summary.arm.replace("+cot", ""), str(len(summary.seeds)), *shown])
    return table(rows) if len(rows) > 1 else NOT_MEASURED


def write_crossed() -> str:
    """Every selection with every annotation at the full budget, beside random rows with the same annotation."""
    from hf_active_distill.reports.comparison import curves_of, show_interval, table
    from hf_active_distill.reports.statistics import curve_at, mean_interval

    rows = [["pool", "selection", *(f"{annotation}{what}" for annotation in ANNOTATIONS for what in ("", ", gain"))]]
    for name in CROSSED:
        loaded = load(name)
        if loaded is None:
            continue
        points, question, summaries = loaded
        ends = {
            summary.arm: {
                seed: float(curve_at(curve, [question.budgets[-1]])[0])
                for seed, curve in curves_of(points, summary.arm, question.metric).items()
            }
            for summary in summaries
        }
        for selection in dict.fromkeys(arm.partition("+")[0] for arm in ends):
            cells = []
            for annotation in ANNOTATIONS:
                found, reference = (ends.get(f"{one}+{annotation}", {}) for one in (selection, "random"))
                others = reference if selection != "random" else {}
                gains = [end - others[seed] for seed, end in found.items() if seed in others]
                cells.append(show_interval(mean_interval(list(found.values()))) if found else "")
                cells.append(show_interval(mean_interval(gains), "+") if gains else "")
            rows.append([name, selection, *cells])
    return table(rows) if len(rows) > 1 else NOT_MEASURED


def write_preferences() -> str:
    """Students trained on with what they had written as the rejected side of preferences."""
    from hf_active_distill.reports.comparison import show_interval, table
    from hf_active_distill.reports.statistics import mean_interval

    path = RESULTS / "preferences.jsonl"
    if not path.is_file():
        return NOT_MEASURED
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    pairs: dict[str, list[int]] = {}
    for line in map(json.loads, path.read_text("utf-8").splitlines()):
        if "accuracy" in line:
            way, seed = tuple(line[key] for key in ("arm", "learning_rate", "way", "beta")), line["seed"]
            if seed in found.setdefault(way, {}):
                raise ValueError(f"{path} has {way} with seed {seed} twice.")
            found[way][seed] = line["accuracy"]
            pairs.setdefault(line["arm"], []).append(line["pairs"])
    rows = [["arm", "pairs", "then trained on", "rate", "beta", "seeds", "accuracy", "against `sft`"]]
    for (arm, rate, way, beta), by_seed in sorted(found.items(), key=lambda item: item[0][:2]):
        control = found.get((arm, rate, "sft", None), {}) if way != "sft" else {}
        differences = [accuracy - control[seed] for seed, accuracy in by_seed.items() if seed in control]
        mean = sum(pairs[arm]) / len(pairs[arm])
        settings = [f"{mean:.0f}", f"`{way}`", f"{rate:g}", "" if beta is None else str(beta)]
        measured = show_interval(mean_interval(list(by_seed.values())))
        against = show_interval(mean_interval(differences), "+") if differences else ""
        rows.append([arm, *settings, str(len(by_seed)), measured, against])
    return table(rows)


def write_annotations() -> str:
    """What the ways to ask cost for a row, and what they bring at equal tokens and at equal rows."""
    import numpy as np

    from hf_active_distill.reports.comparison import curves_of, show_interval, table
    from hf_active_distill.reports.statistics import curve_at, mean_interval

    rows = [["pool", "arm", "tokens a row", "calls a row", "at the full budget", "at equal rows"]]
    for name in POOLS:
        loaded = load(name)
        if loaded is None:
            continue
        points, question, summaries = loaded
        chosen = [summary for summary in summaries if summary.arm in COMPARED]
        for summary in chosen:
            asked = summary.spent["samples"]
            # As many as the dearest way to ask about rows of the same selection gets.
            selection = summary.arm.partition("+")[0]
            equal = min(other.spent["samples"] for other in chosen if other.arm.startswith(f"{selection}+"))
            curves = curves_of(points, summary.arm, question.metric, "samples").values()
            at_rows = mean_interval([float(curve_at(curve, np.array([equal]))[0]) for curve in curves])
            costs = [f"{summary.spent[cost] / asked:,.1f}" for cost in ("teacher_tokens", "teacher_calls")]
            shown = [show_interval(summary.at_budget[-1]), f"{show_interval(at_rows)} ({equal:.0f} rows)"]
            rows.append([name, summary.arm, *costs, *shown])
    return table(rows) if len(rows) > 1 else NOT_MEASURED


def fill(text: str, assets: Path) -> str:
    """The page with every block written anew."""
    writers: dict[str, Callable[[], str]] = {
        "overview": write_overview,
        "selections": write_selections,
        "crossed": write_crossed,
        "preferences": write_preferences,
        "annotations": write_annotations,
    }

    def block(match: re.Match[str]) -> str:
        name = match[2]
        written = writers[name]() if name in writers else write_pool(name, assets)
        return f"{match[1]}\n{written}\n\n{match[3]}"

    return _BLOCK.sub(block, text)


def collect() -> list[str]:
    """Takes the points of every comparison that has some into the repository."""
    from hf_active_distill.comparison import read_comparison

    found = []
    RESULTS.mkdir(exist_ok=True)
    for name in (*POOLS, *WHOLE):
        points = read_comparison(ROOT / "benchmarks" / "configs" / f"elad_{name}.yaml").folder / "points.parquet"
        if points.is_file():
            shutil.copyfile(points, RESULTS / f"{name}.parquet")
            found.append(name)
    measured = ROOT / "out" / "benchmarks" / "preferences" / "results.jsonl"  # of benchmarks/preferences.py
    if measured.is_file():
        shutil.copyfile(measured, RESULTS / "preferences.jsonl")
        found.append("preferences")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--collect", action="store_true", help="copy points from out/benchmarks first")
    arguments = parser.parse_args()
    if arguments.collect:
        print(f"Taken: {', '.join(collect()) or 'nothing'}")
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8"), ROOT / "docs" / "assets"), encoding="utf-8")
    print(f"Written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
