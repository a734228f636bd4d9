"""Which rows to ask about: strategies over student signals."""

from .base import (
    BoundarySignal,
    Candidate,
    ResampleSignal,
    SelectionContext,
    SelectionResult,
    SelectionStrategy,
    SignalRequest,
    TokenSignal,
)
from .confidence import LeastConfidence, MaxEntropy, SelfConfidence, StepEntropy
from .disagreement import Agreement, Disagreement
from .egss import EGSS
from .registry import FunctionStrategy, as_strategy, available_strategies, get_strategy, register_strategy
from .resampling import StepResampling
from .wrappers import RandomSelection, RandomShare, choose, draw_candidates


__all__ = [
    "EGSS",
    "Agreement",
    "BoundarySignal",
    "Candidate",
    "Disagreement",
    "FunctionStrategy",
    "LeastConfidence",
    "MaxEntropy",
    "RandomSelection",
    "RandomShare",
    "ResampleSignal",
    "SelectionContext",
    "SelectionResult",
    "SelectionStrategy",
    "SelfConfidence",
    "SignalRequest",
    "StepEntropy",
    "StepResampling",
    "TokenSignal",
    "as_strategy",
    "available_strategies",
    "choose",
    "draw_candidates",
    "get_strategy",
    "register_strategy",
]
