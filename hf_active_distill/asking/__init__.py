"""The dispatcher, the budget, the forecast and the journal: useful without any trainer."""

from .bound import BoundAsk
from .budget import Budget, Prices
from .dispatcher import Dispatcher
from .forecast import Forecast, Range, forecast
from .journal import Journal
from .reader import JournalReader
from .rows import Call, JournalRow
from .spending import Spending, read_spending, spending_lines, write_forecast


__all__ = [
    "BoundAsk",
    "Budget",
    "Call",
    "Dispatcher",
    "Forecast",
    "Journal",
    "JournalReader",
    "JournalRow",
    "Prices",
    "Range",
    "Spending",
    "forecast",
    "read_spending",
    "spending_lines",
    "write_forecast",
]
