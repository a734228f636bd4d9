"""
What the dispatcher costs: throughput and CPU against a loopback server with a fixed latency.

    python benchmarks/dispatcher.py
    python benchmarks/dispatcher.py --requests 200 --latency 0.05 --dialogues 50 --repeats 1

The server runs in a process of its own and answers every chat after `--latency` seconds. Per latency, one after the
other and all of them `--repeats` times:

- `gather`: a plain `asyncio.gather` over the teacher, as many calls at a time;
- `dispatcher`: retries, limits and budget, nothing recorded;
- `dispatcher + journal`: each call and answer committed as well, as users run it;
- `dialogues`: of 1 to 8 turns each, with the journal;
- `gather, hub client`: a plain gather over `huggingface_hub.AsyncInferenceClient` as it is;
- `distilabel`: the client of that package, where it is installed (`pip install "distilabel[openai]"`).

Every figure is a median over the repeats; what is compared is compared within a repeat. The ideal is `requests x
latency / concurrency`; 1,000 calls, 64 at a time, end in a half-empty wave: 97.7% is the most that can be had. For
dialogues the ideal is a schedule without any overhead in which a dialogue keeps its place to its last turn; the lower
bound that ignores the tail of the last rows is shown too. CPU is that of this process, in milliseconds a call; `added`
is what a call costs more than in `gather`. On a shared machine the CPU figures hold better than the times.
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from huggingface_hub import AsyncInferenceClient

from hf_active_distill.asking import Budget, Dispatcher, Prices
from hf_active_distill.teachers import load_teacher
from hf_active_distill.teachers.base import GenerationParams, Teacher, TeacherRequest


PARAMS = GenerationParams(max_new_tokens=64)
FACTS = {
    "model_id": "loopback/teacher",
    "model_sha": "0",
    "version": "3.3.6",
    "router": "text-generation-router",
    "max_concurrent_requests": 1024,
    "max_best_of": 2,
    "max_stop_sequences": 4,
    "max_input_tokens": 4096,
    "max_total_tokens": 8192,
    "max_client_batch_size": 4,
}
REPLY = {
    "object": "chat.completion",
    "id": "",
    "created": 1,
    "model": "loopback/teacher",
    "system_fingerprint": "3.3.6-native",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Yes. The second step follows from the first: 3 + 4 = 7."},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 200, "completion_tokens": 16, "total_tokens": 216},
}


# --- the server


class Loopback(asyncio.Protocol):
    """HTTP/1.1 with kept connections: facts at once, anything posted after `latency` seconds."""

    latency = 0.5

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while b"\r\n\r\n" in self.buffer:
            head, rest = self.buffer.split(b"\r\n\r\n", 1)
            lowered = head.lower()
            size = int(lowered.split(b"content-length:")[1].split(b"\r\n")[0]) if b"content-length:" in lowered else 0
            if len(rest) < size:
                return
            self.buffer = rest[size:]
            if head.startswith(b"POST /latency"):
                Loopback.latency = float(rest[:size])
                self.reply({})
            elif head.startswith(b"POST"):
                asyncio.get_running_loop().call_later(Loopback.latency, self.reply, REPLY)
            else:
                self.reply(FACTS if head.startswith(b"GET /info") else {})

    def reply(self, body: dict[str, Any]) -> None:
        if not self.transport.is_closing():
            text = json.dumps(body).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text)
            self.transport.write(head + text)


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Loopback, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


async def set_latency(port: int, latency: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = str(latency).encode()
    writer.write(b"POST /latency HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


# --- what is measured


@dataclass
class Load:
    """What is asked of every client."""

    count: int
    concurrency: int
    latency: float

    @property
    def ideal(self) -> float:
        return self.count * self.latency / self.concurrency


@dataclass
class Result:
    """One way, once."""

    name: str
    calls: int
    seconds: float
    cpu: float
    ideal: float
    bound: float | None = None

    @property
    def cpu_a_call(self) -> float:
        return self.cpu / self.calls * 1e3

    @property
    def rate(self) -> float:
        return self.calls / self.seconds


HEADER = f"{'':<22}{'calls':>6}{'seconds':>9}{'of ideal':>9}{'of gather':>10}{'CPU ms':>9}{'added':>9}"


def line(runs: list[Result], bases: list[Result]) -> str:
    """One line of the table: medians over the repeats."""
    pairs = list(zip(runs, bases, strict=True))
    of_ideal = median(run.ideal / run.seconds for run in runs)
    text = f"{runs[0].name:<22}{runs[0].calls:>6}{median(run.seconds for run in runs):>9.2f}{of_ideal:>9.1%}"
    if runs is bases:
        return f"{text}{'':>10}{median(run.cpu_a_call for run in runs):>9.3f}"
    text += f"{median(run.rate / base.rate for run, base in pairs):>10.1%}"
    text += f"{median(run.cpu_a_call for run in runs):>9.3f}"
    text += f"{median(run.cpu_a_call - base.cpu_a_call for run, base in pairs):>+9.3f}"
    bounds = [run.bound / run.seconds for run in runs if run.bound is not None]
    return f"{text}  {median(bounds):.1%} of the lower bound" if bounds else text


def request(text: str) -> TeacherRequest:
    system = "You judge one step of a solution at a time. Answer yes or no, then say why in one sentence. " * 4
    return TeacherRequest.chat([{"role": "system", "content": system}, {"role": "user", "content": text}], PARAMS)


def measured(name: str, calls: int, ideal: float, action: Callable[[], object]) -> Result:
    started, cpu = time.perf_counter(), time.process_time()
    action()
    return Result(name, calls, time.perf_counter() - started, time.process_time() - cpu, ideal)


async def gather(ask: Callable[[int], Awaitable[object]], count: int, concurrency: int) -> None:
    places = asyncio.Semaphore(concurrency)

    async def one(index: int) -> None:
        async with places:
            await ask(index)

    await asyncio.gather(*(one(index) for index in range(count)))


def plain(port: int, load: Load) -> Result:
    teacher = load_teacher(f"http://127.0.0.1:{port}")
    with asyncio.Runner() as runner:
        runner.run(teacher.info())
        runner.run(gather(lambda index: teacher.ask(request(f"warm {index}")), load.concurrency, load.concurrency))
        calls = gather(lambda index: teacher.ask(request(f"q{index}")), load.count, load.concurrency)
        result = measured("gather", load.count, load.ideal, lambda: runner.run(calls))
        runner.run(teacher.aclose())
    return result


def dispatched(
    name: str, teacher: Teacher, turns: list[int], concurrency: int, ideal: float, journal: Path | None
) -> Result:
    """`turns[i]` calls for row i, one after the other."""
    budget = Budget(max_tokens=10**12, prices=Prices(1.0, 4.0))
    with Dispatcher(teacher, journal=journal, budget=budget, max_concurrency=concurrency) as desk:

        async def work(row: int) -> None:
            ask = desk.bind(row_id=str(row), round=0, kind="benchmark")
            for turn in range(turns[row]):
                await ask(request(f"row {row}, turn {turn}"), turn=turn)

        async def warm(index: int) -> None:
            await desk.ask(request(f"warm {index}"))

        desk.run_all(range(concurrency), warm, progress=False)
        return measured(name, sum(turns), ideal, lambda: desk.run_all(range(len(turns)), work, progress=False))


def schedule(turns: list[int], concurrency: int, latency: float) -> float:
    """When the last dialogue ends if nothing takes time but the calls: each keeps its place to its end."""
    places = [0.0] * concurrency
    for count in turns:
        heapq.heapreplace(places, places[0] + count * latency)
    return max(places)


def gathered(
    name: str, ask: Callable[[int], Awaitable[object]], close: Callable[[], Awaitable[object]], load: Load
) -> Result:
    """A plain gather over a client of others."""
    with asyncio.Runner() as runner:
        runner.run(gather(ask, load.concurrency, load.concurrency))
        result = measured(name, load.count, load.ideal, lambda: runner.run(gather(ask, load.count, load.concurrency)))
        runner.run(close())
    return result


def hub(url: str, load: Load) -> Result:
    """The hub's client as it is."""
    client = AsyncInferenceClient(model=f"{url}/v1/chat/completions", token="none")

    async def ask(index: int) -> object:
        return await client.chat_completion(
            request(f"q{index}").message_list(), max_tokens=PARAMS.max_new_tokens, temperature=0.0
        )

    async def close() -> None:
        if hasattr(client, "close"):
            await client.close()

    return gathered("gather, hub client", ask, close, load)


