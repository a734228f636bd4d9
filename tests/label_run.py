"""
A tiny run of a classifying student in a process of its own, to be killed at a named point:

    python label_run.py OUTPUT_DIR '{"kill": {"at": "step", "value": 3}, "resume": true, "args": {...}}'
"""

from __future__ import annotations

import hashlib
import json
import os
import sys

import torch
from helpers_models import tiny_classifier, tiny_model, tiny_tokenizer
from tiny_run import Killer

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.errors import ActiveDistillError
from hf_active_distill.records import Annotation
from hf_active_distill.tasks import get_task
from hf_active_distill.teachers import GenerationParams, TeacherRequest


LABELS = ["birds", "numbers", "answers"]
WORDS = {
    "birds": "There are {} birds and {} more come.",
    "numbers": "First add {}, then take away {}.",
    "answers": "Is {} right? Answer yes or no: {}",
}
TEXTS = [(label, WORDS[label].format(i, 3 * i + 1)) for i in range(16) for label in LABELS]
POOL = [{"text": text} for _, text in TEXTS]
EVAL = [{"text": WORDS[label].format(i, i), "label": label} for i in range(50, 54) for label in LABELS]


def share_of(text: str) -> float:
    """A number between 0 and 1 that is a matter of the text alone."""
    return hashlib.sha256(text.encode()).digest()[0] / 255


class RuleAnnotation:
    """Asks the teacher once a row; what it says is the true label, and how sure it is a matter of the text."""

    name = "rule"
    needs_explanation = False

    def __init__(self, task, sure=lambda label, text: 0.5 + 0.5 * share_of(text)):
        self.task = task
        self.sure = sure

    async def annotate(self, item, ask):
        text = self.task.texts(item.row)[0]
        reply = await ask(TeacherRequest.chat([{"role": "user", "content": text}], GenerationParams()))
        label = reply.text
        p = self.sure(label, text)
        rest = (1 - p) / (len(self.task.labels) - 1)
        return Annotation(
            row_id=item.row.row_id,
            kind=self.name,
            status="ok",
            prompt=self.task.student_prompt(item.row),
            answer=label,
            completion=self.task.render_completion([], label),
            round=item.round,
            attempt=item.attempt,
            label=label,
            distribution={name: p if name == label else rest for name in self.task.labels},
            confidence=p,
        )

    def plan(self, item):
        request = TeacherRequest.chat([{"role": "user", "content": "text"}], GenerationParams())
        return [[request], [request]]


def teacher(messages, params) -> str:
    """Knows the true label of every text."""
    return next(label for label, text in TEXTS if text == messages[-1]["content"])


def build(output_dir: str, options: dict, **kwargs) -> ActiveDistillationTrainer:
    """The tiny trainer; dropout is on by default, so that a lost random state shows."""
    task = get_task("classification", labels=LABELS)
    dropout = options.get("dropout", 0.1)
    kind = options.get("model", "roberta")
    if options.get("causal"):
        model = tiny_model("llama", seed=1, attention_dropout=dropout)
    elif kind in ("bert", "roberta"):
        model = tiny_classifier(
            kind, 3, seed=1, std=0.1, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout
        )
    else:
        model = tiny_classifier(kind, 3, seed=1, std=0.1, attention_dropout=dropout)
    defaults = {
        "num_rounds": 1,
        "samples_per_round": len(POOL),
        "selection": "random",
        "num_train_epochs": 1,
        "per_device_train_batch_size": 8,
        "per_device_scoring_batch_size": 4,
        "learning_rate": 5e-3,
        "teacher_concurrency": 1,
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 7,
        "logging_steps": 1,
    }
    args = ActiveDistillationConfig(output_dir=output_dir, **{**defaults, **options.get("args", {})})
    settings = {"pool_dataset": POOL, "eval_dataset": EVAL, "annotation": RuleAnnotation(task), "teacher": teacher}
    settings.update(kwargs)
    return ActiveDistillationTrainer(model=model, args=args, processing_class=tiny_tokenizer(), task=task, **settings)


def main(output_dir: str, options: dict) -> int:
    torch.set_num_threads(1)
    kill = options.get("kill")
    callbacks = [Killer(kill["at"], kill["value"])] if kill else []
    try:
        trainer = build(output_dir, options, callbacks=callbacks)
        trainer.train(resume_from_checkpoint=options.get("resume") or None)
    except ActiveDistillError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code
    trainer.save_model(f"{output_dir}/final")
    if trainer.is_world_process_zero() and trainer.gating is not None:
        with open(f"{output_dir}/gate.json", "w") as file:
            json.dump([trainer.gating.stream.state_dict(), trainer.state.log_history], file)
    trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()
    return 0


if __name__ == "__main__":
    exit_code = main(sys.argv[1], json.loads(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        os._exit(exit_code)  # a gloo thread may abort the process at the interpreter's end
    sys.exit(exit_code)
