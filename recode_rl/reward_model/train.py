"""Bradley–Terry training of a reward model through TRL's RewardTrainer, on token ids that `scorer.encode` builds.

loss = -log sigmoid(s(x, chosen) - s(x, rejected)) (Bradley–Terry), plus a small term that centres the scores.

The pairs of one problem are trained together. A reasoning that is in several of them, as each is in a triple of
optimized, base and degraded, runs through the model once: three sequences in place of six.
"""

from __future__ import annotations

import functools
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import models, training
from recode_rl.config import RewardModelConfig
from recode_rl.errors import DataError
from recode_rl.extras import need, quiet_transformers
from recode_rl.problems.splits import fold_of
from recode_rl.reward_model import card
from recode_rl.scorer import distinct_pad_token, encode
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


def encode_pairs(tokenizer: Any, pairs: Sequence[PreferencePair], max_length: int) -> EncodedPairs:
    """Token ids of both sides. A pair whose sides became equal by cutting is refused and counted by kind."""
    rows: list[dict[str, list[int]]] = []
    groups: list[str] = []
    refused: Counter[str] = Counter()
    cut = 0
    for pair in pairs:
        chosen = encode(tokenizer, pair.problem, pair.chosen, max_length)
        rejected = encode(tokenizer, pair.problem, pair.rejected, max_length)
        if chosen.ids == rejected.ids:
            refused[pair.kind] += 1
            continue
        cut += chosen.cut + rejected.cut
        rows.append({"chosen_ids": chosen.ids, "rejected_ids": rejected.ids})
        groups.append(_group(pair))
    return EncodedPairs(rows, groups, cut, refused)


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
    out = config.out
    work = out.with_name(f".{out.name}-training")
    if training.is_done(out, "train-rm", config.model_dump(mode="json")):
        training.once(lambda: shutil.rmtree(work, ignore_errors=True))  # a kill behind the last step leaves it
        return out
    wanted = subsample([pair for pair in pairs if pair.kind in config.kinds], config.limit, config.seed)
    share = 0 if validation is not None else config.validation_percent
    held_out = {p.id: fold_of(p.problem_id, 100) < share for p in wanted}
    validation = [pair for pair in wanted if held_out[pair.id]] if validation is None else list(validation)
    training_pairs = [pair for pair in wanted if not held_out[pair.id]]
    if not training_pairs:
        raise DataError(f"no pairs of the kinds {', '.join(config.kinds)} to train on; check pairs, kinds and split")
    trainer, encoded = _trainer(config, training_pairs, validation, work, title)
    training.run_trainer(trainer, work)
    trained = training.masters_into(trainer.model, trainer.optimizer)
    if config.lora is not None:
        trained = trained.merge_and_unload()
    facts = {
        "pairs": {"given": len(wanted), "trained": len(encoded.rows), "validation": len(validation)},
        "kinds": dict(Counter(pair.kind for pair in training_pairs)),
        "generators": dict(Counter(pair.generator for pair in training_pairs)),
        "problems": len({pair.problem_id for pair in training_pairs}),
        "refused": dict(encoded.refused),
        "reasonings_cut": encoded.cut,
    }
    result = training.Result("train-rm", config, work, facts, lambda folder: card.write(folder, config.base))
    training.save_result(trained, trainer.processing_class, out, result, trainer)
    return out


