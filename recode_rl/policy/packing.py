"""The probabilities of completions on a CPU with less work: a group reads its prompt once, and padding is left out.

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
    prompts: Any
    """T numbers of prompts."""
    owners: Any
    """T numbers of rows of the batch; -1 where several share the token."""
    rows: Any
    """N numbers of rows of the batch."""
    columns: Any
    """N places in the completion."""
    places: Any
    """N places in the packed row."""

    def inputs(self) -> dict[str, Any]:
        """What the model takes: ids, positions and labels (1 x T), and which token sees which (1 x 1 x T x T)."""
        labels = self.ids.new_full(self.ids.shape, -100)
        labels[self.places] = self.ids[self.places]
        shared_or_mine = (self.owners < 0) | (self.owners == self.owners[:, None])
        sees = (self.prompts == self.prompts[:, None]) & shared_or_mine
        return {
            "input_ids": self.ids[None],
            "attention_mask": sees.tril()[None, None],
            "position_ids": self.positions[None],
            "labels": labels[None],
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
    parts: dict[str, list[Any]] = {name: [] for name in ("ids", "positions", "prompts", "owners")}
    where: dict[str, list[Any]] = {name: [] for name in ("rows", "columns", "places")}
    length = 0

    def put(tokens: Any, position: int, prompt: int, owner: int) -> None:
        nonlocal length
        parts["ids"].append(tokens)
        parts["positions"].append(torch.arange(position, position + len(tokens)))
        parts["prompts"].append(torch.full_like(tokens, prompt))
        parts["owners"].append(torch.full_like(tokens, owner))
        length += len(tokens)

    for prompt, (tokens, numbers) in enumerate(members.items()):
        put(ids.new_tensor(tokens[:-1]), 0, prompt, -1)
        for number in numbers:
            there = mask[number, border:].nonzero()[:, 0]
            where["rows"].append(torch.full_like(there, number))
            where["columns"].append(there)
            where["places"].append(torch.arange(length + 1, length + 1 + len(there)))
            put(torch.cat([ids.new_tensor(tokens[-1:]), ids[number, border + there]]), len(tokens) - 1, prompt, number)
    return Packed(**{name: torch.cat(values) for name, values in (parts | where).items()})


def by_prompt(batches: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows of equally large batches with those of one prompt next to each other; what is no row stays."""
    torch = need("torch", "train")
    size = len(batches[0]["prompt_ids"])
    prompts = [tuple(row) for batch in batches for row in batch["prompt_ids"].tolist()]
    order = sorted(range(len(prompts)), key=prompts.__getitem__)
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    arranged: list[dict[str, Any]] = [dict(batch) for batch in batches]
    for key, first in batches[0].items():
        if torch.is_tensor(first) and first.dim() > 0:
            whole = torch.cat([batch[key] for batch in batches])
            for batch, part in zip(arranged, parts, strict=True):
                batch[key] = whole[part]
        elif isinstance(first, list):
            items = [item for batch in batches for item in batch[key]]
            for batch, part in zip(arranged, parts, strict=True):
                batch[key] = [items[number] for number in part]
    return arranged


def trainer_class() -> Any:
    """TRL's GRPOTrainer, which on a CPU packs what it computes probabilities of, where that is less work.

    The rows of one update are put in the order of their prompts first, so that a forward pass has few of them.
    """
    torch = need("torch", "train")
    trl = need("trl", "train")

    class PackingTrainer(trl.GRPOTrainer):  # type: ignore[misc,name-defined]  # trl is imported when it is needed
        _buffered_inputs: Any  # TRL's: the rows of a generation batch, as they are trained on

        def _prepare_inputs(self, generation_batch: Any) -> Any:
            before = self._buffered_inputs
            inputs = super()._prepare_inputs(generation_batch)
            if not self.model.training or self._buffered_inputs is before or not _suits(self.model):
                return inputs
            update, every = self.args.gradient_accumulation_steps, self.args.steps_per_generation
            batches = self._buffered_inputs
            self._buffered_inputs = [
                batch for start in range(0, every, update) for batch in by_prompt(batches[start : start + update])
            ]
            return self._buffered_inputs[self._step % every]

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
            plain = super()._get_per_token_logps_and_entropies
            if any(value is not None and value is not False for value in more.values()) or not _suits(self.model):
                return plain(model, input_ids, attention_mask, logits_to_keep, batch_size, compute_entropy, **more)  # type: ignore[no-any-return]
            found = []
            for ids, mask in zip(*(t.split(batch_size or len(t)) for t in (input_ids, attention_mask)), strict=True):
                pack = packed(ids, mask, logits_to_keep)
                if _work(self.model.config, 1, len(pack.ids)) < _work(self.model.config, *ids.shape):
                    found.append(self._of_pack(model, pack, (len(ids), logits_to_keep), compute_entropy))
                else:
                    found.append(plain(model, ids, mask, logits_to_keep, None, compute_entropy)[:2])
            logps, entropies = zip(*found, strict=True)
            return torch.cat(logps), torch.cat(entropies) if compute_entropy else None, None

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


def _work(config: Any, rows: int, length: int) -> int:
    """Products that a layer computes for these rows, about, divided by its width: attention sees masked places too."""
    return int(rows * length * (8 * config.hidden_size + 6 * config.intermediate_size + 4 * length))
