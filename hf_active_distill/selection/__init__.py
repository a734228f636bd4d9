"""Which rows to ask about: strategies over student signals."""

from .arrays import Arrays, ArrayStrategy, Choice, PointwiseStrategy
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
from .checked import choose
from .composed import ClassBalance, EasyToHard, PerToken, Subsample, UncertaintyThenCoverage
from .confidence import LeastConfidence, MaxEntropy, SelfConfidence, StepEntropy
from .disagreement import Agreement, Disagreement
from .diversity import BADGE, Contrastive, Discriminative, KCenter, KMeans, ProbCover, Typicality
from .egss import EGSS
from .from_arrays import select_rows
from .labels import BALD, Entropy, ExpectedGradientLength, LLKDGateRanking, Margin, StratifiedRandom
from .registry import FunctionStrategy, as_strategy, available_strategies, get_strategy, register_strategy
from .resampling import StepResampling
from .several_labels import expect_several_labels
from .views import Wrapper
from .wrappers import RandomSelection, RandomShare, draw_candidates


__all__ = [
    "BADGE",
    "BALD",
    "EGSS",
    "Agreement",
    "ArrayStrategy",
    "Arrays",
    "BoundarySignal",
    "Candidate",
    "Choice",
    "ClassBalance",
    "Contrastive",
    "Disagreement",
    "Discriminative",
    "EasyToHard",
    "Entropy",
    "ExpectedGradientLength",
    "FunctionStrategy",
    "KCenter",
    "KMeans",
    "LLKDGateRanking",
    "LeastConfidence",
    "Margin",
    "MaxEntropy",
    "PerToken",
    "PointwiseStrategy",
    "ProbCover",
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
    "StratifiedRandom",
    "Subsample",
    "TokenSignal",
    "Typicality",
    "UncertaintyThenCoverage",
    "Wrapper",
    "as_strategy",
    "available_strategies",
    "choose",
    "draw_candidates",
    "expect_several_labels",
    "get_strategy",
    "register_strategy",
    "select_rows",
]
