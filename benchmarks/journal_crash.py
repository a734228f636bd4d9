"""
Kills a process that asks a teacher, again and again at random moments, and looks at what is left.

    python benchmarks/journal_crash.py --rounds 200

A loopback server counts what it is asked. A child process asks it dialogues through the dispatcher and notes every
answer that it was given. The child is killed with SIGKILL; then the journal is compared with the server's account and
with the child's notes, and the next child goes on where it ended:

- what was given to anyone is committed, and what is committed is never asked again;
- at most the calls in flight are repeated, and each of them counts as spent at its bound;
- the journal passes `PRAGMA integrity_check`, and at the end no answer is missing.

With `--late-commit` the child's journal commits an answer after it was used: the checks must fail.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_active_distill.asking import Dispatcher, Journal, JournalReader
from hf_active_distill.errors import TeacherInterruptedError
from hf_active_distill.records import Usage
from hf_active_distill.teachers.base import GenerationParams, TeacherInfo, TeacherReply, TeacherRequest


CONCURRENCY = 8
ROWS = 40
TURNS = 3
PARAMS = GenerationParams(max_new_tokens=32)


# --- the server


async def serve(seed: int) -> None:
    """Counts the questions that it is asked, and answers each after a moment."""
    noise = random.Random(seed)
    seen: Counter[str] = Counter()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if head.startswith("GET"):
                body = json.dumps(seen).encode()
            else:
                size = int(head.lower().split("content-length:")[1].split()[0])
                name = json.loads(await reader.readexactly(size))["name"]
                seen[name] += 1
                await asyncio.sleep(noise.uniform(0.001, 0.02))
                body = json.dumps({"text": f"answer to {name}"}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return  # the asker was killed
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


# --- the child


class SocketTeacher:
    """Asks the counting server, one connection a call."""

    def __init__(self, port: int):
        self.port = port

    async def info(self) -> TeacherInfo:
        return TeacherInfo("counting")

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        body = json.dumps({"name": request.prompt}).encode()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            answer = await reader.read()
            writer.close()
        except OSError as error:
            raise TeacherInterruptedError(str(error)) from error
        return TeacherReply(json.loads(answer.split(b"\r\n\r\n", 1)[1])["text"], usage=Usage(1, 4, 6))

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        return None

    async def aclose(self) -> None:
        """Nothing is kept open."""


class LateJournal(Journal):
    """What must not be: the answer is given first and committed a moment later."""

    def answered(self, call_id: int, reply: TeacherReply, **kwargs: Any) -> None:
        write = super().answered
        asyncio.get_running_loop().call_later(0.03, lambda: write(call_id, reply, **kwargs))


def names(generation: int) -> list[str]:
    """The questions of one journal."""
    return [f"{generation}:{row}.{turn}" for row in range(ROWS) for turn in range(TURNS)]


def child(port: int, journal_path: str, notes_path: str, generation: int, late: bool) -> None:
    """Asks everything, noting each answer as soon as it is given."""
    notes = os.open(notes_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with (LateJournal if late else Journal)(journal_path) as journal:
        desk = Dispatcher(SocketTeacher(port), journal=journal, max_concurrency=CONCURRENCY)

        async def work(row: int) -> None:
            ask = desk.bind(row_id=str(row), round=0, kind="dialogue")
            for turn in range(TURNS):
                name = f"{generation}:{row}.{turn}"
                reply = await ask(TeacherRequest.generate(name, PARAMS), turn=turn)
                assert reply.text == f"answer to {name}"
                os.write(notes, f"{name}\n".encode())

        print("go", flush=True)
        desk.run_all(range(ROWS), work, progress=False)
        desk.close()


# --- the judge


@dataclass
class CrashRig:
    """
    One server, and journals that are killed until they are complete.

    Args:
        folder (`Path`): Where journals lie.
        seed (`int`): Seed of the moments of killing.
        late (`bool`): Whether children commit late.
    """

    folder: Path
    seed: int = 0
    late: bool = False
    problems: list[str] = field(default_factory=list)
    kills: int = 0
    completed: int = 0
    repeats: int = 0
    generation: int = 0

    def __enter__(self) -> CrashRig:
        self._noise = random.Random(self.seed)
        self._server = subprocess.Popen(
            [sys.executable, __file__, "--serve", "--seed", str(self.seed)], stdout=subprocess.PIPE, text=True
        )
        assert self._server.stdout is not None
        self._port = int(self._server.stdout.readline())
        self._new_generation()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._server.communicate()

    def _new_generation(self) -> None:
        self.generation += 1
        self._committed: dict[str, int] = {}
        self._sending = 0
        self._journal = self.folder / f"{self.generation}.sqlite"
        self._notes = self.folder / f"{self.generation}.notes"

    def seen(self) -> Counter[str]:
        """What the server was asked, and how often."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/", timeout=30) as answer:
            return Counter(json.load(answer))

    def round(self) -> None:
        """One child, killed at a random moment or done before it, and what is left judged."""
        command = [sys.executable, __file__, "--child", str(self._port), str(self._journal), str(self._notes)]
        command += [str(self.generation), *(["--late-commit"] if self.late else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if process.stdout.readline() != "go\n":
            self.problems.append(f"the child did not start: exit code {process.wait()}")
            process.stdout.close()
            return
        try:
            # The moment is random on purpose: nothing is waited for.
            process.wait(timeout=self._noise.uniform(0.0, 0.35))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        process.stdout.close()
        self.kills += code == -signal.SIGKILL
        if code not in (0, -signal.SIGKILL):
            self.problems.append(f"the child ended with exit code {code}")
        self._judge(done=code == 0)
        if code == 0:
            self.completed += 1
            self._new_generation()

    def _judge(self, *, done: bool) -> None:
        seen = self.seen()
        noted = set(self._notes.read_text().split()) if self._notes.exists() else set()
        with JournalReader(self._journal) as reader:
            integrity = reader.integrity()
            rows = list(reader.rows())
            spent, _ = reader.spent()
        sent = Counter(json.loads(row.content)["prompt"] for row in rows)
        answered = Counter(json.loads(row.content)["prompt"] for row in rows if row.state == "answered")
        sending = [row for row in rows if row.state == "sending"]
        bound = sum(row.bound_prompt_tokens + row.bound_completion_tokens for row in sending)
        self._require(integrity == "ok", f"integrity_check says {integrity}")
        self._require(noted <= set(answered), f"used, not committed: {sorted(noted - set(answered))}")
        again = [name for name, count in self._committed.items() if seen[name] != count]
        self._require(not again, f"committed, asked again: {again}")
        mine = {name: count for name, count in seen.items() if name.startswith(f"{self.generation}:")}
        unrecorded = [name for name, count in mine.items() if count > sent[name]]
        self._require(not unrecorded, f"asked, not recorded: {unrecorded}")
        in_flight = len(sending) - self._sending
        self._require(in_flight <= CONCURRENCY, f"{in_flight} calls were in flight, {CONCURRENCY} allowed")
        self._require(spent.calls == len(rows), f"{spent.calls} calls counted, {len(rows)} sent")
        expected = bound + 10 * len(answered)
        self._require(spent.total_tokens == expected, f"{spent.total_tokens} tokens counted, not {expected}")
        twice = [name for name, count in answered.items() if count > 1]
        self._require(not twice, f"answered twice: {twice}")
        if done:
            missing = set(names(self.generation)) - set(answered)
            self._require(not missing and noted == set(answered), f"missing at the end: {sorted(missing)}")
            self.repeats += sum(count - 1 for count in mine.values())
        self._committed = {name: seen[name] for name in answered}
        self._sending = len(sending)

    def _require(self, fine: bool, problem: str) -> None:
        if not fine:
            self.problems.append(f"journal {self.generation}: {problem}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--late-commit", action="store_true", help="commit answers after their use: must fail")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=4, metavar=("PORT", "JOURNAL", "NOTES", "GENERATION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.seed))
        return 0
    if args.child:
        port, journal, notes, generation = args.child
        child(int(port), journal, notes, int(generation), args.late_commit)
        return 0
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, CrashRig(Path(folder), args.seed, args.late_commit) as rig:
        for number in range(args.rounds):
            rig.round()
            if rig.problems:
                print(f"round {number}:", *rig.problems, sep="\n  ")
                return 1
        print(
            f"{args.rounds} rounds in {time.monotonic() - started:.0f} s: {rig.kills} kills, {rig.completed} journals "
            f"completed of {ROWS * TURNS} calls each, {rig.repeats} calls repeated in all, nothing lost"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
