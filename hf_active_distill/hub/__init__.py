"""Rounds as versions, on the Hub or in a folder, and the cards and exports that go with them."""

from .frozen import FrozenRound, LineageFolder, pushed_lines
from .leaks import Secrets
from .push import RoundPusher, push_waiting
from .restore import RestoredRound, restore_round
from .store import LineageStore, open_store


__all__ = [
    "FrozenRound",
    "LineageFolder",
    "LineageStore",
    "RestoredRound",
    "RoundPusher",
    "Secrets",
    "open_store",
    "push_waiting",
    "pushed_lines",
    "restore_round",
]
