"""Metrics, stopping rules and the random probe."""
