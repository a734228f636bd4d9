"""Sampling noise that depends on what is sampled, not on when, where or beside what."""

from __future__ import annotations

import hashlib
import json

import numpy as np


def keyed_uniforms(count: int, *key: int | str) -> np.ndarray:
    """
    Uniform numbers in [0, 1) that are a function of `key` alone: token t of a sample uses number t.

    Args:
        count (`int`):
            How many. A longer draw begins with the shorter one.
        key (`int` or `str`):
            What tells this stream from all others, by custom (seed, round, row id, sample, purpose).
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_digest(key)[:16], "big"))).random(count)


def keyed_seed(*key: int | str) -> int:
    """A 63-bit seed that is a function of `key` alone, for generators that take one."""
    return int.from_bytes(_digest(key)[:8], "big") >> 1


def _digest(key: tuple[int | str, ...]) -> bytes:
    return hashlib.sha256(json.dumps(key, ensure_ascii=False).encode("utf-8", "surrogatepass")).digest()
