"""Run folders made without a run: what the report is built from, of any size and with any text."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from hf_active_distill.records import Annotation, Explanation, StepVerdict, Usage
from hf_active_distill.reports.labels import (
    CONFUSION_FILE,
    DISAGREEMENTS_FILE,
    EVAL_CONFUSION_FILE,
    EVAL_DISAGREEMENTS_FILE,
)
from hf_active_distill.rounds import RoundRecord, RoundStore


Text = Callable[[str], str]
WORDS = (
    "the student adds two numbers and then takes away what was counted twice so that the sum is right again".split()
)


def plain(text: str) -> str:
    """Texts as they are."""
    return text


def revision(row_id: str, round_index: int, generator: np.random.Generator, text: Text = plain) -> Annotation:
    """One of: accepted as it was, rejected at some step, failed."""
    steps = [text(" ".join(generator.choice(WORDS, size=12)) + f" gives {n}.") for n in range(4)]
    rejected = int(generator.integers(0, 6))
    failed = bool(generator.random() < 0.05)
    verdicts = [
        StepVerdict(index, steps[index], index != rejected, steps[index] if index != rejected else None, text("Yes."))
        for index in range(min(rejected + 1, 4))
    ]
    better = [*steps[:rejected], *(text(f"instead, {step}") for step in steps[rejected:])]
    return Annotation(
        row_id=text(row_id),
        kind="clear",
        status="failed" if failed else "ok",
        reason=text("no_answer") if failed else None,
        prompt=text(f"Question: {' '.join(generator.choice(WORDS, size=25))}?"),
        steps=better,
        answer=None if failed else text(str(rejected)),
        completion="\n".join(better),
        student=Explanation(row_id, "\n".join(steps), steps, text("4")),
        verdicts=verdicts,
        first_rejected=rejected if rejected < 4 else None,
        round=round_index,
        teacher=text("teacher/large"),
        revision="abc",
        usage=Usage(len(verdicts), 200 * len(verdicts), 40),
        cost=0.001,
    )


def labelling(row_id: str, round_index: int, generator: np.random.Generator, text: Text = plain) -> Annotation:
    """A label of three, with the student's."""
    names = [text(name) for name in ("sports", "business", "science")]
    shares = generator.dirichlet([0.5] * 3)
    label = names[int(shares.argmax())]
    student = names[int(generator.integers(3))]
    return Annotation(
        row_id=text(row_id),
        kind="label",
        status="ok",
        prompt=text(f"Text: {' '.join(generator.choice(WORDS, size=25))}."),
        answer=label,
        completion=label,
        student=Explanation(row_id, student, [], student),
        round=round_index,
        teacher=text("teacher/large"),
        usage=Usage(1, 120, 2),
        label=label,
        distribution={name: float(share) for name, share in zip(names, shares, strict=True)},
        confidence=float(shares.max()),
        mass=0.98,
    )


def make_run(
    folder: Path,
    *,
    rounds: int = 3,
    rows: int = 20,
    text: Text = plain,
    make: Callable[..., Annotation] = revision,
    seed: int = 0,
    selection: str = "egss",
    trained: int | None = None,
    accuracies: Sequence[float] | None = None,
) -> Path:
    """
    A run's folder.

    Args:
        folder (`Path`): Where.
        rounds (`int`), rows (`int`): How many, and rows a round; four times as many are candidates.
        text (`Callable`): What becomes of every text.
        make (`Callable`): Makes an annotation.
        seed (`int`), selection (`str`): As in the run's settings.
        trained (`int`, *optional*): Rounds that are over; all by default.
        accuracies (`Sequence[float]`, *optional*): Before the first round and after each.
    """
    generator = np.random.default_rng(seed)
    store = RoundStore(folder)
    settings = {"selection": text(selection), "seed": seed, "num_rounds": rounds, "annotation": "clear"}
    store.begin(settings, resuming=False, overwrite=True)
    accuracies = accuracies or [0.4 + 0.05 * index for index in range(rounds + 1)]
    spread = {"eval_accuracy_stderr": 0.03}
    store.write_baseline({"round": -1, "total_teacher_tokens": 0, "eval_accuracy": accuracies[0], **spread})
    tokens = calls = 0
    for index in range(rounds):
        ids = [f"row-{index}-{n}" for n in range(4 * rows)]
        scores = {
            text(row_id): float(score) for row_id, score in zip(ids, generator.gamma(2, size=len(ids)), strict=True)
        }
        annotations = [make(row_id, index, generator, text) for row_id in ids[:rows]]
        chosen = [annotation.row_id for annotation in annotations]
        record = RoundRecord(
            round=index,
            selected_ids=chosen,
            reasons={row_id: text("egss=1.5") for row_id in chosen},
            random_ids=chosen[-2:],
            scores=scores,
            annotations=annotations,
            available=len(ids),
            seconds={"scoring": 2.5, "asking": 1.25},
        )
        store.write(record)
        tokens += record.usage.total_tokens
        calls += record.usage.calls
        if trained is None or index < trained:
            totals = {"total_teacher_tokens": tokens, "total_teacher_calls": calls}
            measured = {"eval_accuracy": accuracies[index + 1], **spread}
            stop = {"stop_reason": "rounds" if index == rounds - 1 else None}
            store.write_metrics(index, {**record.figures(), **totals, **measured, **stop})
    return folder


def add_review(folder: Path, text: Text = plain) -> None:
    """What the trainer adds to a folder after training, where students answer with labels."""
    names = [text(name) for name in ("sports", "business", "science")]
    table = {"readers": ["teacher", "student"], "labels": names, "counts": [[9, 1, 0], [4, 8, 0], [0, 0, 7]]}
    (folder / CONFUSION_FILE).write_text(json.dumps({**table, "agreement": 24 / 29, "kappa": 0.74}))
    held = {**table, "readers": ["reference", "student"], "counts": [[3, 0, 0], [0, 2, 1], [0, 0, 4]]}
    (folder / EVAL_CONFUSION_FILE).write_text(json.dumps({**held, "agreement": 0.9, "kappa": 0.85}))
    apart = {"row_id": text("row-0-3"), "text": text("Shares of the club rose."), "teacher_label": names[1]}
    found = {**apart, "teacher_confidence": 0.9, "student_label": names[0], "student_confidence": 0.8}
    (folder / DISAGREEMENTS_FILE).write_text(json.dumps(found) + "\n")
    (folder / EVAL_DISAGREEMENTS_FILE).write_text(json.dumps({**found, "row_id": text("held-1")}) + "\n")
    store = RoundStore(folder)
    for index in range(len(store.records())):
        shares = {f"kept_share/{name}": share for name, share in zip(names, (1.0, 0.25, None), strict=True)}
        store.write_metrics(index, {**store.read_metrics(index), **shares})


def page_data(page: Path) -> dict:
    """The data that a page carries."""
    text = page.read_text(encoding="utf-8")
    start = text.index(">", text.index('id="data"')) + 1
    return json.loads(text[start : text.index("</script>", start)])
