"""What failures say about the server: how long to wait, when to send one call at a time, when to give up."""

from __future__ import annotations

import logging
import random

from ..errors import TeacherError, TeacherGoneError, TeacherOverloadedError
from .gate import Gate
from .rows import redact


logger = logging.getLogger(__name__)

#: Failures in a row, over all calls, after which calls are sent one at a time.
BREAKER_FAILURES = 10
#: Refusals in a row, before any answer, after which the configuration must be wrong.
HOPELESS_REFUSALS = 20


class TeacherHealth:
    """
    The circuit breaker. After [`BREAKER_FAILURES`] failures in a row it opens: the gate pauses and then lets one call
    at a time try, with growing pauses, until one is answered.

    Args:
        gate ([`Gate`]): What is paused and narrowed.
        backoff (`float`): Seconds before the first repetition; doubled at each further one.
        max_backoff (`float`): Most seconds between two repetitions.
        max_outage (`float`): Seconds without any answer after which the teacher counts as gone.
        seed (`int`): Seed of the jitter.
    """

    def __init__(self, gate: Gate, *, backoff: float, max_backoff: float, max_outage: float, seed: int):
        self._gate = gate
        self._backoff = backoff
        self._max_backoff = max_backoff
        self._max_outage = max_outage
        self._seed = seed
        self.reset()

    def reset(self) -> None:
        """Forgets every failure: a new run of calls may find the server back."""
        self._failures = 0
        self._refusals = 0
        self._answered = False
        self._failing_since: float | None = None
        self._open_since: float | None = None
        self._probes = 0

    def success(self) -> None:
        """A call was answered."""
        if self._open_since is not None:
            logger.info("The teacher answers again.")
        self._answered = True
        self._failures = self._refusals = self._probes = 0
        self._failing_since = self._open_since = None
        self._gate.limit.grow()

    def refused(self, error: TeacherError) -> None:
        """A call was refused for good. Raises when every call so far was: then the set-up is at fault, not a row."""
        self._refusals += 1
        if not self._answered and self._refusals >= HOPELESS_REFUSALS:
            raise TeacherGoneError(
                f"The first {self._refusals} calls were all refused, the last one with: {redact(str(error))} Check "
                "the teacher's address, model name and parameters.",
                status=error.status,
            ) from error

    def failure(self, error: TeacherError, *, now: float, admitted: float, repetition: int, key: str) -> float:
        """
        A call failed in a way that may pass. Returns the seconds to wait before it is made again, raises
        [`~errors.TeacherGoneError`] when the teacher has been away for too long.
        """
        self._failures += 1
        if self._failing_since is None:
            self._failing_since = now
        if isinstance(error, TeacherOverloadedError):
            self._gate.limit.shrink(now, admitted)
        if self._failures >= BREAKER_FAILURES:
            self._open(error, now, admitted)
        delay = self._delay(repetition, f"{self._seed}:{key}:{repetition}")
        if error.retry_after is not None:
            # The server speaks for itself, not for this one call.
            self._gate.pause(now + error.retry_after)
            delay = max(error.retry_after, 0.0)
        self._give_up(error, now, delay if error.retry_after is not None else 0.0)
        return delay

    def _open(self, error: TeacherError, now: float, admitted: float) -> None:
        if self._open_since is None:
            logger.warning(
                "The teacher failed %d times in a row (%s): trying one call at a time, for at most %.0f s.",
                self._failures,
                redact(str(error)),
                self._max_outage,
            )
            self._open_since = now
        elif admitted < self._open_since:
            return  # sent before the breaker opened
        self._probes += 1
        self._gate.limit.probe(now)
        self._gate.pause(now + self._delay(self._probes - 1, f"{self._seed}:probe:{self._probes}"))

    def _give_up(self, error: TeacherError, now: float, asked_to_wait: float) -> None:
        away = now - (self._failing_since if self._failing_since is not None else now)
        # One call that the server cannot digest is no outage.
        suspicious = self._open_since is not None or not error.reached_model
        if suspicious and away + asked_to_wait >= self._max_outage:
            waiting = f" and asks to wait {asked_to_wait:.0f} s more" if asked_to_wait else ""
            raise TeacherGoneError(
                f"The teacher has not answered for {away:.0f} s{waiting} (max_outage is {self._max_outage:.0f} s). "
                f"Last error: {redact(str(error))} All answers so far are in the journal: start again when it is "
                "back, or raise max_outage to wait longer.",
                status=error.status,
                retry_after=error.retry_after,
            ) from error

    def _delay(self, repetition: int, noise: str) -> float:
        """Exponential, with jitter over its upper half: seeded by the call, so the same run waits the same times."""
        delay = min(self._max_backoff, self._backoff * 2.0 ** min(repetition, 32))
        return delay * (0.5 + 0.5 * random.Random(noise).random())
