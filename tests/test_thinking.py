"""Thoughts and words, in every form that models write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_active_distill.tasks import split_thinking


@pytest.mark.parametrize(
    ("text", "thinking", "visible"),
    [
        ("plain ", None, "plain "),
        (" leading space stays", None, " leading space stays"),
        ("<think>a</think>b", "a", "b"),
        ("\n<think>\na\n</think>\n\nb", "a", "b"),
        ("a</think>b", "a", "b"),
        ("a\n</think>\n\nb", "a", "b"),
        ("<think>cut off", "cut off", ""),
        ("<think></think>b", None, "b"),
        ("<think>a</think><think>c</think> b", "a\nc", "b"),
        ("<thinking>a</thinking>b<think>c</think>d", "a\nc", "bd"),
        ("a</think>b<think>cut off", "a\ncut off", "b"),
        ("<THINKING>a</THINKING>b", "a", "b"),
        ("Use the <think>x</think> tag.", None, "Use the <think>x</think> tag."),
    ],
)
def test_thoughts_are_told_from_words(text, thinking, visible):
    assert split_thinking(text) == (thinking, visible)


TEXT = st.text(max_size=30).filter(lambda text: not any(tag in text.lower() for tag in ("<t", "</t", "<r", "</r")))


@given(TEXT, TEXT)
def test_a_block_of_thought_comes_back_whole(thought, said):
    expected = (thought.strip() or None, said.lstrip())
    assert split_thinking(f"<think>{thought}</think>{said}") == expected
    assert split_thinking(f"{thought}</think>{said}") == expected
    assert split_thinking(said) == (None, said)
