"""
Numbers as people and models write them: currency, units, thousands, fractions, percentages, plain arithmetic.

All values are exact fractions. Nothing here evaluates code: expressions go through a small parser with bounds on
length, depth and size.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from fractions import Fraction


_MAX_CHARS = 400
_MAX_DEPTH = 40
_MAX_BITS = 4096
_MAX_EXPONENT = 300

_TOKEN = re.compile(r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?)|(?P<sign>\*\*|[-+*/^()]))")


class _NotANumber(ValueError):
    pass


@dataclass(frozen=True)
class Number:
    """An exact value; `percent` tells "20%" from "20"."""

    value: Fraction
    percent: bool = False

    def __str__(self) -> str:
        return format_fraction(self.value) + ("%" if self.percent else "")


class _Parser:
    """sum = product (("+" | "-") product)*, product = power (("*" | "/") power)*, power = sign* atom ("^" power)?"""

    def __init__(self, text: str):
        self.tokens = _tokenize(text)
        self.position = 0
        self.depth = 0

    def peek(self) -> str:
        return self.tokens[self.position] if self.position < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.position += 1
        return token

    def parse(self) -> Fraction:
        value = self.sum()
        if self.peek():
            raise _NotANumber
        return value

    def sum(self) -> Fraction:
        value = self.product()
        while self.peek() in ("+", "-"):
            sign = self.take()
            other = self.product()
            value = value + other if sign == "+" else value - other
        return _bounded(value)

    def product(self) -> Fraction:
        value = self.power()
        while self.peek() in ("*", "/"):
            sign = self.take()
            other = self.power()
            if sign == "/" and not other:
                raise _NotANumber
            value = _bounded(value * other if sign == "*" else value / other)
        return value

    def power(self) -> Fraction:
        negative = False
        while self.peek() in ("+", "-"):
            negative ^= self.take() == "-"
        value = self.atom()
        if self.peek() in ("^", "**"):
            self.take()
            self.descend()
            value = _raise(value, self.power())
            self.depth -= 1
        return -value if negative else value

    def atom(self) -> Fraction:
        token = self.take()
        if token == "(":
            self.descend()
            value = self.sum()
            self.depth -= 1
            if self.take() != ")":
                raise _NotANumber
            return value
        if token[:1].isdigit() or token[:1] == ".":
            return Fraction(token)
        raise _NotANumber

    def descend(self) -> None:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise _NotANumber


def _tokenize(text: str) -> list[str]:
    text = text.rstrip()
    if not text or len(text) > _MAX_CHARS:
        raise _NotANumber
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _NotANumber
        token = match["number"] or match["sign"]
        exponent = re.search(r"[eE]([+-]?\d+)$", token)
        if exponent and abs(int(exponent[1])) > _MAX_EXPONENT:
            raise _NotANumber
        tokens.append(token)
        position = match.end()
    return tokens


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _NotANumber
    return value


def _raise(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or (not base and exponent < 0):
        raise _NotANumber
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if bits * abs(exponent.numerator) > _MAX_BITS:
        raise _NotANumber
    return base**exponent.numerator


def evaluate(expression: str) -> Fraction | None:
    """Exact value of plain arithmetic (`+ - * / ^ **`, parentheses, signs), `None` for anything else."""
    try:
        return _Parser(expression).parse()
    except _NotANumber:
        return None


def format_fraction(value: Fraction) -> str:
    """Integer, finite decimal or `p/q`: a form that reads back to the same value."""
    if value.denominator == 1:
        return str(value.numerator)
    rest, digits = value.denominator, 0
    for prime in (2, 5):
        count = 0
        while rest % prime == 0:
            rest //= prime
            count += 1
        digits = max(digits, count)
    if rest != 1 or digits > 30:
        return f"{value.numerator}/{value.denominator}"
    scaled = str(abs(value.numerator) * 10**digits // value.denominator).rjust(digits + 1, "0")
    return ("-" if value < 0 else "") + scaled[:-digits] + "." + scaled[-digits:]


_MINUS = dict.fromkeys(map(ord, "\u2212\u2010\u2011\u2012\u2013\u2014\ufe63\uff0d"), "-")
_SIGNS = {ord("\u00d7"): "*", ord("\u00b7"): "*", ord("\u22c5"): "*", ord("\u2219"): "*", ord("\u00f7"): "/"}
_SIGNS |= {ord("\u2044"): "/", ord("\u2215"): "/"}
_CURRENCY = "$\u20ac\u00a3\u00a5\u20b9\u00a2"
_MULTIPLIERS = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_MULTIPLIERS |= {"trillion": 10**12}
_DATE = re.compile(r"\b(?:\d{4}-\d{1,2}-\d{1,2}|\d{1,2}/\d{1,2}/\d{2,4})\b")


def plain_latex(text: str) -> str:
    """LaTeX markup of a short answer as plain text: fractions, signs, units, spacing."""
    if "\\" not in text and "{" not in text:
        return text
    text = text.replace("{,}", ",")
    text = re.sub(r"\\[!,;: ]", "", text)
    text = re.sub(r"\\(?:left|right|displaystyle)(?![a-zA-Z])|\^\s*\{?\\circ\}?", "", text)
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}", r" \1 ", text)
    for _ in range(3):  # nested fractions
        text = re.sub(r"\\[dtc]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))", text)
    text = re.sub(r"\\(?:times|cdot)(?![a-zA-Z])", "*", text)
    text = re.sub(r"\\div(?![a-zA-Z])", "/", text)
    return re.sub(r"\\([$%&#])", r"\1", text).replace("\\(", "").replace("\\)", "")


def _plain(text: str) -> str:
    text = plain_latex(text).translate(_MINUS).translate(_SIGNS)
    text = "".join(_spell_fraction(char) for char in text)
    text = re.sub(r"(?<=[\d)])\s*[xX]\s*(?=[\d(])", "*", text)
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = re.sub(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)", lambda m: m[0].replace(",", ""), text)
    text = re.sub(rf"[{re.escape(_CURRENCY)}]|\b(?:USD|EUR|GBP|Rs)\b\.?", " ", text)
    text = re.sub(r"(?<=[-+])\s+(?=\d)", "", text) if re.match(r"\s*[-+]\s*\d", text) else text
    # A mixed number: "1 1/2".
    return re.sub(r"(?<![\d./*^-])(-?)\b(\d+)\s+(\d+)/(\d+)\b(?!\.\d)", r"\1(\2+\3/\4)", text).strip()


def _spell_fraction(char: str) -> str:
    if not char.isnumeric() or char.isdecimal():
        return char
    spelled = unicodedata.normalize("NFKC", char).replace("\u2044", "/")
    return f" {spelled}" if re.fullmatch(r"\d+/\d+", spelled) else char


def parse_number(text: str) -> Number | None:
    """
    The one number that a short answer states, `None` where it states none or more than one.

    Reads "$1,200.50", "18 dollars", "-3/4", "1 1/2", "20%", "5 million", "12 * 3", "x = 7" and their LaTeX forms.
    An expression cut in the middle is not a number.
    """
    if len(text) > _MAX_CHARS or _DATE.search(text):
        return None
    plain = _plain(text)
    if re.search(r"[=\u2248]", plain):
        return parse_number(re.split(r"[=\u2248]", plain)[-1]) if re.split(r"[=\u2248]", plain)[-1].strip() else None
    direct = evaluate(plain)
    return Number(direct) if direct is not None else _with_words(plain)


def _with_words(plain: str) -> Number | None:
    """`plain` as words, one expression, words."""
    digits = re.search(r"\d(?:.*\d)?", plain, re.DOTALL)
    if digits is None:
        return None
    before, after = plain[: digits.start()], plain[digits.end() :]
    lead = re.search(r"(?:[-+(]|(?<=[-+(])\s)*\.?$", before)
    trail = re.match(r"\s*\)*(?:\s*\))*", after)
    assert lead is not None and trail is not None  # both can match the empty string
    words, rest = before[: lead.start()], after[trail.end() :].strip()
    if re.search(r"\w$", words) or re.fullmatch(r"[-+*/^]+", rest):
        return None
    value = evaluate(_balanced(lead[0] + digits[0] + trail[0]))
    if value is None:
        return None
    if re.match(r"%|per\s?cent\b", rest):
        return Number(value, percent=True)
    factor = re.match(r"[a-z]+", rest.lower())
    return Number(value * _MULTIPLIERS.get(factor[0], 1) if factor else value)


def _balanced(expression: str) -> str:
    """Without closing parentheses that belong to words before the expression. An open one stays: the text was cut."""
    while expression.endswith(")") and expression.count(")") > expression.count("("):
        expression = expression[:-1].rstrip()
    return expression
