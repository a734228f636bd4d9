"""The door to a transformers model in this process."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, TeacherError, TeacherGenerationError, TeacherRequestError
from ..exchange import ServingParams
from ..thinking import split_thinking
from .base import GenerationParams, TeacherInfo, TeacherReply, TeacherRequest
from .grammars import tgi_grammar
from .replies import cut_at_stop, repair


if TYPE_CHECKING:
    from ..engine.continuous import TransformersBackend

logger = logging.getLogger(__name__)


class LocalTeacher:
    """
    A model in this process. Calls that are made at the same time are written together, token by token, in a thread of
    their own; what one gets depends on its request alone, up to rounding, and on no global random state.

    Args:
        model (`str` or `PreTrainedModel`):
            Folder or Hub id, loaded when first needed, or the model itself. It is put into evaluation mode.
        processing_class (`PreTrainedTokenizerBase`, *optional*):
            Its tokenizer; loaded from where the model comes from otherwise.
        revision (`str`, *optional*):
            Revision on the Hub; answers are recorded under it, or under a fingerprint of the weights.
        dtype (`str`, *optional*, defaults to `"auto"`): torch dtype of the weights.
        device (`str`, *optional*): torch device; an accelerator where there is one otherwise.
        max_batch_size (`int`, *optional*, defaults to `16`): Replies written together; further ones wait.
        chat_template_kwargs (`dict`, *optional*): Passed to the chat template (`{"enable_thinking": False}`).
    """

    def __init__(
        self,
        model: Any,
        processing_class: Any = None,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        max_batch_size: int = 16,
        chat_template_kwargs: dict[str, Any] | None = None,
    ):
        self._source = model
        self._model = None if isinstance(model, str) else model
        self._tokenizer = processing_class
        self._revision = revision
        self._dtype = dtype
        self._device = device
        self._max_batch_size = max_batch_size
        self._template_kwargs = dict(chat_template_kwargs or {})
        self._backend: TransformersBackend | None = None
        self._info: TeacherInfo | None = None
        self._lock = threading.Lock()
        self._warned = False

    async def info(self) -> TeacherInfo:
        if self._info is None:
            backend = await self._ready()
            served = backend.info()
            bound = importlib.util.find_spec("llguidance") is not None
            name = self._source if isinstance(self._source, str) else served.model
            self._info = TeacherInfo(
                model=name,
                revision=self._revision or served.revision or await asyncio.to_thread(fingerprint, self._model),
                door="local",
                max_input_tokens=served.max_input_tokens,
                max_total_tokens=served.max_total_tokens,
                max_concurrency=self._max_batch_size,
                server=f"transformers in this process ({served.device})",
                supports_logprobs=True,
                supports_prefill_logprobs=True,
                supports_grammar=bound,
                supports_seed=True,
            )
        return self._info

    async def ask(self, request: TeacherRequest) -> TeacherReply:
        try:
            backend = await self._ready()
            params = self._serving_params(request)
            if request.kind == "generate":
                served = await backend.generate(request.prompt or "", params)
            elif self._tokenizer.chat_template:
                served = await backend.chat(request.message_list(), params)
            else:
                served = await backend.generate(self._as_text(request), params)
        except TeacherError:
            raise
        except ConfigurationError as error:
            raise TeacherRequestError(str(error)) from error
        except Exception as error:
            raise TeacherGenerationError(f"The local model failed ({type(error).__name__}: {error}).") from error
        thought, said = split_thinking(repair(served.text))
        said, cut = cut_at_stop(said, request.params.stop)
        return TeacherReply(
            text=said,
            finish_reason="stop" if cut else served.finish_reason,
            usage=served.usage,
            reasoning=thought,
            top_tokens=served.top_tokens,
            prefill=served.prefill,
        )

    def _serving_params(self, request: TeacherRequest) -> Any:
        params: GenerationParams = request.params
        fields = {
            name: getattr(params, name)
            for name in params.__dataclass_fields__
            if name not in ("extra", "logprob_tokens")
        }
        if params.grammar is not None:
            fields["grammar"] = tgi_grammar(params.grammar)
        if params.top_p is not None and params.top_p >= 1:
            fields["top_p"] = None
        if params.temperature > 0 and params.seed is None:
            # Without a seed the request itself is one: the same sample of the same request is the same text.
            digest = hashlib.sha256(request.key("", None).encode()).digest()
            fields["seed"] = int.from_bytes(digest[:7], "big")
        return ServingParams(**{**fields, **dict(params.extra)})

    async def count_tokens(self, request: TeacherRequest) -> int | None:
        """Prompt tokens, chat template included."""
        await self._ready()
        if request.kind == "generate":
            return len(self._tokenizer.encode(request.prompt or ""))
        if not self._tokenizer.chat_template:
            return len(self._tokenizer.encode(self._as_text(request)))
        text = self._tokenizer.apply_chat_template(
            request.message_list(), tokenize=False, add_generation_prompt=True, **self._template_kwargs
        )
        return len(self._tokenizer.encode(text, add_special_tokens=False))

    def _as_text(self, request: TeacherRequest) -> str:
        """A dialogue for a model without a chat template."""
        if not self._warned:
            self._warned = True
            logger.warning(
                "The teacher %s has no chat template: dialogues are put to it as plain text. Give its tokenizer a "
                "`chat_template`, or take an instruction-tuned model.",
                self._source if isinstance(self._source, str) else type(self._source).__name__,
            )
        turns = [f"{message['role'].capitalize()}: {message['content']}" for message in request.message_list()]
        return "\n\n".join([*turns, "Assistant:"])

    async def _ready(self) -> TransformersBackend:
        backend = self._backend
        return await asyncio.to_thread(self._open) if backend is None else backend

    def _open(self) -> TransformersBackend:
        from ..engine.continuous import TransformersBackend

        with self._lock:
            if self._backend is None:
                if self._model is None or self._tokenizer is None:
                    self._load()
                self._backend = TransformersBackend(
                    self._model,
                    self._tokenizer,
                    max_batch_size=self._max_batch_size,
                    chat_template_kwargs=self._template_kwargs,
                )
            return self._backend

    def _load(self) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        path = self._source if isinstance(self._source, str) else self._source.name_or_path
        try:
            if self._tokenizer is None:
                self._tokenizer = AutoTokenizer.from_pretrained(path, revision=self._revision)
            if self._model is None:
                model: Any = AutoModelForCausalLM.from_pretrained(path, revision=self._revision, dtype=self._dtype)
                self._model = model.to(self._device or ("cuda" if torch.cuda.is_available() else "cpu"))
        except (OSError, ValueError, TypeError) as error:
            missing = "" if Path(path).exists() else " There is no such folder;"
            raise ConfigurationError(
                f"The teacher {path!r} cannot be loaded ({type(error).__name__}: {error}).{missing} give the folder "
                "or Hub id of a causal language model with its tokenizer, or pass model and `processing_class`."
            ) from error

    async def aclose(self) -> None:
        """Ends the model's thread; the model stays, and the next call starts a new one."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await asyncio.to_thread(backend.close)

    def __repr__(self) -> str:
        name = self._source if isinstance(self._source, str) else type(self._source).__name__
        return f"LocalTeacher({name!r})"


def fingerprint(model: Any) -> str:
    """A short name of the weights themselves: answers of an older state of the model are not taken for this one's."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return "weights-" + digest.hexdigest()[:12]
