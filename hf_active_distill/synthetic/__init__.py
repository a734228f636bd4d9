"""Reasoning problems made by code, with a solver that can check and continue a chain of steps."""
