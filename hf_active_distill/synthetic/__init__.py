"""Problems made by code: reasoning with a solver that can check and continue steps, texts with labels."""

from pathlib import Path

from .arithmetic import ArithmeticWorld
from .base import LabelWorld, Solution, World, available_worlds, get_world, register_world
from .classifier import build_classifier
from .messages import MessageWorld
from .worked import WorkedWorld


__all__ = [
    "ArithmeticWorld",
    "LabelWorld",
    "MessageWorld",
    "Solution",
    "WorkedWorld",
    "World",
    "available_worlds",
    "build_classifier",
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
