"""Which room may import from which: the arrows of docs/concepts/architecture.md that are easily turned round."""

import ast
from pathlib import Path

import pytest

import hf_active_distill


PACKAGE = Path(hf_active_distill.__file__).parent
FORBIDDEN = {
    "exchange.py": {"teachers", "serving", "engine", "asking", "tasks", "trainer"},
    "thinking.py": {"teachers", "serving", "engine", "asking", "tasks", "trainer"},
    "engine": {"teachers", "serving", "asking", "trainer", "students", "annotation"},
    "teachers": {"serving", "asking", "trainer", "students", "selection", "annotation"},
    "asking": {"serving", "engine", "trainer", "students", "selection", "annotation"},
    "serving": {"asking", "trainer", "students", "selection"},
}


def imported_rooms(path: Path) -> set[str]:
    """Rooms that a file imports from; what only type checkers read counts too."""
    depth = len(path.relative_to(PACKAGE).parts)
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level != depth:
            continue
        names = [node.module] if node.module else [alias.name for alias in node.names]
        rooms |= {name.split(".")[0] for name in names}
    return rooms


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_imports_nothing_from_above(room):
    place = PACKAGE / room
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    turned = {str(file.relative_to(PACKAGE)): imported_rooms(file) & FORBIDDEN[room] for file in files}
    assert {file: rooms for file, rooms in turned.items() if rooms} == {}
