"""Finding the final answer in an explanation, its canonical form, and when two answers mean the same."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .numbers import Number, parse_number, plain_latex
from .sentences import sentence_end


#: Relative difference up to which two values with a fractional part are one answer.
TOLERANCE = 1e-6

_MARKERS = [
    re.compile(r"####[ \t]*:?[ \t]*"),
    # "the answer is 5", "Final answer: 5", "**Answer:** 5"
    re.compile(r"(?i)\banswer\b[*_ \t]*(?:\([^()\n]{0,40}\)[ \t]*)?(?:\bis\b|\bwas\b|[:=])[\s*_:=]*"),
    # A heading of its own with the answer below it
    re.compile(r"(?im)^[#*_ \t]{0,12}(?:the[ \t]+)?(?:final[ \t]+)?answer[*_ \t]{0,12}\n\s{0,8}"),
]
_LAST_A = re.compile(r"(?:^|\n)[ \t]*A:[ \t]*(?=[^\n]*\Z)")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_LETTER = re.compile(r"\(([A-Z])\)(?=$|[\s.:,])|([A-Z])[.):]?$")
_CUT = re.compile(r"\d\s+[-+*/^=(]+\s*$")
_CLAUSE = re.compile(r"(?:,|;|\s-|\s\()\s*(?=[A-Za-z])|\s+(?=(?:because|since|so)\b)")


@dataclass(frozen=True)
class AnswerFormat:
    """
    How the final answer is written.

    Args:
        template (`str`): One line with `{answer}` in it, such as `"The answer is {answer}"` or `"#### {answer}"`.
    """

    template: str = "The answer is {answer}"

    @property
    def prefix(self) -> str:
        """What stands before the answer, without spaces at its ends."""
        return self.template.partition("{answer}")[0].strip()

    @property
    def suffix(self) -> str:
        """What stands after the answer."""
        return self.template.partition("{answer}")[2].strip()

    def render(self, answer: str) -> str:
        """The answer line."""
        return self.template.replace("{answer}", answer)


def find_answer(text: str, own: AnswerFormat) -> str | None:
    """
    What stands behind the last answer mark of `text`, as written: `####`, `\\boxed{}`, "the answer is", a last line
    `A: ...`, or the task's own format. `None` without a mark, and where the text was cut before the answer ended.
    """
    text = text.rstrip()
    found: tuple[int, str] | None = None
    own_line = re.compile(r"(?:^|\n)[ \t]*" + re.escape(own.prefix) + r"[ \t]*") if own.prefix else None
    for marker in [*_MARKERS, _LAST_A, own_line]:
        for match in marker.finditer(text) if marker else ():
            if found is None or match.end() > found[0]:
                found = match.end(), _value_at(text, match.end(), own.suffix if marker is own_line else "")
    boxes = list(_BOX.finditer(text))
    if boxes and (found is None or boxes[-1].end() > found[0]):
        found = boxes[-1].end(), _inside_braces(text, boxes[-1].end())
    if found is None or not found[1].strip():
        return None
    return found[1].strip()


def _value_at(text: str, start: int, suffix: str = "") -> str:
    line = text[start:].split("\n", 1)[0]
    if suffix and suffix in line:
        return line[: line.rindex(suffix)]
    box = _BOX.search(line)
    if box is not None:
        return _inside_braces(line, box.end())
    return line[: sentence_end(line)]


def _inside_braces(text: str, start: int) -> str:
    depth = 1
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return ""  # cut inside


def _strip(raw: str) -> str:
    """Without markdown, quotes, TeX dollars and the full stop around an answer."""
    text = re.sub(r"\s+", " ", raw).strip()
    previous = None
    while previous != text:
        previous = text
        text = text.strip("*_`\"' \u201c\u201d\u2019").rstrip(".,;:!?")
        if len(text) > 1 and text[0] == text[-1] == "$":
            text = text[1:-1]
    return text


def canonical_answer(raw: str | None) -> str | None:
    """
    One form for answers that are written differently: an exact number where there is one, the bare letter of an
    option, else the text. `None` for nothing, and for an expression that was cut.
    """
    text = _strip(raw or "")
    if not text or _CUT.search(raw or ""):
        return None
    number = read_number(text)
    if number is not None:
        return str(number)
    letter = _LETTER.match(text)
    if letter:
        return letter[1] or letter[2]
    if _is_cut(text):
        return None
    return _strip(plain_latex(text)) or None


def read_number(text: str) -> Number | None:
    """The number of an answer; a clause behind it ("5, since ...") is left out."""
    number = parse_number(text)
    if number is None:
        head = _CLAUSE.split(text, maxsplit=1)[0]
        number = parse_number(head) if head != text else None
    return number


def _is_cut(text: str) -> bool:
    """Arithmetic that stops in the middle: an open bracket or a sign at the end, and no words."""
    words = re.search(r"[A-Za-z]{2}", text)
    return not words and bool(re.search(r"\d", text)) and (text.count("(") > text.count(")") or text[-1] in "+-*/^(=")


def same_answer(first: str | None, second: str | None) -> bool:
    """
    Whether two canonical answers mean the same. Numbers are compared by value: exactly between integers, to
    `TOLERANCE` otherwise. "20%" equals "20" (the question asked for per cent) and "0.2". Text ignores case.
    """
    if first is None or second is None:
        return False
    if first == second:
        return True
    left, right = read_number(first), read_number(second)
    if left is None or right is None:
        return _strip(first).casefold() == _strip(second).casefold()
    if left.percent == right.percent:
        return _close(left, right)
    if right.percent:
        left, right = right, left
    return _close(left, right) or _close(Number(left.value / 100), right)


def _close(left: Number, right: Number) -> bool:
    if left.value == right.value:
        return True
    if left.value.denominator == right.value.denominator == 1:
        return False
    scale = max(abs(left.value), abs(right.value))
    return abs(left.value - right.value) <= scale * TOLERANCE
