"""SIGTERM: save after the step in hand, or let the calls in flight land."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

import torch
from accelerate import Accelerator

from ..errors import TerminatedError


class Termination:
    """
    Remembers a SIGTERM.

    Args:
        on_signal (`Callable[[TerminatedError], None]`): Called from the signal handler, to end what waits.
    """

    def __init__(self, on_signal: Callable[[TerminatedError], None]):
        self._on_signal = on_signal
        self._event = threading.Event()

    @property
    def requested(self) -> bool:
        """Whether this process got the signal."""
        return self._event.is_set()

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Handles the signal inside the block; Python allows that in the main thread only."""
        self._event.clear()
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(signum: int, frame: object) -> None:
            self._event.set()
            self._on_signal(self._error())

        before = signal.signal(signal.SIGTERM, handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def check(self) -> None:
        """Raises where this process got the signal, between two pieces of work."""
        if self.requested:
            raise self._error()

    def agreed(self, accelerator: Accelerator) -> bool:
        """Whether any process got it; every process must ask at the same time."""
        if accelerator.num_processes > 1:
            flag = torch.tensor(float(self.requested), device=accelerator.device)
            if accelerator.reduce(flag, "sum").item():
                self._event.set()
        return self.requested

    def _error(self) -> TerminatedError:
        return TerminatedError("SIGTERM between two epochs. Go on with `resume_from_checkpoint=True`.")
