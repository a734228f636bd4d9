"""What a run cost and what it brought, as pictures and tables."""

from .curve import plot_learning_curves, read_metrics


__all__ = ["plot_learning_curves", "read_metrics"]
