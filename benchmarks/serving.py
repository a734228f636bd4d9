"""
Tokens a second of the teacher server against the model called directly, in one run on the same weights.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--hidden_size 256 --num_layers 6 --requests 64 ...]

Prompts of mixed lengths are continued greedily by a fixed number of tokens, in four ways: `generate` on full batches
(left-padded, sorted by length, the best case for it), `generate` on one prompt after the other, `generate_batch`
(transformers' own continuous batching, where the version has it), and `hf-active-distill serve` over HTTP with
`--concurrency` requests in flight. The server is a process of its own with as many threads as this one, which sleeps
meanwhile.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_active_distill.serving import EmbeddedServer


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden_size", type=int, default=256)
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--vocab_size", type=int, default=8192)
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--prompt_tokens", type=int, nargs=2, default=(24, 96), metavar=("LEAST", "MOST"))
    parser.add_argument("--new_tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="the best of them is reported")
    return parser.parse_args()


def build(args: argparse.Namespace) -> tuple[Any, Any, list[list[int]]]:
    """A model with random weights that never ends a text, a tokenizer of one word a token, and prompts."""
    vocabulary = {f"w{index}": index for index in range(args.vocab_size)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w0")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=args.vocab_size,
        hidden_size=args.hidden_size,
        intermediate_size=4 * args.hidden_size,
        num_hidden_layers=args.num_layers,
        num_attention_heads=max(args.hidden_size // 64, 1),
        max_position_embeddings=4096,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    numbers = random.Random(0)
    lengths = [numbers.randint(*args.prompt_tokens) for _ in range(args.requests)]
    prompts = [[numbers.randrange(1, args.vocab_size) for _ in range(length)] for length in lengths]
    model = LlamaForCausalLM(config).to(getattr(torch, args.dtype)).to(args.device).eval()
    return model, tokenizer, prompts


def best(run: Callable[[], int], repeats: int) -> float:
    """Tokens a second of the fastest run; the first one warms up and is not counted."""
    run()
    speeds = []
    for _ in range(repeats):
        start = time.perf_counter()
        tokens = run()
        speeds.append(tokens / (time.perf_counter() - start))
    return max(speeds)


def direct(model: Any, prompts: list[list[int]], batch_size: int, new_tokens: int) -> int:
    """`generate` on left-padded batches of similar lengths."""
    tokens = 0
    ordered = sorted(prompts, key=len)
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        width = max(map(len, batch))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in batch], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in batch], device=model.device)
        output = model.generate(ids, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False)
        tokens += (output.shape[1] - width) * len(batch)
    return tokens


def continuous(model: Any, prompts: list[list[int]], concurrency: int, new_tokens: int) -> int:
    """transformers' own continuous batching."""
    pages = 1 + (max(map(len, prompts)) + new_tokens) // 256
    # The default would take most of the machine's memory.
    settings = transformers.ContinuousBatchingConfig(
        num_blocks=2 * concurrency * pages, max_requests_per_batch=concurrency
    )
    generation = transformers.GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    outputs = model.generate_batch(prompts, generation_config=generation, continuous_batching_config=settings)
    return sum(len(output.generated_tokens) for output in outputs.values())


def served(url: str, prompts: list[list[int]], concurrency: int, new_tokens: int) -> int:
    """`/generate` over HTTP, `concurrency` requests in flight."""
    host = url.removeprefix("http://")

    def ask(prompt: list[int]) -> int:
        connection = http.client.HTTPConnection(host, timeout=600)
        parameters = {"max_new_tokens": new_tokens, "details": True}
        body = {"inputs": " ".join(f"w{token}" for token in prompt), "parameters": parameters}
        connection.request("POST", "/generate", json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer["details"]["generated_tokens"]

    with ThreadPoolExecutor(concurrency) as pool:
        return sum(pool.map(ask, prompts))


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    model, tokenizer, prompts = build(args)
    expected = args.requests * args.new_tokens
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        ways: dict[str, Callable[[], int]] = {
            "generate, full batches": lambda: direct(model, prompts, args.concurrency, args.new_tokens),
            "generate, one by one": lambda: direct(model, prompts, 1, args.new_tokens),
        }
        if hasattr(transformers, "ContinuousBatchingConfig"):
            ways["generate_batch"] = lambda: continuous(model, prompts, args.concurrency, args.new_tokens)
        options = ("--threads", str(args.threads), "--device", args.device)
        with EmbeddedServer(folder, *options, threads=args.threads) as server:
            ways["serve, over HTTP"] = lambda: served(server.url, prompts, args.concurrency, args.new_tokens)
            for name, way in ways.items():
                assert way() == expected, f"{name} did not write all tokens"
            speeds = {name: best(way, args.repeats) for name, way in ways.items()}
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e6:.1f}M parameters, {args.requests} prompts of {args.prompt_tokens} tokens, ", end="")
    print(f"{args.new_tokens} new each, {args.concurrency} at once, {args.device}, ", end="")
    print(f"{args.threads} thread(s) of {os.cpu_count()}")
    for name, speed in speeds.items():
        print(f"{name:24} {speed:9.0f} tokens/s   {speeds['serve, over HTTP'] / speed:6.2f}x is what the server gives")


if __name__ == "__main__":
    main()
