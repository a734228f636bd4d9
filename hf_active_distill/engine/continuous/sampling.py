"""How one row's next token is chosen, in the order of TGI's token chooser: penalties, grammar, warpers, choice."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TopKLogitsWarper, TopPLogitsWarper, TypicalLogitsWarper

from ...exchange import ServingParams, TopToken
from .grammar import GrammarState


class TokenChooser:
    """
    Turns a row's logits into the scores whose log-softmax is reported, and picks a token.

    Args:
        params (`ServingParams`): The request.
        grammar (`GrammarState` or `None`): Where the row stands in its grammar.
    """

    def __init__(self, params: ServingParams, grammar: GrammarState | None = None):
        self.grammar = grammar
        self.sampled = params.temperature > 0
        self._params = params
        self._warpers = _warpers(params) if self.sampled else []
        self._generator = torch.Generator()
        if params.seed is not None:
            self._generator.manual_seed(params.seed % 2**63)
        warms = self.sampled and params.temperature != 1.0
        penalised = params.repetition_penalty != 1.0 or params.frequency_penalty != 0.0
        #: Whether the scores differ from the logits.
        self.changes = bool(warms or penalised or self._warpers or grammar is not None)

    def adjust(self, logits: torch.Tensor, ids: list[int]) -> torch.Tensor:
        """Scores of shape `(vocabulary,)` after `ids`, prompt included; blocked tokens are minus infinity."""
        scores = logits
        if self._params.repetition_penalty != 1.0 or self._params.frequency_penalty != 0.0:
            scores = self._penalise(scores.clone(), ids)
        if self.grammar is not None:
            scores = self.grammar.mask(scores)
        if self.sampled:
            scores = scores / self._params.temperature
            for warper in self._warpers:
                scores = warper(None, scores[None])[0]
        return scores

    def _penalise(self, scores: torch.Tensor, ids: list[int]) -> torch.Tensor:
        counts = torch.bincount(torch.tensor(ids, device=scores.device), minlength=scores.shape[0])
        penalty = self._params.repetition_penalty
        if penalty != 1.0:
            weaker = torch.where(scores < 0, scores * penalty, scores / penalty)
            scores = torch.where(counts > 0, weaker, scores)
        # TGI weighs a token by its share of the text so far, not by its count.
        return scores - self._params.frequency_penalty * counts.to(scores.dtype) / len(ids)

    def sample(self, logprobs: torch.Tensor) -> int:
        """One token from the distribution, by inverting it at the row's own next random number."""
        reached = logprobs.detach().cpu().double().exp().cumsum(0)
        point = torch.rand(1, generator=self._generator, dtype=torch.float64) * reached[-1]
        return min(int(torch.searchsorted(reached, point, right=True)), reached.shape[0] - 1)


def _warpers(params: ServingParams) -> list[Any]:
    warpers: list[Any] = []
    if params.top_k is not None:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p is not None and params.top_p < 1.0:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.typical_p is not None and params.typical_p < 1.0:
        warpers.append(TypicalLogitsWarper(params.typical_p))
    return warpers


def top_tokens(logprobs: torch.Tensor, count: int, tokenizer: Any) -> list[TopToken]:
    """
    The `count` most probable tokens, best first. As in TGI the list is longer where tokens tie with the last one, and
    shorter where fewer are possible.
    """
    smallest = torch.topk(logprobs, min(count, logprobs.shape[0])).values[-1]
    ids = torch.nonzero((logprobs >= smallest) & (logprobs > -torch.inf)).flatten()
    ids = ids[torch.argsort(logprobs[ids], descending=True, stable=True)]
    return [
        TopToken(token_text(tokenizer, token), logprob, token)
        for token, logprob in zip(ids.tolist(), logprobs[ids].tolist(), strict=True)
    ]


def token_text(tokenizer: Any, token: int) -> str:
    """A token's text on its own."""
    return tokenizer.decode([token], clean_up_tokenization_spaces=False)
