"""Running a strategy, and the check of what came back."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ..errors import SelectionError
from .base import SelectionContext, SelectionResult, Selector


def choose(strategy: Selector, context: SelectionContext) -> SelectionResult:
    """
    Runs a strategy and checks its result: `n` different ids of candidates, a score of every candidate that is a
    finite number, a reason for every choice. [`~errors.SelectionError`] says what is wrong.
    """
    result = strategy.select(context)
    known = {candidate.row_id for candidate in context.candidates}
    expected = min(context.n, len(known))
    uniform = frozenset(result.uniform)  # any collection will do
    foreign = [row_id for row_id in result.ids if row_id not in known]
    twice = [row_id for row_id, count in Counter(result.ids).items() if count > 1]
    unscored = [row_id for row_id in known if not np.isfinite(result.scores.get(row_id, np.nan))]
    if foreign:
        problem = f"chose {foreign[0]!r}, which is no candidate"
    elif twice:
        problem = f"chose {twice[0]!r} more than once"
    elif len(result.ids) != expected:
        problem = f"chose {len(result.ids)} rows where {expected} were wanted"
    elif unscored:
        problem = f"gave no finite number as the score of {len(unscored)} candidates, {min(unscored)!r} among them"
    elif not uniform <= set(result.ids):
        problem = f"names {min(uniform - set(result.ids))!r} as drawn from all rows and did not choose it"
    else:
        reasons = {row_id: result.reasons.get(row_id, strategy.name) for row_id in result.ids}
        return replace(result, reasons=reasons, uniform=uniform)
    raise SelectionError(f"Strategy {strategy!r} {problem}. Return different ids of the context's candidates.")
