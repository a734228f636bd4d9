"""One call of `train()`: the teacher at hand, SIGTERM watched, the number of steps, and why the run ended."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..asking import Dispatcher
from ..errors import TerminatedError
from ..rounds import BINDING_SETTINGS
from ..teachers import Teacher
from .checkpoint import read_state
from .desk import open_dispatcher
from .distributed import raised_everywhere
from .termination import Termination


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

logger = logging.getLogger(__name__)


class RunSession:
    """
    Args:
        trainer ([`ActiveDistillationTrainer`]): Whose run it is.
        teacher (`str`, [`~teachers.Teacher`] or `Callable`, *optional*): Who is asked.
        token (`str`, *optional*): Bearer token of the teacher.
    """

    def __init__(
        self, trainer: ActiveDistillationTrainer, teacher: str | Teacher | Callable | None, token: str | None
    ):
        self._trainer = trainer
        self._teacher = teacher
        self._token = token
        self.dispatcher: Dispatcher | None = None
        self.termination = Termination(self._stop_asking)

    @property
    def open_dispatcher(self) -> Dispatcher:
        """The way to the teacher, which the main process alone has."""
        if self.dispatcher is None:
            raise RuntimeError("Only the main process talks to the teacher, and only inside `train()`.")
        return self.dispatcher

    @property
    def secrets(self) -> list[str]:
        """What the run was told and must not tell on: tokens, and the credentials in the teacher's address."""
        address = urlsplit(self._teacher) if isinstance(self._teacher, str) else None
        told = [self._token, self._trainer.args.hub_token, address and address.username, address and address.password]
        return [text for text in told if text]

    @contextlib.contextmanager
    def begun(self, checkpoint: str | None) -> Iterator[None]:
        """All that holds while a run goes on."""
        with self.termination.watched(), self._teacher_at_hand(), self._fixed_arguments(checkpoint):
            yield

    def end_reason(self) -> str:
        """Why the run is over, seen after the last step."""
        trainer = self._trainer
        if self.termination.requested:
            return "terminated"
        if trainer.stop_reason is not None:
            return trainer.stop_reason
        return "rounds" if trainer.state.global_step >= trainer.schedule.total_steps else "stopped"

    def agreed_to_terminate(self) -> bool:
        """Whether any process got a SIGTERM; every process must ask at the same time."""
        return self.termination.agreed(self._trainer.accelerator)

    def settings(self) -> dict[str, Any]:
        """What the run is, without secrets: kept with its rounds and compared on resume."""
        trainer = self._trainer
        named = {name: getattr(trainer.args, name) for name in BINDING_SETTINGS if hasattr(trainer.args, name)}
        return {
            **named,
            "num_rounds": trainer.args.num_rounds,
            "pool": trainer.data.pool.fingerprint(),
            "seed_rows": trainer.schedule.seed_rows,
            "total_train_batch_size": trainer.schedule.batch_size,
        }

    def checkpoint_state(self) -> dict[str, Any]:
        """What of ours stands in a checkpoint."""
        trainer = self._trainer
        return {
            "stop_reason": trainer.stop_reason,
            "global_step": trainer.state.global_step,
            "caps": self._caps(),
            "rounds": len(trainer.book.records),
            "gate": trainer.gating.stream.state_dict() if trainer.gating is not None else None,
        }

    @contextlib.contextmanager
    def _teacher_at_hand(self) -> Iterator[None]:
        trainer = self._trainer

        def open_it() -> None:
            if trainer.accelerator.is_main_process:
                self.dispatcher = open_dispatcher(trainer.args, self._teacher, self._token)

        raised_everywhere(trainer.accelerator, open_it)
        try:
            yield
        finally:
            if self.dispatcher is not None:
                self.dispatcher.close()
                self.dispatcher = None

    @contextlib.contextmanager
    def _fixed_arguments(self, checkpoint: str | None) -> Iterator[None]:
        """Tells Trainer how many steps all rounds have; a resumed run is not evaluated at its start again."""
        trainer, args = self._trainer, self._trainer.args
        before = args.max_steps, args.eval_on_start
        total = trainer.schedule.total_steps
        state = read_state(checkpoint) if checkpoint else {}
        if self._stays_stopped(state):
            trainer.stop_reason = state["stop_reason"]
            logger.warning("The run has ended already (%s): nothing is left to do.", trainer.stop_reason)
            total = state["global_step"]
        args.max_steps = min(total, args.max_steps) if args.max_steps > 0 else total
        args.eval_on_start = args.eval_on_start and checkpoint is None
        try:
            yield
        finally:
            args.max_steps, args.eval_on_start = before

    def _stays_stopped(self, state: dict[str, Any]) -> bool:
        """Whether a resumed run had stopped for good: a spent budget can be raised, more rounds can be asked for."""
        reason = state.get("stop_reason")
        if reason == "budget":
            return state.get("caps") == self._caps()
        return reason not in (None, "rounds")

    def _caps(self) -> list[float | None]:
        args = self._trainer.args
        return [args.max_teacher_calls, args.max_teacher_tokens, args.max_teacher_cost]

    def _stop_asking(self, error: TerminatedError) -> None:
        if self.dispatcher is not None:
            self.dispatcher.stop(error)
