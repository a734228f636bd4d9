"""Numbers against independent references: Python's own exact arithmetic, and values written down by hand."""

import ast
import operator
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.tasks.numbers import evaluate, format_fraction, parse_number


WRITTEN = {
    "18": "18",
    "$1,200.50": "1200.5",
    "18 dollars": "18",
    "$18 every day": "18",
    "she has 5 apples": "5",
    "(about 5)": "5",
    "12,000,000": "12000000",
    "12\u00a0000": "12000",
    "-3/4": "-0.75",
    "1/3": "1/3",
    "1 1/2": "1.5",
    "-1 1/2 cups": "-1.5",
    "\u00bd": "0.5",
    "1\u00bd": "1.5",
    "\u22125": "-5",
    "\u2013$5": "-5",
    "- 5": "-5",
    "+7": "7",
    "20%": "20%",
    "20 percent": "20%",
    "12.5 per cent": "12.5%",
    "18\\%": "18%",
    "\\$18": "18",
    "\\frac{3}{4}": "0.75",
    "-\\dfrac{1}{3}": "-1/3",
    "\\text{18 dollars}": "18",
    "90^\\circ": "90",
    "5 million": "5000000",
    "2 dozen eggs": "24",
    "12 * 3": "36",
    "2 x 3": "6",
    "2\u00d73": "6",
    "6 \u00f7 4": "1.5",
    "1.2 x 10^5": "120000",
    "10 * 45 = 450 seeds": "450",
    "x = -3": "-3",
    "( 10.0 - ( 6.0 + 3.0 ) )": "1",
    "(28 * 24) / 16": "42",
    ".5": "0.5",
    "007": "7",
}
NO_NUMBER = [
    "",
    "Paris",
    "5 apples and 3 pears",
    "(14, 21)",
    "1,5",
    "5:30",
    "3:4",
    "2020-01-02",
    "3/4/2021",
    "B12",
    "(23 + x)",
    "(10 * 4",
    "10 *",
    "5 / 0",
    "9^9^9^9",
    "2^(1/2)",
    "1e99999",
    "(" * 60 + "1" + ")" * 60,
    "9" * 500,
    "__import__('os')",
]


@pytest.mark.parametrize(("text", "value"), WRITTEN.items())
def test_reads_written_number(text, value):
    assert str(parse_number(text)) == value


@pytest.mark.parametrize("text", NO_NUMBER)
def test_reads_no_number(text):
    assert parse_number(text) is None


@given(st.fractions())
def test_formatted_fraction_reads_back(value):
    number = parse_number(format_fraction(value))
    assert number is not None and number.value == value


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_thousands_separators_do_not_change_the_value(value):
    number = parse_number(f"{value:,}")
    assert number is not None and number.value == Fraction(value)


OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def by_python(node):
    """The same expression by Python's own grammar, in exact fractions."""
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](by_python(node.left), by_python(node.right))
    if isinstance(node, ast.UnaryOp):
        return -by_python(node.operand)
    return Fraction(str(node.value))


def wrap(inner):
    pairs = st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner)
    return st.one_of(
        pairs.map(lambda p: f"({p[0]} {p[1]} {p[2]})"), pairs.map(" ".join), inner.map(lambda e: f"-({e})")
    )


leaves = st.one_of(st.integers(0, 999).map(str), st.sampled_from(["0.5", "10.0", "2.25"]))


@given(st.recursive(leaves, wrap, max_leaves=8))
def test_expressions_follow_pythons_grammar(expression):
    try:
        expected = by_python(ast.parse(expression, mode="eval").body)
    except ZeroDivisionError:
        expected = None
    assert evaluate(expression) == expected
