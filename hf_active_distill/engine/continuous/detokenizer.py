"""Text of a row while it is written: each token's text in its context, characters never cut in half."""

from __future__ import annotations

from typing import Any


_CONTEXT = 5
_INCOMPLETE = "�"


class Detokenizer:
    """
    Decodes generated tokens one by one. Some tokenizers put a space before a word only inside a text, so decoding
    starts a little before the new token.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): The model's tokenizer.
        prompt (`list[int]`): Tokens before the first generated one.
    """

    def __init__(self, tokenizer: Any, prompt: list[int]):
        self._tokenizer = tokenizer
        self._ids = prompt[-_CONTEXT:]
        self._prompt_length = len(self._ids)
        self._start = 0
        self._read = len(self._ids)
        self.written = ""

    def push(self, token: int) -> str:
        """The text that `token` adds; empty while a character is incomplete."""
        self._ids.append(token)
        before = self._decode(self._ids[self._start : self._read])
        text = self._decode(self._ids[self._start :])
        if len(text) <= len(before) or text.endswith(_INCOMPLETE):
            return ""
        self._start, self._read = self._read, len(self._ids)
        new = text[len(before) :]
        self.written += new
        return new

    def text(self) -> str:
        """Everything generated, without special tokens."""
        first = max(self._prompt_length - 1, 0)
        before = self._decode(self._ids[first : self._prompt_length], plain=True)
        return self._decode(self._ids[first:], plain=True)[len(before) :]

    def _decode(self, ids: list[int], plain: bool = False) -> str:
        return self._tokenizer.decode(ids, skip_special_tokens=plain, clean_up_tokenization_spaces=False)
