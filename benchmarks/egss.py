"""
What it costs to score step boundaries, by the way it is done, in one run:

    python benchmarks/egss.py                                    # a Llama of 100M parameters, float32, CPU
    python benchmarks/egss.py --device cuda --dtype bfloat16 --params 1B --items 32 --batch-size 32
    python benchmarks/egss.py --quick --json egss.json

Ways: `naive` encodes every prefix by itself, `padded` does so in batches, `tree` encodes explanation and all branches
in one pass, `cache` takes the explanation from the cache that writing it left. Quantities: `soft` (log p of the answer
at every boundary), `hard` (a greedy answer forced at every boundary), `leave_one_out` (soft, each step left out).

Tokens are those that pass through the model, filler included; times are CPU seconds of the process (wall-clock seconds
on CUDA); memory is the peak beyond what was held before. `of writing` is the cost against writing the explanations.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any


SIZES = {
    "1M": {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4, "num_attention_heads": 4},
    "10M": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4},
    "100M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12},
    "1B": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
WAYS = ("naive", "padded", "tree", "cache")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--params", default="100M", choices=sorted(SIZES), help="Size of the Llama.")
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--items", type=int, default=4, help="Explanations scored.")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--question", type=int, default=64, help="Tokens of a question.")
    parser.add_argument("--explanation", type=int, default=128, help="Tokens of an explanation.")
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--cue", type=int, default=4, help="Tokens of the answer cue.")
    parser.add_argument("--answer", type=int, default=4, help="Tokens of the answer, scored or forced.")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--repeats", type=int, default=1, help="The fastest of so many runs counts.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="A tiny model, few items: does it run?")
    parser.add_argument("--json", metavar="PATH", help="Also writes the rows as JSON.")
    return parser


class Meter:
    """Tokens, seconds and memory of a piece of work."""

    def __init__(self, model: Any, repeats: int):
        import torch

        self.torch = torch
        self.model = model
        self.cuda = model.device.type == "cuda"
        self.repeats = repeats
        self.tokens = 0
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.tokens += kwargs["input_ids"].numel()

    def __call__(self, work: Callable[[], Any]) -> dict[str, float]:
        return self._on_cuda(work) if self.cuda else self._in_child(work)

    def _best(self, work: Callable[[], Any], clock: Callable[[], float]) -> float:
        best = float("inf")
        for _ in range(self.repeats):
            self.tokens = 0
            start = clock()
            work()
            if self.cuda:
                self.torch.cuda.synchronize()
            best = min(best, clock() - start)
        return best

    def _on_cuda(self, work: Callable[[], Any]) -> dict[str, float]:
        work()  # the first call of a shape pays for kernels and memory
        self.torch.cuda.synchronize()
        self.torch.cuda.reset_peak_memory_stats()
        before = self.torch.cuda.memory_allocated()
        seconds = self._best(work, time.perf_counter)
        peak = self.torch.cuda.max_memory_allocated() - before
        return {"tokens": self.tokens, "seconds": seconds, "peak_mb": peak / 2**20}

    def _in_child(self, work: Callable[[], Any]) -> dict[str, float]:
        # Only a process of its own has a peak of its own; what is free in this one would hide some of it.
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            seconds = self._best(work, time.process_time)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            found = {"tokens": self.tokens, "seconds": seconds, "peak_mb": peak / 1024}
            os.write(writer, json.dumps(found).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as pipe:
            found = pipe.read()
        os.waitpid(child, 0)
        if not found:
            raise SystemExit("A measurement ended without a result; is memory short?")
        return json.loads(found)


def build_model(args: argparse.Namespace) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=args.vocab, tie_word_embeddings=True, **SIZES[args.params])
    return LlamaForCausalLM(config).to(device=args.device, dtype=getattr(torch, args.dtype)).eval()


def build_items(args: argparse.Namespace, prompts: list[list[int]], written: list[Any], steps: int) -> Any:
    """Items for soft, hard and leave_one_out, with caches."""
    from hf_active_distill.engine import Branch, BranchItem

    cue, answer = tuple(range(10, 10 + args.cue)), tuple(range(30, 30 + args.answer))
    bounds = [args.question + round(args.explanation * i / steps) for i in range(steps + 1)]
    items: dict[str, list[Any]] = {"soft": [], "hard": [], "leave_one_out": []}
    for prompt, result in zip(prompts, written, strict=True):
        trunk = prompt + result.tokens
        without = [tuple(trunk[after : bounds[-1]]) for after in [*bounds[1:], bounds[-1]]]
        branches = {
            "soft": [Branch(bound, cue + answer, len(answer)) for bound in bounds],
            "hard": [Branch(bound, cue) for bound in bounds],
            "leave_one_out": [
                Branch(bound, rest + cue + answer, len(answer)) for bound, rest in zip(bounds, without, strict=True)
            ],
        }
        for kind, made in branches.items():
            items[kind].append(BranchItem(trunk, made, result.cache))
    return items


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    import numpy as np
    import torch

    from hf_active_distill.engine import BranchScorer, Generator, keyed_uniforms

    torch.set_num_threads(args.threads)
    model = build_model(args)
    meter = Meter(model, args.repeats)
    generator = Generator(model, eos_ids=[], batch_size=args.batch_size)
    drawn = np.random.default_rng(0).integers(100, args.vocab, (args.items, args.question))
    prompts = [list(map(int, row)) for row in drawn]

    def write(temperature: float = 0.0) -> list[Any]:
        noise = [keyed_uniforms(args.explanation, row) for row in range(args.items)]
        return generator.generate(
            prompts, max_new_tokens=args.explanation, temperature=temperature, uniforms=noise, keep_cache=True
        )

    rows = [{"quantity": "write", "way": "own loop", "steps": 0, **meter(write)}]
    if args.device.startswith("cuda") and hasattr(model, "generate_batch"):
        found = meter(continuous(args, model, prompts))
        rows.append({"quantity": "write", "way": "generate_batch", "steps": 0, **found})
    # Random weights write the same token again and again, and equal branches would share nodes: sample instead.
    written = write(temperature=1.0)
    for steps in args.steps:
        for kind, items in build_items(args, prompts, written, steps).items():
            for way in args.ways:
                method = "tree" if way == "cache" else way
                scorer = BranchScorer(model, eos_ids=[], batch_size=args.batch_size, method=method)
                given = items if way == "cache" else [replace(item, cache=None) for item in items]
                work = (
                    (lambda scorer=scorer, given=given: scorer.write(given, max_new_tokens=args.answer))
                    if kind == "hard"
                    else (lambda scorer=scorer, given=given: scorer.score(given))
                )
                rows.append({"quantity": kind, "way": way, "steps": steps, **meter(work)})
    return finish(rows, args.items)


def continuous(args: argparse.Namespace, model: Any, prompts: list[list[int]]) -> Callable[[], Any]:
    """Writing by transformers' continuous batching."""
    from transformers import GenerationConfig

    config = GenerationConfig(max_new_tokens=args.explanation, do_sample=False, eos_token_id=-1, pad_token_id=0)
    return lambda: model.generate_batch(inputs=prompts, generation_config=config, progress_bar=False)


