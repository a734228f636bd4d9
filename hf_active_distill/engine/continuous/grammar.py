"""
Answers bound to a JSON schema or a regular expression, through llguidance: it has no dependencies, covers most of JSON
Schema and computes a mask in well under a millisecond.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ...errors import TeacherGenerationError, TeacherRequestError


_CACHED_GRAMMARS = 64


class GrammarState:
    """Where one row stands in its grammar."""

    def __init__(self, matcher: Any):
        self._matcher = matcher

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        """`scores` of shape `(vocabulary,)` with minus infinity wherever the grammar cannot go on."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: scores.shape[0]].astype(bool)
        if self._matcher.is_error() or not allowed.any():
            raise TeacherGenerationError(f"the grammar has no way on: {self._matcher.get_error() or 'dead end'}")
        blocked = np.ones(scores.shape[0], dtype=bool)
        blocked[: len(allowed)] = ~allowed
        return scores.masked_fill(torch.from_numpy(blocked).to(scores.device), -torch.inf)

    def consume(self, token: int) -> None:
        """Moves on by one token."""
        self._matcher.consume_token(token)

    @property
    def finished(self) -> bool:
        """Whether nothing can follow."""
        return self._matcher.is_stopped()


class GrammarCompiler:
    """
    Compiles grammars for one tokenizer, each once.

    Args:
        tokenizer (`PreTrainedTokenizerFast`): The served model's tokenizer.
        vocab_size (`int`): Width of the model's logits.
        eos_ids (`Sequence[int]`): Tokens that end a text.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Sequence[int]):
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._eos_ids = list(eos_ids)
        self._wrapped: Any = None
        self._compiled: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, grammar: dict[str, Any]) -> GrammarState:
        """The state before the first token. Raises `TeacherRequestError` for a grammar that cannot be used."""
        key = json.dumps(grammar, sort_keys=True)
        with self._lock:
            matcher = self._compiled.pop(key, None) or self._compile(grammar)
            self._compiled[key] = matcher
            if len(self._compiled) > _CACHED_GRAMMARS:
                self._compiled.popitem(last=False)
            return GrammarState(matcher.deep_copy())

    def _compile(self, grammar: dict[str, Any]) -> Any:
        try:
            from llguidance import LLMatcher
        except ModuleNotFoundError as error:
            cure = "on the server's machine: pip install 'hf-active-distill[grammar]'"
            raise TeacherRequestError(f"grammar is not supported without llguidance; {cure}", status=422) from error
        try:
            if grammar["type"] == "regex":
                source = LLMatcher.grammar_from_regex(grammar["value"])
            else:
                # One optional space, as TGI's own grammars have it: a weak model would pad a free one forever.
                source = LLMatcher.grammar_from_json_schema(grammar["value"], {"whitespace_pattern": "[ ]?"})
            matcher = LLMatcher(self._wrap(), source, log_level=0)
        except ValueError as error:
            raise TeacherRequestError(f"grammar is not valid: {error}", status=422) from error
        if matcher.is_error():
            raise TeacherRequestError(f"grammar is not valid: {matcher.get_error()}", status=422)
        return matcher

    def _wrap(self) -> Any:
        if self._wrapped is None:
            import llguidance.hf

            self._wrapped = llguidance.hf.from_tokenizer(
                self._tokenizer, n_vocab=max(self._vocab_size, len(self._tokenizer)), eos_token=self._eos_ids or None
            )
        return self._wrapped
