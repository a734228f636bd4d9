"""The shipped student's tokenizer: words whole, every digit alone, any other text byte by byte."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from transformers import PreTrainedTokenizerFast


PAD, EOS = "<|pad|>", "<|end|>"

# Words take the space before them and signs those around them, so a step costs few tokens. A line break stands alone:
# cutting an explanation after a step and appending to it never moves a token boundary.
_PIECES = r"\d| ?[A-Za-z]+| ?[^\sA-Za-z\d]+ ?|\s"


def build_tokenizer(texts: Iterable[str], *, vocab_size: int = 384) -> PreTrainedTokenizerFast:
    """
    Trains a byte-level BPE tokenizer that never merges over the borders of words, signs and digits.

    Args:
        texts (`Iterable[str]`): What the student will read and write.
        vocab_size (`int`, *optional*, defaults to `384`): Upper bound of the vocabulary.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, clean_up_tokenization_spaces=False
    )


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Saves a tokenizer so that transformers 4 and 5 both load it: 5 writes a class name that 4 does not know."""
    tokenizer.save_pretrained(str(folder))
    path = Path(folder) / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
