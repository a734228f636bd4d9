"""One batch of rows while its signals are computed: what they wrote, where its steps end, its caches."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from ..engine import Branch, BranchItem, Generated
from ..records import Explanation, PoolRow
from .codec import Written


if TYPE_CHECKING:
    from .student import Student


class Batch:
    """
    Rows with all that signals share, each part made when it is first asked for.

    Args:
        student ([`~hf_active_distill.students.Student`]):
            Who is asked.
        rows (`list[PoolRow]`):
            Its rows.
        round (`int`):
            Keys the noise.
        branching (`bool`):
            Whether caches are kept because a signal will branch off the explanations.
    """

    def __init__(self, student: Student, rows: list[PoolRow], round: int, branching: bool):
        self.student = student
        self.rows = rows
        self.round = round
        self.branching = branching

    @cached_property
    def prompts(self) -> list[list[int]]:
        return self.student.prompts(self.rows)

    @cached_property
    def generated(self) -> list[Generated]:
        room = self.student.room(self.rows, self.prompts)
        return self.student.generator.generate(self.prompts, max_new_tokens=room, keep_cache=self.branching)

    @cached_property
    def written(self) -> list[Written]:
        return [self.student.read(*parts) for parts in zip(self.prompts, self.generated, strict=True)]

    @cached_property
    def explanations(self) -> list[Explanation]:
        parts = zip(self.rows, self.generated, self.written, strict=True)
        return [self.student.explanation(row, generated, written) for row, generated, written in parts]

    @cached_property
    def boundaries(self) -> list[list[int]]:
        """
        For every row, how many generated tokens stand before boundary i = 0..n. Boundary 0 is behind the thinking
        block, boundary i behind step i; a token that a boundary cuts belongs to what is before it.
        """
        found = []
        for written in self.written:
            ends = [span.end for span in self.student.task.split_steps(written.text)]
            characters = [written.opening, *(written.start + end for end in ends)]
            found.append([self.student.codec.tokens_covering(written.tokens, count) for count in characters])
        return found

    def item(self, row: int, branches: list[Branch]) -> BranchItem:
        """Branches off prompt and explanation of one row."""
        generated = self.generated[row]
        return BranchItem(self.prompts[row] + generated.tokens, branches, generated.cache)

    def heads(self, row: int, removal: str) -> list[Branch]:
        """
        The beginnings of the branches of `"boundaries"`: with `"prefix"` one a boundary, with `"leave_one_out"` one a
        step that is left out, and the whole explanation last.
        """
        start, bounds, tokens = len(self.prompts[row]), self.boundaries[row], self.generated[row].tokens
        if removal == "prefix":
            return [Branch(start + bound, ()) for bound in bounds]
        left_out = [
            Branch(start + before, tuple(tokens[after : bounds[-1]]))
            for before, after in zip(bounds, bounds[1:], strict=False)
        ]
        return [*left_out, Branch(start + bounds[-1], ())]
