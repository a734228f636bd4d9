"""
Many runs of one experiment: arms times seeds at equal teacher tokens, side by side, nothing paid for twice. Knows
nothing of the trainer: how one run is made is a function that is handed in.
"""

from .config import Arm, ComparisonConfig, Run, read_comparison
from .points import read_points, write_points
from .sharing import AnswerServer, SharedTeacher
from .workers import Outcome, RunFunction, run_side_by_side


__all__ = [
    "AnswerServer",
    "Arm",
    "ComparisonConfig",
    "Outcome",
    "Run",
    "RunFunction",
    "SharedTeacher",
    "read_comparison",
    "read_points",
    "run_side_by_side",
    "write_points",
]