def _trainer(
    config: RewardModelConfig,
    pairs: Sequence[PreferencePair],
    validation: Sequence[PreferencePair],
    work: Path,
    title: str,
) -> tuple[Any, EncodedPairs]:
    quiet_transformers()
    trl = need("trl", "train")
    datasets = need("datasets", "train")
    transformers = need("transformers", "train")
    tokenizer = models.load_tokenizer(config.base)
    distinct_pad_token(tokenizer)
    encoded = encode_pairs(tokenizer, pairs, config.max_length)
    if not encoded.rows:
        raise DataError(
            f"all {len(pairs)} pairs became equal by cutting to max_length {config.max_length}; raise max_length"
        )
    held_out = encode_pairs(tokenizer, validation, config.max_length)
    training.once(lambda: training.begin(work, config.model_dump(mode="json")))
    groups, per_forward = _grouped(encoded, config.micro_batch)
    accumulate = max(1, round(config.batch_size / (config.micro_batch * training.processes())))
    steps_per_epoch = -(-len(groups) // (per_forward * accumulate * training.processes()))
    steps = max(1, round(config.epochs * steps_per_epoch))
    every = config.evaluate_every or steps_per_epoch
    evaluate = bool(held_out.rows) and steps > every
    arguments = training.common_arguments(work, precision=config.precision, seed=config.seed, track=config.track)
    args = trl.RewardConfig(
        **(arguments | {"activation_checkpointing": config.activation_checkpointing}),
        max_steps=steps,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=per_forward,
        per_device_eval_batch_size=config.micro_batch,
        gradient_accumulation_steps=accumulate,
        center_rewards_coefficient=config.center or None,
        max_length=None,  # encode() has cut and counted; TRL would drop pairs in silence
        save_strategy="steps",
        save_steps=every,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=every if evaluate else None,
        load_best_model_at_end=evaluate,
        metric_for_best_model="eval_loss" if evaluate else None,
        greater_is_better=False if evaluate else None,
    )
    done = training.resumed_step(work)
    training.once(lambda: training.truncate_metrics(work / "metrics.jsonl", done))
    callbacks = [training.recorder(work / "metrics.jsonl", title, steps, done, _LOGGED)]
    if evaluate:
        callbacks.append(transformers.EarlyStoppingCallback(config.patience))
    model = _model(config)
    trainer = trl.RewardTrainer(
        model=model,
        args=args,
        train_dataset=datasets.Dataset.from_list(groups),
        eval_dataset=datasets.Dataset.from_list(_grouped(held_out, 1)[0]) if evaluate else None,
        data_collator=functools.partial(collate, tokenizer.pad_token_id),
        processing_class=tokenizer,
        callbacks=callbacks,
        optimizers=training.optimizers(model, config.precision, config.learning_rate, 0.0),
    )
    return trainer, encoded


def _model(config: RewardModelConfig) -> Any:
    """The base with a new head, in the precision of the weights; with adapters where they are wanted."""
    model = models.load_sequence_classifier(config.base, seed=config.seed, layers=config.layers)
    model = model.to(getattr(need("torch", "train"), training.model_dtype(config.precision)))
    scores_each_once(model)
    if config.lora is None:
        return model
    peft = need("peft", "train")
    lora, targets = config.lora, config.lora.targets
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            task_type=peft.TaskType.SEQ_CLS,
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            modules_to_save=["score"],
        ),
    )


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


def collate(pad: int, rows: Sequence[Row]) -> dict[str, Any]:
    """A batch in which no sequence occurs twice, padded on the right.

    `sides` (2 x pairs) names the row of every chosen side, then that of every rejected side.
    """
    torch = need("torch", "train")
    sides = [tuple(ids) for side in ("chosen_ids", "rejected_ids") for row in rows for ids in row[side]]
    place = {ids: number for number, ids in enumerate(dict.fromkeys(sides))}
    width = max(map(len, place))
    return {
        "input_ids": torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in place]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in place]),
        "sides": torch.tensor([place[ids] for ids in sides]),
    }


def scores_each_once(model: Any) -> None:
    """Let the model take `sides` beside a batch, and answer with the scores in that order, as the engine expects."""
    forward = model.forward

    @functools.wraps(forward)
    def spread(*args: Any, sides: Any = None, **kwargs: Any) -> Any:
        outputs = forward(*args, **kwargs)
        if sides is not None:
            outputs.logits = outputs.logits[sides]
        return outputs

    model.forward = spread
