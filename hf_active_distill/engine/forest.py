"""Scores and writes the branches of many items over [`~hf_active_distill.engine.tree.TreeSession`], within memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from .generation import Generated, choose
from .modes import text_config
from .padded import Branch, BranchItem
from .tree import Addition, TreeSession, Trie, plan_additions


#: Called with (item, branch, its new tokens) after every token; true ends the branch.
BranchStop = Callable[[int, int, list[int]], bool]


@dataclass(frozen=True)
class Limits:
    """
    What one forward pass may take.

    Args:
        items (`int`, *optional*, defaults to `16`):
            Items at a time.
        tokens (`int`, *optional*, defaults to `4096`):
            New tokens, filler included.
        branch_tokens (`int`, *optional*, defaults to `256`):
            Branch tokens an item. Where there are more, the trunk is encoded once and branches follow in runs.
        slots (`int`, *optional*, defaults to `32768`):
            Positions in the cache.
        logits (`int`, *optional*, defaults to `134217728`):
            Elements of the logits.
        scores (`int`, *optional*, defaults to `268435456`):
            Elements of the attention scores of a layer.
    """

    items: int = 16
    tokens: int = 4096
    branch_tokens: int = 256
    slots: int = 32768
    logits: int = 1 << 27
    scores: int = 1 << 28


@dataclass
class _Run:
    """Branches of an item that share a pass: their trie, and where in it each branch's nodes are."""

    trie: Trie
    branches: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)


@dataclass
class _Plan:
    """One item, cut into runs."""

    index: int
    item: BranchItem
    runs: list[_Run]

    @property
    def cached(self) -> int:
        layers = self.item.cache or ()
        return next((layer[0].shape[1] for layer in layers if layer is not None), 0)


def _plans(items: Sequence[BranchItem], limit: int) -> list[_Plan]:
    plans = []
    for index, item in enumerate(items):
        runs: list[_Run] = []
        for number, branch in enumerate(item.branches):
            before = len(runs[-1].trie.tokens) if runs else 0
            path = runs[-1].trie.insert(branch.prefix, branch.tokens) if runs else []
            if not runs or (before and len(runs[-1].trie.tokens) > limit):
                runs.append(_Run(Trie(item.trunk)))
                path = runs[-1].trie.insert(branch.prefix, branch.tokens)
            runs[-1].branches.append(number)
            runs[-1].paths.append(path)
        if runs:
            plans.append(_Plan(index, item, runs))
    return plans


def _groups(
    model: Any, plans: list[_Plan], limits: Limits, kept_of: Callable[[Branch], int], growth: int
) -> Iterator[list[_Plan]]:
    """
    Items of like size together, as many as the limits allow. A branch wants the logits of at most `kept_of` nodes and
    may grow by `growth` tokens.
    """
    config = text_config(model)
    heads = getattr(config, "num_attention_heads", None) or 1
    group: list[_Plan] = []
    most = (0, 0, 0)
    for plan in sorted(plans, key=lambda plan: (plan.cached > 0, len(plan.runs), len(plan.item.trunk))):
        nodes = max(len(run.trie.tokens) for run in plan.runs)
        rows = max(sum(kept_of(plan.item.branches[number]) for number in run.branches) for run in plan.runs)
        fresh = nodes + len(plan.item.trunk) - plan.cached
        slots = len(plan.item.trunk) + nodes + max(len(run.branches) for run in plan.runs) * growth
        width, room, kept = max(most[0], fresh), max(most[1], slots), max(most[2], rows)
        count = len(group) + 1
        fits = (
            count <= limits.items
            and count * width <= limits.tokens
            and count * room <= limits.slots
            and count * width * room * heads <= limits.scores
            and count * kept * config.vocab_size <= limits.logits
        )
        if group and not (fits and (plan.cached > 0) == (group[0].cached > 0)):
            yield group
            group, width, room, kept = [], fresh, slots, rows
        group.append(plan)
        most = (width, room, kept)
    if group:
        yield group


