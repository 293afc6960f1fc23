"""Models on a CPU with less work: cheaper draws, a cache that grows in place, nothing computed twice or in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from recode_rl.extras import need

_lock = threading.Lock()
_open = 0
_originals: list[tuple[Any, str, Any]] = []
_ROOM = 128  # tokens that a cache gets room for at least when it grows
_WORTH_LEAVING = 0.9  # of the rows of a cache: to leave some out, the others are copied
_WORTH_LAYING_OUT = 16  # tokens: to lay the weights out takes as long as writing a few
_LARGEST_LAID_OUT = 10**9  # parameters, which are there twice then
_TOGETHER = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
_LOOP = {"logits_processor", "stopping_criteria", "generation_config", "synced_gpus", "streamer"}
_PREFILL = {"attention_mask", "past_key_values", "position_ids", "use_cache", "logits_to_keep"}


@contextmanager
def quick_generation() -> Iterator[None]:
    """While open, `transformers.generate` does five things in another way where it runs on a CPU.

    Tokens are drawn by the inverse distribution function: `torch.multinomial`, which is called for every token of every
    row, draws a random number for each entry of the vocabulary, which takes longer than the model when that is small.
    The distribution is the same, but for the rounding of sums in fp64; the random numbers are others.

    Keys and values of new tokens are written behind those that are there: `torch.cat` copies all of them for each
    token and each layer.

    Equal prompts are read once: the completions of a group share one, and reading the prompt of each of them takes as
    long as writing many tokens.

    Rows that have ended are left out: transformers computes them until the longest has ended.

    The weights of a small model in bfloat16 are laid out for oneDNN once in a generation, and matrices that read the
    same input are one: torch lays each of them out again for every token.

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
    for owner, name, make in (
        (torch, "multinomial", _draws),
        (layer, "update", _grows),
        (mixin, "_prefill", _shares),
        (mixin, "_sample", _writes),
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


def _writes(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """What stands in for `GenerationMixin._sample`; the arguments by name are those that it passes on to the model."""
    leaving = _leaves_out(torch, original)

    def sample(self: Any, input_ids: Any, **given: Any) -> Any:
        tokens = (given["generation_config"].max_length or 0) - input_ids.shape[1]
        parts = _parts(torch, self) if tokens >= _WORTH_LAYING_OUT and not torch.is_grad_enabled() else []
        with ExitStack() as stack:
            for layers in parts:
                stack.enter_context(_laid_out(torch, layers))
            return leaving(self, input_ids, **given)

    return sample


def _parts(torch: Any, model: Any) -> list[list[Any]]:
    """The linear layers of a model that can be laid out, those together that read the same input."""
    op = torch.ops.mkldnn
    if model.device.type != "cpu" or model.dtype != torch.bfloat16 or model.num_parameters() > _LARGEST_LAID_OUT:
        return []
    if not torch.backends.mkldnn.is_available() or not op._is_mkldnn_bf16_supported():
        return []
    found = [
        [getattr(module, name, None) for name in names] for module in model.modules() for names in _TOGETHER
    ]  # fmt: skip
    return [layers for layers in [*found, [model.get_output_embeddings()]] if _can_be_one(torch, layers)]


def _can_be_one(torch: Any, layers: list[Any]) -> bool:
    """Whether these are plain linear layers in bfloat16, whose results are what torch computes and nothing else."""
    if any(type(layer) is not torch.nn.Linear or "forward" in vars(layer) for layer in layers):
        return False
    kinds = {(layer.weight.dtype, layer.in_features, layer.bias is None) for layer in layers}
    return len(kinds) == 1 and layers[0].weight.dtype == torch.bfloat16


@contextmanager
def _laid_out(torch: Any, layers: list[Any]) -> Iterator[None]:
    """While open, these layers are computed as one matrix, which is laid out for oneDNN."""
    op = torch.ops.mkldnn
    weight = op._reorder_linear_weight(torch.cat([layer.weight.detach() for layer in layers]), 16)
    bias = None if layers[0].bias is None else torch.cat([layer.bias.detach() for layer in layers])
    sizes = [layer.out_features for layer in layers]
    last: tuple[Any, Any] = (None, ())

    def forward_of(number: int) -> Callable[..., Any]:
        def forward(input: Any) -> Any:
            nonlocal last
            given, found = last  # one read: another thread may write it meanwhile
            if given is not input:
                found = op._linear_pointwise(input, weight, bias, "none", [], "").split(sizes, dim=-1)
                last = (input, found)
            return found[number]

        return forward

    for number, layer in enumerate(layers):
        layer.forward = forward_of(number)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _leaves_out(torch: Any, original: Callable[..., Any]) -> Callable[..., Any]:
    """The loop of a generation, which no longer computes rows that have ended."""

    # Not made in a generation: what a class refers to is freed by the garbage collector alone, which may come late.
    class Noting(need("transformers", "train").StoppingCriteriaList):  # type: ignore[misc]  # transformers is imported when it is needed
        """The same list, but that the rows hear of what it says."""

        rows: _Rows

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            ended = super().__call__(*args, **kwargs)
            self.rows.ended |= ended
            return ended

    def sample(self: Any, input_ids: Any, **given: Any) -> Any:
        config, criteria = given["generation_config"], given["stopping_criteria"]
        passed_on = {key: value for key, value in given.items() if key not in _LOOP}
        mine = len(input_ids) > 1 and input_ids.device.type == "cpu" and not config.return_dict_in_generate
        cache = given.get("past_key_values")
        if not mine or not _is_plain(torch, input_ids, config, passed_on) or getattr(cache, "_is_user_defined", False):
            return original(self, input_ids, **given)
        rows = _Rows(torch, len(input_ids), cache)
        noting = Noting(criteria)
        noting.rows = rows
        hooks = [self.register_forward_pre_hook(rows.select, with_kwargs=True), self.register_forward_hook(rows.fill)]
        try:
            return original(self, input_ids, **{**given, "stopping_criteria": noting})
        finally:
            for hook in hooks:
                hook.remove()

    return sample


class _Rows:
    """Which rows of a generation the model still computes."""

    def __init__(self, torch: Any, count: int, cache: Any) -> None:
        self.torch, self.count, self.cache = torch, count, cache
        self.kept = torch.arange(count)
        self.ended = torch.zeros(count, dtype=torch.bool)
        self.thread = threading.get_ident()  # another one may use the same model meanwhile

    def select(self, module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        """Before a forward pass: only the rows that have not ended, also of the cache."""
        if threading.get_ident() != self.thread:
            return None
        going = ~self.ended[self.kept]
        left = int(going.sum())
        if 0 < left <= len(self.kept) * _WORTH_LEAVING:
            self.cache.batch_select_indices(going.nonzero()[:, 0])
            self.kept = self.kept[going]
        if len(self.kept) == self.count:
            return None
        return args, {key: self._of_kept(value) for key, value in kwargs.items()}

    def _of_kept(self, value: Any) -> Any:
        each = self.torch.is_tensor(value) and value.dim() > 1 and len(value) == self.count
        return value[self.kept] if each else value

    def fill(self, module: Any, args: Any, output: Any) -> None:
        """After it: logits of zero for the others, in whose place transformers writes padding."""
        if threading.get_ident() == self.thread and len(self.kept) < self.count:
            logits = output.logits.new_zeros((self.count, *output.logits.shape[1:]))
            logits[self.kept] = output.logits
            output.logits = logits
