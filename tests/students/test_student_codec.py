"""Prompts, training rows and the way back from ids to text."""

import pytest
from helpers_models import CHAT_TEMPLATE, tiny_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_active_distill.errors import DataError
from hf_active_distill.students import Codec


CHAT = [{"role": "user", "content": "What is 12 + 5?"}]
PLAIN_TOKENIZER = tiny_tokenizer()
PLAIN = Codec(PLAIN_TOKENIZER)
CHATTY = Codec(tiny_tokenizer(chat=True))


def test_plain_text_is_tokenized_as_it_is_even_with_a_template():
    assert CHATTY.encode_prompt("12 birds") == CHATTY.tokenizer("12 birds")["input_ids"]


def test_a_conversation_goes_through_the_template():
    ids = CHATTY.encode_prompt(CHAT)
    assert CHATTY.tokenizer.decode(ids) == "<|im_start|>user\nWhat is 12 + 5?<|im_end|>\n<|im_start|>assistant\n"
    quiet = Codec(CHATTY.tokenizer, chat_template_kwargs={"enable_thinking": False})
    assert quiet.tokenizer.decode(quiet.encode_prompt(CHAT)).endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_conversation_without_a_template_is_an_error_with_a_cure():
    with pytest.raises(DataError, match="chat_template"):
        PLAIN.encode_prompt(CHAT)


def test_a_tokenizer_that_closes_its_texts_is_reopened():
    tokenizer = tiny_tokenizer()

    class Closing:
        def __getattr__(self, name):
            return getattr(tokenizer, name)

        def __call__(self, text, add_special_tokens=True):
            ids = tokenizer(text)["input_ids"]
            return {"input_ids": [*ids, tokenizer.eos_token_id] if add_special_tokens else ids}

    assert Codec(Closing()).encode_prompt("12 birds") == PLAIN.encode_prompt("12 birds")


@pytest.mark.parametrize(("codec", "prompt"), [(PLAIN, "What is 12 + 5?\n"), (CHATTY, CHAT), (CHATTY, "12 + 5 =")])
def test_a_training_row_begins_with_the_prompt_of_inference(codec, prompt):
    row = codec.encode_training(prompt, "12 + 5 = 17.\nThe answer is 17")
    head = codec.encode_prompt(prompt)
    assert row["input_ids"][: len(head)] == head
    assert row["completion_mask"] == [0] * len(head) + [1] * (len(row["input_ids"]) - len(head))
    tail = row["input_ids"][len(head) :]
    assert tail[-1] == codec.tokenizer.eos_token_id
    assert codec.decode(tail) == "12 + 5 = 17.\nThe answer is 17"
    assert row["truncated"] is False


def test_the_turn_ends_as_the_template_ends_it():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    codec = Codec(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert end != tokenizer.eos_token_id
    assert codec.encode_training(CHAT, "17")["input_ids"][-1] == end
    assert codec.encode_training("plain", "17")["input_ids"][-1] == tokenizer.eos_token_id
    # A template that ends turns with ordinary text leaves it to EOS.
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}\n###\n{% endfor %}"
    assert Codec(tokenizer).encode_training(CHAT, "17")["input_ids"][-1] == tokenizer.eos_token_id


def test_a_tokenizer_without_an_end_is_an_error_with_a_cure():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataError, match="eos_token"):
        Codec(tokenizer).encode_training("12", "17")


def test_thinking_comes_before_the_completion_and_is_read_back():
    row = PLAIN.encode_training("12 + 5?", "17", "add\nthem")
    tokens = [token for token, kept in zip(row["input_ids"], row["completion_mask"], strict=True) if kept]
    written = PLAIN.read(tokens)
    assert (written.thinking, written.text) == ("add\nthem", "17")


def test_max_length_cuts_the_end_and_says_so():
    whole = PLAIN.encode_training("12 birds", "12 + 5 = 17")
    for limit in (3, len(whole["input_ids"]), 99):
        row = Codec(PLAIN_TOKENIZER, max_length=limit).encode_training("12 birds", "12 + 5 = 17")
        assert row["input_ids"] == whole["input_ids"][:limit]
        assert len(row["completion_mask"]) == len(row["input_ids"])
        assert row["truncated"] is (limit == 3)


@pytest.mark.parametrize(
    ("raw", "thinks", "text", "thinking"),
    [
        (" The answer is 17\n", False, "The answer is 17", None),
        ("<think>\nadd\n</think>\n\nSo 17.", False, "So 17.", "add"),
        ("<think>\nadd and", False, "", "add and"),
        ("add\n</think>\n\nSo 17.", True, "So 17.", "add"),
        ("still adding", True, "", "still adding"),
        ("<think>\n\n</think>\n\nSo 17.", False, "So 17.", None),
        ("", False, "", None),
    ],
)
def test_thinking_is_set_apart(raw, thinks, text, thinking):
    tokens = PLAIN.encode_text(raw)
    written = PLAIN.read(tokens, thinks=thinks)
    assert (written.text, written.thinking) == (text, thinking)
    assert written.raw[written.start : written.start + len(text)] == text
    assert written.opening == (raw.index("</think>") + 8 if "</think>" in raw else len(raw) if thinking else 0)
    plain = PLAIN.read_plain(tokens)
    assert (plain.text, plain.thinking, plain.opening) == (raw.strip(), None, 0)


def test_tags_stay_where_they_are_special_tokens():
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<r>", "</r>"]})
    codec = Codec(tokenizer, thinking_tags=("<r>", "</r>"))
    written = codec.read([*codec.encode_text("<r>add</r>So 17."), tokenizer.eos_token_id])
    assert (written.text, written.thinking) == ("So 17.", "add")


def test_an_open_thinking_block_at_the_end_of_the_prompt_is_seen():
    assert PLAIN.opens_thinking(PLAIN.encode_text("12 + 5?\n<think>\n"))
    assert not PLAIN.opens_thinking(PLAIN.encode_text("<think>\n\n</think>\n"))


def test_an_answer_is_tokenized_as_it_would_stand_in_a_text():
    cue, answer = PLAIN.encode_answer("\nThe answer is", "17")
    assert cue + answer == PLAIN.encode_text("\nThe answer is 17")
    assert PLAIN.decode(answer) == " 17"
    _, glued = PLAIN.encode_answer("The answer is ", "17")
    assert PLAIN.decode(glued) == "17"
    # " answer" is one token: behind a cue that ends inside it, the answer keeps ids of its own.
    cue, answer = PLAIN.encode_answer("The", "answer")
    assert (PLAIN.decode(cue), PLAIN.decode(answer)) == ("The", " answer")


def test_special_tokens_at_the_end_are_no_text():
    ids = PLAIN.encode_text("17")
    assert PLAIN.without_end([*ids, 1, 2]) == ids
    assert PLAIN.without_end([1]) == []


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="Thearnswi 17.+\n\u00e9\u4e2d\U0001f426", max_size=25))
def test_a_boundary_takes_whole_tokens_and_no_more(text):
    tokens = PLAIN.encode_text(text)
    assert PLAIN.decode(tokens) == text
    for characters in range(len(text) + 1):
        count = PLAIN.tokens_covering(tokens, characters)
        assert PLAIN.decode(tokens[:count]).startswith(text[:characters])
        if count:
            shorter = PLAIN.decode(tokens[: count - 1]).rstrip("\ufffd")
            assert len(shorter) < characters
