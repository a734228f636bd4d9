"""Losses of classification, and the gate of LLKD that decides which rows take part in them."""

from .classification import gated_binary_cross_entropy, gated_cross_entropy
from .llkd import LLKDGate, normalised_entropy, starved_classes


__all__ = [
    "LLKDGate",
    "gated_binary_cross_entropy",
    "gated_cross_entropy",
    "normalised_entropy",
    "starved_classes",
]
