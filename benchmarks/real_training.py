"""
A training run on real text: GSM8K questions as the pool, the recorded solutions of a 175B model as the teacher.

    OMP_NUM_THREADS=1 python benchmarks/real_training.py --data_dir DATA

The student is a small Llama with random weights and a tokenizer made from the questions: it will not solve anything,
but the whole way is the real one. Rows are selected, asked for over HTTP, recorded, trained on, and the loss on the
teacher's text of questions that were never asked about is measured before and after.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from real_explanations import TEACHER, read_lines, served
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_active_distill import ActiveDistillationConfig, ActiveDistillationTrainer
from hf_active_distill.annotation.prompts import read_prompt
from hf_active_distill.students import Student
from hf_active_distill.tasks import ReasoningTask, row_from_example


HELD_OUT = 50


def make_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def make_model(vocab_size: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=1024,
            eos_token_id=1,
            pad_token_id=0,
        )
    )


@torch.no_grad()
def held_out_loss(student: Student, pairs: Sequence[tuple[str, str]]) -> float:
    """Mean negative log-likelihood a token of the teacher's text."""
    total, count = 0.0, 0
    student.model.eval()
    for prompt, completion in pairs:
        row = student.encode_training(prompt, completion)
        ids = torch.tensor([row["input_ids"]])
        labels = torch.tensor([[i if m else -100 for i, m in zip(*list(row.values())[:2], strict=True)]])
        learnt = int((labels != -100).sum())
        total += student.model(input_ids=ids, labels=labels).loss.item() * learnt
        count += learnt
    return total / count


def run(data_dir: Path, *, rounds: int = 3, samples: int = 48, limit: int | None = None) -> dict[str, Any]:
    """The figures of the run."""
    task = ReasoningTask()
    examples = read_lines(data_dir / "gsm8k" / "example_model_solutions_first400.jsonl")[:limit]
    solution = {task.question(row_from_example(e)): e[TEACHER]["solution"] for e in examples}
    held_out, pool = examples[:HELD_OUT], examples[HELD_OUT:]
    tokenizer = make_tokenizer([example["question"] for example in pool])
    pairs = [(task.student_prompt(row_from_example(e)), e[TEACHER]["solution"]) for e in held_out]

    def respond(messages: Any, params: Any) -> str:
        read = read_prompt(messages)
        assert read is not None, "the pipeline sent a prompt that is not its own"
        return solution[read.question]

    with served("recorded/175b", respond) as url, tempfile.TemporaryDirectory() as folder:
        args = ActiveDistillationConfig(
            output_dir=folder,
            num_rounds=rounds,
            samples_per_round=samples,
            candidates_per_round=2 * samples,
            annotation="cot",
            selection="least_confidence",
            max_new_tokens=48,
            num_train_epochs=4,
            per_device_train_batch_size=8,
            learning_rate=2e-3,
            report_to="none",
            disable_tqdm=True,
            save_strategy="no",
        )
        trainer = ActiveDistillationTrainer(
            make_model(len(tokenizer)),
            args,
            [{"prompt": example["question"]} for example in pool],
            teacher=f"tgi+{url}",
            processing_class=tokenizer,
        )
        with trainer.open_student() as student:
            before = held_out_loss(student, pairs)
            trainer.train()
            after = held_out_loss(student, pairs)
        annotations = trainer.book.annotations()
        return {
            "rows asked about": len(annotations),
            "rows trained on": len(trainer.training_rows),
            "steps a row": round(sum(len(a.steps) for a in annotations) / len(annotations), 2),
            "teacher tokens": sum(a.usage.total_tokens for a in annotations),
            "optimiser steps": trainer.state.global_step,
            "held-out loss before": round(before, 3),
            "held-out loss after": round(after, 3),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="folder with gsm8k")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=48, help="rows a round")
    args = parser.parse_args()
    for label, value in run(args.data_dir, rounds=args.rounds, samples=args.samples).items():
        print(f"{label:<22} {value}")


if __name__ == "__main__":
    main()
