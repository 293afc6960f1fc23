"""Token ids that fit: a problem and a reasoning between fixed parts, cut in the middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recode_rl.errors import ConfigError
from recode_rl.scorer.encoding import cut_middle


@dataclass(frozen=True, slots=True)
class Frame:
    """Token ids around the problem and the reasoning: before, between and behind them."""

    head: list[int]
    middle: list[int]
    tail: list[int]


@dataclass(frozen=True, slots=True)
class Fitted:
    """Token ids of one (problem, reasoning), how many of them come before it, and whether it lost its middle to fit."""

    ids: list[int]
    cut: bool
    prompt: int = 0


def fit(frame: Frame, problem: list[int], reasoning: list[int], max_length: int) -> Fitted:
    """The whole in at most `max_length` tokens, the frame complete.

    A reasoning that does not fit keeps its head and its tail; a problem may use half of what the frame leaves. Raises
    ConfigError where the frame leaves nothing.
    """
    room = max_length - len(frame.head) - len(frame.middle) - len(frame.tail)
    if room < 2:
        raise ConfigError(f"max_length {max_length}: the text around the reasoning alone takes that much; raise it")
    stated = cut_middle(problem, max(room // 2, room - len(reasoning)))
    kept = cut_middle(reasoning, room - len(stated))
    before = [*frame.head, *stated, *frame.middle]
    return Fitted([*before, *kept, *frame.tail], len(kept) < len(reasoning), len(before))


def as_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of text in which a spelled special token stays text."""
    return list(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])


def length_limit(model: Any, name: str, wanted: int | None, default: int) -> int:
    """`wanted` tokens, or `default`, or less where the model takes less; ConfigError where `wanted` is too much."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if wanted is None:
        return min(default, limit or default)
    if limit is not None and wanted > limit:
        raise ConfigError(f"max_length {wanted}: model {name!r} takes at most {limit} tokens; lower it")
    return wanted
