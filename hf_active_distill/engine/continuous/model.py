"""Any causal language model behind the server."""

from __future__ import annotations

import asyncio
from typing import Any

import torch

from ...errors import ConfigurationError, TeacherRequestError
from ...exchange import ServedModel, ServedReply, ServingParams, TemplateError, TokenListener, TokenSpan, fit_length
from ...records import Messages
from ..modes import position_limit
from .batcher import Batcher, Row
from .detokenizer import Detokenizer
from .grammar import GrammarCompiler
from .sampling import TokenChooser


_DEFAULT_CONTEXT = 4096


class TransformersBackend:
    """
    A transformers model that writes all its requests together.

    Args:
        model (`PreTrainedModel`): Causal language model.
        tokenizer (`PreTrainedTokenizerBase`): Its tokenizer.
        model_id (`str`, *optional*): Name in `/info`; the model's own without.
        max_batch_size (`int`, *optional*, defaults to `64`): Sequences written together; further ones wait.
        max_total_tokens (`int`, *optional*): Most tokens of prompt and answer; the model's context without.
        max_input_tokens (`int`, *optional*): Most tokens of a prompt; one less than the total without.
        chat_template_kwargs (`dict`, *optional*): Passed to the chat template (`{"enable_thinking": False}`).
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        model_id: str | None = None,
        max_batch_size: int = 64,
        max_total_tokens: int | None = None,
        max_input_tokens: int | None = None,
        chat_template_kwargs: dict[str, Any] | None = None,
    ):
        if model.config.is_encoder_decoder:
            raise ConfigurationError("this is an encoder-decoder model: the server takes causal language models")
        model.eval()
        total = max_total_tokens or position_limit(model) or _DEFAULT_CONTEXT
        self._tokenizer = tokenizer
        self._template_kwargs = dict(chat_template_kwargs or {})
        self._model_info = ServedModel(
            model=model_id or model.name_or_path or type(model).__name__,
            revision=getattr(model.config, "_commit_hash", None),
            dtype=str(model.dtype),
            device=model.device.type,
            max_input_tokens=min(max_input_tokens or total - 1, total - 1),
            max_total_tokens=total,
        )
        eos_ids = _eos_ids(model, tokenizer)
        self._grammars = GrammarCompiler(tokenizer, _vocabulary(model), sorted(eos_ids))
        self._batcher = Batcher(model, tokenizer, eos_ids, max_batch_size=max_batch_size)

    @classmethod
    def load(
        cls,
        path: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> TransformersBackend:
        """
        Loads a model and its tokenizer.

        Args:
            path (`str`): Folder or Hub id.
            revision (`str`, *optional*): Revision on the Hub.
            dtype (`str`, *optional*, defaults to `"auto"`): torch dtype of the weights; `"auto"` is as saved.
            device (`str`, *optional*): torch device; an accelerator where there is one without.
            threads (`int`, *optional*): CPU threads; torch's own number without.
            **options: Passed on to the constructor.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        if threads is not None:
            torch.set_num_threads(threads)
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
            model: Any = AutoModelForCausalLM.from_pretrained(path, revision=revision, dtype=dtype)
        except (OSError, ValueError) as error:
            cure = "Give the folder of a causal language model and its tokenizer, or a Hub id."
            raise ConfigurationError(f"cannot load {path}: {error}\n{cure}") from error
        model.to(device or _default_device())
        return cls(model, tokenizer, **{"model_id": path, **options})

    def info(self) -> ServedModel:
        """What is served."""
        return self._model_info

    def tokenize(self, text: str) -> list[TokenSpan]:
        """Tokens of a text with their places; slow tokenizers know no places."""
        if not self._tokenizer.is_fast:
            return [TokenSpan(token, "", 0, 0) for token in self._tokenizer.encode(text)]
        encoding = self._tokenizer(text, return_offsets_mapping=True)
        return [
            TokenSpan(token, text[start:stop], start, stop)
            for token, (start, stop) in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)
        ]

    async def generate(self, prompt: str, params: ServingParams, on_token: TokenListener | None = None) -> ServedReply:
        """Continues a text."""
        return await self._write(self._tokenizer.encode(prompt), params, on_token)

    async def chat(
        self, messages: Messages, params: ServingParams, on_token: TokenListener | None = None
    ) -> ServedReply:
        """Answers a conversation through the tokenizer's chat template."""
        # The template writes the special tokens itself.
        ids = self._tokenizer.encode(self._render(messages), add_special_tokens=False)
        return await self._write(ids, params, on_token)

    def close(self) -> None:
        """Ends the model's thread."""
        self._batcher.close()

    def _render(self, messages: Messages) -> str:
        if not self._tokenizer.chat_template:
            raise TemplateError("template not found: this model has no chat template, ask it by /generate", status=422)
        try:
            return self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, **self._template_kwargs
            )
        except Exception as error:  # a template raises what it likes
            raise TemplateError(str(error), status=422) from error

    async def _write(self, ids: list[int], params: ServingParams, on_token: TokenListener | None) -> ServedReply:
        if params.truncate is not None:
            ids = ids[-params.truncate :]
        if not ids:
            raise TeacherRequestError("`inputs` cannot be empty", status=422)
        room = fit_length(len(ids), params, self._model_info)
        grammar = None
        if params.grammar is not None:
            grammar = await asyncio.to_thread(self._grammars.start, params.grammar)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[ServedReply] = loop.create_future()
        row = Row(
            ids,
            params,
            room,
            TokenChooser(params, grammar),
            Detokenizer(self._tokenizer, ids),
            done=lambda outcome: _hand_over(loop, _settle, future, outcome),
            on_token=None if on_token is None else lambda *token: _hand_over(loop, on_token, *token),
        )
        self._batcher.submit(row)
        try:
            return await future
        finally:
            row.cancelled = True  # no effect on a row that is done


def _hand_over(loop: asyncio.AbstractEventLoop, function: Any, *args: Any) -> None:
    """Calls a function in the event loop's thread; a loop that is closed has nobody left to tell."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(function, *args)


def _settle(future: asyncio.Future[ServedReply], outcome: ServedReply | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _default_device() -> str:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator.type if accelerator is not None else "cpu"


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*ids, tokenizer.eos_token_id] if token is not None)


def _vocabulary(model: Any) -> int:
    return model.get_output_embeddings().weight.shape[0]
