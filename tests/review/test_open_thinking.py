"""Chat templates that open the thinking block themselves: the training target has to close it."""

from __future__ import annotations

import pytest
from helpers_models import tiny_model, tiny_tokenizer

from hf_active_distill.students import Student
from hf_active_distill.tasks import get_task


@pytest.mark.parametrize("thinking", [None, "one is one"])
def test_a_target_behind_an_opened_thinking_block_is_read_as_it_was_meant(thinking):
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n", 1
    ).replace("{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}", "")
    student = Student(tiny_model(), tokenizer, get_task("reasoning"))
    prompt = [{"role": "user", "content": "What is 1?"}]
    encoded = student.encode_training(prompt, "One.\nThe answer is 1", thinking)
    head = student.encode_prompt(prompt)
    assert student.codec.opens_thinking(head)
    assert encoded["input_ids"][: len(head)] == head
    written = student.codec.read(encoded["input_ids"][len(head) :], thinks=True)
    assert (written.text, written.thinking) == ("One.\nThe answer is 1", thinking)
    assert tokenizer.decode(encoded["input_ids"]).count("<think>") == 1
