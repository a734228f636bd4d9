"""Rounds as versions: the callback that freezes a finished round, and what it gathers from the trainer."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import DistributedType, gather_object
from transformers import AutoTokenizer

from ..errors import LineageError
from ..hub.contents import FIRST_WEIGHTS, RoundContents, freeze
from ..hub.facts import RunFacts
from ..hub.frozen import LineageFolder
from ..hub.layout import ANNOTATIONS, POOL, STATE_FOLDER, STUDENT, parse_tag, repo_id
from ..hub.leaks import Secrets
from ..hub.push import RoundPusher
from ..hub.restore import TRAINER_STATE_FILE, restore_round
from ..hub.store import LineageStore, open_store
from ..hub.training_state import random_state, save_training_state
from .callbacks import ActiveDistillationCallback
from .card import run_facts
from .config import ActiveDistillationConfig
from .desk import journal_and_run
from .distributed import on_main_process, raised_everywhere
from .pushing import travelling_files


if TYPE_CHECKING:
    from .trainer import ActiveDistillationTrainer

logger = logging.getLogger(__name__)

# Of this machine or this call, and nothing of what the run is.
_STAYS = {
    "chat_template_path",
    "deepspeed",
    "hub_model_id",
    "hub_private_repo",
    "hub_token",
    "journal_path",
    "lineage_dir",
    "local_rank",
    "logging_dir",
    "output_dir",
    "overwrite_rounds",
    "push_rounds",
    "push_to_hub",
    "resume_from_checkpoint",
    "run_name",
    "teacher_token",
    "use_cpu",
}
_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)
_NAMES_IN_CONFIGS = ("base_model_name_or_path", "name_or_path", "_name_or_path")


class LineageCallback(ActiveDistillationCallback):
    """
    Freezes every round when it is finished, and pushes it from a thread of its own. The trainer adds one with
    `push_rounds=True`.

    Args:
        trainer ([`ActiveDistillationTrainer`]): Whose rounds.
    """

    def __init__(self, trainer: ActiveDistillationTrainer):
        self.trainer = trainer
        self.folder = LineageFolder(trainer.args.output_path)
        self.pusher: RoundPusher | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if not self.trainer.is_world_process_zero():
            return
        if state.global_step == 0 and not len(self.trainer.book.store):
            self.folder.clear()
        self.folder.begin(str(target_name(args)))
        self.pusher = RoundPusher(lambda: target_store(args), self.folder, secrets_of(self.trainer))
        if self.folder.waiting():  # of a process that was killed
            self.pusher.notify()

    def on_round_finished(self, args, state, control, event, **kwargs):
        trainer, round_index = self.trainer, event.record.round
        last = on_main_process(trainer.accelerator, lambda: getattr(self.folder.last(), "round", -1))
        if last >= round_index:
            return  # a resumed run trains a round again that was frozen already
        try:
            partial = on_main_process(trainer.accelerator, lambda: self.folder.partial(round_index))
            raised_everywhere(
                trainer.accelerator, lambda: trainer.save_model(str(partial / STUDENT), _internal_call=True)
            )
            random_states = gather_object([random_state()])
            on_main_process(trainer.accelerator, lambda: self._freeze(partial, round_index, random_states))
        except Exception as error:
            logger.error(
                "Round %d was not frozen and is not pushed: %s: %s. The run goes on, the next round brings its rows.",
                round_index,
                type(error).__name__,
                error,
            )
            return
        if self.pusher is not None:
            self.pusher.notify()

    def on_train_end(self, args, state, control, **kwargs):
        self.join()

    def push(self) -> LineageError | None:
        """Pushes what waits, now; the error of the last failure."""
        if self.pusher is not None and self.folder.waiting():
            self.pusher.notify()
        return self.join()

    def join(self) -> LineageError | None:
        """Waits until every frozen round is pushed or has failed for good; the error of the last failure."""
        return self.pusher.join() if self.pusher is not None else None

    def _freeze(self, partial: Path, round_index: int, random_states: list[dict[str, Any]]) -> None:
        trainer, student = self.trainer, partial / STUDENT
        facts = self._facts()
        kept = {name for name in travelling_files(student) if name != "README.md"}
        for path in student.iterdir():
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        _forget_paths(student, facts.base_model)
        resumable = self._write_state(student / STATE_FOLDER, random_states)
        freeze(self.folder, partial, contents_of(trainer, round_index, facts=facts, resumable=resumable))

    def _facts(self) -> RunFacts:
        """What the cards say; of a restored run the model that it began as, which its own folder does not tell."""
        facts = run_facts(self.trainer)
        facts.base_model = facts.base_model or self.folder.base_model()
        name = target_name(self.trainer.args)
        if isinstance(name, str):
            facts.title = name.split("/")[-1]
            facts.student_repo, facts.pool_repo, facts.annotations_repo = (
                repo_id(name, part) if "/" in name else None for part in (STUDENT, POOL, ANNOTATIONS)
            )
        facts.private = secrets_of(self.trainer).paths
        return facts

    def _write_state(self, folder: Path, random_states: list[dict[str, Any]]) -> bool:
        trainer = self.trainer
        folder.mkdir(parents=True, exist_ok=True)
        trainer.state.save_to_json(str(folder / TRAINER_STATE_FILE))
        # The best checkpoint is a folder of this machine.
        state = json.loads((folder / TRAINER_STATE_FILE).read_text(encoding="utf-8"))
        state |= {"best_model_checkpoint": None, "best_metric": None, "best_global_step": None}
        (folder / TRAINER_STATE_FILE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        optimizer, scheduler = trainer.optimizer, trainer.lr_scheduler
        if trainer.accelerator.distributed_type in _SHARDED or optimizer is None or scheduler is None:
            return False
        try:
            save_training_state(
                folder,
                optimizer=optimizer.state_dict(),
                scheduler=scheduler.state_dict(),
                random_states=random_states,
                current_device=torch.cuda.current_device() if torch.cuda.is_available() else None,
                fresh_optimizer=trainer.args.round_start == "restart",
            )
        except LineageError as error:
            logger.warning("%s The student is pushed, but its training cannot be gone on with.", error)
            return False
        return True


def contents_of(
    trainer: ActiveDistillationTrainer, round_index: int, *, facts: RunFacts, resumable: bool
) -> RoundContents:
    """A finished round of a trainer, without its student."""
    args, data = trainer.args, trainer.data
    journal, run = journal_and_run(args)
    rows = list(data.pool.rows.values())
    prompts = [trainer.task.student_prompt(row) for row in rows]
    prompts += [annotation.prompt for annotation in data.seed_annotations]
    evaluated = (row.row_id for part in data.eval_parts.values() for row in part)
    return RoundContents(
        records=[trainer.book.records[index] for index in range(round_index + 1)],
        rows=rows,
        seeds=data.seeds,
        conversational_annotations=any(not isinstance(prompt, str) for prompt in prompts),
        max_attempts=args.max_attempts_per_row,
        journal=journal,
        run=run,
        known_ids={*data.pool.rows, *evaluated},
        settings=trainer.session.settings(),
        configuration=configuration_of(args),
        state=trainer.session.checkpoint_state(),
        history=trainer.book.store.history(round_index + 1),
        facts=facts,
        first_weights=args.output_path / FIRST_WEIGHTS if args.round_start == "restart" else None,
        resumable=resumable,
    )


def configuration_of(args: ActiveDistillationConfig) -> dict[str, Any]:
    """What differs from the defaults, without secrets, paths and what belongs to this machine."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(args):
        value = getattr(args, field.name)
        value = value.value if isinstance(value, Enum) else value
        default = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        default = default if field.default is dataclasses.MISSING else field.default
        if not field.init or field.name in _STAYS or field.name.startswith("_") or value == default:
            continue
        try:
            text = json.dumps(value)
        except TypeError:
            continue
        if not any(_is_here(part) for part in _texts(json.loads(text))):
            found[field.name] = value
    return found


