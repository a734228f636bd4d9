"""
Which signal finds the rows that the student does not know?

    OMP_NUM_THREADS=1 python benchmarks/selection_signals.py --rows 400

Takes rows of a world, some of them with an operation that the shipped student was not taught, scores each with every
strategy, and prints the area under the ROC curve against "unknown" and against "answered wrongly": 0.5 is what random
gets, 1.0 ranks all of them first. Also the share of them among the rows that would be chosen from a skewed pool.
"""

from __future__ import annotations

import argparse

import numpy as np


# Options of the plain reading of EGSS.
PLAIN: tuple[dict, ...] = (
    {},
    {"aggregate": "sum"},
    {"aggregate": "max"},
    {"early_discount": 0.5},
    {"distance": "soft"},
    {"distance": "soft", "aggregate": "sum"},
    {"distance": "soft", "aggregate": "max"},
    {"distance": "tv"},
    {"distance": "js"},
    {"removal": "leave_one_out"},
    {"removal": "leave_one_out", "distance": "soft"},
    {"removal": "leave_one_out", "distance": "soft", "aggregate": "sum"},
    {"removal": "leave_one_out", "distance": "tv"},
    {"inter_weight": 1.0},
)
STRATEGIES: tuple[tuple[str, dict], ...] = (
    ("random", {}),
    ("max_entropy", {}),
    ("max_entropy", {"aggregate": "max"}),
    ("max_entropy", {"aggregate": "sum"}),
    ("least_confidence", {}),
    ("least_confidence", {"over": "normalized"}),
    ("least_confidence", {"over": "token"}),
    ("self_confidence", {}),
    ("disagreement", {}),
    ("disagreement", {"form": "majority"}),
    ("agreement", {}),
    ("egss", {}),
    ("egss", {"inter_weight": 1.0}),
    *(("egss", {"measure": "answer_shift", **options}) for options in PLAIN),
    ("step_resampling", {}),
    ("step_resampling", {"aggregate": "sum"}),
    ("step_resampling", {"aggregate": "max"}),
    ("step_entropy", {}),
    ("step_entropy", {"aggregate": "max"}),
    ("step_entropy", {"within": "max", "aggregate": "mean"}),
    ("step_entropy", {"within": "max", "aggregate": "sum"}),
    ("step_entropy", {"within": "sum", "aggregate": "sum"}),
)


def area_under_curve(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive row scores above another row, ties counting half."""
    gaps = scores[positive][:, None] - scores[~positive][None, :]
    return float((gaps > 0).mean() + 0.5 * (gaps == 0).mean())


def share_among_chosen(scores: np.ndarray, positive: np.ndarray, n: int, generator: np.random.Generator) -> float:
    """Share of positive rows among the `n` best, ties at random."""
    order = np.lexsort((generator.random(len(scores)), -scores))
    return float(positive[order[:n]].mean())


def score_rows(model_path: str, world_name: str, rows: int, seed: int):
    """Scores of every strategy for each row, which rows are unknown, and which are answered wrongly."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hf_active_distill.selection import SelectionContext, get_strategy
    from hf_active_distill.students import Student
    from hf_active_distill.synthetic import get_world
    from hf_active_distill.tasks import get_task

    world = get_world(world_name)
    pool = world.problems(rows, seed, "train")
    task = get_task("reasoning")
    strategies = [(name, options, get_strategy(name, **options)) for name, options in STRATEGIES]
    requests = sorted({request for _, _, s in strategies for request in s.requests()}, key=repr)
    model = AutoModelForCausalLM.from_pretrained(model_path)
    student = Student(model, AutoTokenizer.from_pretrained(model_path), task, max_new_tokens=80, seed=seed)
    candidates = student.candidates(pool, requests)
    context = SelectionContext(candidates, rows, np.random.default_rng(seed), answers_equal=task.answers_equal)
    scores = {
        " ".join([name, *(f"{key}={value}" for key, value in options.items())]): np.array(
            [strategy.score(candidate, context) for candidate in candidates]
        )
        for name, options, strategy in strategies
    }
    unknown = np.array([row.columns["unknown"] for row in pool])
    explained = [candidate.explanation for candidate in candidates]
    wrong = np.array([not task.verify(row, e.answer if e else None) for row, e in zip(pool, explained, strict=True)])
    return scores, unknown, wrong


def main() -> None:
    from hf_active_distill.synthetic import quickstart_student_path

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(quickstart_student_path()))
    parser.add_argument("--world", default="arithmetic_skewed")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--chosen", type=float, default=0.1, help="share of the rows that would be chosen")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    scores, unknown, wrong = score_rows(arguments.model, arguments.world, arguments.rows, arguments.seed)
    n = max(1, round(arguments.chosen * arguments.rows))
    print(f"{arguments.rows} rows, {unknown.mean():.1%} unknown, {wrong.mean():.1%} answered wrongly; {n} chosen\n")
    print("| strategy | AUROC unknown | AUROC wrong | unknown among chosen |\n|---|---|---|---|")
    for name, values in scores.items():
        generator = np.random.default_rng(arguments.seed)
        chosen = share_among_chosen(values, unknown, n, generator)
        areas = [area_under_curve(values, positive) for positive in (unknown, wrong)]
        print(f"| {name} | {areas[0]:.3f} | {areas[1]:.3f} | {chosen:.1%} |")


if __name__ == "__main__":
    main()
