"""
Tokens a second of the teacher server against the model called directly, in one run on the same weights.

    OMP_NUM_THREADS=1 python benchmarks/serving.py [--hidden_size 256 --num_layers 6 --requests 32 ...]

Prompts of mixed lengths are continued greedily by a fixed number of tokens, in five ways: `generate` on full batches
(left-padded, sorted by length, the best case for it), `generate` on one prompt after the other, `generate_batch`
(transformers' own continuous batching, where the version has it), `hf-active-distill serve` over HTTP with
`--concurrency` requests in flight, and `transformers serve --continuous-batching` the same way, where
`transformers[serving]` is installed. The servers are processes of their own with as many threads as this one, which
sleeps meanwhile. The ways take turns; figures are medians over the turns, and so are the ratios within a turn.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_active_distill.serving import EmbeddedServer


# Slow, and the same for every prompt: eight of them tell.
ONE_BY_ONE = "generate, one by one"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hidden_size", type=int, default=256)
    parser.add_argument("--num_layers", type=int, default=6)
    parser.add_argument("--vocab_size", type=int, default=8192)
    parser.add_argument("--requests", type=int, default=32)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--prompt_tokens", type=int, nargs=2, default=(24, 96), metavar=("LEAST", "MOST"))
    parser.add_argument("--new_tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3, help="turns, after one that warms up")
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
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    numbers = random.Random(0)
    lengths = [numbers.randint(*args.prompt_tokens) for _ in range(args.requests)]
    prompts = [[numbers.randrange(1, args.vocab_size) for _ in range(length)] for length in lengths]
    model = LlamaForCausalLM(config).to(getattr(torch, args.dtype)).to(args.device).eval()
    return model, tokenizer, prompts


def speed(run: Callable[[], int], expected: int, name: str) -> float:
    """Tokens a second."""
    start = time.perf_counter()
    assert run() == expected, f"{name} did not write all tokens"
    return expected / (time.perf_counter() - start)


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


def continuous(model: Any, prompts: list[list[int]], concurrency: int, new_tokens: int, pages: int) -> int:
    """transformers' own continuous batching."""
    settings = transformers.ContinuousBatchingConfig(num_blocks=pages, max_requests_per_batch=concurrency)
    generation = transformers.GenerationConfig(
        max_new_tokens=new_tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    outputs = model.generate_batch(prompts, generation_config=generation, continuous_batching_config=settings)
    return sum(len(output.generated_tokens) for output in outputs.values())


def posted(url: str, route: str, bodies: list[dict[str, Any]], count: Callable[[Any], int], concurrency: int) -> int:
    """Requests over HTTP, `concurrency` of them in flight; the tokens of all answers."""
    host = url.removeprefix("http://")

    def ask(body: dict[str, Any]) -> int:
        connection = http.client.HTTPConnection(host, timeout=600)
        connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return count(answer)

    with ThreadPoolExecutor(concurrency) as pool:
        return sum(pool.map(ask, bodies))


def words(prompt: list[int]) -> str:
    return " ".join(f"w{token}" for token in prompt)


def ours(url: str, prompts: list[list[int]], concurrency: int, new_tokens: int) -> int:
    """`/generate` of the teacher server."""
    parameters = {"max_new_tokens": new_tokens, "details": True}
    bodies = [{"inputs": words(prompt), "parameters": parameters} for prompt in prompts]
    return posted(url, "/generate", bodies, lambda answer: answer["details"]["generated_tokens"], concurrency)


def theirs(url: str, model: str, prompts: list[list[int]], concurrency: int, new_tokens: int) -> int:
    """Chats with `transformers serve`, whose template is the prompt alone."""
    bodies = [
        {
            "model": model,
            "messages": [{"role": "user", "content": words(prompt)}],
            "max_tokens": new_tokens,
            "temperature": 0.0,
        }
        for prompt in prompts
    ]
    count = lambda answer: answer["usage"]["completion_tokens"]  # noqa: E731
    return posted(url, "/v1/chat/completions", bodies, count, concurrency)


@contextmanager
def transformers_serve(folder: str, args: argparse.Namespace) -> Iterator[str | None]:
    """URL of a `transformers serve` on the model, `None` where it cannot be started."""
    if not hasattr(transformers, "ContinuousBatchingConfig") or importlib.util.find_spec("fastapi") is None:
        yield None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = str(Path(sys.executable).with_name("transformers"))
    command = [script, "serve", folder, "--host", "127.0.0.1", "--port", str(port), "--continuous-batching"]
    command += ["--device", args.device, "--dtype", args.dtype, "--cb-num-blocks", str(blocks(args))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(1200):
            if process.poll() is not None:
                yield None
                return
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait()


def blocks(args: argparse.Namespace) -> int:
    """Cache pages for the requests in flight, twice over: the default would take most of the machine's memory."""
    return 2 * args.concurrency * (1 + (args.prompt_tokens[1] + args.new_tokens) // 256)


def report(args: argparse.Namespace, parameters: int, speeds: dict[str, list[float]]) -> None:
    print(f"{parameters / 1e6:.1f}M parameters, {args.requests} prompts of {args.prompt_tokens} tokens, ", end="")
    print(f"{args.new_tokens} new each, {args.concurrency} at once, {args.device}, ", end="")
    print(f"{args.threads} thread(s) of {os.cpu_count()}, medians of {args.repeats}")
    ours = speeds["serve, over HTTP"]
    for name, values in speeds.items():
        ratio = median(mine / value for mine, value in zip(ours, values, strict=True))
        print(f"{name:24} {median(values):9.0f} tokens/s   {ratio:6.2f}x is what the server gives")


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    model, tokenizer, prompts = build(args)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as servers:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        load = (prompts, args.concurrency, args.new_tokens)
        ways: dict[str, Callable[[], int]] = {
            "generate, full batches": lambda: direct(model, *load),
            ONE_BY_ONE: lambda: direct(model, prompts[:8], 1, args.new_tokens),
        }
        if hasattr(transformers, "ContinuousBatchingConfig"):
            ways["generate_batch"] = lambda: continuous(model, *load, blocks(args))
        options = ("--threads", str(args.threads), "--device", args.device)
        server = servers.enter_context(EmbeddedServer(folder, *options, threads=args.threads))
        ways["serve, over HTTP"] = lambda: ours(server.url, *load)
        peer = servers.enter_context(transformers_serve(folder, args))
        if peer is not None:
            ways["transformers serve"] = lambda: theirs(peer, folder, *load)
        counts = {name: args.new_tokens * (8 if name == ONE_BY_ONE else args.requests) for name in ways}
        turns = [{name: speed(ways[name], counts[name], name) for name in ways} for _ in range(1 + args.repeats)]
        speeds = {name: [turn[name] for turn in turns[1:]] for name in ways}
    report(args, sum(parameter.numel() for parameter in model.parameters()), speeds)
    if peer is None:
        print("transformers serve was not measured: it needs `pip install transformers[serving]`, version 5")


if __name__ == "__main__":
    main()
