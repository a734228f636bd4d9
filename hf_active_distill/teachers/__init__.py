"""One small protocol, many doors."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .base import GenerationParams, Teacher, TeacherInfo, TeacherReply, TeacherRequest, TopToken
    from .function import FunctionTeacher
    from .hf_inference import HFInferenceTeacher
    from .labels import LabelDistribution, label_distribution
    from .loading import load_teacher
    from .local import LocalTeacher
    from .openai_compatible import OpenAITeacher
    from .probe import describe
    from .replay import ReplayTeacher
    from .tgi import TGITeacher

# Where each public name lives; imported when first used, so that a door's libraries are loaded with that door only.
_HOMES = {
    "FunctionTeacher": "function",
    "GenerationParams": "base",
    "HFInferenceTeacher": "hf_inference",
    "LabelDistribution": "labels",
    "LocalTeacher": "local",
    "OpenAITeacher": "openai_compatible",
    "ReplayTeacher": "replay",
    "TGITeacher": "tgi",
    "Teacher": "base",
    "TeacherInfo": "base",
    "TeacherReply": "base",
    "TeacherRequest": "base",
    "TopToken": "base",
    "describe": "probe",
    "label_distribution": "labels",
    "load_teacher": "loading",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


__all__ = [
    "FunctionTeacher",
    "GenerationParams",
    "HFInferenceTeacher",
    "LabelDistribution",
    "LocalTeacher",
    "OpenAITeacher",
    "ReplayTeacher",
    "TGITeacher",
    "Teacher",
    "TeacherInfo",
    "TeacherReply",
    "TeacherRequest",
    "TopToken",
    "describe",
    "label_distribution",
    "load_teacher",
]
