"""One factory for all doors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigurationError
from .base import Teacher
from .by_url import URLTeacher
from .function import FunctionTeacher
from .openai_compatible import OpenAITeacher
from .tgi import TGITeacher


_FORMS = (
    "'http(s)://host' (found out), 'tgi+http(s)://host', 'openai+http(s)://host', 'hf-inference:provider/model', "
    "'local:path-or-id', 'replay:path', a Teacher object, or a Python function"
)


def load_teacher(spec: str | Teacher | Callable[..., Any] | Mapping[Any, Any], **options: Any) -> Teacher:
    """
    Makes a teacher of what a user writes in a configuration. Nothing is asked of a server here: `info()` does that.

    Args:
        spec (`str`, `Teacher`, `Callable` or `dict`):
            A URL, `"tgi+http(s)://..."`, `"openai+http(s)://..."`, `"hf-inference:provider/model"`,
            `"local:path-or-id"`, `"replay:path"`, a teacher, a function, or a mapping of recorded answers.
        options: Arguments of the door (`token`, `client`, `headers`, `timeout`, `proxy`, `ca_bundle`, `model`, ...).

    Returns:
        `Teacher`: Ready to be asked.
    """
    if not isinstance(spec, str):
        return _from_object(spec, options)
    text = spec.strip()
    scheme, separator, rest = text.partition(":")
    maker = DOORS.get(scheme.lower())
    if not separator or not rest or maker is None:
        raise ConfigurationError(f"{_shown(text)!r} names no teacher. A teacher is {_FORMS}.{_hint(text)}")
    try:
        return maker(text, rest, options)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise ConfigurationError(f"The teacher {_shown(text)!r} does not take these options: {error}.") from None


def _from_object(spec: Any, options: dict[str, Any]) -> Teacher:
    if isinstance(spec, Mapping):
        from .replay import ReplayTeacher

        return ReplayTeacher(spec, **options)
    if isinstance(spec, Teacher) and not isinstance(spec, type):
        if options:
            raise ConfigurationError(
                f"A teacher object takes no options here: give it {sorted(options)} when making it."
            )
        return spec
    if callable(spec) and not isinstance(spec, type):
        return FunctionTeacher(spec, **options)
    raise ConfigurationError(f"{spec!r} is no teacher. A teacher is {_FORMS}.")


def _hf_inference(text: str, rest: str, options: dict[str, Any]) -> Teacher:
    from .hf_inference import HFInferenceTeacher

    return HFInferenceTeacher(rest, **options)


def _local(text: str, rest: str, options: dict[str, Any]) -> Teacher:
    from .local import LocalTeacher

    return LocalTeacher(rest, **options)


def _replay(text: str, rest: str, options: dict[str, Any]) -> Teacher:
    from .replay import ReplayTeacher

    return ReplayTeacher(rest, **options)


DOORS: dict[str, Callable[[str, str, dict[str, Any]], Teacher]] = {
    "http": lambda text, rest, options: URLTeacher(text, **options),
    "https": lambda text, rest, options: URLTeacher(text, **options),
    "tgi+http": lambda text, rest, options: TGITeacher(text[len("tgi+") :], **options),
    "tgi+https": lambda text, rest, options: TGITeacher(text[len("tgi+") :], **options),
    "openai+http": lambda text, rest, options: OpenAITeacher(text[len("openai+") :], **options),
    "openai+https": lambda text, rest, options: OpenAITeacher(text[len("openai+") :], **options),
    "hf-inference": _hf_inference,
    "local": _local,
    "replay": _replay,
}


def _shown(text: str) -> str:
    from .address import without_password

    return without_password(text)


def _hint(text: str) -> str:
    host, _, port = text.partition(":")
    if port.split("/")[0].isdigit() and "/" not in host:
        return f" Did you mean 'http://{text}'?"
    if "/" in text and ":" not in text:
        return f" Did you mean 'local:{text}'?"
    return ""
