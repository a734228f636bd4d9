"""
What the dispatcher costs: throughput and CPU against a loopback server with a fixed latency.

    python benchmarks/dispatcher.py
    python benchmarks/dispatcher.py --requests 200 --latency 0.05 --dialogues 50

The server runs in a process of its own and answers every chat after `--latency` seconds. In one run, per latency:

- `gather`: a plain `asyncio.gather` over the same client, as many calls at a time;
- `dispatcher`: retries, limits and budget, nothing recorded;
- `dispatcher + journal`: each call and answer committed as well, as users run it;
- `dialogues`: of 1 to 8 turns each, with the journal;
- `distilabel`: the client of that package, where it is installed (`pip install "distilabel[openai]"`).

The ideal is `requests x latency / concurrency`; 1,000 calls, 64 at a time, end in a half-empty wave: 97.7% is the
most that can be had. For dialogues the ideal is a schedule without any overhead in which a dialogue keeps its place
to its last turn; the lower bound that ignores the tail of the last rows is shown too. CPU is that of this process, in
milliseconds a call; `added` is what a call costs more than in `gather`.
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
from typing import Any

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
class Result:
    """One line of the table."""

    name: str
    calls: int
    seconds: float
    cpu: float
    ideal: float
    note: str = ""

    def line(self, base: Result | None) -> str:
        cpu = self.cpu / self.calls * 1e3
        added = "" if base is None else f"{cpu - base.cpu / base.calls * 1e3:+8.3f}"
        against = "" if base is None else f"{base.seconds / base.calls / (self.seconds / self.calls):8.1%}"
        return (
            f"{self.name:<22}{self.calls:>6}{self.seconds:>9.2f}{self.ideal / self.seconds:>9.1%}{against:>10}"
            f"{cpu:>9.3f}{added:>9}  {self.note}"
        )


HEADER = f"{'':<22}{'calls':>6}{'seconds':>9}{'of ideal':>9}{'of gather':>10}{'CPU ms':>9}{'added':>9}"


def request(text: str) -> TeacherRequest:
    system = "You judge one step of a solution at a time. Answer yes or no, then say why in one sentence. " * 4
    return TeacherRequest.chat([{"role": "system", "content": system}, {"role": "user", "content": text}], PARAMS)


def measured(name: str, calls: int, ideal: float, action: Callable[[], object], note: str = "") -> Result:
    started, cpu = time.perf_counter(), time.process_time()
    action()
    return Result(name, calls, time.perf_counter() - started, time.process_time() - cpu, ideal, note)


async def gather(ask: Callable[[int], Awaitable[object]], count: int, concurrency: int) -> None:
    places = asyncio.Semaphore(concurrency)

    async def one(index: int) -> None:
        async with places:
            await ask(index)

    await asyncio.gather(*(one(index) for index in range(count)))


def plain(port: int, count: int, concurrency: int, ideal: float) -> Result:
    teacher = load_teacher(f"http://127.0.0.1:{port}")
    with asyncio.Runner() as runner:
        runner.run(teacher.info())
        runner.run(gather(lambda index: teacher.ask(request(f"warm {index}")), concurrency, concurrency))
        result = measured(
            "gather",
            count,
            ideal,
            lambda: runner.run(gather(lambda index: teacher.ask(request(f"q{index}")), count, concurrency)),
        )
        runner.run(teacher.aclose())
    return result


def dispatched(
    name: str, teacher: Teacher, turns: list[int], concurrency: int, ideal: float, journal: Path | None, note: str = ""
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
        return measured(name, sum(turns), ideal, lambda: desk.run_all(range(len(turns)), work, progress=False), note)


def schedule(turns: list[int], concurrency: int, latency: float) -> float:
    """When the last dialogue ends if nothing takes time but the calls: each keeps its place to its end."""
    places = [0.0] * concurrency
    for count in turns:
        heapq.heapreplace(places, places[0] + count * latency)
    return max(places)


def peer(port: int, count: int, concurrency: int, ideal: float) -> Result | None:
    """distilabel's asynchronous client for the same server."""
    if importlib.util.find_spec("distilabel") is None:
        return None
    from distilabel.models.llms import OpenAILLM

    llm = OpenAILLM(model="tgi", base_url=f"http://127.0.0.1:{port}/v1", api_key="none")
    llm.load()

    async def ask(index: int) -> object:
        return await llm.agenerate(input=request(f"q{index}").message_list(), max_new_tokens=PARAMS.max_new_tokens)

    with asyncio.Runner() as runner:
        runner.run(gather(ask, concurrency, concurrency))
        result = measured("distilabel", count, ideal, lambda: runner.run(gather(ask, count, concurrency)))
        runner.run(llm._aclient.close())  # it has no public way to close its connections
    return result


def compare(port: int, latency: float, args: argparse.Namespace, folder: Path) -> None:
    asyncio.run(set_latency(port, latency))
    count, concurrency = args.requests, args.concurrency
    ideal = count * latency / concurrency
    url = f"http://127.0.0.1:{port}"
    base = plain(port, count, concurrency, ideal)
    results = [
        dispatched("dispatcher", load_teacher(url), [1] * count, concurrency, ideal, None),
        dispatched(
            "dispatcher + journal", load_teacher(url), [1] * count, concurrency, ideal, folder / f"{latency}.sqlite"
        ),
    ]
    noise = random.Random(0)
    turns = [noise.randint(1, 8) for _ in range(args.dialogues)]
    best = schedule(turns, concurrency, latency)
    bound = max(sum(turns) * latency / concurrency, max(turns) * latency)
    dialogues = dispatched(
        "dialogues", load_teacher(url), turns, concurrency, best, folder / f"{latency}-dialogues.sqlite"
    )
    dialogues.note = f"{bound / dialogues.seconds:.1%} of the lower bound"
    results.append(dialogues)
    other = peer(port, count, concurrency, ideal)
    if other is not None:
        results.append(other)
    print(f"\nlatency {latency * 1e3:.0f} ms, {concurrency} calls at a time\n{HEADER}")
    print(base.line(None))
    for result in results:
        print(result.line(base))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--dialogues", type=int, default=1000)
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
                compare(port, latency, args, Path(folder))
    finally:
        server.kill()
        server.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
