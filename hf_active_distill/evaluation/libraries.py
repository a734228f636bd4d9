"""Libraries that only some metrics need."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConfigurationError


def library(name: str) -> Any:
    """A module of the extra `classification`; a [`~errors.ConfigurationError`] with the cure where it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = "scikit-learn" if name.startswith("sklearn") else name.partition(".")[0]
        raise ConfigurationError(
            f"Metrics of classification need {package}: `pip install 'hf-active-distill[classification]'`."
        ) from error
