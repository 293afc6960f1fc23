"""A sequence classifier run in two ways: the plain padded batch, and rows that go on from a prefix they share.

The plain way is the model's own forward. In the other, the backbone runs over each prefix once and keeps its keys and
values; the rows of a batch take theirs from there, run over what is left of them, and the head reads the last token:

    keys and values   [ prefix of the row's group, padded on the right | rest of the row, padded on the right ]
    mask                1 1 1 1 1 0 0                                    1 1 1 0
    positions                                                            5 6 7 7

Both compute the same function; their scores differ by rounding alone. Where a score is read off the whole reasoning
(`scorer.reading`), the last token of the prompt belongs to the rest: it foretells the first word.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from recode_rl.extras import need
from recode_rl.scorer import reading
from recode_rl.scorer.encoding import Encoded
from recode_rl.scorer.groups import Group, batches

_NEEDED = ("input_ids", "attention_mask", "position_ids", "past_key_values", "use_cache")


class CannotShare(Exception):
    """This model's state after a prefix cannot be handed to several rows; the message says why."""


class Classifier:
    """A model with one output, on its device, in evaluation mode. Not for several threads at a time."""

    _head = "score"

    def __init__(self, model: Any, pad: int, max_length: int) -> None:
        self._torch: Any = need("torch", "train")
        self._model = model
        self._pad = pad
        self._max_length = max_length
        self._reading = reading.of(model)
        self.whole_reasonings = not self._reading.plain
        """Whether every token of a reasoning takes part in its score, so that no prefix may reach into it."""

    def plain(self, rows: Sequence[Encoded]) -> list[float]:
        """Scores of rows in one padded batch."""
        ids, mask = self._padded([row.ids for row in rows])
        with self._torch.inference_mode():
            if self.whole_reasonings:
                asked = {"use_cache": False, **self._reading.asked}
                hidden = self._model.base_model(input_ids=ids, attention_mask=mask, **asked)
                return self._numbers(self._read(hidden, ids, rows))
            return self._numbers(self._model(input_ids=ids, attention_mask=mask, use_cache=False).logits.squeeze(-1))

    def _read(self, hidden: Any, ids: Any, rows: Sequence[Encoded]) -> Any:
        """Scores off the states of rows whose prompts may have begun before `ids`, [rows]."""
        spans = [(row.prompt, len(row.ids) - 1) for row in rows]
        return self._read_spans(hidden, ids, spans, [row.before for row in rows])

    def _read_spans(self, hidden: Any, ids: Any, spans: reading.Spans, before: reading.Before) -> Any:
        return self._reading.scores(self._model, hidden, ids, spans, before)

    def check(self) -> None:
        """CannotShare where the model is seen, before it has run, to be none that can share a prefix."""
        backbone = self._model.base_model
        if backbone is self._model or not isinstance(getattr(self._model, self._head, None), self._torch.nn.Module):
            raise CannotShare(f"it is not a backbone with a head named {self._head!r}")
        taken = inspect.signature(backbone.forward).parameters
        missing = [name for name in _NEEDED if name not in taken]
        if missing:
            raise CannotShare(f"its backbone does not take {' and '.join(missing)}")
        if getattr(self._model.config, "is_encoder_decoder", False):
            raise CannotShare("it is an encoder with a decoder")

    def shared(self, rows: Sequence[Encoded], groups: Sequence[Group], budget: int) -> dict[int, float]:
        """Scores of the rows in `groups`, by their index in `rows`; CannotShare where the model keeps another state.

        Prefixes of several groups run together, and so do rows of several groups: each padded batch stays within
        `budget` tokens, which for rows counts their prefix too, as its keys and values are held for every row.
        """
        scores: dict[int, float] = {}
        with self._torch.inference_mode():
            for chunk in batches([len(group.prefix) for group in groups], budget):
                scores |= self._chunk(rows, [groups[index] for index in chunk], budget)
        return scores

    def _chunk(self, rows: Sequence[Encoded], groups: Sequence[Group], budget: int) -> dict[int, float]:
        torch = self._torch
        ids, prefix_mask = self._padded([group.prefix for group in groups])
        out = self._model.base_model(input_ids=ids, attention_mask=prefix_mask, use_cache=True)
        held = self._checked(out.past_key_values)
        members = [(number, row) for number, group in enumerate(groups) for row in group.rows]
        tails = [rows[row].behind(len(groups[number].prefix)) for number, row in members]
        scores: dict[int, float] = {}
        for batch in batches([ids.shape[1] + len(tail.ids) for tail in tails], budget):
            of_group = torch.tensor([members[index][0] for index in batch], device=ids.device)
            values = self._tails(held, of_group, prefix_mask[of_group], [tails[index] for index in batch])
            scores |= {members[index][1]: value for index, value in zip(batch, values, strict=True)}
        return scores

    def _tails(self, held: Any, of_group: Any, prefix_mask: Any, tails: Sequence[Encoded]) -> list[float]:
        """Scores of rows that go on from the prefixes whose numbers are in `of_group`."""
        ids, mask = self._padded([tail.ids for tail in tails])
        hidden = self._go_on(held, of_group, prefix_mask, ids, mask)
        if self.whole_reasonings:
            return self._numbers(self._read(hidden, ids, tails))
        return self._numbers(self._model.score(self._last(hidden, mask)).squeeze(-1))

    def _go_on(self, held: Any, of_row: Any, before: Any, ids: Any, mask: Any) -> Any:
        """What the backbone gives for `ids` [rows, tokens] behind the held rows `of_row`, whose mask is `before`."""
        torch = self._torch
        start, lengths = before.sum(1, keepdim=True), mask.sum(1, keepdim=True)
        steps = torch.arange(ids.shape[1], device=ids.device).unsqueeze(0)
        return self._model.base_model(
            input_ids=ids,
            attention_mask=torch.cat([before, mask], dim=1),
            position_ids=start + torch.minimum(steps, lengths - 1),  # padding must not run out of the positions
            past_key_values=_of_rows(held, of_row),
            use_cache=True,
            **self._reading.asked,
        )

    def _last(self, hidden: Any, mask: Any) -> Any:
        """The state of each row's last token, [rows, width]."""
        states = hidden.last_hidden_state
        return states[self._torch.arange(len(states), device=states.device), mask.sum(1) - 1]

    def _checked(self, cache: Any) -> Any:
        """The cache, if it holds keys and values of all tokens in each layer."""
        kinds = need("transformers.cache_utils", "train")
        for layer in getattr(cache, "layers", [None]):
            window = getattr(layer, "sliding_window", None)
            if window is not None and window < 2 * self._max_length:  # padding lies between a prefix and its rows
                raise CannotShare(f"a layer sees {window} tokens only, which is less than twice max_length")
            if type(layer) not in (kinds.DynamicLayer, kinds.DynamicSlidingWindowLayer):
                raise CannotShare(f"a layer keeps its state as {type(layer).__name__}, not as keys and values")
        return cache

    def _padded(self, rows: Sequence[list[int]]) -> tuple[Any, Any]:
        """Ids and mask of rows padded on the right, both of shape [rows, longest]."""
        torch, device = self._torch, self._model.device
        width = max(map(len, rows))
        ids = [[*row, *[self._pad] * (width - len(row))] for row in rows]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)

    @staticmethod
    def _numbers(scores: Any) -> list[Any]:
        numbers: list[Any] = scores.float().cpu().tolist()
        return numbers


def _of_rows(held: Any, of_group: Any) -> Any:
    """A cache with one entry a row; the one that is held stays as it is, for the next batch of rows."""
    cache = copy.copy(held)
    cache.layers = [copy.copy(layer) for layer in held.layers]
    cache.batch_select_indices(of_group)
    return cache
