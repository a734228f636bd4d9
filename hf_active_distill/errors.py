"""Named errors and the exit codes they end a program with."""

from __future__ import annotations


# What a shell or a job scheduler sees. 2 is also what argparse uses for a bad command line.
EXIT_CONFIGURATION = 2
EXIT_BUDGET = 3
EXIT_TEACHER = 4
EXIT_JOURNAL = 5
EXIT_CHECKPOINT = 6
EXIT_LINEAGE = 7
EXIT_INTERRUPTED = 130  # Ctrl-C
EXIT_TERMINATED = 143  # SIGTERM: everything is saved, the run can be resumed


class ActiveDistillError(Exception):
    """Base of every error that this library raises on purpose. `exit_code` is what a recipe or the CLI ends with."""

    exit_code = 1


class ConfigurationError(ActiveDistillError, ValueError):
    """A setting that cannot work. The message says which, and the cure."""

    exit_code = EXIT_CONFIGURATION


class DataError(ConfigurationError):
    """A data set without the expected columns, an empty pool, rows that cannot be read."""


class EmptyPoolError(DataError):
    """Nothing is left to select from."""


class TeacherError(ActiveDistillError):
    """
    One call to the teacher failed.

    Attributes:
        retryable (`bool`): Whether the same call may succeed later.
        retry_after (`float` or `None`): Seconds that the server asked to wait, where it said so.
        status (`int` or `None`): HTTP status, where there was one.
        reached_model (`bool`): Whether the server may have spent tokens on the call. A call that was refused before
            the model (401, 413, 422, 429, connection refused) has not.
    """

    exit_code = EXIT_TEACHER
    retryable = False
    reached_model = False

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None):
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class TeacherConnectionError(TeacherError):
    """Refused, unresolved or timed out before the request was sent."""

    retryable = True


class TeacherInterruptedError(TeacherConnectionError):
    """The connection broke, or the time ran out, after the request was sent: the server may have answered it."""

    reached_model = True


class TeacherAuthError(TeacherError):
    """401 or 403."""


class TeacherRequestError(TeacherError):
    """The server refuses this very request (400, 404, 413, 422): sending it again cannot help."""


class TeacherOverloadedError(TeacherError):
    """429 or 503: the same request may be sent again later."""

    retryable = True


class TeacherGenerationError(TeacherError):
    """The server failed while generating (424, 500, an error inside a stream)."""

    retryable = True
    reached_model = True


class TeacherProtocolError(TeacherError):
    """A 200 whose body is not what the protocol says (not JSON, wrong shape)."""

    retryable = True
    reached_model = True


class TeacherGoneError(TeacherError):
    """The dispatcher gave up: the teacher failed too often in a row or was away for too long."""


class BudgetExhaustedError(ActiveDistillError):
    """The next call could exceed a cap, so it was not made."""

    exit_code = EXIT_BUDGET


class JournalError(ActiveDistillError):
    """The journal cannot be used: damaged, newer than this version, read-only, disk full, network file system."""

    exit_code = EXIT_JOURNAL


class CheckpointError(ActiveDistillError):
    """No complete checkpoint where one is expected, or one of another run."""

    exit_code = EXIT_CHECKPOINT


class LineageError(ActiveDistillError):
    """Rounds cannot be pushed, read or restored: no such repository or round, no permission, a Hub that refuses."""

    exit_code = EXIT_LINEAGE


class LineageConflictError(LineageError):
    """The name holds the rounds of another run. Nothing was overwritten."""


class LineageUnreachableError(LineageError):
    """
    The Hub did not answer, or asked to be left alone for a while: the same push may succeed later.

    Attributes:
        retry_after (`float` or `None`): Seconds that it asked to wait, where it said so.
    """

    def __init__(self, message: str, *, retry_after: float | None = None):
        super().__init__(message)
        self.retry_after = retry_after


class LeakError(LineageError):
    """What is about to be uploaded holds a secret or a path of this machine, so it was not uploaded."""


class TerminatedError(ActiveDistillError):
    """SIGTERM arrived while rows were scored or the teacher was asked. Every answer is in the journal."""

    exit_code = EXIT_TERMINATED


class SelectionError(ActiveDistillError):
    """A strategy returned something else than ids of its candidates."""