def _stored_arguments(info: dict[str, Any], output_dir: str) -> ActiveDistillationConfig:
    """The configuration of a run that was pushed, for another folder."""
    known = {field.name for field in dataclasses.fields(ActiveDistillationConfig) if field.init}
    return ActiveDistillationConfig(
        output_dir=output_dir, **{name: value for name, value in info["configuration"].items() if name in known}
    )


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []


def _is_here(text: str) -> bool:
    """Whether a text is a path of this machine."""
    return os.path.isabs(text) or (os.sep in text and Path(text).exists())


def _forget_paths(folder: Path, base_model: str | None) -> None:
    """Configurations remember the folder that a model was loaded from."""
    for path in folder.glob("*.json"):
        body = json.loads(path.read_text(encoding="utf-8"))
        named = [key for key in _NAMES_IN_CONFIGS if isinstance(body, dict) and isinstance(body.get(key), str)]
        stale = [key for key in named if _is_here(body[key]) or Path(body[key]).exists()]
        if stale:
            body |= dict.fromkeys(stale, base_model)
            path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def target_name(args: ActiveDistillationConfig) -> str | Path:
    """Where rounds go: `lineage_dir`, or a name on the Hub, by default that of the run's folder."""
    if args.lineage_dir is not None:
        return Path(args.lineage_dir).absolute()
    return args.hub_model_id or args.output_path.absolute().name


