"""Two small runs, made by hand: one that revises explanations, one that names classes."""

from __future__ import annotations

from hf_active_distill.hub.facts import RunFacts
from hf_active_distill.records import Annotation, Explanation, StepVerdict, Usage
from hf_active_distill.rounds import RoundRecord


def revision(row_id: str, round_index: int, *, prompt: str = "How much is (2 + 3) * 2?", **changes) -> Annotation:
    """The second of two steps was wrong."""
    student = Explanation(row_id, "2 + 3 = 5.\n5 * 2 = 11.", ["2 + 3 = 5.", "5 * 2 = 11."], "11")
    fields = {
        "row_id": row_id,
        "kind": "clear",
        "status": "ok",
        "prompt": prompt,
        "steps": ["2 + 3 = 5.", "5 * 2 = 10."],
        "answer": "10",
        "completion": "2 + 3 = 5.\n5 * 2 = 10.\nThe answer is 10",
        "student": student,
        "verdicts": [
            StepVerdict(0, student.steps[0], True, "2 + 3 = 5."),
            StepVerdict(1, student.steps[1], False, "5 * 2 = 10."),
        ],
        "first_rejected": 1,
        "round": round_index,
        "teacher": "org/teacher",
        "usage": Usage(calls=3, prompt_tokens=1000, completion_tokens=50),
        "cost": 0.001,
    }
    return Annotation(**{**fields, **changes})


def failed(row_id: str, round_index: int) -> Annotation:
    return Annotation(
        row_id, "clear", "failed", "How much?", reason="length", round=round_index, usage=Usage(1, 100, 50)
    )


def label(row_id: str, round_index: int, name: str) -> Annotation:
    return Annotation(
        row_id,
        "label",
        "ok",
        "The battery died.",
        round=round_index,
        teacher="org/teacher",
        usage=Usage(1, 60, 1),
        label=name,
        answer=name,
        completion=name,
        distribution={"good": 0.25, "bad": 0.75},
        confidence=0.75,
        mass=0.99,
    )


def history(records: list[RoundRecord], **measured: list[float]) -> list[dict]:
    """As `rounds.RoundStore.history` gives it: the student as it came, then one entry a round."""
    rows: list[dict] = [{"round": -1, "step": 0, "total_teacher_tokens": 0, "eval_runtime": 1.5}]
    for record in records:
        figures = record.figures()
        spent = rows[-1]["total_teacher_tokens"] + figures["teacher_tokens"]
        rows.append({**figures, "total_teacher_tokens": spent, "eval_runtime": 1.5})
    for name, values in measured.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def elad_run(**changes) -> RunFacts:
    records = [
        RoundRecord(
            0,
            selected_ids=["a", "b"],
            random_ids=["b"],
            scores={"a": 2.0, "b": 1.0, "c": 0.5},
            annotations=[revision("a", 0), failed("b", 0)],
            available=10,
        ),
        RoundRecord(1, selected_ids=["c"], scores={"c": 1.0}, annotations=[revision("c", 1)], available=9),
    ]
    measured = {"eval_accuracy": [0.25, 0.5, 0.75], "eval_accuracy_stderr": [0.01] * 3, "eval_answered": [1.0] * 3}
    fields = {
        "title": "student",
        "records": records,
        "history": history(records, **measured),
        "settings": {
            "selection": "egss",
            "annotation": "clear",
            "task": "reasoning",
            "num_rounds": 3,
            "random_share": 0.1,
        },
        "hyper_parameters": {"learning_rate": 2e-5, "seed": 7, "max_length": None},
        "base_model": "org/small",
        "stop_reason": "budget",
        "dataset": "org/questions",
        "student_repo": "me/student",
        "pool_repo": "me/student-pool",
        "annotations_repo": "me/student-annotations",
        "arms": {"random": history(records[:1], eval_accuracy=[0.25, 0.4])},
        "picture": "learning_curve.png",
        "versions": {"torch": "2.9.1"},
    }
    return RunFacts(**{**fields, **changes})


def llkd_run(**changes) -> RunFacts:
    records = [
        RoundRecord(
            0,
            selected_ids=["a", "b"],
            scores={"a": 2.0, "b": 1.0},
            annotations=[label("a", 0, "bad"), label("b", 0, "good")],
            available=4,
        )
    ]
    fields = {
        "title": "classifier",
        "records": records,
        "history": history(records, eval_accuracy=[0.5, 0.8], eval_macro_f1=[0.4, 0.7]),
        "settings": {
            "selection": "entropy",
            "annotation": "label",
            "task": "classification",
            "num_rounds": 1,
            "gate": "llkd",
        },
        "stop_reason": "rounds",
        "license": "apache-2.0",
        "teacher_terms": "outputs may train other models",
        "language": "en",
    }
    return RunFacts(**{**fields, **changes})
