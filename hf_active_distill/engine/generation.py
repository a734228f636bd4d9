"""Batched generation by a loop of our own: finished rows leave the batch, noise is a row's own, nothing is hidden."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from .modes import accepts, base_model, inference, text_config


#: Layer types whose past is keys and values.
ATTENTION_KINDS = frozenset({"full_attention", "sliding_attention", "chunked_attention"})
#: Called with (row, its tokens so far) after every token; true ends the row.
Stop = Callable[[int, list[int]], bool]
#: Keys and values of every layer for one row, each `(heads, positions, width)`; `None` for layers that hold none.
RowCache = list[tuple[torch.Tensor, torch.Tensor] | None]


@dataclass
class Generated:
    """
    What was generated for one prompt.

    Args:
        tokens (`list[int]`):
            New token ids, the end-of-sequence token included.
        logprobs (`list[float]`):
            log p of each token under the full distribution (temperature 1), in nats.
        entropies (`list[float]`):
            Entropy of each next-token distribution (temperature 1), in nats.
        finish_reason (`str`):
            `"stop"` (end token or stop condition) or `"length"`.
        cache (`RowCache`, *optional*):
            Keys and values of prompt and tokens without the last token, where asked for.
    """

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)
    finish_reason: str = "length"
    cache: RowCache | None = None


class StopStrings:
    """
    Stop condition: one of `strings` stands in the text generated so far. The tokens of the string are kept.

    Args:
        processing_class (`PreTrainedTokenizerBase`):
            Tokenizer that decodes.
        strings (`Sequence[str]`):
            Stop strings.
    """

    def __init__(self, processing_class: Any, strings: Sequence[str]):
        self.processing_class = processing_class
        self.strings = [string for string in strings if string]

    def __call__(self, row: int, tokens: list[int]) -> bool:
        if not self.strings:
            return False
        # A character takes at most four tokens, and a token that completes the string may reach beyond it.
        tail = tokens[-4 * max(map(len, self.strings)) - 4 :]
        text = self.processing_class.decode(tail, clean_up_tokenization_spaces=False)
        return any(string in text for string in self.strings)

    def trim(self, text: str) -> str:
        """`text` up to the first stop string."""
        return text[: min((text.find(string) for string in self.strings if string in text), default=len(text))]


def choose(
    logits: torch.Tensor, temperature: float, uniforms: Sequence[float] | None
) -> list[tuple[int, float, float]]:
    """
    Picks one token a row: the most probable one at temperature 0, else by inverting the distribution function at the
    row's uniform number, so that no generator is involved.

    Args:
        logits (`torch.Tensor` of shape `(rows, vocabulary)`):
            Next-token logits.
        temperature (`float`):
            0 is greedy.
        uniforms (`Sequence[float]`, *optional*):
            One number in [0, 1) a row, needed for sampling.

    Returns:
        `list[tuple[int, float, float]]`: Token, its log-probability and the entropy, both at temperature 1.
    """
    logits = logits if logits.dtype == torch.float64 else logits.float()
    logprobs = torch.log_softmax(logits, dim=-1)
    if temperature == 0:
        tokens = logits.argmax(-1)
    else:
        assert uniforms is not None
        # In float32 the sum over a large vocabulary drifts by more than its rarest tokens weigh.
        wide = torch.float32 if logits.device.type == "mps" else torch.float64
        reached = torch.softmax(logits / temperature, dim=-1, dtype=wide).cumsum(-1)
        point = torch.tensor(list(uniforms), dtype=wide, device=logits.device)[:, None] * reached[:, -1:]
        tokens = torch.searchsorted(reached, point, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
    chosen = logprobs.gather(-1, tokens[:, None]).squeeze(-1)
    entropies = torch.special.entr(logprobs.exp()).sum(-1)
    return list(zip(tokens.tolist(), chosen.tolist(), entropies.tolist(), strict=True))


@dataclass
class _Job:
    """One prompt on its way."""

    index: int
    prompt: list[int]
    room: int
    uniforms: np.ndarray | None
    result: Generated = field(default_factory=Generated)


class Generator:
    """
    Greedy and sampled generation for lists of token ids.

    Prompts are sorted by length and cut into batches, padded on the left with explicit positions; rows that are done
    leave the batch at once. What a row gets depends on its own prompt and noise, up to rounding.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Causal language model.
        eos_ids (`Collection[int]`):
            Tokens that end a row.
        pad_id (`int`, *optional*, defaults to `0`):
            Filler, never attended to.
        batch_size (`int`, *optional*, defaults to `16`):
            Rows at a time.
    """

    def __init__(self, model: Any, *, eos_ids: Collection[int], pad_id: int = 0, batch_size: int = 16):
        self.model = model
        self.eos_ids = frozenset(eos_ids)
        self.pad_id = pad_id
        self.batch_size = batch_size
        # Recurrent layers keep a state that this cache does not hold: such models encode their text again every time.
        kinds = set(getattr(text_config(model), "layer_types", None) or ())
        self.cached = kinds <= ATTENTION_KINDS and not getattr(base_model(model), "_is_stateful", False)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        temperature: float = 0.0,
        uniforms: Sequence[np.ndarray] | None = None,
        stop: Stop | None = None,
        keep_cache: bool = False,
    ) -> list[Generated]:
        """
        Continues every prompt.

        Args:
            prompts (`Sequence[Sequence[int]]`):
                Token ids, at least one each.
            max_new_tokens (`int` or `Sequence[int]`):
                Most new tokens, for all rows or a number a row.
            temperature (`float`, *optional*, defaults to `0.0`):
                0 is greedy.
            uniforms (`Sequence[np.ndarray]`, *optional*):
                Sampling noise a row, as [`~hf_active_distill.engine.keyed_uniforms`] draws it; number t chooses
                token t.
            stop (`Stop`, *optional*):
                Called with the row's index and its tokens after every token; true ends the row.
            keep_cache (`bool`, *optional*, defaults to `False`):
                Whether results carry their keys and values.

        Returns:
            `list[Generated]`: In the order of `prompts`.
        """
        room = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        jobs = [
            _Job(index, list(prompt), room[index], None if uniforms is None else uniforms[index])
            for index, prompt in enumerate(prompts)
        ]
        with inference(self.model):
            for batch in self._batches([job for job in jobs if job.room > 0]):
                self._run(batch, temperature, stop, keep_cache)
        return [job.result for job in jobs]

    def _batches(self, jobs: list[_Job]) -> list[list[_Job]]:
        batches: list[list[_Job]] = []
        for job in sorted(jobs, key=lambda job: len(job.prompt)):
            # Padding would enter a recurrent state: without a cache, rows of one length go together.
            fits = batches and (self.cached or len(batches[-1][0].prompt) == len(job.prompt))
            if not fits or len(batches[-1]) == self.batch_size:
                batches.append([])
            batches[-1].append(job)
        return batches

    def _run(self, jobs: list[_Job], temperature: float, stop: Stop | None, keep_cache: bool) -> None:
        batch = _Batch(self.model, [job.prompt for job in jobs], self.pad_id, self.cached)
        while jobs:
            noise = None
            if temperature:
                noise = [float(job.uniforms[len(job.result.tokens)]) for job in jobs]  # type: ignore[index]
            picked = choose(batch.logits, temperature, noise)
            going = []
            for row, (job, (token, logprob, entropy)) in enumerate(zip(jobs, picked, strict=True)):
                job.result.tokens.append(token)
                job.result.logprobs.append(logprob)
                job.result.entropies.append(entropy)
                if self._goes_on(job, stop):
                    going.append(row)
                elif keep_cache and self.cached:
                    job.result.cache = batch.row_cache(row)
            jobs = [jobs[row] for row in going]
            if jobs:
                batch.step(going, [job.result.tokens[-1] for job in jobs])

    def _goes_on(self, job: _Job, stop: Stop | None) -> bool:
        tokens = job.result.tokens
        if tokens[-1] in self.eos_ids or (stop is not None and stop(job.index, tokens)):
            job.result.finish_reason = "stop"
            return False
        return len(tokens) < job.room


class _Batch:
    """The rows that are still being written: their mask, their positions, their cache and their last logits."""

    def __init__(self, model: Any, prompts: list[list[int]], pad_id: int, cached: bool):
        self.model = model
        self.cached = cached
        self.pads = [max(map(len, prompts)) - len(prompt) for prompt in prompts]
        ids = [[pad_id] * pad + prompt for pad, prompt in zip(self.pads, prompts, strict=True)]
        self.ids = torch.tensor(ids, device=model.device)
        mask = [[0] * pad + [1] * len(prompt) for pad, prompt in zip(self.pads, prompts, strict=True)]
        self.mask = torch.tensor(mask, device=model.device)
        # Without a configuration the cache keeps all keys of sliding-window layers too, which branching needs.
        self.cache = DynamicCache() if cached else None
        self.logits = self._forward(self.ids)

    def step(self, rows: list[int], tokens: list[int]) -> None:
        """Keeps `rows`, gives each its next token, and computes the logits after it."""
        if len(rows) < len(self.pads):
            index = torch.tensor(rows, device=self.mask.device)
            self.pads = [self.pads[row] for row in rows]
            self.mask = self.mask[index]
            if self.cache is not None:
                self.cache.batch_select_indices(index)
            else:
                self.ids = self.ids[index]
        new = torch.tensor(tokens, device=self.mask.device)[:, None]
        self.mask = torch.cat([self.mask, torch.ones_like(new)], dim=1)
        if self.cache is None:
            self.ids = torch.cat([self.ids, new], dim=1)
            new = self.ids
        self.logits = self._forward(new)

    def row_cache(self, row: int) -> RowCache:
        """A copy of one row's keys and values without its padding: a view would keep the whole batch alive."""
        assert self.cache is not None
        pad = self.pads[row]
        held: RowCache = []
        for layer in self.cache.layers:
            # Layers that share another's keys hold none of their own.
            keys, values = getattr(layer, "keys", None), getattr(layer, "values", None)
            if keys is None or values is None:
                held.append(None)
            else:
                held.append((keys[row, :, pad:].clone(), values[row, :, pad:].clone()))
        return held

    def _forward(self, ids: torch.Tensor) -> torch.Tensor:
        kwargs: dict[str, Any] = {"attention_mask": self.mask, "use_cache": self.cached}
        if self.cache is not None:
            kwargs["past_key_values"] = self.cache
        if accepts(self.model, "position_ids"):
            positions = self.mask.cumsum(-1).sub(1).clamp(min=0)
            kwargs["position_ids"] = positions[:, -ids.shape[1] :]
        if accepts(self.model, "logits_to_keep"):
            # An index, not a number: a slice makes the output layer copy its weights once a row.
            kwargs["logits_to_keep"] = torch.tensor([ids.shape[1] - 1], device=ids.device)
        return self.model(input_ids=ids, **kwargs).logits[:, -1]
