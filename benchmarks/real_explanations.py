"""
The annotation pipeline on outputs of real models, checked against what people or the data say of them.

    python benchmarks/real_explanations.py --data_dir DATA

`DATA` holds, in folders `gsm8k`, `big_bench_mistake` and `svamp`, files of openai/grade-school-math,
WHGTyen/BIG-Bench-Mistake, and SVAMP with the explanations of google-research/distilling-step-by-step.

- `verdicts`: 4 models' solutions of 400 GSM8K questions; the parsed answer against the parsed gold answer must agree
  with the data's own `is_correct` on all 1,600.
- `clear`: PaLM's chains of BIG-Bench-Mistake as the student's explanations. Their steps are joined to text and split
  again by the task, and go over HTTP to a server that answers in varied free text with the human mark of the first
  wrong step as its verdict. The dialogue must stop at that step, or after the closing turn, on all 600. That server
  has no wording of its own, so these rows must stay out of training.
- `cot`: GSM8K questions as the pool, the recorded 175B solutions as the teacher, over HTTP.
- `svamp`: the same with PaLM 540B on SVAMP, whose text runs on into invented questions.

Exits with 1 where a check fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from hf_active_distill.annotation import (
    AnnotationItem,
    AnnotationSettings,
    completion_rows,
    failure_counts,
    get_annotation,
)
from hf_active_distill.annotation.prompts import read_prompt
from hf_active_distill.annotation.run import annotate_rows
from hf_active_distill.asking import Dispatcher
from hf_active_distill.exchange import ServingParams
from hf_active_distill.records import Annotation, Explanation, Messages, PoolRow
from hf_active_distill.serving.app import build_app
from hf_active_distill.serving.scripted import Responder, ScriptedBackend
from hf_active_distill.serving.server import bind, url_of
from hf_active_distill.tasks import ReasoningTask, row_from_example
from hf_active_distill.teachers import load_teacher
from hf_active_distill.teachers.base import GenerationParams


MODELS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
TEACHER = "175b_verification"
MARKED = ("multistep_arithmetic", "tracking_shuffled_objects")
CONCURRENCY = 16

ACCEPTING = (
    "Yes",
    "Yes.",
    "Yes, we can continue with this step.",
    "**Yes**, the student's step is right.",
    "Correct.",
    "That's right, go on.",
    "I agree with this step.",
    "Yes \u2014 nothing wrong with it.",
    "The step is correct.",
    "Let me go through it carefully. The numbers fit.\n\nYes, we can go on with it.",
    "Verdict: yes",
    "No problem, we can continue.",
    "<think>\nHm, is it wrong? No, it holds.\n</think>\n\nYes.",
    "Okay, so we need to check this one. Yes, it is fine.",
)
REJECTING = (
    "No",
    "No.",
    "No, we cannot continue with this step.",
    "**No**, this step is wrong.",
    "Incorrect.",
    "That is not right.",
    "I disagree with this step.",
    "No \u2014 there is a mistake in it.",
    "The step is incorrect.",
    "Let me go through it carefully. Something is off here.\n\nNo, we can't go on with it.",
    "Verdict: no",
    "There is an error in this step.",
    "<think>\nYes, yes, but wait.\n</think>\n\nNo.",
    "Unfortunately, this step does not follow.",
)
UNCLEAR = ("Let me think about it.", "Ja, das stimmt.", "It depends.", "3 + 4 = 7")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


@dataclass
class Part:
    """What one part of the benchmark found. `wrong` lists what contradicts the data."""

    name: str
    figures: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)


@contextmanager
def served(model: str, respond: Responder) -> Iterator[str]:
    """URL of a loopback server in this process that answers with `respond` over TGI's protocol."""
    listener = bind("127.0.0.1", 0)
    listener.listen()  # a request made before the loop runs waits instead of being refused
    app = build_app(ScriptedBackend(model, respond))
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", loop="asyncio", log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def annotate(
    kind: str, task: ReasoningTask, items: Sequence[AnnotationItem], respond: Responder
) -> tuple[list[Annotation], float]:
    """All items through the real pipeline, and the seconds that it took."""
    settings = AnnotationSettings(params=GenerationParams(max_new_tokens=1024))
    with served(f"recorded/{kind}", respond) as url:
        with Dispatcher(load_teacher(f"tgi+{url}"), max_concurrency=CONCURRENCY) as dispatcher:
            start = time.perf_counter()
            outcomes = annotate_rows(dispatcher, get_annotation(kind, task, settings), items)
            seconds = time.perf_counter() - start
    return [outcome for outcome in outcomes if outcome is not None], seconds


