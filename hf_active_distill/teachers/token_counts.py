"""Token counts asked of a server, each text once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from ..errors import TeacherError, TeacherProtocolError, TeacherRequestError


_MOST_KEPT = 65_536


class TokenCounts:
    """
    A cache in front of a server's tokenizer. A dialogue that grows by a turn costs one call for the new turn.

    Args:
        count (`Callable`): Asks the server for one text; `None` where it answers something else.
    """

    def __init__(self, count: Callable[[str], Awaitable[int | None]]):
        self._count = count
        self._kept: OrderedDict[bytes, int] = OrderedDict()
        self._unavailable = False

    def known(self, text: str) -> int | None:
        """The count of a text that was asked for before."""
        return self._kept.get(_key(text))

    async def total(self, texts: Sequence[str]) -> int | None:
        """Sum over texts, `None` where the server cannot be asked."""
        total = 0
        for text in texts:
            count = 0 if not text else await self._one(text)
            if count is None:
                return None
            total += count
        return total

    async def _one(self, text: str) -> int | None:
        key = _key(text)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self._unavailable:
            return None
        try:
            count = await self._count(text)
        except TeacherRequestError as error:
            # No such route: it will not appear. A text it refuses (413, 422) says nothing about the next one.
            self._unavailable = error.status in (404, 405, 501)
            return None
        except TeacherProtocolError:
            self._unavailable = True
            return None
        except TeacherError:
            return None
        if count is not None:
            self._kept[key] = count
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return count


def _key(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
