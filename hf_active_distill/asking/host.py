"""The event loop behind the synchronous calls: one and the same for the life of a dispatcher."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar


R = TypeVar("R")


class LoopHost:
    """
    Runs coroutines to their end from synchronous code. The loop is kept between runs, because a teacher's open
    connections belong to it. Where a loop runs already (a notebook), a helper thread is used.

    Args:
        loop_factory (`Callable`, *optional*, defaults to `asyncio.new_event_loop`): Makes the loop, and with it the
            clock: all times and waits of the dispatcher are the loop's.
    """

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None):
        self._runner = asyncio.Runner(loop_factory=loop_factory or asyncio.new_event_loop)
        self._used = False
        self._task: asyncio.Task[Any] | None = None
        self._begun = threading.Event()

    def run(self, main: Coroutine[Any, Any, R]) -> R:
        """The result of `main`. Ctrl-C cancels it, lets it end, and raises `KeyboardInterrupt`."""
        self._used = True
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner.run(main)
        return self._run_in_thread(main)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs `last` where the connections are, and closes the loop."""
        if self._used:
            self.run(last())
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._runner.close()
        else:
            # Closing runs the loop once more, which no thread can do inside another one.
            closer = threading.Thread(target=self._runner.close, name="dispatcher")
            closer.start()
            closer.join()

    def _run_in_thread(self, main: Coroutine[Any, Any, R]) -> R:
        outcome: list[Any] = []
        # Not `thread.join()`: interrupted once, it takes a running thread for ended.
        ended = threading.Event()
        self._begun.clear()

        def target() -> None:
            try:
                outcome.extend((True, self._runner.run(self._remember(main))))
            except BaseException as error:
                outcome.extend((False, error))
            finally:
                ended.set()

        thread = threading.Thread(target=target, name="dispatcher")
        try:
            thread.start()
            ended.wait()
        except KeyboardInterrupt:
            # It can come before the thread is at work, or even before it is there.
            if self._begun.wait(timeout=1.0):
                task = self._task
                if task is not None:
                    task.get_loop().call_soon_threadsafe(task.cancel)
                ended.wait()
            raise
        done, value = outcome
        if not done:
            raise value
        return value

    async def _remember(self, main: Coroutine[Any, Any, R]) -> R:
        self._task = asyncio.current_task()
        self._begun.set()
        try:
            return await main
        finally:
            self._task = None
