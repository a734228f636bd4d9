"""
Many continuations of one text in one forward pass: a trie of tokens under a mask that lets each see its own past only.

A node is known by its path: the cache slots of its ancestors and itself, in order. Its position is the length of the
path, its row of the mask is the path, a sliding window is the end of the path. That holds wherever the slots lie.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from .generation import RowCache
from .modes import accepts, text_config


@dataclass
class Trie:
    """
    A trunk and the branches off it. Tokens that branches share with each other or with the trunk are one node.

    Nodes 0 .. len(trunk) - 1 are the trunk, later ones belong to branches.

    Args:
        trunk (`Sequence[int]`):
            Token ids.
    """

    trunk: Sequence[int]
    parents: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def insert(self, prefix: int, tokens: Iterable[int]) -> list[int]:
        """Adds a branch after `prefix` trunk tokens and returns its nodes, that of the last trunk token first."""
        path = [prefix - 1]
        for token in tokens:
            path.append(self._child(path[-1], token))
        return path

    def _child(self, node: int, token: int) -> int:
        if node + 1 < len(self.trunk) and self.trunk[node + 1] == token:
            return node + 1
        key = (node, token)
        if key not in self._children:
            self._children[key] = len(self.trunk) + len(self.tokens)
            self.parents.append(node)
            self.tokens.append(token)
        return self._children[key]


@dataclass(frozen=True)
class Addition:
    """
    A node to be added to a [`TreeSession`].

    Args:
        parent (`np.ndarray` or `int`):
            Path of a node that is there already, or the index of one in the same list of additions.
        token (`int`):
            Its token.
        wanted (`bool`):
            Whether its logits are wanted.
    """

    parent: np.ndarray | int
    token: int
    wanted: bool


def plan_additions(
    trie: Trie, wanted: set[int], trunk_slots: np.ndarray
) -> tuple[list[Addition], dict[int, int], list[int]]:
    """
    What has to be encoded so that the logits at `wanted` nodes are known.

    Trunk tokens that are cached already are not encoded again, unless their logits are wanted: such a token comes once
    more, seeing what it saw before and itself, while its descendants go on using the cached one.

    Args:
        trie ([`Trie`]):
            Trunk and branches.
        wanted (`set[int]`):
            Nodes whose logits are needed.
        trunk_slots (`np.ndarray`):
            Slots of the trunk tokens that are cached.

    Returns:
        `tuple`: The additions, the index of each node among them, and the nodes that logits come for, in order.
    """
    size, cached = len(trie.trunk), len(trunk_slots)
    needed: set[int] = set()
    for node in wanted:
        while node >= size and node not in needed:
            needed.add(node)
            node = trie.parents[node - size]
        if node < size:
            needed.update(range(cached, node + 1))
    needed |= wanted
    index: dict[int, int] = {}
    additions: list[Addition] = []
    order: list[int] = []
    for node in sorted(needed):
        above = trie.parents[node - size] if node >= size else node - 1
        parent: np.ndarray | int = trunk_slots[: above + 1] if above < cached else index[above]
        # Wanted nodes come last in a pass. Some models also mask by slot, so descendants have to follow them there.
        late = node in wanted or (isinstance(parent, int) and additions[parent].wanted)
        if late:
            order.append(node)
        index[node] = len(additions)
        additions.append(Addition(parent, trie.tokens[node - size] if node >= size else trie.trunk[node], late))
    return additions, index, order


class TreeSession:
    """
    A batch of trees that grow together in one cache.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Model in evaluation mode, with an attention implementation that takes masks.
        implementation (`str`):
            `"sdpa"` or `"eager"`: they want different masks.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler.
    """

    def __init__(self, model: Any, implementation: str, *, pad_id: int = 0):
        self.model = model
        self.implementation = implementation
        self.pad_id = pad_id
        self.slots = 0
        self.cache = DynamicCache()
        config = text_config(model)
        kinds = getattr(config, "layer_types", None)
        window = getattr(config, "sliding_window", None)
        self.kinds = sorted(set(kinds)) if kinds else ["sliding_attention" if window else "full_attention"]
        self.window = window

    def load(self, caches: Sequence[RowCache]) -> list[np.ndarray]:
        """Starts from what generation left behind, and returns the slots of every row's cached tokens."""
        lengths = [next(layer[0].shape[1] for layer in cache if layer is not None) for cache in caches]
        self.slots = max(lengths)
        for number, layers in enumerate(zip(*caches, strict=True)):
            if layers[0] is not None:
                keys = torch.stack([_padded(layer[0], self.slots) for layer in layers])
                values = torch.stack([_padded(layer[1], self.slots) for layer in layers])
                self.cache.update(keys, values, number)
        return [np.arange(length) for length in lengths]

    def fork(self) -> TreeSession:
        """A session that goes on from here by itself; what is cached so far is shared and not copied."""
        fork = copy.copy(self)
        fork.cache = DynamicCache()
        # A layer replaces its tensors when it grows and never writes into them.
        fork.cache.layers = [copy.copy(layer) for layer in self.cache.layers]
        return fork

    def extend(
        self, additions: Sequence[Sequence[Addition]], *, keep: bool = True
    ) -> tuple[torch.Tensor, list[list[np.ndarray]]]:
        """
        Encodes new nodes, a list a row.

        Args:
            additions (`Sequence[Sequence[Addition]]`):
                New nodes of every row, parents before children.
            keep (`bool`, *optional*, defaults to `True`):
                Whether anything will be added later: if not, the cache need not grow.

        Returns:
            `tuple[torch.Tensor, list[list[np.ndarray]]]`: Logits of shape `(rows, most wanted, vocabulary)`, a row's
            wanted nodes at its end in order; and the paths of all new nodes.
        """
        width, kept, places = _layout(additions)
        rows, start = len(additions), self.slots
        ids = np.full((rows, width), self.pad_id)
        positions = np.zeros((rows, width), dtype=np.int64)
        paths: list[list[np.ndarray]] = [[] for _ in additions]
        for row, nodes in enumerate(additions):
            for place, node in zip(places[row], nodes, strict=True):
                above = paths[row][node.parent] if isinstance(node.parent, int) else node.parent
                path = np.append(above, start + place)
                paths[row].append(path)
                ids[row, place] = node.token
                positions[row, place] = len(path) - 1
        device = self.model.device
        kwargs: dict[str, Any] = {"position_ids": torch.from_numpy(positions).to(device)}
        if accepts(self.model, "logits_to_keep"):
            kwargs["logits_to_keep"] = torch.arange(width - max(kept, 1), width, device=device)
        if keep or start:
            kwargs["past_key_values"] = self.cache
        logits = self.model(
            input_ids=torch.from_numpy(ids).to(device),
            attention_mask=self._masks(places, paths, width),
            use_cache=keep or start > 0,
            **kwargs,
        ).logits
        self.slots += width
        # Some models ignore `logits_to_keep` and return every position.
        return logits[:, logits.shape[1] - kept :], paths

    def _masks(self, places: list[list[int]], paths: list[list[np.ndarray]], width: int) -> Any:
        masks = {kind: self._mask(places, paths, width, self._reach(kind)) for kind in self.kinds}
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _reach(self, kind: str) -> int | None:
        return self.window if kind == "sliding_attention" else None

    def _mask(
        self, places: list[list[int]], paths: list[list[np.ndarray]], width: int, reach: int | None
    ) -> torch.Tensor:
        seen = np.zeros((len(paths), width, self.slots + width), dtype=bool)
        # Filler attends to itself: a row that sees nothing gives NaN in some kernels.
        seen[:, np.arange(width), self.slots + np.arange(width)] = True
        for row, own in enumerate(paths):
            for place, path in zip(places[row], own, strict=True):
                seen[row, place, path if reach is None else path[-reach:]] = True
        mask = torch.from_numpy(seen[:, None]).to(self.model.device)
        if self.implementation == "sdpa":
            return mask
        # Eager attention adds its mask. Infinity would give NaN where a whole row is masked.
        dtype = self.model.dtype
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill_(~mask, torch.finfo(dtype).min)


def _padded(states: torch.Tensor, length: int) -> torch.Tensor:
    return torch.nn.functional.pad(states, (0, 0, 0, length - states.shape[1]))


def _layout(additions: Sequence[Sequence[Addition]]) -> tuple[int, int, list[list[int]]]:
    """
    Where in a pass every node stands: the wanted ones at the end, so that one run of positions has the logits of all
    rows.
    """
    kept = max(sum(node.wanted for node in nodes) for nodes in additions)
    width = kept + max(sum(not node.wanted for node in nodes) for nodes in additions)
    places = []
    for nodes in additions:
        plain, last = 0, width - sum(node.wanted for node in nodes)
        own = []
        for node in nodes:
            own.append(last if node.wanted else plain)
            last, plain = last + node.wanted, plain + (not node.wanted)
        places.append(own)
    return width, kept, places
