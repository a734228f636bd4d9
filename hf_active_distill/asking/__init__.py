"""The dispatcher, the budget, the forecast and the journal: useful without any trainer."""

from .budget import Budget, Prices
from .dispatcher import BoundAsk, Dispatcher
from .journal import Journal
from .reader import JournalReader
from .rows import Call, JournalRow


__all__ = ["BoundAsk", "Budget", "Call", "Dispatcher", "Journal", "JournalReader", "JournalRow", "Prices"]
