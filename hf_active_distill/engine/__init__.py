"""
Local inference on a transformers model: batched generation, log-probabilities, branch scoring, embeddings.

The one place that knows key/value caches and attention masks.
"""

from .branches import BranchScorer
from .embedding import mean_hidden_states
from .forest import Limits
from .generation import Generated, Generator, StopStrings
from .heads import (
    dropout_logits,
    fold_temperature,
    head_logits,
    head_outputs,
    reorder_labels,
    right_padded,
    text_positions,
)
from .modes import inference
from .noise import keyed_seed, keyed_uniforms
from .padded import Branch, BranchItem


__all__ = [
    "Branch",
    "BranchItem",
    "BranchScorer",
    "Generated",
    "Generator",
    "Limits",
    "StopStrings",
    "dropout_logits",
    "fold_temperature",
    "head_logits",
    "head_outputs",
    "inference",
    "keyed_seed",
    "keyed_uniforms",
    "mean_hidden_states",
    "reorder_labels",
    "right_padded",
    "text_positions",
]