def finish(rows: list[dict[str, Any]], items: int) -> list[dict[str, Any]]:
    """Costs an item, against the naive way and against writing."""
    writing = rows[0]["seconds"]
    naive = {(row["quantity"], row["steps"]): row["seconds"] for row in rows if row["way"] == "naive"}
    for row in rows:
        against = naive.get((row["quantity"], row["steps"]))
        row["of_writing"] = row["seconds"] / writing
        row["against_naive"] = against / row["seconds"] if against else None
        row["tokens"], row["seconds"] = row["tokens"] / items, row["seconds"] / items
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    names = f"{'quantity':<14} {'steps':>5} {'way':<14} {'tokens':>8}"
    print(f"{names} {'ms':>9} {'x naive':>8} {'of writing':>10} {'MB':>7}")
    for row in rows:
        faster = f"{row['against_naive']:.1f}" if row["against_naive"] else "-"
        print(
            f"{row['quantity']:<14} {row['steps']:>5} {row['way']:<14} {row['tokens']:>8.0f} "
            f"{1000 * row['seconds']:>9.1f} {faster:>8} {row['of_writing']:>10.3f} {row['peak_mb']:>7.0f}"
        )


def main(args: argparse.Namespace) -> None:
    if args.quick:
        args.params, args.vocab, args.items, args.steps, args.explanation = "1M", 1000, 2, [4, 8], 32
    rows = measure(args)
    show(rows)
    if args.json:
        settings = {key: value for key, value in vars(args).items() if key != "json"}
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"settings": settings, "rows": rows}, file, indent=2)


if __name__ == "__main__":
    main(make_parser().parse_args())
