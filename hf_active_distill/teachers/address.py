"""Where a teacher lives and how it is addressed, with everything secret kept out of what is shown."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError


TokenSource = str | Callable[[], str | None] | bool | None

# Routes that users paste along with the address.
_ROUTES = ("/chat/completions", "/completions", "/generate_stream", "/generate", "/tokenize", "/info", "/models")
_SECRET_HEADER = re.compile(r"auth|key|token|secret|cookie|credential|password", re.IGNORECASE)
_PATTERNS = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",;]+"), r"\1 ***"),
    (re.compile(r"\bhf_[A-Za-z0-9]{6,}"), "***"),
    (re.compile(r"(?<=://)[^/\s]+@"), "***@"),
)
_ENCODE = "check host and port, and write '@', '/', '?' and '#' in a password as %40, %2F, %3F and %23."


@dataclass(frozen=True)
class Address:
    """
    A server's address, tidied.

    Args:
        base (`str`): Scheme, host and path prefix: no credentials, no trailing slash, no `/v1`.
        v1 (`str`): Prefix of the OpenAI-compatible routes.
        is_loopback (`bool`): Whether it is this machine: no proxy is used then.
    """

    base: str
    v1: str
    is_loopback: bool

    def __str__(self) -> str:
        return self.base


def parse_address(url: str) -> tuple[Address, str | None]:
    """
    Tidies what a user typed into an address and, where the URL carried `user:password@`, a Basic authorization value.

    Trailing slashes, a `/v1` suffix and pasted routes are tolerated.
    """
    shown = without_password(url)
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError as error:
        # The error may quote a piece of a password that it took for a port.
        told = f": {_ENCODE}" if "@" in url else f": {error}."
        raise ConfigurationError(f"{shown!r} is not a URL{told}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"{shown!r} is not a teacher's URL: give it as http://host:port or https://host/path."
        )
    if "@" in parts.path and parts.username is not None:
        # `http://user:p@ss/word@host` is a URL, of another host.
        raise ConfigurationError(f"{shown!r} holds more than one '@': {_ENCODE}")
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"The teacher's URL {shown.split('?')[0].split('#')[0]!r} must not carry a query or a fragment: they "
            "would end up in logs. Pass keys as a token or in `headers`."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    path = parts.path.rstrip("/")
    pasted = next((route for route in _ROUTES if path.endswith(route)), None)
    prefix = path.removesuffix(pasted).rstrip("/") if pasted else path
    # A full chat route says where the OpenAI routes are, whatever their version is called.
    keeps_prefix = pasted in ("/chat/completions", "/completions", "/models")
    base = prefix.removesuffix("/v1").rstrip("/")
    v1 = prefix if keeps_prefix and pasted != "/models" else f"{base}/v1"
    basic = None
    if parts.username is not None or parts.password is not None:
        pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        basic = "Basic " + base64.b64encode(pair.encode()).decode()
    return Address(origin + base, origin + v1, _is_loopback(parts.hostname)), basic


def without_password(url: str) -> str:
    """What may be shown of something that should be a URL: nothing that stands before its last `@`."""
    return Redactor().clean(re.sub(r"(?<=://).*@", "***@", url, flags=re.DOTALL))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Redactor:
    """Replaces every secret it was told of, and everything that looks like one, by `***`."""

    def __init__(self, secrets: Iterable[str] = ()):
        self._secrets: set[str] = set()
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str | None) -> None:
        """Remembers a secret. Very short ones are not worth hiding: they would blank out ordinary text."""
        if secret and len(secret) >= 4:
            self._secrets.add(secret)

    def clean(self, text: str) -> str:
        """The text without secrets."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        return text

    def __repr__(self) -> str:
        return "Redactor(***)"


class Credentials:
    """
    The token and headers of a teacher, read anew at every call, so that a token may be refreshed while a run goes on.

    Args:
        token (`str`, `Callable`, `bool`, *optional*):
            Token, or a function that returns the present one. `None` reads the environment, `False` sends none. The
            login that `hf auth login` stores is never sent to a server that the user only named by URL.
        token_env (`str`, *optional*, defaults to `"HF_TOKEN"`):
            Environment variable that is read where `token` is `None`.
        headers (`dict[str, str]`, *optional*):
            Further headers; they win over the ones made here.
        basic (`str`, *optional*):
            Basic authorization value from the URL, used where there is no token.
    """

    def __init__(
        self,
        token: TokenSource = None,
        *,
        token_env: str = "HF_TOKEN",
        headers: Mapping[str, str] | None = None,
        basic: str | None = None,
    ):
        if token is True:
            raise ConfigurationError("`token=True` says nothing: pass the token itself, or None to read HF_TOKEN.")
        self._token = token
        self._env = token_env
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}
        self._basic = basic
        self.redactor = Redactor()
        if basic is not None:
            encoded = basic.removeprefix("Basic ")
            self.redactor.add(encoded)
            self.redactor.add(base64.b64decode(encoded).decode().partition(":")[2])
        for name, value in self._headers.items():
            if _SECRET_HEADER.search(name):
                self.redactor.add(value)
                self.redactor.add(value.split(" ")[-1])

    def token(self) -> str | None:
        """The token as it is now."""
        if self._token is False:
            return None
        value = self._token() if callable(self._token) else self._token
        if value is None and not callable(self._token):
            value = os.environ.get(self._env)
        token = str(value).strip() if value else None
        self.redactor.add(token)
        return token or None

    def headers(self) -> dict[str, str]:
        """Headers of one call, names in lower case."""
        token = self.token()
        authorization = f"Bearer {token}" if token else self._basic
        return {**({"authorization": authorization} if authorization else {}), **self._headers}

    def how(self) -> str:
        """What to change when the server refuses: a cure for error messages."""
        if self._token is False:
            return "No token was sent (token=False): pass the server's token."
        if callable(self._token):
            return "The function given as `token` returned it: check what it returns."
        if self._token is not None:
            return "Check the `token` that was passed: it may have expired or belong to another server."
        if self.token():
            return f"Check the environment variable {self._env}: it may have expired or belong to another server."
        return f"No token was sent: set the environment variable {self._env}, or pass `token`."

    def __repr__(self) -> str:
        return f"Credentials(token={'***' if self._token else self._token!r}, token_env={self._env!r})"
