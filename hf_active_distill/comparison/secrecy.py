"""Secrets in settings: which names look like one, and settings without them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..asking.rows import redact


SECRET = "[secret]"
_SEEN = 200
# A name with one of these words holds a secret, and so does one that ends in one of the others.
_ANYWHERE = {"apikey", "authorization", "credential", "credentials", "passphrase", "passwd", "password", "passwords"}
_ANYWHERE |= {"secret", "secrets"}
_AT_THE_END = {"auth", "cookie", "key", "keys"}
# Tokens of a text, and prices of one.
_OF_TEXT = {"bos", "cls", "eos", "mask", "pad", "per", "sep", "stop", "unk"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


def is_secret(name: str) -> bool:
    """Whether what stands under this name is a secret: `hub_token`, `X-Api-Key`, but not `max_teacher_tokens`."""
    words = [word.lower() for word in _WORD.findall(name)]
    if not words:
        return False
    *before, last = words
    if last.endswith("token"):
        return not _OF_TEXT & {*before, last.removesuffix("token")}
    return last in _AT_THE_END or last.endswith("apikey") or bool(_ANYWHERE & set(words))


def tokens_in(settings: Mapping[str, Any]) -> Iterator[str]:
    """Names under which settings hold a token or a password, nested ones too. A mere `key` may be a column."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from tokens_in(value)
        elif isinstance(value, str) and is_secret(str(name)) and str(name) not in ("key", "keys"):
            yield str(name)


def without_secrets(value: Any) -> Any:
    """The same with `[secret]` under every name of a secret, however deep. What is not set may be seen."""
    if isinstance(value, Mapping):
        return {
            name: SECRET if is_secret(str(name)) and inner is not None else without_secrets(inner)
            for name, inner in value.items()
        }
    return [without_secrets(inner) for inner in value] if isinstance(value, list | tuple) else value


def seen(value: Any) -> str:
    """What an error may show of a value."""
    text = redact(repr(without_secrets(value)))
    return text if len(text) <= _SEEN else f"{text[:_SEEN]}..."
