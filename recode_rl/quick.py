"""Generation on a CPU with less work: cheaper draws, a cache that grows in place, and each prompt read once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from recode_rl.extras import need

_lock = threading.Lock()
_open = 0
_originals: list[tuple[Any, str, Any]] = []
_ROOM = 128  # tokens that a cache gets room for at least when it grows
_PREFILL = {"attention_mask", "past_key_values", "position_ids", "use_cache", "logits_to_keep"}


@contextmanager
def quick_generation() -> Iterator[None]:
    """While open, `transformers.generate` does three things in another way where it runs on a CPU.

    Tokens are drawn by the inverse distribution function: `torch.multinomial`, which is called for every token of every
    row, draws a random number for each entry of the vocabulary, which takes longer than the model when that is small.
    The distribution is the same, but for the rounding of sums in fp64; the random numbers are others.

    Keys and values of new tokens are written behind those that are there: `torch.cat` copies all of them for each
    token and each layer.

    Equal prompts are read once: the completions of a group share one, and reading the prompt of each of them takes as
    long as writing many tokens.

    All other calls go where they went. It holds for the whole process, and may be opened again, also by other threads,
    while it is open.
    """
    global _open
    with _lock:
        if _open == 0:
            _replace()
        _open += 1
    try:
        yield
    finally:
        with _lock:
            _open -= 1
            if _open == 0:
                while _originals:
                    setattr(*_originals.pop())


def _replace() -> None:
    torch: Any = need("torch", "train")
    layer = need("transformers.cache_utils", "train").DynamicLayer
    mixin = need("transformers", "train").GenerationMixin
    for owner, name, make in ((torch, "multinomial", _draws), (layer, "update", _grows), (mixin, "_prefill", _shares)):
        original = getattr(owner, name)
        _originals.append((owner, name, original))
        setattr(owner, name, make(torch, original))


def _draws(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in for `torch.multinomial`; its arguments have torch's names."""

    def multinomial(input: Any, num_samples: int, replacement: bool = False, **more: Any) -> Any:
        ours = num_samples == 1 and not more and input.dim() == 2
        if not ours or input.device.type != "cpu" or input.dtype != torch.float32:
            return original(input, num_samples, replacement, **more)
        sums = input.cumsum(dim=-1, dtype=torch.float64)
        total = sums[:, -1:]
        if not bool(((total > 0) & total.isfinite()).all()) or bool((input < 0).any()):
            return original(input, num_samples, replacement)  # what is no distribution is torch's to refuse
        # The first index whose sum is above the number has weight itself: one of weight 0 is never drawn.
        drawn = torch.searchsorted(sums, torch.rand_like(total) * total, right=True)
        return drawn.clamp_(max=input.shape[-1] - 1)

    return multinomial


def _grows(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in for `DynamicLayer.update`."""

    def update(self: Any, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
        plain = type(self).__name__ == "DynamicLayer" and key_states.device.type == "cpu"
        if not plain or torch.is_grad_enabled() or not self.is_initialized or self.keys.numel() == 0:
            return original(self, key_states, value_states, *args, **kwargs)
        self.keys = _appended(self, "_recode_keys", self.keys, key_states)
        self.values = _appended(self, "_recode_values", self.values, value_states)
        return self.keys, self.values

    return update


def _appended(layer: Any, name: str, there: Any, new: Any) -> Any:
    """`there` with `new` behind it, in a tensor with room for more that the layer keeps under `name`."""
    have, size = there.shape[-2], there.shape[-2] + new.shape[-2]
    room: Any = getattr(layer, name, None)
    # The cache may have been cut, reordered or replaced since: then it lies elsewhere, or has another form.
    same = room is not None and room.data_ptr() == there.data_ptr() and room.stride() == there.stride()
    if not same or room.shape[0] != there.shape[0] or room.shape[-2] < size:
        room = there.new_empty((*there.shape[:-2], size + max(_ROOM, have // 2), there.shape[-1]))
        room[..., :have, :] = there
        setattr(layer, name, room)
    room[..., have:size, :] = new
    return room[..., :size, :]


def _shares(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in for `GenerationMixin._prefill`."""

    def prefill(self: Any, input_ids: Any, config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        places = None
        if input_ids.device.type == "cpu" and _is_plain(torch, input_ids, config, model_kwargs):
            places = _first_places([input_ids, *filter(torch.is_tensor, model_kwargs.values())])
        if places is None:
            return original(self, input_ids, config, model_kwargs, *args, **kwargs)
        first = torch.tensor(sorted(set(places)))
        some = {key: value[first] if torch.is_tensor(value) else value for key, value in model_kwargs.items()}
        outputs = original(self, input_ids[first], config, some, *args, **kwargs)
        back = torch.searchsorted(first, torch.tensor(places))
        outputs.past_key_values.batch_select_indices(back)
        outputs.logits = outputs.logits[back]
        return outputs

    return prefill


def _is_plain(torch: Any, input_ids: Any, config: Any, model_kwargs: dict[str, Any]) -> bool:
    """Whether a prompt is all that is given, with nothing read of it yet, and nothing but the next token is wanted."""
    cache: Any = model_kwargs.get("past_key_values")
    if type(cache).__name__ != "DynamicCache" or cache.get_seq_length():
        return False
    if config.prefill_chunk_size or config.output_attentions or config.output_hidden_states:
        return False
    tensors = [value for value in model_kwargs.values() if torch.is_tensor(value)]
    given = {key for key, value in model_kwargs.items() if value is not None}
    return given <= _PREFILL and all(value.shape == input_ids.shape for value in tensors)


def _first_places(given: list[Any]) -> list[int] | None:
    """For each row the first one that is equal to it in all tensors; None where no two are."""
    seen: dict[tuple[int, ...], int] = {}
    rows = zip(*(tensor.tolist() for tensor in given), strict=True)
    places = [seen.setdefault(tuple(chain.from_iterable(row)), number) for number, row in enumerate(rows)]
    return places if len(seen) < len(places) else None
