"""From frozen rounds to commits and tags: exactly once, in order, and over nothing that stands there."""

from __future__ import annotations

import json
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..errors import LineageConflictError, LineageError, LineageUnreachableError
from .frozen import NAMED, FrozenRound, LineageFolder, write_json
from .layout import PARTS, ROUND_FILE, STUDENT, Changes
from .leaks import Secrets, refuse_leaks
from .store import LineageStore


T = TypeVar("T")
logger = logging.getLogger(__name__)

#: Seconds to wait before a push is tried again; where the Hub names a time, that, up to the last of these.
WAITS = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
LISTING = "leaves_this_machine.txt"


def push_round(store: LineageStore, frozen: FrozenRound, secrets: Secrets) -> dict[str, str]:
    """
    Brings one frozen round to a store: a commit and a tag a part, pool, annotations, student. What was done already,
    by a process that was killed in the middle, is found and not done again.

    Returns:
        `dict[str, str]`: The commits by part.

    Raises:
        [`~errors.LeakError`]: When a file holds a secret or a path of this machine. Nothing was uploaded.
        [`~errors.LineageConflictError`]: When the name belongs to another run. Nothing was overwritten.
        [`~errors.LineageUnreachableError`]: When the same push may succeed later.
    """
    for part in PARTS:
        refuse_leaks(frozen.changes(part), secrets, store.where(part))
    for part in PARTS:  # before the first commit: a foreign student would be noticed after the pool was pushed
        _require_own(store, part, frozen)
    commits: dict[str, str] = {}
    for part in PARTS:
        commits[part] = _ensure(store, part, frozen, commits)
    return commits


def _require_own(store: LineageStore, part: str, frozen: FrozenRound) -> str | None:
    """The head to commit behind; refuses a part that another run, or another process of this run, went on with."""
    head = store.head(part)
    info = None if head is None else store.round_info(part, head)
    if info is None:
        if not store.is_empty(part):
            raise LineageConflictError(
                f"{store.where(part)} holds something else than rounds. Nothing was overwritten: choose another "
                "`hub_model_id` (`hf-active-distill push DIR --to user/other` pushes what is frozen already)."
            )
    elif info["lineage"] != frozen.lineage:
        raise _of_another_run(store, part)
    elif info["round"] >= frozen.round and info["frozen"] != frozen.id and not _tagged(store, part, frozen):
        raise LineageConflictError(
            f"{store.where(part)} holds a round {info['round']} that another process made from the same beginning. "
            "Nothing was overwritten: choose another `hub_model_id` for this one."
        )
    return head


def _of_another_run(store: LineageStore, part: str) -> LineageConflictError:
    return LineageConflictError(
        f"{store.where(part)} holds the rounds of another run. Nothing was overwritten: choose another `hub_model_id` "
        "(`hf-active-distill push DIR --to user/other` pushes what is frozen already), or go on with that run "
        "(`ActiveDistillationTrainer.from_round`)."
    )


def _tagged(store: LineageStore, part: str, frozen: FrozenRound) -> str | None:
    """The commit of this very copy, where it was pushed and tagged."""
    commit = store.tags(part).get(frozen.tag)
    if commit is None:
        return None
    info = store.round_info(part, commit)
    if info is not None and info["lineage"] != frozen.lineage:
        raise _of_another_run(store, part)
    if info is None or info["frozen"] != frozen.id:
        raise LineageConflictError(
            f"{store.where(part)} has a `{frozen.tag}` that another process made. Nothing was overwritten: choose "
            "another `hub_model_id`."
        )
    return commit


def _ensure(store: LineageStore, part: str, frozen: FrozenRound, commits: dict[str, str]) -> str:
    for last_try in (False, False, True):
        commit = _tagged(store, part, frozen)
        if commit is not None:
            return commit
        head = _require_own(store, part, frozen)
        info = None if head is None else store.round_info(part, head)
        try:
            if head is not None and info is not None and info["frozen"] == frozen.id:
                commit = head  # committed by a process that was killed before it could tag
            else:
                changes = _with_commits(frozen.changes(part), frozen.folder, part, commits)
                commit = store.commit(part, changes, parent=head, message=f"Round {frozen.round}")
            store.tag(part, frozen.tag, commit)
            return commit
        except LineageConflictError:
            # Another run was faster, which the next look says in words; or a person has edited the card.
            if last_try:
                raise
    raise AssertionError("the last try returns or raises")


def _with_commits(changes: Changes, folder: Path, part: str, commits: dict[str, str]) -> Changes:
    """The changes, with the commits made so far in `round.json`."""
    path = folder / part / ROUND_FILE
    body = json.loads(path.read_text(encoding="utf-8"))
    body["commits"] = commits
    named = folder / NAMED / part / ROUND_FILE
    write_json(named, body)
    return Changes({**changes.files, ROUND_FILE: named}, changes.deleted)


