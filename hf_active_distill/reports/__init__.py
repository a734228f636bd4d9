"""What a run cost and what it brought, as pictures, tables and a page."""

from .curve import plot_learning_curves, read_metrics
from .page import write_report


__all__ = ["plot_learning_curves", "read_metrics", "write_report"]