class _Forest:
    """A group of items on their way: one session, the trunk's slots, one run of every item at a time."""

    def __init__(self, model: Any, implementation: str, group: list[_Plan], pad_id: int):
        self.group = group
        self.session = TreeSession(model, implementation, pad_id=pad_id)
        self.trunks = [np.arange(0) for _ in group]
        if group[0].cached:
            self.trunks = self.session.load([plan.item.cache or [] for plan in group])
        self.rounds = max(len(plan.runs) for plan in group)
        if self.rounds > 1:
            self._encode_trunks()

    def _encode_trunks(self) -> None:
        """Caches what several runs need, so that it is encoded once."""
        additions = []
        for plan, slots in zip(self.group, self.trunks, strict=True):
            most = max(branch.prefix for branch in plan.item.branches)
            fresh = range(len(slots), most)
            additions.append(
                [Addition(i - len(slots) - 1 if i > len(slots) else slots, plan.item.trunk[i], False) for i in fresh]
            )
        if any(additions):
            _, paths = self.session.extend(additions)
            self.trunks = [own[-1] if own else slots for own, slots in zip(paths, self.trunks, strict=True)]

    def passes(self, wanted: Callable[[_Plan, _Run], set[int]], *, keep: bool) -> Iterator[_Pass]:
        """Encodes run after run, each on a fork of its own where there are several."""
        for number in range(self.rounds):
            plans = [plan.runs[number] if number < len(plan.runs) else None for plan in self.group]
            session = self.session.fork() if self.rounds > 1 else self.session
            additions, indices, orders = [], [], []
            for plan, run, slots in zip(self.group, plans, self.trunks, strict=True):
                made = plan_additions(run.trie, wanted(plan, run), slots) if run else ([], {}, [])
                additions.append(made[0])
                indices.append(made[1])
                orders.append(made[2])
            logits, paths = session.extend(additions, keep=keep)
            yield _Pass(session, plans, logits, paths, indices, orders)


@dataclass
class _Pass:
    """What one pass gave: a run of every item (`None` for items that are through), logits and paths."""

    session: TreeSession
    runs: list[_Run | None]
    logits: torch.Tensor
    paths: list[list[np.ndarray]]
    indices: list[dict[int, int]]
    orders: list[list[int]]

    def places(self, row: int) -> dict[int, int]:
        """Where in a row of the logits each wanted node stands."""
        order = self.orders[row]
        return {node: self.logits.shape[1] - len(order) + i for i, node in enumerate(order)}


def score_tree(
    model: Any, implementation: str, items: Sequence[BranchItem], limits: Limits, *, pad_id: int = 0
) -> list[list[np.ndarray]]:
    """
    Log-probabilities of every branch's scored tokens, all branches of an item in one pass (or a few).

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Model in evaluation mode that takes masks.
        implementation (`str`):
            `"sdpa"` or `"eager"`.
        items (`Sequence[BranchItem]`):
            Trunks and branches. Where an item has a cache, only the branches are encoded.
        limits ([`Limits`]):
            What a pass may take.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler.
    """
    results: list[list[np.ndarray]] = [[np.zeros(0)] * len(item.branches) for item in items]

    def pairs(plan: _Plan, run: _Run, number: int) -> list[tuple[int, int]]:
        # The token at path[i + 1] is scored by the logits at path[i]; the last token need not be encoded.
        branch, path = plan.item.branches[run.branches[number]], run.paths[number]
        return [(path[i], branch.tokens[i]) for i in range(len(branch.tokens) - branch.count, len(branch.tokens))]

    def wanted(plan: _Plan, run: _Run) -> set[int]:
        return {node for number in range(len(run.branches)) for node, _ in pairs(plan, run, number)}

    for group in _groups(model, _plans(items, limits.branch_tokens), limits, lambda branch: branch.count, 0):
        forest = _Forest(model, implementation, group, pad_id)
        for done in forest.passes(wanted, keep=False):
            rows, columns, targets, owners = [], [], [], []
            for row, (plan, run) in enumerate(zip(group, done.runs, strict=True)):
                places = done.places(row)
                for number in range(len(run.branches) if run else 0):
                    scored = pairs(plan, run, number)  # type: ignore[arg-type]
                    rows += [row] * len(scored)
                    columns += [places[node] for node, _ in scored]
                    targets += [token for _, token in scored]
                    owners.append((plan.index, run.branches[number], len(scored)))  # type: ignore[union-attr]
            values = _pick(done.logits, rows, columns, targets)
            start = 0
            for index, branch, count in owners:
                results[index][branch] = values[start : start + count]
                start += count
    return results


def _pick(logits: torch.Tensor, rows: list[int], columns: list[int], targets: list[int]) -> np.ndarray:
    """log p of tokens at places of the logits, normalised some places at a time: float copies are large."""
    if not rows:
        return np.zeros(0)
    flat = logits.reshape(-1, logits.shape[-1])
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    norms = torch.cat([torch.logsumexp(part.to(wide), dim=-1) for part in flat.split(256)])
    where = torch.tensor(rows, device=logits.device) * logits.shape[1] + torch.tensor(columns, device=logits.device)
    chosen = flat[where, torch.tensor(targets, device=logits.device)].to(wide) - norms[where]
    return chosen.double().cpu().numpy() if logits.device.type != "mps" else chosen.cpu().double().numpy()