def distilabel(url: str, load: Load) -> Result:
    """distilabel's asynchronous client for the same server."""
    from distilabel.models.llms import OpenAILLM

    llm = OpenAILLM(model="tgi", base_url=f"{url}/v1", api_key="none")
    llm.load()

    async def ask(index: int) -> object:
        return await llm.agenerate(input=request(f"q{index}").message_list(), max_new_tokens=PARAMS.max_new_tokens)

    # It has no public way to close its connections.
    return gathered("distilabel", ask, llm._aclient.close, load)


def compare(port: int, load: Load, dialogues: int, repeats: int, folder: Path) -> None:
    asyncio.run(set_latency(port, load.latency))
    url = f"http://127.0.0.1:{port}"
    noise = random.Random(0)
    turns = [noise.randint(1, 8) for _ in range(dialogues)]
    single = [1] * load.count
    best = schedule(turns, load.concurrency, load.latency)
    bound = max(sum(turns) * load.latency / load.concurrency, max(turns) * load.latency)
    table: dict[str, list[Result]] = {}
    for repeat in range(repeats):
        journal = folder / f"{load.latency}-{repeat}.sqlite"
        talk = folder / f"{load.latency}-{repeat}-dialogues.sqlite"
        results = [
            plain(port, load),
            dispatched("dispatcher", load_teacher(url), single, load.concurrency, load.ideal, None),
            dispatched("dispatcher + journal", load_teacher(url), single, load.concurrency, load.ideal, journal),
            dispatched("dialogues", load_teacher(url), turns, load.concurrency, best, talk),
            hub(url, load),
        ]
        results[3].bound = bound
        if importlib.util.find_spec("distilabel") is not None:
            results.append(distilabel(url, load))
        for result in results:
            table.setdefault(result.name, []).append(result)
    print(f"\nlatency {load.latency * 1e3:.0f} ms, {load.concurrency} calls at a time, medians of {repeats}\n{HEADER}")
    for runs in table.values():
        print(line(runs, table["gather"]), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--dialogues", type=int, default=250)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, nargs="+", default=[0.5, 0.05], help="seconds")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve())
        return 0
    server = subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        with tempfile.TemporaryDirectory() as folder:
            for latency in args.latency:
                load = Load(args.requests, args.concurrency, latency)
                compare(port, load, args.dialogues, args.repeats, Path(folder))
    finally:
        server.kill()
        server.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
