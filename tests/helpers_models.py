"""Tiny models, tokenizers and tasks built in code, shared by the tests of several rooms."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
)

from hf_active_distill.records import PoolRow, Prompt
from hf_active_distill.tasks.base import StepSpan, Task


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
CORPUS = [
    "There are 12 birds and 5 more come. 12 + 5 = 17.\nThe answer is 17",
    "First add the numbers. Then take away 4.\nSo 17 - 4 = 13.\nThe answer is 13",
    "Is this answer right? Answer yes or no: yes",
]

_WIDTH = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_GROUPED = {**_WIDTH, "num_key_value_heads": 2, "max_position_embeddings": 512}
_GEMMA = {**_GROUPED, "head_dim": 8}
#: Settings of tiny models by model type; windows are shorter than the texts of the tests.
TINY: dict[str, dict] = {
    "llama": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 8},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "gpt_neox": {**_WIDTH, "max_position_embeddings": 512},
    "mistral": {**_GROUPED, "sliding_window": 11},
    "gemma": _GEMMA,
    "gemma2": {**_GEMMA, "sliding_window": 11, "query_pre_attn_scalar": 8, "attn_implementation": "eager"},
    "gemma3_text": {**_GEMMA, "num_hidden_layers": 3, "sliding_window": 11, "sliding_window_pattern": 2},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 11,
        "max_position_embeddings": 512,
    },
    # Recurrent and convolutional layers, which no cache of keys and values can hold.
    "lfm2": {**_GROUPED, "layer_types": ["conv", "full_attention"]},
    "rwkv": {"hidden_size": 32, "num_hidden_layers": 2, "context_length": 512},
}
#: Models that read both ways: they classify, and write nothing.
ENCODERS: dict[str, dict] = {
    "bert": {**_WIDTH, "max_position_embeddings": 64},
    "roberta": {**_WIDTH, "max_position_embeddings": 67},
}


def tiny_model(kind: str = "llama", *, vocab_size: int = 320, seed: int = 0, dtype=torch.float32, **overrides):
    """A tiny causal model with random weights, large enough that next tokens differ clearly."""
    settings = {**TINY[kind], **overrides}
    attention = settings.pop("attn_implementation", None)
    # Tied weights with large random embeddings would only repeat the last token.
    settings = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "tie_word_embeddings": False, **settings}
    config = CONFIG_MAPPING[kind](vocab_size=vocab_size, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, **({"attn_implementation": attention} if attention else {}))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.2)
    return model.to(dtype).eval()


def tiny_classifier(kind: str = "roberta", labels: int = 3, *, seed: int = 0, std: float = 0.2, **overrides):
    """A tiny model with a classification head and random weights."""
    settings = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, **(TINY | ENCODERS)[kind], **overrides}
    config = CONFIG_MAPPING[kind](vocab_size=320, num_labels=labels, **settings)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForSequenceClassification.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=std)
    return model.eval()


def tiny_tokenizer(*, chat: bool = False, vocab_size: int = 320) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on three sentences; `chat` gives it a template in the ChatML manner."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|im_end|>" if chat else "</s>", pad_token="<pad>"
    )
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    return fast


@dataclass
class LineTask(Task):
    """Steps are lines; the answer is a number after "The answer is"."""

    def question(self, row: PoolRow) -> str:
        return row.prompt if isinstance(row.prompt, str) else row.prompt[-1]["content"]

    def student_prompt(self, row: PoolRow) -> Prompt:
        return f"Question: {row.prompt}\n" if isinstance(row.prompt, str) else row.prompt

    def split_steps(self, text: str) -> list[StepSpan]:
        lines = re.finditer(r"[^\n]*\S[^\n]*", text)
        return [StepSpan(m.start(), m.end(), m.group()) for m in lines if not m.group().startswith("The answer is")]

    def read_answer(self, text: str) -> str | None:
        found = re.findall(r"The answer is (\S+)", text)
        return found[-1] if found else None

    def read_forced_answer(self, text: str) -> str | None:
        words = text.split()
        return words[0] if words else None

    def answers_equal(self, first: str | None, second: str | None) -> bool:
        return first is not None and first == second

    def render_completion(self, steps: list[str], answer: str) -> str:
        return "\n".join([*steps, f"The answer is {answer}"])


@dataclass
class ChunkTask(LineTask):
    """Steps are runs of nine characters, wherever they fall: random models write no lines. The answer is the end."""

    width: int = 9

    def split_steps(self, text: str) -> list[StepSpan]:
        starts = range(0, len(text), self.width)
        spans = [StepSpan(i, min(i + self.width, len(text)), text[i : i + self.width]) for i in starts]
        head, rest = spans[: self.max_steps], spans[self.max_steps :]
        if rest:
            head[-1] = StepSpan(head[-1].start, rest[-1].end, text[head[-1].start : rest[-1].end])
        return head

    def read_answer(self, text: str) -> str | None:
        return text[-3:].strip() or None

    def read_forced_answer(self, text: str) -> str | None:
        return text.strip()[:3] or None