def cost_figures(annotations: Sequence[Annotation], seconds: float) -> dict[str, Any]:
    """What the calls cost."""
    calls = sum(annotation.usage.calls for annotation in annotations)
    return {
        "turns": calls,
        "turns a row": round(calls / max(1, len(annotations)), 2),
        "prompt tokens": sum(annotation.usage.prompt_tokens for annotation in annotations),
        "completion tokens": sum(annotation.usage.completion_tokens for annotation in annotations),
        "seconds": round(seconds, 1),
        "failures": failure_counts(annotations),
    }


def run_verdicts(data_dir: Path, limit: int | None = None) -> Part:
    """Parsed answers of four models against `is_correct`."""
    part, task = Part("verdicts"), ReasoningTask()
    rows = read_lines(data_dir / "gsm8k" / "example_model_solutions_first400.jsonl")[:limit]
    steps = unread = 0
    for row in rows:
        gold = task.read_reference(row["ground_truth"])
        for model in MODELS:
            solution = row[model]["solution"]
            answer = task.read_answer(solution)
            steps += len(task.split_steps(solution))
            unread += answer is None
            if task.answers_equal(answer, gold) != row[model]["is_correct"]:
                part.wrong.append(f"{model}: {answer!r} against {gold!r} in {row['question'][:60]!r}")
    solutions = len(rows) * len(MODELS)
    part.figures = {
        "rows": solutions,
        "steps a row": round(steps / solutions, 2),
        "without an answer": unread,
        "verdicts equal": solutions - len(part.wrong),
    }
    return part


