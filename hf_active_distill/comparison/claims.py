"""Whose a run's folder is: its settings, its teacher, and whether it is done."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..asking.rows import redact
from ..errors import CheckpointError
from ..teachers.base import TeacherInfo
from .config import Run
from .secrecy import without_secrets


CLAIM_FILE = "comparison.json"
#: Options of a teacher that say how it is reached, not who it is: they may change between two parts of a comparison.
_OF_THE_WAY = frozenset(
    "ca_bundle client device headers max_batch_size max_concurrency proxy timeout token token_env".split()
)


def teacher_facts(options: Mapping[str, Any], info: TeacherInfo | None = None) -> dict[str, Any]:
    """
    Who teaches, as a claim holds it: model, revision and options, no address, since ports move, and no secret.

    Args:
        options (`Mapping[str, Any]`): `teacher_kwargs` of the comparison.
        info ([`~teachers.TeacherInfo`], *optional*): What the teacher says of itself, where it was asked.
    """
    kept = {name: value for name, value in options.items() if name not in _OF_THE_WAY}
    told = {} if info is None else {"model": redact(info.model), "revision": info.revision}
    return {**told, "kwargs": _plain(without_secrets(kept))}


def is_finished(run: Run, teacher: Mapping[str, Any] | None = None) -> bool:
    """
    Whether the run stands complete on the disk.

    Args:
        run (`Run`): The run.
        teacher (`Mapping[str, Any]`, *optional*): [`teacher_facts`]: compared as far as they and the claim go.

    Raises:
        [`~errors.CheckpointError`]: When its folder holds a run with other settings or of another teacher.
    """
    claim = read_claim(run)
    if claim is None:
        return False
    if claim["fingerprint"] != run.fingerprint:
        before, now = claim["settings"], _plain(run.settings)
        changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
        raise CheckpointError(
            f"{run.folder} holds a run with other settings ({', '.join(changed)}): take another `output_dir`, rename "
            "the arm, or remove that folder. What the teacher answered is in the shared journal and not paid again."
        )
    known = {name: value for name, value in (claim.get("teacher") or {}).items() if value is not None}
    changes = [
        f"{name} {value} before, {teacher[name]} now"
        for name, value in known.items()
        if teacher and teacher.get(name) is not None and teacher[name] != value
    ]
    if changes:
        raise CheckpointError(
            f"{run.folder} holds a run of another teacher ({'; '.join(changes)}): arms that had different teachers "
            "cannot be compared. Take another `output_dir`, or the former `teacher` and `teacher_kwargs`, or remove "
            "that folder."
        )
    return bool(claim["finished"])


def teachers_of(runs: Iterable[Run], otherwise: str) -> str:
    """Who taught these runs, as their claims say; `otherwise` stands for those that do not (older ones)."""
    found: Counter[str] = Counter()
    for run in runs:
        facts = (read_claim(run) or {}).get("teacher") or {}
        revision = f"@{facts['revision'][:12]}" if facts.get("revision") else ""
        found[f"{facts['model']}{revision}" if facts.get("model") else otherwise] += 1
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{name} ({number} runs)" for name, number in found.most_common())


def read_claim(run: Run) -> dict[str, Any] | None:
    """What the run's folder says of it; `None` where nothing has begun there."""
    path = run.folder / CLAIM_FILE
    try:
        claim = json.loads(path.read_text("utf-8"))
        return {"fingerprint": claim["fingerprint"], "finished": claim["finished"], **claim}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error!r}): remove {run.folder}.") from error


def write_claim(run: Run, *, finished: bool, teacher: Mapping[str, Any] | None = None) -> None:
    """Says whose folder it is, whether the run is done, and what CPU time its last process took, in one rename."""
    claim: dict[str, Any] = {"arm": run.arm, "seed": run.seed, "fingerprint": run.fingerprint, "finished": finished}
    claim["cpu_seconds"] = round(time.process_time(), 1)
    claim |= {"teacher": dict(teacher)} if teacher is not None else {}
    partial = run.folder / f"{CLAIM_FILE}.partial"
    partial.write_text(json.dumps({**claim, "settings": _plain(run.settings)}, indent=2), "utf-8")
    os.replace(partial, run.folder / CLAIM_FILE)


def _plain(settings: Any) -> dict[str, Any]:
    return json.loads(json.dumps(dict(settings), default=str))
