"""TGI's checks of a request's values, in the router's order and words: clients read limits from these messages."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from ..exchange import ServedModel, ServingParams
from .calls import Parameters
from .fields import parse_json
from .http_errors import PlainError, invalid


@dataclass(frozen=True)
class ServerOptions:
    """
    Limits of the server, with TGI's defaults.

    Args:
        max_concurrent_requests (`int`, *optional*, defaults to `128`): Requests taken at once; one more is 429.
        max_best_of (`int`, *optional*, defaults to `2`): Largest `best_of`.
        max_stop_sequences (`int`, *optional*, defaults to `4`): Most stop strings.
        max_top_n_tokens (`int`, *optional*, defaults to `5`): Most top tokens at a position.
        max_client_batch_size (`int`, *optional*, defaults to `4`): Most prompts in one `/v1/completions`.
        max_body_bytes (`int`, *optional*, defaults to `2_000_000`): Largest body.
        api_key (`str` or `None`, *optional*, defaults to `None`): Bearer token that the guarded routes want.
    """

    max_concurrent_requests: int = 128
    max_best_of: int = 2
    max_stop_sequences: int = 4
    max_top_n_tokens: int = 5
    max_client_batch_size: int = 4
    max_body_bytes: int = 2_000_000
    api_key: str | None = None


def check_best_of(parameters: Parameters, options: ServerOptions) -> int:
    """How many sequences are written for the request."""
    best_of = 1 if parameters.best_of is None else parameters.best_of
    if options.max_best_of == 1 and best_of != 1:
        raise invalid("`best_of` != 1 is not allowed for this endpoint")
    if not 0 < best_of <= options.max_best_of:
        raise invalid(f"`best_of` must be > 0 and <= {options.max_best_of}. Given: {best_of}")
    return best_of


def check_stream(parameters: Parameters) -> None:
    """What a stream cannot carry."""
    if parameters.best_of is not None and parameters.best_of != 1:
        raise invalid("`best_of` != 1 is not supported when streaming tokens")
    if parameters.decoder_input_details:
        raise invalid("`decoder_input_details` == true is not supported when streaming tokens")


def check_parameters(parameters: Parameters, options: ServerOptions, model: ServedModel) -> ServingParams:
    """Checks every value and gives what a backend is called with."""
    warped = any(
        value is not None
        for value in (parameters.temperature, parameters.top_k, parameters.top_p, parameters.typical_p)
    )
    best_of = parameters.best_of or 1
    if best_of > 1 and not (parameters.do_sample or warped):
        raise invalid("you must use sampling when `best_of` is > 1")
    _check_ranges(parameters)
    if len(parameters.stop) > options.max_stop_sequences:
        given = len(parameters.stop)
        raise invalid(f"`stop` supports up to {options.max_stop_sequences} stop sequences. Given: {given}")
    if best_of > 1 and parameters.seed is not None:
        raise invalid("`seed` must not be set when `best_of` > 1")
    top = parameters.top_n_tokens or 0
    if top > options.max_top_n_tokens:
        raise invalid(f"`top_n_tokens` must be >= 0 and <= {options.max_top_n_tokens}. Given: {top}")
    limit = model.max_input_tokens
    if parameters.truncate is not None and (parameters.truncate == 0 or (limit and parameters.truncate > limit)):
        raise invalid(f"`truncate` must be strictly positive and less than {limit}. Given: {parameters.truncate}")
    if parameters.watermark:
        raise invalid("`watermark` is not supported by this server: leave it out")
    return _serving_params(parameters, _check_grammar(parameters.grammar), top)


def _check_ranges(parameters: Parameters) -> None:
    temperature, frequency = parameters.temperature, parameters.frequency_penalty
    if temperature is not None and temperature <= 0.0:
        raise invalid("`temperature` must be strictly positive")
    if parameters.repetition_penalty is not None and parameters.repetition_penalty <= 0.0:
        raise invalid("`repetition_penalty` must be strictly positive")
    if frequency is not None and not -2.0 <= frequency <= 2.0:
        raise invalid("`frequency_penalty` must be >= -2.0 and <= 2.0")
    for name in ("top_p", "typical_p"):
        value = getattr(parameters, name)
        if value is not None and not 0.0 < value < 1.0:
            raise invalid(f"`{name}` must be > 0.0 and < 1.0")
    if parameters.top_k is not None and parameters.top_k <= 0:
        raise invalid("`top_k` must be strictly positive")
    if parameters.max_new_tokens == 0:
        raise invalid("`max_new_tokens` must be strictly positive")


def _check_grammar(grammar: dict[str, Any] | None) -> dict[str, Any] | None:
    if grammar is None or grammar["type"] == "regex":
        return grammar
    schema = grammar["value"]
    if isinstance(schema, str):
        try:
            schema = parse_json(schema.encode())
        except PlainError as error:
            raise invalid(f"grammar is not valid: {error}") from None
    if not isinstance(schema, dict):
        raise invalid("grammar is not supported")
    if "properties" not in schema:
        raise invalid("grammar is not valid: Grammar must have a 'properties' field")
    # A schema with properties means an object to TGI, also where it does not say so.
    return {"type": "json", "value": {"type": "object", **schema}}


def _serving_params(parameters: Parameters, grammar: dict[str, Any] | None, top: int) -> ServingParams:
    """
    Sampling follows TGI's token chooser: `do_sample`, or a warper that changes something (temperature 1.0 does not).
    """
    warps = parameters.top_k is not None or parameters.top_p is not None or parameters.typical_p is not None
    sampled = parameters.do_sample or warps or parameters.temperature not in (None, 1.0)
    temperature = (parameters.temperature or 1.0) if sampled else 0.0
    seed = secrets.randbits(63) if parameters.seed is None else parameters.seed
    return ServingParams(
        max_new_tokens=parameters.max_new_tokens or 0,
        fill_context=parameters.max_new_tokens is None,
        temperature=temperature,
        top_p=parameters.top_p,
        top_k=parameters.top_k,
        typical_p=parameters.typical_p,
        repetition_penalty=parameters.repetition_penalty or 1.0,
        frequency_penalty=parameters.frequency_penalty or 0.0,
        stop=tuple(stop for stop in parameters.stop if stop),
        seed=seed if sampled else None,
        grammar=grammar,
        top_logprobs=top or None,
        prefill_logprobs=parameters.decoder_input_details,
        truncate=parameters.truncate,
    )
