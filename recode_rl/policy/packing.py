"""The updates of GRPO on a CPU with less work: prompts are read once, padding and gradients of zero are left out.

A batch of GRPO repeats each prompt for every completion of its group, and pads all rows to the longest of a whole
generation. Here the distinct prompts of a forward pass and the completions behind them stand in one row, in which a
token sees its own prompt and its own completion alone, at the positions that it has in a row of its own. The values
are the same, and so are the gradients, but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl.extras import need

_MODELS = frozenset({"llama", "qwen2", "qwen3"})  # in which one token knows of another by attention alone


@dataclass(frozen=True, slots=True)
class Packed:
    """The rows of a batch as one row of T tokens, and where the N tokens of completions are in both."""

    ids: Any
    positions: Any
    """T positions, which each token has in a row of its own."""
    rows: Any
    """N numbers of rows of the batch."""
    columns: Any
    """N places in the completion."""
    places: Any
    """N places in the packed row."""
    lengths: tuple[tuple[int, ...], ...]
    """For each prompt, in the order of the row, its tokens that are shared, and those of each completion behind it."""

    def inputs(self) -> dict[str, Any]:
        """What the model takes: ids, positions and labels (1 x T), and the lengths, which say what sees what.

        A mask of four dimensions is taken as it is, which keeps the model from making one of its own.
        """
        labels = self.ids.new_full(self.ids.shape, -100)
        labels[self.places] = self.ids[self.places]
        return {
            "input_ids": self.ids[None],
            "attention_mask": self.ids.new_ones((1, 1, 1, 1), dtype=need("torch", "train").bool),
            "position_ids": self.positions[None],
            "labels": labels[None],
            "packed_lengths": self.lengths,
        }


def packed(ids: Any, mask: Any, completion: int) -> Packed:
    """Pack prompts and completions (rows x length, of which the last `completion` columns are the completions').

    What `mask` leaves out is not there. The last token of a prompt stands before each of its completions, so that
    their first token is predicted there.
    """
    torch = need("torch", "train")
    border = ids.shape[1] - completion
    members: dict[tuple[int, ...], list[int]] = {}
    for number, (row, seen) in enumerate(zip(ids[:, :border], mask[:, :border], strict=True)):
        members.setdefault(tuple(row[seen.bool()].tolist()), []).append(number)
    parts: dict[str, list[Any]] = {name: [] for name in ("ids", "positions")}
    where: dict[str, list[Any]] = {name: [] for name in ("rows", "columns", "places")}
    lengths: list[tuple[int, ...]] = []
    length = 0

    def put(tokens: Any, position: int) -> None:
        nonlocal length
        parts["ids"].append(tokens)
        parts["positions"].append(torch.arange(position, position + len(tokens)))
        length += len(tokens)

    for tokens, numbers in members.items():
        put(ids.new_tensor(tokens[:-1]), 0)
        for number in numbers:
            there = mask[number, border:].nonzero()[:, 0]
            where["rows"].append(torch.full_like(there, number))
            where["columns"].append(there)
            where["places"].append(torch.arange(length + 1, length + 1 + len(there)))
            put(torch.cat([ids.new_tensor(tokens[-1:]), ids[number, border + there]]), len(tokens) - 1)
        behind = [len(part) for part in parts["ids"][-len(numbers) :]]
        lengths.append((len(tokens) - 1, *behind))
    return Packed(**{name: torch.cat(values) for name, values in (parts | where).items()}, lengths=tuple(lengths))


def _teach_attention() -> None:
    """Make the attention of transformers that is computed by torch take the lengths of a pack, where it is given them.

    A token sees its own prompt and its own completion, so each completion is computed for itself behind the keys of its
    prompt: of a whole row under a mask, whose products are all computed, that is a fraction.
    """
    functions = need("transformers.modeling_utils", "train").ALL_ATTENTION_FUNCTIONS
    original = functions["sdpa"]
    if getattr(original, "takes_packs", False):
        return

    def attend(
        module: Any, query: Any, key: Any, value: Any, attention_mask: Any, *, packed_lengths: Any = None, **more: Any
    ) -> tuple[Any, None]:
        if packed_lengths is None:
            return original(module, query, key, value, attention_mask, **more)  # type: ignore[no-any-return]
        return _of_pieces(query, key, value, packed_lengths, more["scaling"], more["dropout"]), None

    attend.takes_packs = True  # type: ignore[attr-defined]
    functions["sdpa"] = attend


def _of_pieces(query: Any, key: Any, value: Any, lengths: Any, scaling: float, dropout: float) -> Any:
    """Attention (1 x T x heads x width) of a packed row, whose query, key and value are 1 x heads x T x width."""
    torch = need("torch", "train")
    sizes = [size for sizes in lengths for size in sizes]
    pieces = zip(*(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True)
    # On a CPU the gradient of torch's fused kernel takes longer in bfloat16 than the products themselves.
    attend = _by_products if query.dtype == torch.bfloat16 and torch.is_grad_enabled() and not dropout else _fused
    found = []
    for behind in lengths:
        before: list[Any] = []  # key and value of the prompt
        for asked, *own in (next(pieces) for _ in behind):
            keys, values = (torch.cat(both, dim=2) for both in zip(before, own, strict=True)) if before else own
            found.append(attend(asked, keys, values, scaling, dropout).transpose(1, 2))
            before = before or own
    return torch.cat(found, dim=1)


def _fused(query: Any, key: Any, value: Any, scaling: float, dropout: float) -> Any:
    """Attention (1 x heads x A x width) of A tokens to the S tokens of key and value, of which they are the last."""
    torch = need("torch", "train")
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    mask = query.new_ones((query.shape[2], key.shape[2]), dtype=torch.bool).tril(key.shape[2] - query.shape[2])
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scaling)


def _by_products(query: Any, key: Any, value: Any, scaling: float, _: float) -> Any:
    """The same as `_fused` without dropout, rounded as by the eager attention of transformers: the A x S weights are
    kept for the gradient, 2 bytes each in bfloat16.
    """
    _one, heads, asked, width = query.shape
    kept, seen = key.shape[1:3]
    ahead = query.new_full((asked, seen), float("-inf")).triu(seen - asked + 1)
    together = (query * scaling).reshape(1, kept, -1, width)  # heads that share a key are one matrix
    scores = together @ key.transpose(2, 3)
    weights = scores.view(1, heads, asked, seen).add_(ahead).softmax(-1)
    return (weights.view(1, kept, -1, seen) @ value).view(1, heads, asked, width)


def arranged(batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of equally large batches in another order: what is no row stays.

    Rows of one prompt come next to each other, and those without an advantage behind the others.
    """
    torch = need("torch", "train")
    size = len(batches[0]["prompt_ids"])
    prompts = [tuple(row) for batch in batches for row in batch["prompt_ids"].tolist()]
    learns = [bool(row) for batch in batches for row in _learns(batch)]
    order = sorted(range(len(prompts)), key=lambda number: (not learns[number], prompts[number]))
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    made: list[dict[str, Any]] = [dict(batch) for batch in batches]
    for key, first in batches[0].items():
        if torch.is_tensor(first) and first.dim() > 0:
            whole = torch.cat([batch[key] for batch in batches])
            for batch, part in zip(made, parts, strict=True):
                batch[key] = whole[part]
        elif isinstance(first, list):
            items = [item for batch in batches for item in batch[key]]
            for batch, part in zip(made, parts, strict=True):
                batch[key] = [items[number] for number in part]
    return made


def _learns(batch: Mapping[str, Any]) -> Any:
    """For each row whether it has an advantage: where all of a group earned the same, none of it has one."""
    advantages = batch["advantages"]
    return advantages.reshape(len(advantages), -1).ne(0).any(dim=1)


def trainer_class() -> Any:
    """TRL's GRPOTrainer, which does less for the same update where it runs on a CPU.

    What it computes probabilities of is packed. The rows of one update are put in an order first in which a forward
    pass has few prompts.

    A row without an advantage has no gradient, as the loss is its advantage times something: it is read for its
    entropy, which is recorded, and nothing goes backwards through it.

    The probabilities before the update, which the ratio of an update needs, are computed for the rows of the second
    and later updates of a generation batch that have an advantage. In the first they are those that it computes anyway.
    """
    torch = need("torch", "train")
    trl = need("trl", "train")
    _teach_attention()

    class PackingTrainer(trl.GRPOTrainer):  # type: ignore[misc,name-defined]  # trl is imported when it is needed
        _buffered_inputs: Any  # TRL's: the rows of a generation batch, as they are trained on
        _learning: Any = None  # of the rows of the loss that is being computed, which have an advantage
        _later = False  # whether probabilities before the update are computed behind the generation

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            before = self._buffered_inputs
            suited = self.model.training and _suits(self.model)
            later = suited and self._advantage_is_all() and self.num_iterations == 1 and not self.use_vllm
            self._later = later
            try:
                inputs = super()._prepare_inputs(generation_batch)
            finally:
                self._later = False
            if not suited or self._buffered_inputs is before:
                return inputs
            update, every = self.args.gradient_accumulation_steps, self.args.steps_per_generation
            batches = self._buffered_inputs
            self._buffered_inputs = [
                batch for start in range(0, every, update) for batch in arranged(batches[start : start + update])
            ]
            for number, batch in enumerate(self._buffered_inputs):
                if later and batch.pop("old_per_token_logps", None) is not None and number >= update:
                    batch["old_per_token_logps"] = self._before_update(batch)
            return self._buffered_inputs[self._step % every]

        def _advantage_is_all(self) -> bool:
            """Whether a row without an advantage has no part in the loss. Several processes wait for each gradient."""
            alone = self.accelerator.num_processes == 1
            return alone and self.beta == 0 and self.args.loss_type == "dapo" and not self._entropy_bonus_enabled

        def _before_update(self, batch: Mapping[str, Any]) -> Any:
            """Log-probabilities (rows x completion) of the rows with an advantage; of the others 0."""
            ids, mask = (
                torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], dim=1) for name in ("ids", "mask")
            )
            learns, shape = _learns(batch), batch["completion_ids"].shape
            if not learns.any():
                return torch.zeros(shape)
            with torch.no_grad():
                logps = self._get_per_token_logps_and_entropies(self.model, ids[learns], mask[learns], shape[1])[0]
            return logps.new_zeros(shape).index_put((learns,), logps)

        def _compute_loss(self, model: Any, inputs: Any) -> Any:
            if torch.is_grad_enabled() and self._advantage_is_all():
                self._learning = _learns(inputs)
            try:
                return super()._compute_loss(model, inputs)
            finally:
                self._learning = None

        def _get_per_token_logps_and_entropies(
            self,
            model: Any,
            input_ids: Any,
            attention_mask: Any,
            logits_to_keep: int,
            batch_size: int | None = None,
            compute_entropy: bool = False,
            **more: Any,
        ) -> tuple[Any, Any, Any]:
            if any(value is not None and value is not False for value in more.values()) or not _suits(self.model):
                plain = super()._get_per_token_logps_and_entropies
                return plain(model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **more)  # type: ignore[no-any-return]
            if self._later and not torch.is_grad_enabled():
                return torch.zeros((len(input_ids), logits_to_keep)), None, None
            learning = self._learning if self._learning is not None else torch.ones(len(input_ids), dtype=torch.bool)
            parts = [
                (some, gradient)
                for rows, gradient in ((learning, torch.is_grad_enabled()), (~learning, False))
                for some in rows.nonzero()[:, 0].split(batch_size or len(rows))
                if len(some)
            ]
            found = []
            for some, gradient in parts:
                pack = packed(input_ids[some], attention_mask[some], logits_to_keep)
                with torch.set_grad_enabled(gradient):
                    found.append(self._of_pack(model, pack, (len(some), logits_to_keep), compute_entropy))
            back = torch.cat([some for some, _ in parts]).argsort()
            logps, entropies = (
                torch.cat(values)[back] if values[0] is not None else None for values in zip(*found, strict=True)
            )
            if torch.is_grad_enabled() and not learning.any():
                # A gradient of 0 is no missing one: the optimizer's momentum moves the weights all the same.
                logps = logps + 0.0 * sum(value.sum() for value in model.parameters() if value.requires_grad)
            return logps, entropies, None

        def _of_pack(self, model: Any, pack: Packed, shape: tuple[int, int], entropy: bool) -> tuple[Any, Any]:
            """Log-probabilities (rows x completion) and entropies, 0 where there is no token."""
            with self.accelerator.autocast():
                outputs = model(**pack.inputs(), fused_lm_head=True)

            def spread(values: Any) -> Any:
                at = (pack.rows, pack.columns)
                return values.new_zeros(shape).index_put(at, values[0, pack.places - 1])

            return spread(outputs.log_probs), spread(outputs.entropy) if entropy else None

    return PackingTrainer


def _suits(model: Any) -> bool:
    """Whether a token of this model sees what the mask says and nothing else, and where it stands by its position."""
    config = model.config
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    plain = config.model_type in _MODELS and config._attn_implementation == "sdpa"
    return plain and set(layers) == {"full_attention"} and model.device.type == "cpu"
