"""Training of the score-based baseline: a language model learns to say the score that a judge gave a reasoning.

loss = cross-entropy on the tokens of the score alone, through TRL's SFTTrainer, on sequences that
`generative.encode_example` builds. The model is read by `generative.GenerativeScorer`.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import models, training
from recode_rl.adapters import adapted
from recode_rl.config import RewardModelConfig
from recode_rl.errors import DataError
from recode_rl.extras import need, quiet_transformers
from recode_rl.reward_model import card, tuning
from recode_rl.reward_model.generative import IGNORED, SCORES, encode_example
from recode_rl.reward_model.scored import ScoredReasoning, by_score

_LOGGED = {
    "loss": "loss",
    "mean_token_accuracy": "token_accuracy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "eval_loss": "eval_loss",
    "eval_mean_token_accuracy": "eval_token_accuracy",
}


@dataclass(frozen=True, slots=True)
class EncodedScores:
    """Sequences with the score's tokens as labels, and how many reasonings were cut to fit."""

    rows: list[dict[str, list[int]]]
    cut: int


def encode_scored(tokenizer: Any, scored: Sequence[ScoredReasoning], max_length: int) -> EncodedScores:
    """Token ids and labels of scored reasonings, at most `max_length` each."""
    examples = [encode_example(tokenizer, one.problem, one.reasoning, one.score, max_length) for one in scored]
    rows = [{"input_ids": example.input_ids, "labels": example.labels} for example in examples]
    return EncodedScores(rows, sum(example.cut for example in examples))


def train_score(
    config: RewardModelConfig,
    scored: Sequence[ScoredReasoning],
    title: str = "score-based reward model",
    validation: Sequence[ScoredReasoning] | None = None,
) -> Path:
    """Train on `scored` and leave a plain language model folder at `config.out`, which names objective "score".

    Held-out reasonings, early stopping, resuming and several processes are as in Bradley–Terry training. Raises
    DataError where nothing is left to train on, or all scores are the same.
    """
    if tuning.is_done(config):
        return config.out
    shuffled = list(scored)
    random.Random(config.seed).shuffle(shuffled)
    wanted, held_out = tuning.split(config, shuffled[: config.limit], validation)
    if len({one.score for one in wanted}) < 2:
        raise DataError(f"scored: {len(wanted)} reasonings to train on with one score at most; nothing can be learnt")
    trainer, cut, tokens = _trainer(config, wanted, held_out, title)
    facts = {
        "reasonings": {"given": len(scored), "trained": len(wanted), "validation": len(held_out)},
        "scores": by_score(wanted),
        "judges": dict(Counter(one.judge for one in wanted)),
        "generators": dict(Counter(one.generator for one in wanted)),
        "problems": len({one.problem_id for one in wanted}),
        "reasonings_cut": cut,
        "held_out_loss_of_frequencies": loss_of_frequencies(wanted, held_out, tokens) if held_out else None,
    }
    return tuning.finish(trainer, config, facts, card.write)


def loss_of_frequencies(
    known: Sequence[ScoredReasoning], held_out: Sequence[ScoredReasoning], tokens_per_score: float
) -> float:
    """What the held-out loss is, in nats a token, of saying each score as often as it occurs in `known` (plus one).

    A model whose loss is not below it has learnt nothing from the reasonings.
    """
    counts = Counter(round(10 * one.score) for one in known)
    total = len(known) + len(SCORES)
    nats = [-math.log((counts[round(10 * one.score)] + 1) / total) for one in held_out]
    return sum(nats) / len(nats) / tokens_per_score


def _trainer(
    config: RewardModelConfig,
    scored: Sequence[ScoredReasoning],
    validation: Sequence[ScoredReasoning],
    title: str,
) -> tuple[Any, int, float]:
    """The trainer, how many reasonings were cut, and how many tokens a held-out score has on average."""
    quiet_transformers()
    trl = need("trl", "train")
    datasets = need("datasets", "train")
    tokenizer = models.load_tokenizer(config.base)
    encoded = encode_scored(tokenizer, scored, config.max_length)
    held_out = encode_scored(tokenizer, validation, config.max_length)
    work = tuning.begin(config)
    plan = tuning.plan(config, len(encoded.rows), len(held_out.rows), config.micro_batch)
    model = models.load_causal(config.base, training.model_dtype(config.precision))
    if config.lora is not None:
        need("transformers", "train").set_seed(config.seed)
        model = adapted(model, config.lora, "CAUSAL_LM")
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(**tuning.arguments(config, plan, work)),
        train_dataset=datasets.Dataset.from_list(encoded.rows),
        eval_dataset=datasets.Dataset.from_list(held_out.rows) if plan.evaluates else None,
        processing_class=tokenizer,
        callbacks=tuning.callbacks(config, plan, work, title, _LOGGED),
        optimizers=training.optimizers(model, config.precision, config.learning_rate, 0.0),
    )
    said = sum(label != IGNORED for row in held_out.rows for label in row["labels"])
    return trainer, encoded.cut, said / max(1, len(held_out.rows))
