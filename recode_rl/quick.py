"""Models on a CPU with less work: cheaper draws, a cache that grows in place, prompts read once, quick attention."""

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
_WEIGHTS = 2**25  # weights of one row's attention, of which two or three tensors are made at a time
_PREFILL = {"attention_mask", "past_key_values", "position_ids", "use_cache", "logits_to_keep"}


@contextmanager
def quick_cpu() -> Iterator[None]:
    """While open, generation and training do four things in another way where they run on a CPU.

    Tokens are drawn by the inverse distribution function: `torch.multinomial`, which is called for every token of every
    row, draws a random number for each entry of the vocabulary, which takes longer than the model when that is small.
    The distribution is the same, but for the rounding of sums in fp64; the random numbers are others.

    Keys and values of new tokens are written behind those that are there: `torch.cat` copies all of them for each
    token and each layer.

    Equal prompts are read once: the completions of a group share one, and reading the prompt of each of them takes as
    long as writing many tokens.

    The gradient of attention in bf16 is computed from the whole matrix of weights, which is made again for it: torch's
    own (2.13) walks through blocks of it and takes three to six times as long. The values are the same to the rounding
    of bf16.

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
    functional = torch.nn.functional
    for owner, name, make in (
        (torch, "multinomial", _draws),
        (layer, "update", _grows),
        (mixin, "_prefill", _shares),
        (functional, "scaled_dot_product_attention", _attends),
    ):
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


def _attends(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in for `torch.nn.functional.scaled_dot_product_attention`; its arguments have torch's names."""

    class Attention(torch.autograd.Function):  # type: ignore[misc]  # torch is imported when it is needed
        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any, causal: bool, scale: float) -> Any:
            shared = key.shape[1] != query.shape[1]
            ctx.save_for_backward(query, key, value, mask)
            ctx.causal, ctx.scale = causal, scale
            return original(query, key, value, mask, is_causal=causal, scale=scale, enable_gqa=shared)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            query, key, value, mask = ctx.saved_tensors
            hidden = None if mask is None else ~mask
            if ctx.causal:
                hidden = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool).triu(1)
            found = [torch.empty_like(tensor) for tensor in (query, key, value)]
            for row in range(len(query)):
                of_row = hidden[min(row, len(hidden) - 1)] if hidden is not None and hidden.dim() == 4 else hidden
                one = query[row], key[row], value[row], gradient[row]
                for rows, of_one in zip(found, _attention_gradients(torch, *one, of_row, ctx.scale), strict=True):
                    rows[row] = of_one
            return *found, None, None, None

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **more: Any,
    ) -> Any:
        learns = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (query, key, value))
        if not learns or dropout_p or not _is_plain_attention(torch, query, key, value, attn_mask):
            return original(query, key, value, attn_mask, dropout_p, is_causal, scale=scale, **more)
        return Attention.apply(query, key, value, attn_mask, is_causal, scale or query.shape[-1] ** -0.5)

    return attention


def _is_plain_attention(torch: Any, query: Any, key: Any, value: Any, mask: Any) -> bool:
    """Whether it is in bf16 on a CPU, without autocast, with what may be seen as yes and no, and not too long."""
    tensors = (query, key, value)
    if torch.is_autocast_enabled("cpu"):
        return False
    if any(one.device.type != "cpu" or one.dtype != torch.bfloat16 or one.dim() != 4 for one in tensors):
        return False
    if mask is not None and (mask.dtype != torch.bool or mask.dim() not in (2, 4)):
        return False
    return bool(query.shape[1] * query.shape[2] * key.shape[2] <= _WEIGHTS)


def _attention_gradients(
    torch: Any, query: Any, key: Any, value: Any, gradient: Any, hidden: Any, scale: float
) -> tuple[Any, Any, Any]:
    """Gradients of one row's query (heads, length, size), key and value; heads that share a key follow each other.

    `hidden`: what may not be seen, (length, length) or that for each head, or for one; None where all may be.
    """
    shape, heads = query.shape, len(key)
    query, gradient = query.reshape(heads, -1, shape[-1]), gradient.reshape(heads, -1, gradient.shape[-1])
    weights = torch.baddbmm(query.new_empty(1), query, key.transpose(1, 2), beta=0, alpha=scale)
    if hidden is not None:
        weights.view(*shape[:-1], -1).masked_fill_(hidden, -torch.inf)
    weights = torch.softmax(weights, dim=-1)
    if hidden is not None and bool(hidden.all(-1).any()):
        weights.nan_to_num_(0.0)  # what may see nothing, such as padding, has no gradient
    of_value = torch.bmm(weights.transpose(1, 2), gradient)
    products = torch.bmm(gradient, value.transpose(1, 2))
    of_scores = torch.ops.aten._softmax_backward_data(products, weights, -1, weights.dtype)
    of_query = torch.bmm(of_scores, key).mul_(scale)
    of_key = torch.bmm(of_scores.transpose(1, 2), query).mul_(scale)
    return of_query.view(shape), of_key, of_value
