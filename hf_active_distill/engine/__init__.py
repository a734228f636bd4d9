"""
Local inference on a transformers model: batched generation, log-probabilities, branch scoring, embeddings.

The one place that knows key/value caches and attention masks.
"""

from .branches import Branch, BranchItem, BranchScorer
from .embedding import mean_hidden_states
from .generation import Generated, Generator, StopStrings
from .modes import inference
from .noise import keyed_uniforms


__all__ = [
    "Branch",
    "BranchItem",
    "BranchScorer",
    "Generated",
    "Generator",
    "StopStrings",
    "inference",
    "keyed_uniforms",
    "mean_hidden_states",
]
