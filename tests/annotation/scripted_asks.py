"""Asks that answer from a list, for the tests of this folder."""

import asyncio

from hf_active_distill.annotation import AnnotationItem, AnnotationSettings, get_annotation
from hf_active_distill.records import Explanation, PoolRow, Usage
from hf_active_distill.tasks import get_task
from hf_active_distill.teachers.base import TeacherReply


ROW = PoolRow("r1", "Ann has 3 apples and buys 4. Then she eats 2. How many has she?", "5")
STUDENT = Explanation("r1", "3 + 4 = 7\n7 - 2 = 4\nThe answer is 4", ["3 + 4 = 7", "7 - 2 = 4"], "4")


class ListedAsk:
    """Gives one listed reply after the other; an exception in the list is raised."""

    def __init__(self, *replies):
        self.replies = list(replies)
        self.requests = []
        self.turns = []

    async def __call__(self, request, *, turn=0):
        self.requests.append(request)
        self.turns.append(turn)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, str):
            reply = TeacherReply(reply, usage=Usage(calls=1, prompt_tokens=10, completion_tokens=2))
        return reply


def annotate(kind, *replies, row=ROW, student=STUDENT, task=None, settings=None, attempt=0, **options):
    """The record, and the ask with what it was asked."""
    ask = ListedAsk(*replies)
    method = get_annotation(kind, task or get_task("reasoning"), settings or AnnotationSettings(), **options)
    item = AnnotationItem(row, student, round=3, attempt=attempt)
    record = asyncio.run(method.annotate(item, ask))
    assert not ask.replies, "fewer turns than expected"
    return record, ask