def target_store(args: ActiveDistillationConfig) -> LineageStore:
    """The store that rounds go to, with what was not there created; private unless `hub_private_repo` is false."""
    target = target_name(args)
    if isinstance(target, str):
        from ..hub.hub_store import HubStore

        # Not `open_store`: a folder of the same name lies about more often than not.
        store: LineageStore = HubStore(target, token=args.hub_token, private=args.hub_private_repo is not False)
        store.prepare()
        return store
    return open_store(target, create=True)


def secrets_of(trainer: ActiveDistillationTrainer) -> Secrets:
    """What must not be in anything that is pushed."""
    args = trainer.args
    journal, _ = journal_and_run(args)
    name = getattr(trainer.model.config, "_name_or_path", None)
    local = [name] if name and Path(name).exists() else []
    return Secrets.of_machine(
        texts=trainer.session.secrets, paths=[args.output_path, journal, args.lineage_dir, *local]
    )


def restored(
    name: str | Path,
    revision: str,
    args: ActiveDistillationConfig | None,
    *,
    output_dir: str | None,
    token: str | None,
    given: dict[str, Any],
) -> tuple[ActiveDistillationConfig, dict[str, Any]]:
    """
    Restores a round, and gives the configuration and further arguments of a trainer that goes on with it: student,
    tokenizer, adapter, pool and seed rows, and over them what a user has given.

    Raises:
        [`~errors.LineageError`]: When there is no such round, or it is an adapter and nobody knows the model under it.
    """
    store = open_store(name, token=token or (args.hub_token if args is not None else None))
    tag = parse_tag(revision)
    if args is None:
        args = _stored_arguments(store.require_round(tag), output_dir or Path(store.name).name)
    journal = Path(args.journal_path) if args.journal_path else None
    round_ = restore_round(store, tag, args.output_path, journal=journal)
    found: dict[str, Any] = {
        "model": str(round_.checkpoint),
        "pool_dataset": round_.rows,
        "train_dataset": round_.seeds or None,
        "processing_class": AutoTokenizer.from_pretrained(
            str(round_.checkpoint), trust_remote_code=args.trust_remote_code
        ),
        **given,
    }
    if (round_.checkpoint / "adapter_config.json").is_file():
        found |= _adapter(round_.checkpoint, given.get("model"))
    return args, found


def _adapter(checkpoint: Path, model: Any) -> dict[str, Any]:
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(checkpoint))
    config.inference_mode = False
    if model is None and config.base_model_name_or_path is None:
        raise LineageError(
            "The round is an adapter, and the model under it was loaded from a folder of another machine: pass it as "
            "`model`."
        )
    return {"peft_config": config, "model": model if model is not None else config.base_model_name_or_path}
