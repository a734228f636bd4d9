"""Continuous batching: one thread owns the model; rows join between two tokens and leave when they are done."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ...errors import TeacherGenerationError
from ...exchange import ServedReply, ServedToken, ServingParams, TokenListener, TopToken
from ...records import Usage
from ..modes import attention, attention_implementation, text_config
from .detokenizer import Detokenizer
from .growing_batch import GrowingBatch
from .sampling import TokenChooser, token_text, top_tokens


logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Row:
    """
    One request on its way.

    Args:
        prompt (`list[int]`): Token ids.
        params (`ServingParams`): How to write.
        room (`int`): Most new tokens.
        chooser (`TokenChooser`): Picks its tokens.
        detokenizer (`Detokenizer`): Its text so far.
        done (`Callable`): Told, in the model's thread, the reply or the error.
        on_token (`TokenListener` or `None`): Told about each token, in the model's thread.
    """

    prompt: list[int]
    params: ServingParams
    room: int
    chooser: TokenChooser
    detokenizer: Detokenizer
    done: Callable[[ServedReply | Exception], None]
    on_token: TokenListener | None = None
    cancelled: bool = False
    tokens: list[ServedToken] = field(default_factory=list)
    top: list[list[TopToken]] = field(default_factory=list)
    prefill: list[TopToken] | None = None

    def ids(self) -> list[int]:
        """Prompt and generated tokens."""
        return self.prompt + [token.id for token in self.tokens]

    def reply(self, finish_reason: str, by_sequence: bool) -> ServedReply:
        """What the row has come to."""
        return ServedReply(
            text=self.detokenizer.text(),
            finish_reason=finish_reason,
            stopped_by_sequence=by_sequence,
            usage=Usage(calls=1, prompt_tokens=len(self.prompt), completion_tokens=len(self.tokens)),
            tokens=self.tokens,
            top_tokens=self.top if self.params.top_logprobs else None,
            prefill=self.prefill,
            seed=self.params.seed,
        )


class Batcher:
    """
    Writes all submitted rows together.

    Args:
        model (`PreTrainedModel`): Causal language model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        eos_ids (`frozenset[int]`): Tokens that end a row.
        max_batch_size (`int`, *optional*, defaults to `64`): Rows at a time; further ones wait.
        max_prefill_tokens (`int`, *optional*, defaults to `8192`): Prompt tokens, padding included, that join between
            two tokens of the running rows.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        eos_ids: frozenset[int],
        *,
        max_batch_size: int = 64,
        max_prefill_tokens: int = 8192,
    ):
        self._model = model
        self._tokenizer = tokenizer
        self._eos_ids = eos_ids
        self._special = frozenset(tokenizer.all_special_ids)
        self._max_batch_size = max_batch_size
        self._max_prefill_tokens = max_prefill_tokens
        self._waiting: queue.SimpleQueue[Row | None] = queue.SimpleQueue()
        self._arrived: list[Row] = []
        self._rows: list[Row] = []
        self._closing = False
        self._batch = GrowingBatch(model, tokenizer.pad_token_id or 0)
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, row: Row) -> None:
        """Hands over a row; its `done` is called once."""
        if not self._thread.is_alive():
            raise TeacherGenerationError("the server is ending")
        self._waiting.put(row)

    def close(self) -> None:
        """Ends the thread; rows under way fail."""
        self._waiting.put(None)
        self._thread.join(10)

    def _run(self) -> None:
        with torch.no_grad(), attention(self._model, _implementation(self._model)):
            while self._receive():
                try:
                    self._round()
                except Exception as error:
                    logger.exception("a batch of %d rows failed", len(self._rows))
                    self._fail_all(error)
        self._fail_all(TeacherGenerationError("the server is ending"))

    def _receive(self) -> bool:
        """Takes what has arrived, waiting only where nothing runs; false once the batcher is closed."""
        while True:
            idle = not self._rows and not self._arrived
            try:
                row = self._waiting.get(block=idle)
            except queue.Empty:
                return not self._closing
            if row is None:
                self._closing = True
                return False
            self._arrived.append(row)

    def _round(self) -> None:
        """One token for every row: the new ones from their prompts, the others from one step."""
        self._drop([row for row in self._rows if row.cancelled])
        if self._rows:
            logits = self._batch.step([row.tokens[-1].id for row in self._rows])
            self._drop(self._advance(self._rows, logits))
        self._admit()

    def _admit(self) -> None:
        self._arrived = [row for row in self._arrived if not row.cancelled]
        group: list[Row] = []
        width = 0
        while self._arrived and len(self._rows) + len(group) < self._max_batch_size:
            width = max(width, len(self._arrived[0].prompt))
            if group and (len(group) + 1) * width > self._max_prefill_tokens:
                break
            if self._arrived[0].params.prefill_logprobs:
                if group:
                    break
                self._join([self._arrived.pop(0)], all_logits=True)
                return
            group.append(self._arrived.pop(0))
        if group:
            self._join(group, all_logits=False)

    def _join(self, group: list[Row], *, all_logits: bool) -> None:
        try:
            encoded = self._batch.encode([row.prompt for row in group], all_logits=all_logits)
        except Exception as error:  # the running rows are sound: only these fail
            logger.exception("%d prompts could not be encoded", len(group))
            for row in group:
                row.done(error)
            return
        if encoded.prompt_logits is not None:
            group[0].prefill = self._prefill(group[0].prompt, encoded.prompt_logits)
        running = len(self._rows)
        self._batch.join(encoded)
        self._rows += group
        self._drop(self._advance(self._rows[running:], encoded.logits))

    def _prefill(self, prompt: list[int], logits: torch.Tensor) -> list[TopToken]:
        """The prompt's tokens with their raw log-probabilities; nothing stands before the first."""
        values: list[float | None] = [None]
        for start in range(0, len(prompt) - 1, 256):  # a copy of all logits in float32 could be large
            part = torch.log_softmax(logits[start : min(start + 256, len(prompt) - 1)].float(), dim=-1)
            targets = torch.tensor(prompt[start + 1 : start + 1 + part.shape[0]], device=part.device)
            values += part.gather(-1, targets[:, None]).squeeze(-1).tolist()
        return [
            TopToken(token_text(self._tokenizer, token), value, token)
            for token, value in zip(prompt, values, strict=True)
        ]

    def _advance(self, rows: list[Row], logits: torch.Tensor) -> list[Row]:
        """Gives each row its next token and returns those that are done with."""
        scores, failed = logits.float(), []
        for index, row in enumerate(rows):
            if row.chooser.changes:
                try:
                    scores[index] = row.chooser.adjust(scores[index], row.ids())
                except Exception as error:
                    row.done(error)
                    failed.append(row)
        logprobs = torch.log_softmax(scores, dim=-1)
        picked = logprobs.argmax(-1).tolist()
        for index, row in enumerate(rows):
            if row.chooser.sampled and row not in failed:
                picked[index] = row.chooser.sample(logprobs[index])
        values = logprobs.gather(-1, torch.tensor(picked, device=logprobs.device)[:, None]).squeeze(-1).tolist()
        ended = [
            row
            for index, row in enumerate(rows)
            if row not in failed and self._write(row, picked[index], values[index], logprobs[index])
        ]
        return failed + ended

    def _write(self, row: Row, token_id: int, logprob: float, logprobs: torch.Tensor) -> bool:
        """Appends a token; true where the row is finished."""
        text = row.detokenizer.push(token_id)
        token = ServedToken(token_id, text, logprob, token_id in self._special)
        top = None
        if row.params.top_logprobs:
            top = top_tokens(logprobs, row.params.top_logprobs, self._tokenizer)
            row.top.append(top)
        row.tokens.append(token)
        if row.on_token is not None:
            row.on_token(token, top)
        grammar = row.chooser.grammar
        if grammar is not None:
            grammar.consume(token_id)
        ended = token_id in self._eos_ids and not row.params.ignore_eos
        by_sequence = not ended and bool(row.params.stop) and row.detokenizer.written.endswith(row.params.stop)
        if ended or by_sequence or (not self._eos_ids and grammar is not None and grammar.finished):
            row.done(row.reply("stop", by_sequence))
            return True
        if len(row.tokens) >= row.room:
            row.done(row.reply("length", False))
            return True
        return False

    def _drop(self, rows: list[Row]) -> None:
        if rows:
            kept = [index for index, row in enumerate(self._rows) if row not in rows]
            self._rows = [self._rows[index] for index in kept]
            self._batch.keep(kept)

    def _fail_all(self, error: Exception) -> None:
        while True:
            try:
                row = self._waiting.get(block=False)
            except queue.Empty:
                break
            self._arrived += [row] if row is not None else []
        for row in self._rows + self._arrived:
            row.done(error)
        self._rows, self._arrived = [], []
        self._batch.keep([])


def _implementation(model: Any) -> str:
    """Fused attention cannot cap its scores, and transformers 4 drops the cap without a word (Gemma 2)."""
    current = attention_implementation(model)
    capped = getattr(text_config(model), "attn_logit_softcapping", None) is not None
    return "eager" if capped and current == "sdpa" else current