class MarkedTeacher:
    """Answers the dialogue with the human mark as its verdict, in free text; now and then unclearly at first."""

    def __init__(self, marks: dict[str, int | None], answers: dict[str, str]):
        self.marks = marks
        self.answers = answers

    def __call__(self, messages: Messages, params: ServingParams) -> str:
        read = read_prompt(messages)
        assert read is not None, "the pipeline sent a prompt that is not its own"
        choice = int(hashlib.sha256(json.dumps(messages).encode()).hexdigest()[:8], 16)
        asked_again = len(messages) > 2 * len(read.replies) + 1
        if read.kind == "clear_close":
            return f"All steps stand.\nThe answer is {self.answers[read.question]}"
        if choice % 10 == 0 and not asked_again:
            return UNCLEAR[choice // 10 % len(UNCLEAR)]
        phrases = REJECTING if len(read.replies) == self.marks[read.question] else ACCEPTING
        return phrases[choice % len(phrases)]


def run_clear(data_dir: Path, limit: int | None = None) -> Part:
    """Dialogues over BIG-Bench-Mistake must stop where people marked the first wrong step."""
    part, task = Part("clear"), ReasoningTask()
    examples = [row for name in MARKED for row in read_lines(data_dir / "big_bench_mistake" / f"{name}.jsonl")[:limit]]
    items, marks, answers, resplit = [], {}, {}, 0
    for example in examples:
        row = row_from_example(example, prompt_column="input", reference_column="target")
        text = "\n".join(example["steps"])
        steps = [span.text for span in task.split_steps(text)]
        # A last line that is nothing but "So the answer is ..." is the answer, not a step.
        resplit += steps == example["steps"] or (
            steps == example["steps"][:-1] and example["mistake_index"] != len(steps)
        )
        items.append(AnnotationItem(row, Explanation(row.row_id, text, steps, task.read_answer(text))))
        marks[task.question(row)] = example["mistake_index"]
        answers[task.question(row)] = example["answer"].strip()
    part.annotations, seconds = annotate("clear", task, items, MarkedTeacher(marks, answers))
    unclear = 0
    for item, annotation, example in zip(items, part.annotations, examples, strict=True):
        mark = example["mistake_index"]
        judged = len(item.explanation.steps) if mark is None else mark + 1  # type: ignore[union-attr]
        turns = judged + (mark is None)
        unclear += annotation.usage.calls - turns
        if (annotation.first_rejected, annotation.judged_steps) != (mark, judged) or annotation.usage.calls < turns:
            part.wrong.append(f"marked {mark}, stopped at {annotation.first_rejected}: {example['input'][:60]!r}")
    trained_on = len(completion_rows(part.annotations))
    if trained_on:
        part.wrong.append(f"{trained_on} rows without teacher wording would be trained on")
    part.figures = {
        "rows": len(items),
        "steps a row": round(sum(len(i.explanation.steps) for i in items if i.explanation) / len(items), 2),
        "steps given back": resplit,
        "without an answer": sum(i.explanation.answer is None for i in items if i.explanation),
        "stopped where marked": len(items) - len(part.wrong),
        "asked again": unclear,
        **cost_figures(part.annotations, seconds),
    }
    return part


def run_recorded(
    name: str, rows: list[PoolRow], solutions: list[str], right: Callable[[int, str | None], bool]
) -> Part:
    """`cot` with recorded solutions as the teacher."""
    part, task = Part(name), ReasoningTask()
    recorded = {task.question(row): solution for row, solution in zip(rows, solutions, strict=True)}

    def respond(messages: Messages, params: ServingParams) -> str:
        read = read_prompt(messages)
        assert read is not None, "the pipeline sent a prompt that is not its own"
        return recorded[read.question]

    part.annotations, seconds = annotate("cot", task, [AnnotationItem(row) for row in rows], respond)
    usable = [annotation for annotation in part.annotations if annotation.status == "ok"]
    for annotation in usable:
        if [span.text for span in task.split_steps(annotation.completion or "")] != annotation.steps:
            part.wrong.append(f"the target does not split into its steps: {annotation.completion!r}")
        if "\nQ:" in (annotation.completion or ""):
            part.wrong.append(f"an invented question in a target: {annotation.completion!r}")
    part.figures = {
        "rows": len(rows),
        "usable": len(usable),
        "steps a row": round(sum(len(a.steps) for a in usable) / max(1, len(usable)), 2),
        "teacher right": sum(right(index, a.answer) for index, a in enumerate(part.annotations)),
        **cost_figures(part.annotations, seconds),
    }
    return part


def run_cot(data_dir: Path, limit: int | None = None) -> Part:
    """GSM8K with the recorded solutions of a 175B model."""
    task = ReasoningTask()
    examples = read_lines(data_dir / "gsm8k" / "example_model_solutions_first400.jsonl")[:limit]
    rows = [row_from_example(example, reference_column="ground_truth") for example in examples]
    solutions = [example[TEACHER]["solution"] for example in examples]
    part = run_recorded("cot", rows, solutions, lambda i, answer: task.verify(rows[i], answer) is True)
    correct = sum(example[TEACHER]["is_correct"] for example in examples)
    if part.figures["teacher right"] != correct:
        part.wrong.append(f"{part.figures['teacher right']} right answers after the pipeline, {correct} in the data")
    return part


def run_svamp(data_dir: Path, limit: int | None = None) -> Part:
    """SVAMP with PaLM 540B, whose text runs on."""
    task = ReasoningTask()
    examples = read_lines(data_dir / "svamp" / "svamp_test.json")[:limit]
    rows = [row_from_example(example) for example in examples]
    solutions = json.loads((data_dir / "svamp" / "palm_test_cot.json").read_text(encoding="utf-8"))[:limit]
    part = run_recorded("svamp", rows, solutions, lambda i, answer: task.verify(rows[i], answer) is True)
    part.figures["text that runs on"] = sum("\n\nQ:" in solution for solution in solutions)
    return part


PARTS: dict[str, Callable[[Path, int | None], Part]] = {
    "verdicts": run_verdicts,
    "clear": run_clear,
    "cot": run_cot,
    "svamp": run_svamp,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with gsm8k, big_bench_mistake and svamp")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="which parts to run")
    parser.add_argument("--limit", type=int, help="rows of each file (default: all)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(argv)
    parts = [PARTS[name](args.data_dir, args.limit) for name in args.parts]
    for part in parts:
        print(f"\n{part.name}")
        for label, value in part.figures.items():
            print(f"  {label:<22} {value}")
        for complaint in part.wrong:
            print(f"  WRONG {complaint}")
    if args.json is not None:
        args.json.write_text(json.dumps({part.name: part.figures for part in parts}, indent=2), encoding="utf-8")
    return int(any(part.wrong for part in parts))


if __name__ == "__main__":
    sys.exit(main())
