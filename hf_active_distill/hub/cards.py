"""The student's card: what was distilled, from whom, what it cost and what it brought."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..errors import ConfigurationError
from ..reports.curve import plot_learning_curves
from ..tasks.steps import one_line
from .facts import UNKNOWN, RunFacts
from .markup import code, fenced, is_repo_id, link, plain, scrubbed, table
from .papers import papers_of


TEMPLATES = Path(__file__).parent / "templates"
CURVE_FILE = "learning_curve.png"

_ANNOTATION_WORDS = {
    "clear": "the teacher read the student's explanation step by step, restated what was right and rewrote the rest",
    "cot": "the teacher solved each row without seeing what the student wrote",
    "label": "the teacher gave each row a label, with its probability of every label",
    "one_call": "the teacher read the student's explanation in one call and rewrote it from the first wrong step on",
}
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.\-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
_TAG = re.compile(r"[\w.:/\- ]{1,64}")
#: Names under which the Hub knows a metric that is called otherwise here.
_HUB_METRICS = {"macro_f1": "f1", "agreement": "accuracy"}


def model_card(facts: RunFacts) -> ModelCard:
    """The card of a student."""
    card = ModelCard.from_template(
        ModelCardData(
            base_model=facts.base_model if is_repo_id(facts.base_model) else None,
            datasets=[name for name in (facts.dataset, facts.annotations_repo) if is_repo_id(name)] or None,
            eval_results=_eval_results(facts) or None,
            library_name="peft" if facts.adapter else "transformers",
            model_name=one_line(plain(facts.title, 96)) or "student",
            pipeline_tag="text-classification" if facts.classifies else "text-generation",
            **common_data(facts),
        ),
        template_path=str(TEMPLATES / "model_card.md"),
        title=code(facts.title),
        student=link(facts.base_model) if facts.base_model else "",
        overview=table(["", ""], _overview(facts)),
        picture=facts.picture,
        rounds=rounds_table(facts),
        arms=_arms_table(facts),
        papers=papers_of(facts.settings),
        revised=any(annotation.judged_steps for annotation in facts.annotations),
        hyper_parameters=[(name, code(value)) for name, value in facts.hyper_parameters.items() if value is not None],
        versions=[(name, code(value)) for name, value in facts.versions.items()],
        limits=_limits(facts),
        terms=terms(facts),
        citations="\n\n".join(fenced(paper.bibtex, "bibtex") for paper in papers_of(facts.settings)),
    )
    return ModelCard(scrubbed(str(card), facts.private))


def draw_learning_curve(facts: RunFacts, folder: Path) -> str | None:
    """Draws the picture of the card; its file name, `None` where nothing was measured or matplotlib is missing."""
    if not facts.metrics:
        return None
    arms = {str(facts.settings.get("selection", facts.title)): facts.history, **facts.arms}
    try:
        plot_learning_curves(arms, folder / CURVE_FILE, metric=facts.metrics[0], title="What the teacher's tokens buy")
    except ConfigurationError:
        return None
    return CURVE_FILE


def rounds_table(facts: RunFacts) -> str:
    """One line a round, after one for the student as it came: what was asked, what it cost, what was measured."""
    head = ["round", "selected", "used", "failed", "accepted steps", "calls", "tokens", "tokens so far", "cost"]
    head += [code(metric_name(name)) for name in facts.metrics]
    return table(head, (_round_row(row, facts.metrics) for row in facts.history))


def _round_row(row: Mapping[str, Any], measured: Sequence[str]) -> list[str]:
    rate, cost = row.get("accept_rate"), row.get("teacher_cost")
    counts = [_count(row.get(name)) for name in ("selected", "annotated", "failed")]
    return [
        "before" if row["round"] < 0 else str(row["round"]),
        *counts,
        "" if rate is None else f"{rate:.0%}",
        *(_count(row.get(name)) for name in ("teacher_calls", "teacher_tokens", "total_teacher_tokens")),
        "" if cost is None else f"{cost:.4f}",
        *(_measure(row, name) for name in measured),
    ]


def _count(value: Any) -> str:
    return "" if value is None else f"{value:,}"


def _measure(row: Mapping[str, Any], name: str) -> str:
    value, error = row.get(name), row.get(f"{name}_stderr")
    if value is None:
        return ""
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def metric_name(key: str) -> str:
    """`macro f1` of `eval_macro_f1`."""
    return plain(key.removeprefix("eval_").replace("_", " "), 64)


def _overview(facts: RunFacts) -> list[list[str]]:
    settings, usage = facts.settings, facts.usage
    annotation = str(settings.get("annotation", UNKNOWN))
    words = _ANNOTATION_WORDS.get(annotation)
    share = settings.get("random_share")
    finished = sum(row["round"] >= 0 for row in facts.history)
    cost = "" if facts.cost is None else f", cost {facts.cost:.4f}"
    used = sum(len(record.succeeded) for record in facts.records)
    lines = [
        ["Student", link(facts.base_model) if facts.base_model else "began as a model that is not on the Hub"],
        ["Teacher", ", ".join(map(code, facts.teachers)) or UNKNOWN],
        ["Task", code(settings.get("task", UNKNOWN))],
        ["Selection", code(settings.get("selection", UNKNOWN)) + (f", {share:.0%} drawn at random" if share else "")],
        ["Annotation", code(annotation) + (f": {words}" if words else "")],
        [
            "Rounds",
            f"{finished} of {settings.get('num_rounds', UNKNOWN)} planned (ended by: {facts.stop_reason or UNKNOWN})",
        ],
        ["Rows", f"{len(facts.annotations):,} asked about, {used:,} trained on"],
        ["Spent", f"{usage.total_tokens:,} tokens in {usage.calls:,} calls{cost}"],
        ["Pool", link(facts.pool_repo, "datasets/") if facts.pool_repo else ""],
        ["Annotations", link(facts.annotations_repo, "datasets/") if facts.annotations_repo else ""],
    ]
    return [line for line in lines if line[1]]


def _arms_table(facts: RunFacts) -> str:
    """The last figures of this run and of those beside it."""
    if not facts.arms or not facts.metrics:
        return ""
    own = {str(facts.settings.get("selection", facts.title)): facts.history}
    rows = []
    for name, history in {**own, **facts.arms}.items():
        measured = [row for row in history if any(row.get(metric) is not None for metric in facts.metrics)]
        if measured:
            spent = _count(measured[-1].get("total_teacher_tokens"))
            rows.append([code(name), spent, *(_measure(measured[-1], metric) for metric in facts.metrics)])
    return table(["selection", "teacher tokens", *(code(metric_name(name)) for name in facts.metrics)], rows)


def _eval_results(facts: RunFacts) -> list[EvalResult]:
    """What was measured last, as the Hub lists it."""
    dataset = facts.dataset if is_repo_id(facts.dataset) else None
    results = []
    for key in facts.metrics:
        value = next(row[key] for row in reversed(facts.history) if row.get(key) is not None)
        name = key.removeprefix("eval_")
        results.append(
            EvalResult(
                task_type="text-classification" if facts.classifies else "text-generation",
                dataset_type=dataset or "custom",
                dataset_name="evaluation rows of the run" + (f" ({dataset})" if dataset else ""),
                metric_type=_HUB_METRICS.get(name, plain(name, 64)),
                metric_name=metric_name(key),
                metric_value=round(float(value), 6),
            )
        )
    return results


def _limits(facts: RunFacts) -> list[str]:
    target = "labels are" if facts.classifies else "text is"
    limits = [f"The teacher's {target} the training target: its errors pass on to this model."]
    if not facts.metrics:
        limits.append("Nothing was evaluated: what the training brought is unknown.")
    else:
        limits.append("The figures are of one run with one seed: another seed gives others.")
    if any(f"{name}_stderr" in row for row in facts.history for name in facts.metrics):
        limits.append("± is one standard error over the evaluation rows.")
    if not facts.arms:
        limits.append("No run with rows drawn at random stands beside it: what the selection brought is unknown.")
    if not facts.settings.get("random_share"):
        limits.append("No rows were drawn at random: where the student is confident and wrong was never looked at.")
    return limits


def common_data(facts: RunFacts) -> dict[str, Any]:
    """Front matter that all cards have. A licence that is no identifier of the Hub is named beside `other`."""
    data: dict[str, Any] = {"license": facts.license or UNKNOWN, "tags": sorted({*facts.tags})}
    if not _IDENTIFIER.fullmatch(data["license"]):
        name = "-".join(re.findall(r"[a-z0-9.]+", data["license"].lower()))[:64]
        data |= {"license": "other", "license_name": name or UNKNOWN}
    data["tags"] = [tag for tag in data["tags"] if _TAG.fullmatch(tag)]
    if facts.language and _LANGUAGE.fullmatch(facts.language):
        data["language"] = facts.language
    return data


def terms(facts: RunFacts) -> dict[str, str]:
    """Licence and the teacher's terms; what nobody has stated is marked unknown."""
    return {
        "license": code(facts.license) if facts.license else f"**{UNKNOWN}**: nobody has stated it",
        "teacher_terms": code(facts.teacher_terms)
        if facts.teacher_terms
        else f"**{UNKNOWN}**: nobody has stated on what terms its outputs may be used; find out before you use this",
    }
