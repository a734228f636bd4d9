"""Between text and token ids: prompts, training rows, what was written, and where in its tokens a character lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import DataError
from ..records import Messages, Prompt


#: No tokenizer puts more tokens of its own around a text.
_MARKS = 8


@dataclass(frozen=True)
class Written:
    """
    Generated ids as text. `text` (the visible part, stripped) stands at `raw[start:]`; `opening` is where the visible
    part begins, right behind the thinking block, white space included.
    """

    tokens: list[int]
    raw: str
    text: str
    thinking: str | None
    start: int
    opening: int


class Codec:
    """
    The one place where a student's prompts and completions become ids, so that training and inference see the same.

    A conversation goes through the chat template, plain text is tokenized as it is, as in TRL.

    Args:
        processing_class (`PreTrainedTokenizerBase` or `ProcessorMixin`):
            Tokenizer, or a processor that holds one.
        chat_template_kwargs (`dict`, *optional*):
            Passed to the chat template, for example `{"enable_thinking": False}`.
        thinking_tags (`tuple[str, str]`, *optional*, defaults to `("<think>", "</think>")`):
            What encloses reasoning that is not part of the explanation.
        max_length (`int`, *optional*):
            Longest training row in tokens; longer ones lose their end.
    """

    def __init__(
        self,
        processing_class: Any,
        *,
        chat_template_kwargs: dict[str, Any] | None = None,
        thinking_tags: tuple[str, str] = ("<think>", "</think>"),
        max_length: int | None = None,
    ):
        self.processing_class = processing_class
        self.tokenizer = getattr(processing_class, "tokenizer", processing_class)
        self.chat_template_kwargs = dict(chat_template_kwargs or {})
        self.thinking_tags = thinking_tags
        self.max_length = max_length
        added = self.tokenizer.added_tokens_decoder
        special = {token for token, entry in added.items() if entry.special and entry.content not in thinking_tags}
        named = {token for token in self.tokenizer.all_special_ids if token not in added}
        self._hidden = frozenset(special | named)
        self._turn_end: int | None = None

    # Prompts

    def encode_prompt(self, prompt: Prompt) -> list[int]:
        """Ids of a prompt as the model is given them."""
        if not isinstance(prompt, str):
            return self.encode_text(self.render_prompt(prompt))
        ids = list(self.tokenizer(prompt)["input_ids"])
        # Some tokenizers close every text; a prompt is open-ended.
        return ids[:-1] if ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def is_shorter(self, prompt: Prompt, limit: int) -> bool:
        """Whether a prompt has fewer than `limit` tokens. Most are told by their bytes: a token has at least one."""
        text = prompt if isinstance(prompt, str) else self.render_prompt(prompt)
        return len(text.encode()) + _MARKS < limit or len(self.encode_prompt(prompt)) < limit

    def render_prompt(self, messages: Messages) -> str:
        """A conversation through the chat template, ready for the assistant's turn."""
        if not getattr(self.processing_class, "chat_template", None):
            raise DataError(
                "The prompt is a conversation and the processing class has no chat template. Set "
                "`processing_class.chat_template` (or `chat_template_path`), or make the prompt column plain text."
            )
        return self.processing_class.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **self.chat_template_kwargs
        )

    def encode_text(self, text: str) -> list[int]:
        """Ids of text that special tokens are not to be added to."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def encode_answer(self, cue: str, answer: str) -> tuple[list[int], list[int]]:
        """
        Ids of the cue and of the answer behind it. They are tokenized together, which is how a tokenizer would see
        them, unless cue and answer then share a token.
        """
        answer = answer if cue[-1:].isspace() or not cue else " " + answer
        head, both = self.encode_text(cue), self.encode_text(cue + answer)
        if both[: len(head)] == head and len(both) > len(head):
            return head, both[len(head) :]
        return head, self.encode_text(answer)

    # Training rows

    def encode_training(self, prompt: Prompt, completion: str, thinking: str | None = None) -> dict[str, Any]:
        """
        A training row: the very ids that inference sees, then the completion and the token that ends a turn.

        Args:
            prompt (`str` or `list[dict]`):
                Prompt as in [`encode_prompt`].
            completion (`str`):
                Target text.
            thinking (`str`, *optional*):
                Reasoning, put into thinking tags before the completion.

        Returns:
            `dict`: `input_ids`; `completion_mask`, 1 where the loss counts; `truncated`, whether `max_length` cut it.
        """
        head = self.encode_prompt(prompt)
        tail = self.encode_completion(prompt, head, completion, thinking)
        ids, mask = head + tail, [0] * len(head) + [1] * len(tail)
        limit = len(ids) if self.max_length is None else self.max_length
        return {"input_ids": ids[:limit], "completion_mask": mask[:limit], "truncated": len(ids) > limit}

    def encode_completion(
        self, prompt: Prompt, prompt_ids: Sequence[int], completion: str, thinking: str | None = None
    ) -> list[int]:
        """What stands behind a prompt's ids in a training row, uncut: the completion and the token that ends it."""
        opening, closing = self.thinking_tags
        if self.opens_thinking(prompt_ids):  # the template has opened the block: the target has to close it
            completion = f"{(thinking or '').strip()}\n{closing}\n\n{completion}"
        elif thinking:
            completion = f"{opening}\n{thinking.strip()}\n{closing}\n\n{completion}"
        return [*self.encode_text(completion), self.turn_end(prompt)]

    def turn_end(self, prompt: Prompt) -> int:
        """The token that ends a completion: what the chat template puts behind an assistant's turn, else EOS."""
        if isinstance(prompt, str):
            return self._eos()
        if self._turn_end is None:
            self._turn_end = self._template_turn_end()
        return self._turn_end

    def _template_turn_end(self) -> int:
        marker = "@completion@"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": marker}]
        text = self.processing_class.apply_chat_template(turns, tokenize=False, **self.chat_template_kwargs)
        behind = self.encode_text(text[text.rfind(marker) + len(marker) :].lstrip())
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        return behind[0] if behind and behind[0] in special else self._eos()

    def _eos(self) -> int:
        if self.tokenizer.eos_token_id is None:
            raise DataError("The tokenizer has no end-of-sequence token. Set `processing_class.eos_token`.")
        return self.tokenizer.eos_token_id

    # What the student wrote

    def read(self, tokens: Sequence[int], *, thinks: bool = False) -> Written:
        """
        Splits generated ids into thinking and visible text.

        Args:
            tokens (`Sequence[int]`):
                Generated ids.
            thinks (`bool`, *optional*, defaults to `False`):
                Whether the prompt itself ends inside an open thinking block.
        """
        raw = self.decode(tokens)
        opening, closing = self.thinking_tags
        begins = raw.lstrip().startswith(opening)
        if closing in raw:
            inside, _, visible = raw.partition(closing)
            thinking: str | None = inside.replace(opening, "", 1).strip()
        elif begins or thinks:
            thinking, visible = raw.replace(opening, "", 1).strip(), ""
        else:
            thinking, visible = None, raw
        start = len(raw) - len(visible.lstrip())
        return Written(list(tokens), raw, visible.strip(), thinking or None, start, len(raw) - len(visible))

    def read_plain(self, tokens: Sequence[int]) -> Written:
        """Generated ids as text, a thinking block being part of it."""
        raw = self.decode(tokens)
        return Written(list(tokens), raw, raw.strip(), None, len(raw) - len(raw.lstrip()), 0)

    def without_end(self, tokens: Sequence[int]) -> list[int]:
        """Generated ids without the special tokens at their end."""
        end = len(tokens)
        while end and tokens[end - 1] in self._hidden:
            end -= 1
        return list(tokens[:end])

    def opens_thinking(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt ends with an opening tag that the student has to close."""
        return self.decode(prompt[-8:]).rstrip().endswith(self.thinking_tags[0])

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of ids without special tokens; thinking tags stay even where they are special."""
        shown = [token for token in tokens if token not in self._hidden]
        return self.tokenizer.decode(shown, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def tokens_covering(self, tokens: Sequence[int], characters: int, *, whole: bool = True) -> int:
        """
        The fewest leading tokens whose text has at least `characters` characters. A token that the boundary cuts is
        taken whole, so a prefix is always a run of ids that was really generated. With `whole=False` the first bytes
        of a character count as the character.
        """
        low, high = 0, len(tokens)
        while low < high:
            middle = (low + high) // 2
            # The bytes of an unfinished character decode to a replacement sign that is not text yet.
            text = self.decode(tokens[:middle])
            if len(text.rstrip("\ufffd") if whole else text) >= characters:
                high = middle
            else:
                low = middle + 1
        return low
