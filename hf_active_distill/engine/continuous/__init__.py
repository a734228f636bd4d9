"""Continuous batching: rows of any length join between two tokens and leave when they are done."""

from .model import TransformersBackend


__all__ = ["TransformersBackend"]
