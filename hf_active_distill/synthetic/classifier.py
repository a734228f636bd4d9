"""The very small encoder of the quickstart, from a configuration: nothing is loaded or downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from .messages import MessageWorld, vocabulary


if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

PAD, UNKNOWN, FIRST, LAST = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
_MAX_TOKENS = 64


def build_word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """
    A tokenizer with a token a word, in lower case, and signs by themselves. Texts and pairs get the usual frame.

    Args:
        words (`Iterable[str]`): The vocabulary beside full stop, comma and the special tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokens = [PAD, UNKNOWN, FIRST, LAST, ".", ",", *words]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {LAST}",
        pair=f"{FIRST} $A {LAST} $B {LAST}",
        special_tokens=[(FIRST, tokens.index(FIRST)), (LAST, tokens.index(LAST))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        cls_token=FIRST,
        sep_token=LAST,
        model_max_length=_MAX_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
    )


def build_classifier(
    world: MessageWorld, *, seed: int = 0, hidden_size: int = 64, num_layers: int = 2, dropout: float = 0.1
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """
    A student for a world of messages: a ModernBERT of some 100,000 parameters, with random weights, that classifies by
    the mean of its last hidden states. Some hundred labels teach it much of the world. It has dropout, so that
    strategies that need it can ask it several times.

    Args:
        world ([`MessageWorld`]): Names of the classes.
        seed (`int`, *optional*, defaults to `0`): Seed of the weights; torch's own random state is left as it was.
        hidden_size (`int`, *optional*, defaults to `64`): Width.
        num_layers (`int`, *optional*, defaults to `2`): Layers.
        dropout (`float`, *optional*, defaults to `0.1`): Of embeddings, layers and head.

    Returns:
        `tuple[PreTrainedModel, PreTrainedTokenizerFast]`: Both can be saved with `save_pretrained`.
    """
    import torch
    from transformers import ModernBertConfig, ModernBertForSequenceClassification

    tokenizer = build_word_tokenizer(vocabulary())
    special: dict[str, Any] = {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
        # transformers 4 would compile a model of this size for longer than it trains.
        "reference_compile": False,
    }
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        max_position_embeddings=_MAX_TOKENS,
        classifier_pooling="mean",
        embedding_dropout=dropout,
        mlp_dropout=dropout,
        classifier_dropout=dropout,
        id2label=dict(enumerate(world.labels)),
        label2id={label: index for index, label in enumerate(world.labels)},
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ModernBertForSequenceClassification(config)
    return model, tokenizer
