"""What a world of made problems can be asked, and the list of worlds by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from ..errors import ConfigurationError
from ..records import PoolRow


#: A solution: its steps, one line of text each, and the final answer.
Solution = tuple[list[str], str]


@runtime_checkable
class World(Protocol):
    """
    Problems made by code together with the knowledge of how they are solved.

    A world is what a scripted teacher stands on: it solves, it judges a step whatever its wording and place in the
    order, and it goes on from steps that somebody else wrote.
    """

    name: str

    def problems(self, n: int, seed: int, split: str) -> list[PoolRow]:
        """`n` different rows with a reference. Rows of two splits never share a question, whatever their seeds."""
        ...

    def solve(self, question: str) -> Solution:
        """A full solution; [`~errors.DataError`] for a text that is no question of this world."""
        ...

    def check_step(self, question: str, previous_steps: Sequence[str], step: str) -> bool:
        """Whether `step` is right and may stand after `previous_steps`, in any valid order of steps."""
        ...

    def continue_from(self, question: str, previous_steps: Sequence[str]) -> Solution:
        """The steps that are still missing after `previous_steps`, and the answer."""
        ...


@runtime_checkable
class LabelWorld(Protocol):
    """
    Texts made by code, with a label each, and the knowledge of how probable every label is given a text: what a
    scripted teacher of a classification task stands on.
    """

    name: str
    labels: list[str]
    descriptions: dict[str, str]

    def problems(self, n: int, seed: int, split: str) -> list[PoolRow]:
        """`n` different rows with their label as the reference. Rows of two splits never share a text."""
        ...

    def posterior(self, text: str) -> dict[str, float]:
        """The probability of every label; [`~errors.DataError`] for a text that is none of this world."""
        ...

    def confused(self, label: str) -> str:
        """The label that this one is taken for, and the other way round."""
        ...


WorldType = TypeVar("WorldType", bound=Callable[..., World | LabelWorld])

_WORLDS: dict[str, Callable[..., World | LabelWorld]] = {}


def register_world(name: str) -> Callable[[WorldType], WorldType]:
    """
    Puts a world (a class, or a function that returns one) under a name, as a decorator.

    Args:
        name (`str`): Name for [`get_world`]; an existing one is replaced.
    """

    def register(factory: WorldType) -> WorldType:
        _WORLDS[name] = factory
        return factory

    return register


def available_worlds() -> list[str]:
    """Names that [`get_world`] knows, sorted."""
    return sorted(_WORLDS)


def get_world(name: str, **options: Any) -> Any:
    """
    Makes a world by name.

    Args:
        name (`str`): One of [`available_worlds`].
        options (`Any`): Passed to the world.

    Returns:
        [`World`] or [`LabelWorld`].
    """
    if name not in _WORLDS:
        raise ConfigurationError(f"Unknown world {name!r}. Choose one of {', '.join(available_worlds())}.")
    try:
        return _WORLDS[name](**options)
    except TypeError as error:
        raise ConfigurationError(f"World {name!r} does not take these options: {error}.") from error
