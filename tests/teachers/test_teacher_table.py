"""The table of doors and features names tests: every one must exist."""

import re
from pathlib import Path


ROOT = Path(__file__).parents[2]


def test_every_cell_of_the_table_has_a_test_that_exists():
    page = (ROOT / "docs" / "reference" / "teachers.md").read_text(encoding="utf-8")
    table, listed = page.split("## Tests")
    notes = dict(re.findall(r"(?m)^(\d+)\. ((?:.|\n {4})+)", listed))
    assert set(re.findall(r"\[(\d+)\]", table)) == set(notes)
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    for note in notes.values():
        named = re.findall(r"`(test_\w+)`", note)
        assert named and all(re.search(rf"def {name}\(", tests) for name in named), note
