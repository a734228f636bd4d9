"""The dispatcher as an annotation method sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import Usage
from ..teachers.base import TeacherInfo, TeacherReply, TeacherRequest
from .session import Row


if TYPE_CHECKING:
    from .dispatcher import Dispatcher


class BoundAsk:
    """
    The dispatcher bound to one row: what an annotation method is given as `ask`.

    Attributes:
        usage ([`~records.Usage`]): What the answers given so far cost, replayed ones included: an annotation records
            the same figures whether its answers were paid for now or in an earlier run.
        cost (`float` or `None`): Money for that, where prices are known.
        info ([`~teachers.base.TeacherInfo`] or `None`): The teacher, known after the first answer.
    """

    def __init__(self, dispatcher: Dispatcher, *, row_id: str, round: int, kind: str, row: Row):
        self._dispatcher = dispatcher
        self._row_id = row_id
        self._round = round
        self._kind = kind
        self._row = row
        self.usage = Usage()

    async def __call__(self, request: TeacherRequest, *, turn: int = 0) -> TeacherReply:
        reply = await self._dispatcher._ask(
            request, self._row, row_id=self._row_id, round=self._round, kind=self._kind, turn=turn
        )
        self.usage = self.usage + reply.usage
        return reply

    @property
    def cost(self) -> float | None:
        return self._dispatcher.budget.price(self.usage)

    @property
    def info(self) -> TeacherInfo | None:
        return self._dispatcher.info