@dataclass(frozen=True)
class Writing:
    """
    How branches are continued.

    Args:
        max_new_tokens (`int`):
            Most new tokens a branch.
        eos_ids (`frozenset[int]`):
            Tokens that end a branch.
        temperature (`float`, *optional*, defaults to `0.0`):
            0 is greedy.
        uniforms (`Sequence[Sequence[np.ndarray]]`, *optional*):
            Sampling noise of every item's branches; number t chooses token t.
        stop (`BranchStop`, *optional*):
            Called with (item, branch, its new tokens) after every token; true ends the branch.
    """

    max_new_tokens: int
    eos_ids: frozenset[int]
    temperature: float = 0.0
    uniforms: Sequence[Sequence[np.ndarray]] | None = None
    stop: BranchStop | None = None


@dataclass
class _Tip:
    """A branch that is being written: whose it is, the path of its last node, and where its logits stand."""

    row: int
    index: int
    branch: int
    path: np.ndarray
    place: int
    result: Generated

    def noise(self, writing: Writing) -> float:
        assert writing.uniforms is not None
        return float(writing.uniforms[self.index][self.branch][len(self.result.tokens)])

    def goes_on(self, writing: Writing) -> bool:
        tokens, stop = self.result.tokens, writing.stop
        if tokens[-1] in writing.eos_ids or (stop is not None and stop(self.index, self.branch, tokens)):
            self.result.finish_reason = "stop"
            return False
        return len(tokens) < writing.max_new_tokens


def write_tree(
    model: Any,
    implementation: str,
    items: Sequence[BranchItem],
    limits: Limits,
    writing: Writing,
    *,
    pad_id: int = 0,
) -> list[list[Generated]]:
    """
    Continues every branch, all branches of an item side by side in one tree.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Model in evaluation mode that takes masks.
        implementation (`str`):
            `"sdpa"` or `"eager"`.
        items (`Sequence[BranchItem]`):
            Trunks and branches, with or without caches.
        limits ([`Limits`]):
            What a pass may take.
        writing ([`Writing`]):
            How branches are continued.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler.
    """
    results: list[list[Generated]] = [[Generated() for _ in item.branches] for item in items]

    def leaves(plan: _Plan, run: _Run) -> set[int]:
        return {path[-1] for path in run.paths}

    plans = _plans(items, limits.branch_tokens)
    for group in _groups(model, plans, limits, lambda branch: 1, writing.max_new_tokens):
        for done in _Forest(model, implementation, group, pad_id).passes(leaves, keep=True):
            tips, logits = _tips(group, done, results), done.logits
            while tips:
                rows = torch.tensor([tip.row for tip in tips], device=logits.device)
                places = torch.tensor([tip.place for tip in tips], device=logits.device)
                noise = [tip.noise(writing) for tip in tips] if writing.temperature else None
                for tip, chosen in zip(tips, choose(logits[rows, places], writing.temperature, noise), strict=True):
                    tip.result.tokens.append(chosen[0])
                    tip.result.logprobs.append(chosen[1])
                    tip.result.entropies.append(chosen[2])
                tips = [tip for tip in tips if tip.goes_on(writing)]
                if tips:
                    logits = _advance(done.session, tips, len(group))
    return results


def _tips(group: list[_Plan], done: _Pass, results: list[list[Generated]]) -> list[_Tip]:
    tips = []
    for row, (plan, run) in enumerate(zip(group, done.runs, strict=True)):
        places = done.places(row)
        for branch, path in zip(run.branches, run.paths, strict=True) if run else ():
            above = done.paths[row][done.indices[row][path[-1]]]
            result = results[plan.index][branch]
            tips.append(_Tip(row, plan.index, branch, above, places[path[-1]], result))
    return tips


def _advance(session: TreeSession, tips: list[_Tip], rows: int) -> torch.Tensor:
    """Encodes the last token of every tip and moves the tips on to it."""
    additions: list[list[Addition]] = [[] for _ in range(rows)]
    owners: list[list[_Tip]] = [[] for _ in range(rows)]
    for tip in tips:
        additions[tip.row].append(Addition(tip.path, tip.result.tokens[-1], True))
        owners[tip.row].append(tip)
    logits, paths = session.extend(additions)
    for own, made in zip(owners, paths, strict=True):
        for number, (tip, path) in enumerate(zip(own, made, strict=True)):
            tip.path, tip.place = path, logits.shape[1] - len(own) + number
    return logits
