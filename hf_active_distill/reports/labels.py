"""Where teacher and student differ after training, of students that answer with labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .values import clip, number


#: How often each pair of labels was given, and the rows on which both are sure and disagree.
CONFUSION_FILE = "confusion.json"
DISAGREEMENTS_FILE = "disagreements.jsonl"
MAX_TEXT = 1000
MAX_LABEL = 160


def label_review(output_dir: Path) -> dict[str, Any] | None:
    """What the trainer wrote when training was over, `None` before that and for other students."""
    confusion, disagreements = output_dir / CONFUSION_FILE, output_dir / DISAGREEMENTS_FILE
    if not (confusion.is_file() and disagreements.is_file()):
        return None
    table = json.loads(confusion.read_text(encoding="utf-8", errors="surrogatepass"))
    labels = [clip(label, MAX_LABEL) for label in table["labels"]]
    pairs = [
        {"teacher": labels[i], "student": labels[j], "rows": count}
        for i, counts in enumerate(table["counts"])
        for j, count in enumerate(counts)
        if i != j and count
    ]
    lines = disagreements.read_text(encoding="utf-8", errors="surrogatepass").split("\n")
    return {
        "rows": sum(map(sum, table["counts"])),
        "agreement": number(table["agreement"]),
        "kappa": number(table["kappa"]),
        "pairs": sorted(pairs, key=lambda pair: -pair["rows"]),
        "rows_apart": [_row(json.loads(line)) for line in lines if line],
    }


def _row(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": clip(found["row_id"], MAX_LABEL),
        "prompt": clip(found["text"], MAX_TEXT),
        "teacher": clip(found["teacher_label"], MAX_LABEL),
        "student": clip(found["student_label"], MAX_LABEL),
        "teacher_sure": number(found["teacher_confidence"]),
        "student_sure": number(found["student_confidence"]),
    }
