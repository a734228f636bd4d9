"""Local inference on a transformers model: batched generation, log-probabilities, branch scoring."""
