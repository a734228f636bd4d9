"""Names of classes: when two are the same, and how data sets write the class of a row."""

from __future__ import annotations

import json
import numbers
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import ConfigurationError, DataError


# Signs that tell names apart (C, C++, C#; R&B) are kept.
_PUNCTUATION = re.compile(r"[\s_.,;:!?\"'`\u2018\u2019\u201c\u201d()\[\]{}<>/\\|*~\u2010-\u2015-]+")


def normalised(name: str) -> str:
    """A name without regard to case, spaces and punctuation: what two names are compared by."""
    return _PUNCTUATION.sub(" ", unicodedata.normalize("NFKC", name).casefold()).strip()


class LabelSet:
    """
    The names of a closed set of classes, in the order of their indices.

    Args:
        names (`Sequence[str]`): At least two, different after [`normalised`].

    Raises:
        [`~errors.ConfigurationError`]: For fewer than two, for names that are no text, and for names that are the same
            but for case, spaces and punctuation.
    """

    def __init__(self, names: Sequence[str]):
        if isinstance(names, str) or not isinstance(names, Sequence):
            raise ConfigurationError(f"labels={names!r} must be a list of names, such as ['spam', 'ham'].")
        odd = [name for name in names if not isinstance(name, str)]
        if odd:
            raise ConfigurationError(
                f"The label {odd[0]!r} is no text: write it in quotes (in YAML, a bare yes, no, on, off or number is "
                "not text)."
            )
        if len(names) < 2:
            raise ConfigurationError(
                f"A classification task needs at least two labels, got {list(names)}: set `labels`, for example "
                '`task_kwargs={"labels": ["spam", "ham"]}`.'
            )
        self.names = list(names)
        self._index: dict[str, int] = {}
        for index, name in enumerate(self.names):
            key = normalised(name)
            if len(name.splitlines()) > 1:
                raise ConfigurationError(f"The label {name!r} has a line break in it: name it on one line.")
            if not key:
                raise ConfigurationError(
                    f"Nothing is left of the label {name!r} without punctuation: name it in words."
                )
            if key in self._index:
                raise ConfigurationError(
                    f"The labels {self.names[self._index[key]]!r} and {name!r} are the same but for case, spaces and "
                    "punctuation, so no reply could tell them apart: rename one."
                )
            self._index[key] = index
        self._numerals = {name for name in self.names if re.fullmatch(r"[+-]?\d+", name.strip())}

    def __len__(self) -> int:
        return len(self.names)

    def find(self, text: str) -> str | None:
        """The label that a text is, compared by [`normalised`]; `None` where it is none."""
        index = self._index.get(normalised(text))
        return None if index is None else self.names[index]

    def index(self, name: str) -> int:
        """The class index of a name."""
        found = self._index.get(normalised(name))
        if found is None:
            raise DataError(f"{name!r} is no label of this task. It knows: {', '.join(self.names)}.")
        return found

    def read(self, value: Any) -> str | None:
        """
        The name in a data set's label: a name, or a class id as [`~datasets.ClassLabel`] columns hold it. `None`, `-1`
        and empty text are no label.

        Raises:
            [`~errors.DataError`]: For what is neither, and where a number could be both.
        """
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, str):
            found = self.find(value)
            if found is None and re.fullmatch(r"\s*-?\d+\s*", value):
                return self._by_id(int(value))
            if found is None:
                self.index(value)  # raises, and names the labels
            return found
        if isinstance(value, bool) and self.find(str(value)) is not None:
            return self.find(str(value))
        if isinstance(value, numbers.Integral):
            return self._by_id(int(value))
        raise DataError(f"A label is a name or a class id, not {type(value).__name__} ({value!r}).")

    def _by_id(self, index: int) -> str | None:
        if index == -1:
            return None
        name = str(index)
        if name in self._numerals and (index >= len(self) or self.names[index] != name):
            raise DataError(
                f"The label {index} may be the name {name!r} or the class with that id: give labels as text, for "
                "example with `dataset.cast_column('label', Value('string'))`."
            )
        if not 0 <= index < len(self):
            raise DataError(f"The class id {index} lies outside of the {len(self)} labels: {', '.join(self.names)}.")
        return self.names[index]

    def read_many(self, value: Any) -> list[str] | None:
        """
        The names in a data set's labels where several can hold: a list of names or ids, a list of as many zeros and
        ones (or booleans) as there are labels, JSON of any of these, or one name. `None` is no label; an empty list
        says that none holds.

        Raises:
            [`~errors.DataError`]: For what is no label, a label named twice, and `[0, 1]` where there are two labels:
                both ids, or the second alone.
        """
        if isinstance(value, str) and value.strip().startswith("["):
            try:
                value = json.loads(value)
            except ValueError:
                raise DataError(f"{value!r} is no JSON list of labels.") from None
        if value is None or isinstance(value, str) or not _is_list(value):
            name = self.read(value)
            return None if name is None else [name]
        values = [item.item() if hasattr(item, "item") else item for item in value]
        if self._are_marks(values):
            if len(values) != len(self) or any(item not in (0, 1) for item in values):
                raise DataError(f"Labels given as numbers are {len(self)} zeros and ones, one a label, not {values}.")
            return [name for name, holds in zip(self.names, values, strict=True) if holds]
        found = [name for item in values if (name := self.read(item)) is not None]
        if len(set(found)) < len(found):
            raise DataError(f"A label stands twice in {values}: name each once.")
        return [name for name in self.names if name in found]

    def _are_marks(self, values: list[Any]) -> bool:
        """Whether a list has a yes or no for every label, rather than names or ids."""
        if not values or not all(isinstance(item, bool | int | float) for item in values):
            return False
        if any(isinstance(item, bool | float) for item in values):
            return True
        # Of three labels or more, as many zeros and ones repeat a number, which ids do not.
        if len(values) == len(self) and set(values) <= {0, 1}:
            if sorted(values) == [0, 1]:
                raise DataError(
                    f"{values} may be the ids of both labels, or a zero and a one for each: give names, or floats "
                    f"({[float(item) for item in values]}) for the second."
                )
            return True
        return False


def _is_list(value: Any) -> bool:
    """Lists, tuples and arrays."""
    return hasattr(value, "__iter__") and not isinstance(value, Mapping | bytes)
