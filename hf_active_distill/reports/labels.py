"""Where teacher and student differ after training, of students that answer with labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .values import clip, number


#: How often each pair of labels was given, and the rows on which both are sure and disagree: of the rows that the
#: student learnt from, and of the evaluation rows.
CONFUSION_FILE = "confusion.json"
DISAGREEMENTS_FILE = "disagreements.jsonl"
EVAL_CONFUSION_FILE = "eval_confusion.json"
EVAL_DISAGREEMENTS_FILE = "eval_disagreements.jsonl"
MAX_TEXT = 1000
MAX_LABEL = 160


def label_review(output_dir: Path) -> dict[str, Any] | None:
    """What the trainer wrote when training was over, `None` before that and for other students."""
    return _review(output_dir / CONFUSION_FILE, output_dir / DISAGREEMENTS_FILE)


def evaluation_review(output_dir: Path) -> dict[str, Any] | None:
    """The same of the evaluation rows, `None` where there were none."""
    return _review(output_dir / EVAL_CONFUSION_FILE, output_dir / EVAL_DISAGREEMENTS_FILE)


def kept_shares(history: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """
    Of each label, the share that was kept round by round: of the rows that the gate in front of a step has seen, or of
    the teacher's answers. `None` where all was kept, and for students without labels.

    Args:
        history (`Sequence[dict]`): A run's metrics by round.
    """
    for what, prefix in (("rows, by the gate", "gate_kept_share/"), ("answers", "kept_share/")):
        labels = dict.fromkeys(key for row in history for key in row if key.startswith(prefix))
        rounds = [row for row in history if row["round"] >= 0]
        if any(row.get(key) not in (None, 1) for row in rounds for key in labels):
            return {
                "what": what,
                "rounds": [row["round"] for row in rounds],
                "labels": [
                    {
                        "label": clip(key.removeprefix(prefix), MAX_LABEL),
                        "shares": [number(r.get(key)) for r in rounds],
                    }
                    for key in labels
                ],
            }
    return None


def _review(confusion: Path, disagreements: Path) -> dict[str, Any] | None:
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
        "first": table["readers"][0],
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
