"""What a run cost and what it brought, as pictures, tables and a page."""

from .curve import plot_learning_curves, read_metrics
from .page import write_report
from .round_tables import RoundTable, round_tables


__all__ = ["RoundTable", "plot_learning_curves", "read_metrics", "round_tables", "write_report"]
