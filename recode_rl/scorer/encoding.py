"""Token ids of a problem with a reasoning: the one function for training and for scoring, and the token to pad with.

    Problem:\\n{problem}\\n\\nReasoning:\\n{reasoning}<eos>

The program is never part of it. The text template is not published with the paper; this one is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recode_rl.errors import ModelError


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one (problem, reasoning): how many of them are the prompt, and whether the reasoning was cut."""

    ids: list[int]
    cut: bool
    prompt: int = 0
    before: tuple[int, ...] = ()
    """The ids that stood before these, where they are the rest of a row."""

    def behind(self, tokens: int) -> Encoded:
        """What follows the first `tokens` ids; of a prompt that ends before that, nothing is left."""
        return Encoded(self.ids[tokens:], self.cut, max(0, self.prompt - tokens), (*self.before, *self.ids[:tokens]))


def encode(tokenizer: Any, problem: str, reasoning: str, max_length: int) -> Encoded:
    """Token ids that end in EOS, at most `max_length` of them.

    A reasoning that does not fit keeps its head and its tail; a problem statement may use half of the length. Text that
    spells a special token stays text: what a policy writes must not end the sequence or open another turn.
    """
    as_text = {"add_special_tokens": False, "split_special_tokens": True}
    prompt = tokenizer(f"Problem:\n{problem.strip()}\n\nReasoning:\n", **as_text)["input_ids"]
    body = tokenizer(reasoning.strip(), **as_text)["input_ids"]
    prompt = cut_middle(prompt, max(max_length // 2, max_length - 1 - len(body)))
    kept = cut_middle(body, max_length - 1 - len(prompt))
    return Encoded([*prompt, *kept, tokenizer.eos_token_id], cut=len(kept) < len(body), prompt=len(prompt))


def cut_middle(ids: list[int], room: int) -> list[int]:
    """The head and the tail of `ids`, `room` tokens together."""
    if len(ids) <= room:
        return ids
    tail = room // 2
    return ids[: room - tail] + (ids[-tail:] if tail else [])


def distinct_pad_token(tokenizer: Any) -> None:
    """Give the tokenizer a pad token other than EOS.

    A sequence classifier reads the score at the last token that is not padding; with pad = EOS it would skip the EOS
    that training put there, and read another position.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError("the tokenizer has no end-of-sequence token; a reward model needs one")
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    special = [token for token in tokenizer.added_tokens_decoder.values() if token.special]
    candidates = [tokenizer.unk_token, *(str(token) for token in special), tokenizer.bos_token]
    for token in candidates:
        if token is not None and tokenizer.convert_tokens_to_ids(token) != tokenizer.eos_token_id:
            tokenizer.pad_token = token
            return
    raise ModelError("the tokenizer has no special token besides EOS to pad with; add one and resize the model")