def list_what_leaves(store: LineageStore, frozen: FrozenRound, folder: Path) -> str:
    """Writes which files go where, once, before the first push; returns the text."""
    lines = ["What is uploaded when this round is pushed, and with every further round the like:"]
    for part in PARTS:
        lines.append(f"\n{store.where(part)} ({store.visibility(part)})")
        for path, file in frozen.changes(part).files.items():
            lines.append(f"  {path}  {file.stat().st_size:,} bytes")
    lines.append("\nThe address of the teacher, tokens and paths of this machine are not in any of them.")
    text = "\n".join(lines) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LISTING).write_text(text, encoding="utf-8")
    return text


def push_waiting(
    store: LineageStore,
    folder: LineageFolder,
    secrets: Secrets,
    *,
    wait: Callable[[float], bool],
    waits: tuple[float, ...] = WAITS,
) -> list[int]:
    """
    Pushes all rounds that wait, in order, with patience. A round is not pushed before the one that it stands on.

    Args:
        wait (`Callable[[float], bool]`): Waits so many seconds; returns whether to give up.

    Returns:
        `list[int]`: The rounds that were pushed.
    """
    done = []
    for frozen in folder.waiting():
        _require_same_target(folder, store)
        if not (folder.folder / LISTING).is_file():
            logger.warning("%s", list_what_leaves(store, frozen, folder.folder))
        commits = _patiently(partial(push_round, store, frozen, secrets), wait, waits)
        frozen.mark_pushed(store.name, commits)
        done.append(frozen.round)
        logger.info("Round %d is %s at %s.", frozen.round, frozen.tag, store.where(STUDENT))
    return done


def _patiently(work: Callable[[], T], wait: Callable[[float], bool], waits: tuple[float, ...]) -> T:
    for seconds in waits:
        try:
            return work()
        except LineageUnreachableError as error:
            pause = min(max(seconds, error.retry_after or 0.0), waits[-1])
            logger.warning("%s Trying again in %.0f s.", error, pause)
            if wait(pause):
                raise
    return work()


def _require_same_target(folder: LineageFolder, store: LineageStore) -> None:
    gone_to = {str(frozen.pushed["target"]) for frozen in folder.rounds() if frozen.pushed is not None}
    elsewhere = gone_to - {store.name}
    if elsewhere:
        raise LineageConflictError(
            f"Earlier rounds of this run are at {', '.join(sorted(elsewhere))}, the others cannot go to {store.name}: "
            "a round needs those before it. Restore the last one (`hf-active-distill restore`) into a new folder and "
            "push from there, or keep the name."
        )


class RoundPusher:
    """
    Pushes frozen rounds from a thread of its own. What fails is reported and stays frozen: it never costs the run.

    Args:
        open_store (`Callable`): Gives the store, prepared. Called in the thread.
        folder ([`LineageFolder`]): The rounds.
        secrets ([`Secrets`]): What must not be in them.
        waits (`tuple[float, ...]`, *optional*): Seconds between tries.
    """

    def __init__(
        self,
        open_store: Callable[[], LineageStore],
        folder: LineageFolder,
        secrets: Secrets,
        waits: tuple[float, ...] = WAITS,
    ):
        self.folder = folder
        self.error: LineageError | None = None
        self._open_store = open_store
        self._secrets = secrets
        self._waits = waits
        self._store: LineageStore | None = None
        self._work: queue.Queue[bool] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def notify(self) -> None:
        """A round was frozen."""
        if self._thread is None:
            # A daemon: a run that ends with an error does not wait, and the next one pushes what was left.
            self._thread = threading.Thread(target=self._run, name="round-pusher", daemon=True)
            self._thread.start()
        self._work.put(True)

    def join(self) -> LineageError | None:
        """Waits until everything is pushed or has failed for good; the error of the last failure, if there was one."""
        if self._thread is not None:
            self._work.put(False)
            self._thread.join()
            self._thread = None
        return self.error

    def stop(self) -> None:
        """Gives up waiting for a Hub that does not answer."""
        self._stopped.set()

    def _run(self) -> None:
        more = True
        while more and (more := self._work.get()):
            # One push takes all rounds that wait: a Hub that is down costs its patience once, not once a round.
            while more and not self._work.empty():
                more = self._work.get()
            self.error = None
            try:
                if self._store is None:
                    self._store = _patiently(self._open_store, self._stopped.wait, self._waits)
                push_waiting(self._store, self.folder, self._secrets, wait=self._stopped.wait, waits=self._waits)
            except LineageError as error:
                self._report(error)
            except Exception as error:  # whatever it is, it must not end in silence
                self._report(LineageError(f"{type(error).__name__}: {error}"))

    def _report(self, error: LineageError) -> None:
        self.error = error
        logger.error(
            "Not pushed: %s The run goes on; the rounds wait in %s. `hf-active-distill push %s` pushes them.",
            error,
            self.folder.folder,
            self.folder.folder.parent,
        )
