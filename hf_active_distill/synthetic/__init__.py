"""Reasoning problems made by code, with a solver that can check and continue a chain of steps."""

from pathlib import Path

from .arithmetic import ArithmeticWorld
from .base import Solution, World, available_worlds, get_world, register_world


__all__ = [
    "ArithmeticWorld",
    "Solution",
    "World",
    "available_worlds",
    "get_world",
    "quickstart_student_path",
    "register_world",
]


def quickstart_student_path() -> Path:
    """
    Folder of the shipped student: a very small Llama that knows some of the worlds' operations. It loads like any
    other model folder; `recipes/pretrain_quickstart_student.py` makes it.
    """
    return Path(__file__).parent / "assets" / "quickstart_student"
