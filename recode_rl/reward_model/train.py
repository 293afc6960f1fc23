"""Bradley–Terry training of a reward model through TRL's RewardTrainer, on token ids that `scorer.encode` builds.

loss = -log sigmoid(s(x, chosen) - s(x, rejected)) (Bradley–Terry), plus a small term that centres the scores.
"""

from __future__ import annotations

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
    cut: int
    refused: Counter[str]


def encode_pairs(tokenizer: Any, pairs: Sequence[PreferencePair], max_length: int) -> EncodedPairs:
    """Token ids of both sides. A pair whose sides became equal by cutting is refused and counted by kind."""
    rows: list[dict[str, list[int]]] = []
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
    return EncodedPairs(rows, cut, refused)


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


def train(config: RewardModelConfig, pairs: Sequence[PreferencePair], title: str = "reward model") -> Path:
    """Train on `pairs` and leave a plain sequence-classification folder at `config.out`.

    Nothing is done where that folder is complete already; a stopped training continues at its last checkpoint.
    Raises DataError where no pair of the wanted kinds is left.
    """
    out = config.out
    work = out.with_name(f".{out.name}-training")
    if training.is_done(out, "train-rm", config.model_dump(mode="json")):
        shutil.rmtree(work, ignore_errors=True)  # a kill behind the last step leaves it
        return out
    wanted = subsample([pair for pair in pairs if pair.kind in config.kinds], config.limit, config.seed)
    held_out = {p.id: fold_of(p.problem_id, 100) < config.validation_percent for p in wanted}
    validation = [pair for pair in wanted if held_out[pair.id]]
    training_pairs = [pair for pair in wanted if not held_out[pair.id]]
    if not training_pairs:
        raise DataError(f"no pairs of the kinds {', '.join(config.kinds)} to train on; check pairs, kinds and split")
    trainer, encoded = _trainer(config, training_pairs, validation, work, title)
    training.run_trainer(trainer, work)
    trained = training.masters_into(trainer.model, trainer.optimizer)
    facts = {
        "pairs": {"given": len(wanted), "trained": len(encoded.rows), "validation": len(validation)},
        "refused": dict(encoded.refused),
        "reasonings_cut": encoded.cut,
    }
    training.save_result(trained, trainer.processing_class, out, training.Result("train-rm", config, work, facts))
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
    model = models.load_sequence_classifier(config.base, seed=config.seed, layers=config.layers)
    model = model.to(getattr(need("torch", "train"), training.model_dtype(config.precision)))
    encoded = encode_pairs(tokenizer, pairs, config.max_length)
    if not encoded.rows:
        raise DataError(
            f"all {len(pairs)} pairs became equal by cutting to max_length {config.max_length}; raise max_length"
        )
    held_out = encode_pairs(tokenizer, validation, config.max_length)
    training.begin(work, config.model_dump(mode="json"))
    accumulate = max(1, config.batch_size // config.micro_batch)
    steps_per_epoch = -(-len(encoded.rows) // (config.micro_batch * accumulate))
    steps = max(1, round(config.epochs * steps_per_epoch))
    evaluate = bool(held_out.rows) and config.epochs > 1
    arguments = training.common_arguments(work, precision=config.precision, seed=config.seed, track=config.track)
    args = trl.RewardConfig(
        **arguments,
        max_steps=steps,
        learning_rate=config.learning_rate,
        per_device_train_batch_size=config.micro_batch,
        per_device_eval_batch_size=config.micro_batch,
        gradient_accumulation_steps=accumulate,
        center_rewards_coefficient=config.center or None,
        max_length=None,  # encode() has cut and counted; TRL would drop pairs in silence
        save_strategy="steps",
        save_steps=steps_per_epoch,
        eval_strategy="steps" if evaluate else "no",
        eval_steps=steps_per_epoch if evaluate else None,
        load_best_model_at_end=evaluate,
        metric_for_best_model="eval_loss" if evaluate else None,
        greater_is_better=False if evaluate else None,
    )
    done = training.resumed_step(work)
    training.truncate_metrics(work / "metrics.jsonl", done)
    callbacks = [training.recorder(work / "metrics.jsonl", title, steps, done, _LOGGED)]
    if evaluate:
        callbacks.append(transformers.EarlyStoppingCallback(config.patience))
    trainer = trl.RewardTrainer(
        model=model,
        args=args,
        train_dataset=datasets.Dataset.from_list(encoded.rows),
        eval_dataset=datasets.Dataset.from_list(held_out.rows) if evaluate else None,
        processing_class=tokenizer,
        callbacks=callbacks,
        optimizers=training.optimizers(model, config.precision, config.learning_rate, 0.0),
    )
    return trainer, encoded
