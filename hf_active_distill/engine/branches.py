"""Scores and writes continuations at many points of one text, by the cheapest way that is right for the model."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import ConfigurationError
from .forest import BranchStop, Limits, Writing, score_tree, write_tree
from .generation import Generated, Generator
from .modes import accepts, inference, masked_attention, position_limit
from .padded import Branch, BranchItem, score_padded


logger = logging.getLogger(__name__)

METHODS = ("auto", "tree", "padded", "naive")
#: Root mean square difference a token: what always passes as rounding, and the most that can be rounding at all.
TOLERANCES = {
    torch.float64: (1e-9, 1e-8),
    torch.float32: (1e-4, 1e-3),
    torch.float16: (0.02, 0.2),
    torch.bfloat16: (0.05, 0.5),
}
#: Accelerators may multiply float32 with fewer bits (TF32).
ACCELERATED_FLOAT32 = (1e-4, 0.02)


class BranchScorer:
    """
    log p(continuation | part of a trunk), and continuations at branch points.

    Three ways, all with the same result up to rounding: `"tree"` encodes the trunk once (or takes it from the cache
    that generation left) and all branches in one pass under a mask; `"padded"` encodes every prefix again, in batches;
    `"naive"` does so one by one. Models whose attention is not that of the mask they are given (ALiBi by slot, fixed
    local windows, recurrent layers) are silently wrong under a tree, so `"auto"` compares before it relies on it.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Causal language model.
        eos_ids (`Collection[int]`):
            Tokens that end a continuation.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler.
        batch_size (`int`, *optional*, defaults to `16`):
            Items at a time.
        method (`str`, *optional*, defaults to `"auto"`):
            `"auto"`, `"tree"`, `"padded"` or `"naive"`.
        limits ([`~hf_active_distill.engine.forest.Limits`], *optional*):
            What one pass may take.
    """

    def __init__(
        self,
        model: Any,
        *,
        eos_ids: Collection[int],
        pad_id: int = 0,
        batch_size: int = 16,
        method: str = "auto",
        limits: Limits | None = None,
    ):
        if method not in METHODS:
            raise ConfigurationError(f"method={method!r} is unknown: use one of {', '.join(METHODS)}.")
        self.model = model
        self.eos_ids = frozenset(eos_ids)
        self.pad_id = pad_id
        self.batch_size = batch_size
        self.limits = limits or Limits(items=batch_size)
        self.method = method
        self._automatic = method == "auto"
        self._checked_length = 0

    def score(self, items: Sequence[BranchItem]) -> list[list[np.ndarray]]:
        """For every item and branch the log-probabilities of its scored tokens, in nats."""
        with inference(self.model):
            method = self._settle(items)
            if method == "tree":
                with masked_attention(self.model) as implementation:
                    return score_tree(self.model, implementation, items, self.limits, pad_id=self.pad_id)
            return self._score_padded(items, method)

    def write(
        self,
        items: Sequence[BranchItem],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        uniforms: Sequence[Sequence[np.ndarray]] | None = None,
        stop: BranchStop | None = None,
    ) -> list[list[Generated]]:
        """
        Continues every branch.

        Args:
            items (`Sequence[BranchItem]`):
                Trunks and branches.
            max_new_tokens (`int`):
                Most new tokens a branch.
            temperature (`float`, *optional*, defaults to `0.0`):
                0 is greedy.
            uniforms (`Sequence[Sequence[np.ndarray]]`, *optional*):
                Sampling noise of every item's branches; number t chooses token t.
            stop (`BranchStop`, *optional*):
                Called with (item, branch, its new tokens) after every token; true ends the branch.
        """
        writing = Writing(max_new_tokens, self.eos_ids, temperature, uniforms, stop)
        with inference(self.model):
            if self._settle(items) != "tree":
                return self._write_again(items, writing)
            with masked_attention(self.model) as implementation:
                return write_tree(self.model, implementation, items, self.limits, writing, pad_id=self.pad_id)

    def calibrate(self, items: Sequence[BranchItem]) -> str:
        """
        Compares the ways on two of the items, their trunks repeated up to the next power of two so that no window
        begins to matter later, and settles on the cheapest that agrees with encoding every prefix by itself.

        Args:
            items (`Sequence[BranchItem]`):
                Items as they will be scored.

        Returns:
            `str`: `"tree"`, `"padded"` or `"naive"`; the latter two with a logged warning.
        """
        probes = self._probes(items)
        with inference(self.model):
            exact = _flat(self._score_padded(probes, "naive"))
            noise = _distance(exact, _flat(self._score_padded(probes, "padded")))
            passes, most = _tolerances(self.model)
            # How much is rounded depends on weights and hardware: padding shows it. Far more is no rounding.
            rounding = noise if noise <= most else 0.0
            error = self._tree_error(probes, exact)
        name = type(self.model).__name__
        if error <= max(passes, 3 * rounding):
            self.method = "tree"
        elif noise <= most:
            self.method = "padded"
            logger.warning(
                f"{name} cannot branch inside one pass (off by {error:.2g} nats a token against encoding every prefix "
                f"again, {noise:.2g} is rounding): step boundaries are scored with padded batches, which is right and "
                "several times slower. A model with plain causal attention avoids this."
            )
        else:
            self.method = "naive"
            logger.warning(
                f"{name} gives other results with left padding (off by {noise:.2g} nats a token): step boundaries are "
                "scored one by one, which is right and slow."
            )
        return self.method

    def _settle(self, items: Sequence[BranchItem]) -> str:
        longest = max((len(item.trunk) for item in items if item.branches), default=0)
        if self._automatic and longest > self._checked_length and self.method in ("auto", "tree"):
            self._checked_length = _probe_length(longest, position_limit(self.model))
            self.calibrate(items)
        return self.method

    def _tree_error(self, probes: list[BranchItem], exact: np.ndarray) -> float:
        if not accepts(self.model, "position_ids"):
            return float("inf")
        # Once in one pass, and once with the trunk in a cache.
        split = replace(self.limits, branch_tokens=1)
        try:
            with masked_attention(self.model) as implementation:
                scores = [
                    score_tree(self.model, implementation, probes, limits, pad_id=self.pad_id)
                    for limits in (self.limits, split)
                ]
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            logger.info(f"{type(self.model).__name__} does not take a mask a pair of positions: {error}")
            return float("inf")
        return max(_distance(exact, _flat(found)) for found in scores)

    def _probes(self, items: Sequence[BranchItem]) -> list[BranchItem]:
        items = sorted((item for item in items if item.branches), key=lambda item: -len(item.trunk))
        length = _probe_length(len(items[0].trunk), position_limit(self.model))
        probes = []
        for item, size in zip((items[0], items[-1]), (length, max(2, length * 2 // 3)), strict=True):
            trunk = (item.trunk * (size // len(item.trunk) + 1))[:size]
            tail = (max((branch.tokens for branch in item.branches), key=len) + tuple(trunk))[-8:]
            probes.append(BranchItem(trunk, [Branch(max(1, size * part // 3), tail) for part in (1, 2, 3)]))
        return probes

    def _score_padded(self, items: Sequence[BranchItem], method: str) -> list[list[np.ndarray]]:
        tokens = 1 if method == "naive" else self.limits.tokens
        return score_padded(self.model, items, pad_id=self.pad_id, max_tokens=tokens)

    def _write_again(self, items: Sequence[BranchItem], writing: Writing) -> list[list[Generated]]:
        places = [(i, j) for i, item in enumerate(items) for j in range(len(item.branches))]
        size = 1 if self.method == "naive" else self.batch_size
        generator = Generator(self.model, eos_ids=self.eos_ids, pad_id=self.pad_id, batch_size=size)
        stop, noise = writing.stop, writing.uniforms
        written = generator.generate(
            [items[i].trunk[: items[i].branches[j].prefix] + list(items[i].branches[j].tokens) for i, j in places],
            max_new_tokens=writing.max_new_tokens,
            temperature=writing.temperature,
            uniforms=None if noise is None else [noise[i][j] for i, j in places],
            stop=None if stop is None else lambda row, tokens: stop(*places[row], tokens),
        )
        results: list[list[Generated]] = [[] for _ in items]
        for (i, _), generated in zip(places, written, strict=True):
            results[i].append(generated)
        return results


def _tolerances(model: Any) -> tuple[float, float]:
    device = model.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else model.dtype
    if dtype == torch.float32 and device != "cpu":
        return ACCELERATED_FLOAT32
    return TOLERANCES.get(dtype, TOLERANCES[torch.bfloat16])


def _probe_length(longest: int, limit: int | None) -> int:
    length = max(64, 1 << (longest - 1).bit_length())
    # Room for the probe's own continuation.
    return length if limit is None else max(longest, min(length, limit - 8))


def _flat(scores: list[list[np.ndarray]]) -> np.ndarray:
    return np.concatenate([values for item in scores for values in item])


def _distance(first: np.ndarray, second: np.ndarray) -> float:
    distance = float(np.sqrt(np.mean((first - second) ** 2)))
    return distance if np.isfinite(distance) else float("inf")
