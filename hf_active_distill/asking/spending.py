"""The forecast of a run, kept beside it, and what the run's journal says was spent."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError
from ..records import Usage
from .forecast import Forecast
from .reader import JournalReader


FORECAST_FILE = "forecast.json"


def write_forecast(output_dir: str | Path, made: Forecast, *, journal: str | Path, run: str) -> None:
    """
    Keeps a forecast until the run has ended.

    Args:
        output_dir (`str` or `Path`): The run's folder.
        made ([`~asking.forecast.Forecast`]): Made before the first call.
        journal (`str` or `Path`): Where the run records its calls.
        run (`str`): Under which name.
    """
    folder = Path(output_dir)
    # Relative where that is possible: a folder that is moved or copied still knows its journal.
    place = os.path.relpath(journal, folder) if Path(journal).is_relative_to(folder) else os.path.abspath(journal)
    partial = folder / f"{FORECAST_FILE}.partial"
    partial.write_text(json.dumps({"forecast": made.to_dict(), "journal": place, "run": run}, indent=2), "utf-8")
    os.replace(partial, folder / FORECAST_FILE)


@dataclass(frozen=True)
class Spending:
    """
    Args:
        forecast ([`~asking.forecast.Forecast`]): What was foreseen, before the first call.
        usage ([`~records.Usage`]): What the journal says was spent so far.
        cost (`float` or `None`): The same in money, where prices are known.
    """

    forecast: Forecast
    usage: Usage
    cost: float | None = None


def read_spending(output_dir: str | Path) -> Spending:
    """
    What a run was foreseen to ask for, and what it has spent. Answers that were in the journal already when the run
    asked for them were paid for by another run and count for nothing here.

    Raises:
        [`~errors.DataError`]: When the folder holds no forecast.
        [`~errors.JournalError`]: When its journal cannot be read.
    """
    path = Path(output_dir) / FORECAST_FILE
    try:
        kept = json.loads(path.read_text("utf-8"))
        made = Forecast.from_dict(kept["forecast"])
        place, run = Path(output_dir) / kept["journal"], str(kept["run"])
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist: name the `output_dir` of a run that has begun to ask its teacher."
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is not a forecast ({type(error).__name__}: {error}): it was changed or cut."
        ) from None
    with JournalReader(place) as reader:
        usage, _ = reader.spent(run)
        return Spending(made, usage, reader.cost(run))


def spending_lines(output_dir: str | Path) -> list[str]:
    """One line a figure: what was foreseen, what was spent, and what the forecast assumed. Raises as
    [`read_spending`] does."""
    spending = read_spending(output_dir)
    return spending.forecast.lines(spending.usage, spending.cost)
