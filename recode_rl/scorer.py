"""The process reward: `score([(problem, reasoning)])` → values in [0, 1].

`encode` is the one function that builds the token ids of a problem with a reasoning, for training and for scoring:

    Problem:\\n{problem}\\n\\nReasoning:\\n{reasoning}<eos>

The program is never part of it. The text template is not published with the paper; this one is our choice.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl import models
from recode_rl.errors import ConfigError, ModelError
from recode_rl.extras import need

TOKENS_PER_BATCH = 4096
DEFAULT_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids of one (problem, reasoning), and whether its middle was cut out to fit."""

    ids: list[int]
    cut: bool


def encode(tokenizer: Any, problem: str, reasoning: str, max_length: int) -> Encoded:
    """Token ids that end in EOS, at most `max_length` of them.

    A reasoning that does not fit keeps its head and its tail; a problem statement may use half of the length. Text that
    spells a special token stays text: what a policy writes must not end the sequence or open another turn.
    """
    as_text = {"add_special_tokens": False, "split_special_tokens": True}
    prompt = tokenizer(f"Problem:\n{problem.strip()}\n\nReasoning:\n", **as_text)["input_ids"]
    body = tokenizer(reasoning.strip(), **as_text)["input_ids"]
    prompt = _cut_middle(prompt, max(max_length // 2, max_length - 1 - len(body)))
    kept = _cut_middle(body, max_length - 1 - len(prompt))
    return Encoded([*prompt, *kept, tokenizer.eos_token_id], cut=len(kept) < len(body))


def _cut_middle(ids: list[int], room: int) -> list[int]:
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


class RewardModelScorer:
    """A reward model in this process; safe to call from several threads, one batch at a time."""

    def __init__(self, model: str, max_length: int | None = None) -> None:
        """Load a sequence classifier with one output from a folder or hub id, in fp32.

        `max_length` is tokens of a problem with its reasoning; None takes 1024, or less where the model takes less.
        """
        self._torch: Any = need("torch", "train")
        self._tokenizer = models.load_tokenizer(model)
        distinct_pad_token(self._tokenizer)
        self._model = models.load_sequence_classifier(model).eval().to(models.device())
        self._model.config.get_text_config().pad_token_id = self._tokenizer.pad_token_id
        limit = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        max_length = max_length or min(DEFAULT_LENGTH, limit or DEFAULT_LENGTH)
        if limit is not None and max_length > limit:
            raise ConfigError(f"max_length {max_length}: model {model!r} takes at most {limit} tokens; lower it")
        self._max_length = max_length
        self._lock = threading.Lock()
        self.cut = 0
        """How many reasonings lost their middle so far."""

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """R_proc = sigmoid(s) of each `(problem, reasoning)`, in [0, 1]."""
        torch = self._torch
        return [float(value) for value in torch.sigmoid(torch.tensor(self.logits(items), dtype=torch.float64))]

    def logits(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """The raw scores s_θ(x, t). Sorted by length and padded on the right, so no score depends on its batch."""
        scores = [0.0] * len(items)
        with self._lock:  # the tokenizer and the count as well as the model: none of them is made for several threads
            encoded = [encode(self._tokenizer, problem, reasoning, self._max_length) for problem, reasoning in items]
            self.cut += sum(item.cut for item in encoded)
            for batch in _batches([len(item.ids) for item in encoded], TOKENS_PER_BATCH):
                for index, score in zip(batch, self._forward([encoded[i].ids for i in batch]), strict=True):
                    scores[index] = score
        return scores

    def _forward(self, rows: list[list[int]]) -> list[float]:
        torch = self._torch
        width = max(len(row) for row in rows)
        pad = self._tokenizer.pad_token_id
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self._model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self._model.device)
        with torch.no_grad():
            logits = self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        return [float(value) for value in logits.squeeze(-1).float().cpu()]


def _batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices grouped by similar length so that a padded group stays within `budget` tokens."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches
