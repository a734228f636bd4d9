"""Metrics of a student on rows whose answers are known."""

from .generative import explanation_metrics, require_references


__all__ = ["explanation_metrics", "require_references"]
