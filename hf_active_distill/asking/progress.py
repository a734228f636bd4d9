"""The progress bar of asking: calls, tokens, cost, rate and time left."""

from __future__ import annotations

import sys
import time
from typing import Any

from ..records import Usage


class Progress:
    """
    A bar over the items, drawn on stderr; nothing where it is off.

    Args:
        total (`int`): Number of items.
        description (`str`): What stands before the bar.
        show (`bool`, *optional*): `None` shows it where stderr is a terminal.
    """

    def __init__(self, total: int, description: str, show: bool | None = None):
        self._bar: Any = None
        self._drawn = 0.0
        if show if show is not None else sys.stderr.isatty():
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, desc=description, unit="row", dynamic_ncols=True)

    def landed(self, spent: Usage, cost: float | None) -> None:
        """A call landed: a dialogue can take long, and the figures shall move meanwhile."""
        if self._bar is not None and time.monotonic() - self._drawn > 0.5:
            self._show(spent, cost)

    def finished(self, spent: Usage, cost: float | None) -> None:
        """An item is done."""
        if self._bar is not None:
            self._bar.update()
            self.landed(spent, cost)

    def close(self, spent: Usage, cost: float | None) -> None:
        """Leaves the last figures on the screen."""
        if self._bar is not None:
            self._show(spent, cost)
            self._bar.close()

    def _show(self, spent: Usage, cost: float | None) -> None:
        self._drawn = time.monotonic()
        self._bar.set_postfix_str(figures(spent, cost))


def figures(spent: Usage, cost: float | None) -> str:
    """Calls, tokens and cost in a few words."""
    money = "" if cost is None else f", cost={cost:.4g}"
    return f"calls={spent.calls}, tokens={_short(spent.total_tokens)}{money}"


def _short(count: int) -> str:
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)
