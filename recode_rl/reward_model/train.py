"""Bradley–Terry training of a reward model through TRL's RewardTrainer, on token ids that `scorer.encode` builds.

loss = -log sigmoid(s(x, chosen) - s(x, rejected)) (Bradley–Terry), plus a small term that centres the scores.

The pairs of one problem are trained together. A reasoning that is in several of them, as each is in a triple of
optimized, base and degraded, runs through the model once: three sequences in place of six.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import models, training
from recode_rl.adapters import adapted
from recode_rl.config import RewardModelConfig
from recode_rl.errors import DataError
from recode_rl.extras import need, quiet_transformers
from recode_rl.reward_model import card, head, tuning
from recode_rl.scorer import Encoded, distinct_pad_token, encode, reading
from recode_rl.types import PreferencePair

_LOGGED = {
    "loss": "loss",
    "accuracy": "accuracy",
    "margin": "margin",
    "mean_reward": "score_mean",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "eval_loss": "eval_loss",
    "eval_accuracy": "eval_accuracy",
}


@dataclass(frozen=True, slots=True)
class EncodedPairs:
    """Pairs as token ids, how many reasonings were cut to fit, and how many pairs were refused, by kind."""

    rows: list[dict[str, list[int]]]
    groups: list[str]
    """For each row, what it is trained together with: the pairs of one set of variants of a problem."""
    cut: int
    refused: Counter[str]
    problems: list[str]
    """The problem of each row, by its id."""
    prompts: dict[tuple[int, ...], int]
    """The distinct reasonings, and how many ids of each are the problem."""


def encode_pairs(tokenizer: Any, pairs: Sequence[PreferencePair], max_length: int) -> EncodedPairs:
    """Token ids of both sides. A pair whose sides became equal by cutting is refused and counted by kind."""
    rows: list[dict[str, list[int]]] = []
    groups: list[str] = []
    problems: list[str] = []
    refused: Counter[str] = Counter()
    prompts: dict[tuple[int, ...], int] = {}
    cut = 0
    for pair in pairs:
        chosen = encode(tokenizer, pair.problem, pair.chosen, max_length)
        rejected = encode(tokenizer, pair.problem, pair.rejected, max_length)
        if chosen.ids == rejected.ids:
            refused[pair.kind] += 1
            continue
        cut += chosen.cut + rejected.cut
        rows.append({"chosen_ids": chosen.ids, "rejected_ids": rejected.ids})
        prompts |= {tuple(side.ids): side.prompt for side in (chosen, rejected)}
        groups.append(_group(pair))
        problems.append(pair.problem_id)
    return EncodedPairs(rows, groups, cut, refused, problems, prompts)


def _group(pair: PreferencePair) -> str:
    """Pairs of one problem and one number (`p/opt_deg/2`, `p/ori_deg/2`) share their reasonings."""
    return f"{pair.problem_id}/{pair.id.rpartition(pair.kind)[2]}"


def subsample(pairs: Sequence[PreferencePair], limit: int | None, seed: int) -> list[PreferencePair]:
    """At most `limit` pairs, drawn evenly over the kinds, in a reproducible order."""
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    if limit is None or limit >= len(shuffled):
        return shuffled
    by_kind: dict[str, list[PreferencePair]] = {}
    for pair in shuffled:
        by_kind.setdefault(pair.kind, []).append(pair)
    chosen: list[PreferencePair] = []
    while len(chosen) < limit:
        for waiting in by_kind.values():
            if waiting and len(chosen) < limit:
                chosen.append(waiting.pop())
    return chosen


def train(
    config: RewardModelConfig,
    pairs: Sequence[PreferencePair],
    title: str = "reward model",
    validation: Sequence[PreferencePair] | None = None,
) -> Path:
    """Train on `pairs` and leave a plain sequence-classification folder at `config.out`.

    `validation` are held-out pairs; without them `config.validation_percent` of the problems are held out. Nothing is
    done where that folder is complete already; a stopped training continues at its last checkpoint. Run by a launcher
    in several processes, all of them call this, and the first one writes.

    Raises DataError where no pair of the wanted kinds is left.
    """
    if tuning.is_done(config):
        return config.out
    wanted = subsample([pair for pair in pairs if pair.kind in config.kinds], config.limit, config.seed)
    training_pairs, held_out = tuning.split(config, wanted, validation)
    if not training_pairs:
        raise DataError(f"no pairs of the kinds {', '.join(config.kinds)} to train on; check pairs, kinds and split")
    trainer, encoded, fitted = _trainer(config, training_pairs, held_out, title)
    facts = {
        "pairs": {"given": len(wanted), "trained": len(encoded.rows), "validation": len(held_out)},
        "kinds": dict(Counter(pair.kind for pair in training_pairs)),
        "generators": dict(Counter(pair.generator for pair in training_pairs)),
        "problems": len({pair.problem_id for pair in training_pairs}),
        "refused": dict(encoded.refused),
        "reasonings_cut": encoded.cut,
    }
    if fitted:
        facts["head"] = fitted
    return tuning.finish(trainer, config, facts, card.write)


def _trainer(
    config: RewardModelConfig, pairs: Sequence[PreferencePair], validation: Sequence[PreferencePair], title: str
) -> tuple[Any, EncodedPairs, dict[str, float]]:
    quiet_transformers()
    trl = need("trl", "train")
    datasets = need("datasets", "train")
    tokenizer = models.load_tokenizer(config.base)
    distinct_pad_token(tokenizer)
    encoded = encode_pairs(tokenizer, pairs, config.max_length)
    if not encoded.rows:
        raise DataError(
            f"all {len(pairs)} pairs became equal by cutting to max_length {config.max_length}; raise max_length"
        )
    held_out = encode_pairs(tokenizer, validation, config.max_length)
    work = tuning.begin(config)
    groups, per_forward = _grouped(encoded, config.micro_batch)
    plan = tuning.plan(config, len(groups), len(held_out.rows), per_forward)
    model, fitted = _model(config, encoded, tokenizer, work)
    trainer = trl.RewardTrainer(
        model=model,
        args=trl.RewardConfig(**tuning.arguments(config, plan, work), center_rewards_coefficient=config.center or None),
        train_dataset=datasets.Dataset.from_list(groups),
        eval_dataset=datasets.Dataset.from_list(_grouped(held_out, 1)[0]) if plan.evaluates else None,
        data_collator=functools.partial(collate, tokenizer.pad_token_id, encoded.prompts | held_out.prompts),
        processing_class=tokenizer,
        callbacks=tuning.callbacks(config, plan, work, title, _LOGGED),
        optimizers=training.optimizers(model, config.precision, config.learning_rate, 0.0),
    )
    return trainer, encoded, fitted


def _model(
    config: RewardModelConfig, encoded: EncodedPairs, tokenizer: Any, work: Path
) -> tuple[Any, dict[str, float]]:
    """The base with a new head, in the precision of its weights, with adapters where wanted, and how the head fits."""
    whole = config.likelihood > 0
    model = models.load_sequence_classifier(config.base, seed=config.seed, layers=None if whole else config.layers)
    chosen = reading.Reading(
        config.pooling, config.layers if whole else None, config.likelihood, copy_length=config.copy_length
    )
    reading.note(model, chosen, config.base)
    fitted: dict[str, float] = {}
    if config.fit_head:
        rows = [Encoded(list(ids), False, prompt) for ids, prompt in encoded.prompts.items()]
        fitted = head.give(model, chosen, rows, _sides(encoded), tokenizer, config.base, work)
    model = model.to(getattr(need("torch", "train"), training.model_dtype(config.precision)))
    scores_each_once(model)
    if config.lora is not None:
        model = adapted(model, config.lora, "SEQ_CLS", trained_whole=("score",))
    return model, fitted


def _sides(encoded: EncodedPairs) -> head.Sides:
    """The pairs as numbers of distinct reasonings."""
    place = {ids: number for number, ids in enumerate(encoded.prompts)}
    chosen, rejected = ([place[tuple(row[f"{side}_ids"])] for row in encoded.rows] for side in ("chosen", "rejected"))
    return head.Sides(chosen, rejected, encoded.problems)


Row = dict[str, list[list[int]]]


def _grouped(encoded: EncodedPairs, micro_batch: int) -> tuple[list[Row], int]:
    """Rows of pairs that are trained together, and how many rows make about `micro_batch` pairs.

    Over several processes every row has one pair: the processes exchange scores, and have to have equally many.
    """
    groups: dict[str, Row] = {}
    for number, (row, group) in enumerate(zip(encoded.rows, encoded.groups, strict=True)):
        key = group if training.processes() == 1 and micro_batch > 1 else str(number)
        found = groups.setdefault(key, {"chosen_ids": [], "rejected_ids": []})
        for side, ids in row.items():
            found[side].append(ids)
    largest = max((len(row["chosen_ids"]) for row in groups.values()), default=1)
    return list(groups.values()), max(1, micro_batch // largest)


def collate(pad: int, prompts: Mapping[tuple[int, ...], int], rows: Sequence[Row]) -> dict[str, Any]:
    """A batch in which no sequence occurs twice, padded on the right.

    `sides` (2 x pairs) names the row of every chosen side, then that of every rejected side; `prompts` (rows) is how
    many tokens of each row are the problem.
    """
    torch = need("torch", "train")
    sides = [tuple(ids) for side in ("chosen_ids", "rejected_ids") for row in rows for ids in row[side]]
    place = {ids: number for number, ids in enumerate(dict.fromkeys(sides))}
    width = max(map(len, place))
    return {
        "input_ids": torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in place]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in place]),
        "prompts": torch.tensor([prompts[ids] for ids in place]),
        "sides": torch.tensor([place[ids] for ids in sides]),
    }


def scores_each_once(model: Any) -> None:
    """Let the model take `sides` and `prompts` beside a batch, and answer with the scores as the engine expects them.

    They come in the order of `sides`, and are read as the model's config says (`scorer.reading`).
    """
    forward = model.forward
    read = reading.of(model)
    output = need("transformers.modeling_outputs", "train").SequenceClassifierOutputWithPast

    @functools.wraps(forward)
    def spread(*args: Any, sides: Any = None, prompts: Any = None, **kwargs: Any) -> Any:
        if read.plain:
            outputs = forward(*args, **kwargs)
        else:
            ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
            hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False, **read.asked)
            spans = list(zip(prompts.tolist(), (mask.sum(1) - 1).tolist(), strict=True))
            outputs = output(logits=read.scores(model, hidden, ids, spans)[:, None])
        if sides is not None:
            outputs.logits = outputs.logits[sides]
        return outputs

    model.forward = spread
