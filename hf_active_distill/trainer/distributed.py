"""What several processes need: shared scoring, one asker, the same outcome everywhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, broadcast_object_list, gather_object


T = TypeVar("T")
R = TypeVar("R")

POLL_SECONDS = 0.5


def map_chunks(
    accelerator: Accelerator,
    items: Sequence[T],
    chunk_size: int,
    work: Callable[[Sequence[T]], list[R]],
    on_chunk: Callable[[int], Any] = lambda done: None,
) -> list[R]:
    """
    Applies `work` to fixed chunks of `items`, each chunk whole on one process, and gives every process all results in
    order. The chunks do not depend on the number of processes, so neither do the results.

    Args:
        on_chunk (`Callable`, *optional*): Called with the number of items that were finished, for a progress bar.
    """
    chunks = [items[start : start + chunk_size] for start in range(0, len(items), chunk_size)]
    world = accelerator.num_processes
    results: list[R] = []
    # One collective a group of chunks: no process ever waits for longer than one chunk takes.
    for first in range(0, len(chunks), world):
        mine = first + accelerator.process_index
        chunk = chunks[mine] if mine < len(chunks) else None
        local = raised_everywhere(accelerator, partial(_work_on, work, chunk))
        results.extend(result for part in local for result in part)
        on_chunk(sum(len(chunk) for chunk in chunks[first : first + world]))
    return results


def _work_on(work: Callable[[Sequence[T]], list[R]], chunk: Sequence[T] | None) -> list[R]:
    return [] if chunk is None else work(chunk)


def raised_everywhere(accelerator: Accelerator, work: Callable[[], R]) -> list[R]:
    """Runs `work` on every process and gathers the values; one process's exception is raised on all of them."""
    if accelerator.num_processes == 1:
        return [work()]
    try:
        outcome: tuple[str, Any] = ("ok", work())
    except Exception as error:
        outcome = ("error", error)
    outcomes = gather_object([outcome])
    for kind, value in outcomes:
        if kind == "error":
            raise value
    return [value for _, value in outcomes]


def on_main_process(accelerator: Accelerator, work: Callable[[], R]) -> R:
    """
    Runs `work` on the main process alone and gives its value, or raises its exception, everywhere.

    The others do not wait inside one collective, whose time-out a slow teacher would outlast: the main process works
    in a thread and tells them twice a second that it is still at it.
    """
    if accelerator.num_processes == 1:
        return work()
    outcome: list[tuple[str, Any]] = []

    def run() -> None:
        try:
            outcome.append(("ok", work()))
        except BaseException as error:
            outcome.append(("error", error))

    thread = threading.Thread(target=run, name="teacher", daemon=True)
    if accelerator.is_main_process:
        thread.start()
    while True:
        if accelerator.is_main_process:
            thread.join(POLL_SECONDS)
        [finished] = broadcast_object_list([not thread.is_alive() if accelerator.is_main_process else None])
        if finished:
            break
    [(kind, value)] = broadcast_object_list(outcome if accelerator.is_main_process else [None])
    if kind == "error":
        raise value
    return value


@contextlib.contextmanager
def whole_model(accelerator: Accelerator, wrapped: torch.nn.Module, model: torch.nn.Module) -> Iterator[Any]:
    """
    The model with all its parameters present, for generation. DDP and one process need nothing; under DeepSpeed ZeRO-3
    and FSDP the shards are gathered for the time being.
    """
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        import deepspeed

        sharded = [p for p in model.parameters() if hasattr(p, "ds_id")]
        with deepspeed.zero.GatheredParameters(sharded, enabled=bool(sharded)):
            yield accelerator.unwrap_model(wrapped)
    elif accelerator.distributed_type == DistributedType.FSDP:
        from torch.distributed.fsdp import FullyShardedDataParallel

        with FullyShardedDataParallel.summon_full_params(wrapped, recurse=True, writeback=False):
            yield accelerator.unwrap_model(wrapped)
    else:
        yield accelerator.unwrap_model(wrapped)
