"""A reward model in this process."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl import models
from recode_rl.errors import ConfigError
from recode_rl.progress import console
from recode_rl.scorer.classifier import CannotShare, Classifier
from recode_rl.scorer.encoding import Encoded, distinct_pad_token, encode
from recode_rl.scorer.groups import TOKENS_PER_BATCH, Group, batches, shared_groups

DEFAULT_LENGTH = 1024
# Two problems of different length with two reasonings each: what a model must score alike both ways before it shares.
PROBE = (
    ("Add a and b.", "Return their sum."),
    ("Add a and b.", "Take b from a, which is not what was asked."),
    ("Read n, then n numbers, and print the largest of them.", "Keep the largest one seen so far."),
    ("Read n, then n numbers, and print the largest of them.", "Sort them."),
)
_SAME = 1e-4


@dataclass(frozen=True, slots=True)
class Loaded:
    """A sequence classifier with one output that is in memory already, with its tokenizer."""

    model: Any
    tokenizer: Any
    name: str = "the reward model"


@dataclass(frozen=True, slots=True)
class Score:
    """R_proc in [0, 1] of one reasoning, and whether its middle was cut out to fit."""

    value: float
    cut: bool = False


class RewardModelScorer:
    """A reward model in this process; safe to call from several threads, one batch at a time.

    The reasonings of one problem run on one prefix, as far as the model can do that; equal ones run once.
    """

    def __init__(
        self, model: str | Loaded, max_length: int | None = None, *, tokens_per_batch: int = TOKENS_PER_BATCH
    ) -> None:
        """Load a sequence classifier with one output from a folder or hub id, in fp32, or take one that is loaded.

        `max_length` is tokens of a problem with its reasoning; None takes 1024, or less where the model takes less.
        `tokens_per_batch` bounds the tokens, padding included, that are held at a time; more of them suit a large GPU.
        """
        if isinstance(model, str):
            model = Loaded(models.load_sequence_classifier(model), models.load_tokenizer(model), model)
        self.name = model.name
        self._tokenizer = model.tokenizer
        distinct_pad_token(self._tokenizer)
        loaded = model.model.eval().to(models.device())
        config = loaded.config.get_text_config()
        config.pad_token_id = self._tokenizer.pad_token_id
        limit = getattr(config, "max_position_embeddings", None)
        max_length = max_length or min(DEFAULT_LENGTH, limit or DEFAULT_LENGTH)
        if limit is not None and max_length > limit:
            raise ConfigError(f"max_length {max_length}: model {self.name!r} takes at most {limit} tokens; lower it")
        self.max_length = max_length
        self._budget = tokens_per_batch
        self._classifier = Classifier(loaded, self._tokenizer.pad_token_id, max_length)
        self._lock = threading.Lock()
        self._shares: bool | None = None
        self.cut = 0
        """How many reasonings lost their middle so far."""
        self.plain_because: str | None = None
        """Why this model scores every row from its start; None where it shares prefixes, or was not asked to yet."""

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """R_proc of each `(problem, reasoning)`, in [0, 1]."""
        return [score.value for score in self.scores(items)]

    def scores(self, items: Sequence[tuple[str, str]]) -> list[Score]:
        """R_proc = sigmoid(s) of each `(problem, reasoning)`; 0.0 for a blank reasoning, without asking the model."""
        asked = [index for index, (_, reasoning) in enumerate(items) if reasoning.strip()]
        rows, logits = self._score([items[index] for index in asked])
        found = [Score(0.0)] * len(items)
        for index, row, logit in zip(asked, rows, logits, strict=True):
            found[index] = Score(_sigmoid(logit), row.cut)
        return found

    def logits(self, items: Sequence[tuple[str, str]]) -> list[float]:
        """The raw scores s_θ(x, t), of blank reasonings too. No score depends on what else is in the batch."""
        return self._score(items)[1]

    def _score(self, items: Sequence[tuple[str, str]]) -> tuple[list[Encoded], list[float]]:
        with self._lock:  # the tokenizer and the count as well as the model: none of them is made for several threads
            rows = [encode(self._tokenizer, problem, reasoning, self.max_length) for problem, reasoning in items]
            self.cut += sum(row.cut for row in rows)
            distinct = {tuple(row.ids): row for row in rows}  # equal ones are scored once
            scores = dict(zip(distinct, self._forward(list(distinct.values())), strict=True))
            return rows, [scores[tuple(row.ids)] for row in rows]

    def _forward(self, rows: Sequence[Encoded]) -> list[float]:
        """The raw score of each row; rows are distinct."""
        groups = shared_groups(rows, whole_reasonings=self._classifier.whole_reasonings)
        if groups and not self._can_share():
            groups = []
        ids = [row.ids for row in rows]
        scores = self._classifier.shared(rows, groups, self._budget)
        alone = [index for index in range(len(rows)) if index not in scores]
        for batch in batches([len(ids[index]) for index in alone], self._budget):
            chosen = [alone[number] for number in batch]
            scores |= dict(zip(chosen, self._classifier.plain([rows[index] for index in chosen]), strict=True))
        return [scores[index] for index in range(len(rows))]

    def _can_share(self) -> bool:
        """Whether the model scores a few short rows alike both ways; asked once, when it first matters."""
        if self._shares is None:
            try:
                self._classifier.check()
                rows = [encode(self._tokenizer, problem, reasoning, self.max_length) for problem, reasoning in PROBE]
                self._compare(rows, shared_groups(rows, whole_reasonings=self._classifier.whole_reasonings))
            except CannotShare as reason:
                self.plain_because = str(reason)
                console.print(f"{self.name}: prompts are not shared between reasonings: {reason}", soft_wrap=True)
            self._shares = self.plain_because is None
        return self._shares

    def _compare(self, rows: list[Encoded], groups: Sequence[Group]) -> None:
        plain = self._classifier.plain(rows)
        for index, score in self._classifier.shared(rows, groups, self._budget).items():
            if not math.isclose(score, plain[index], rel_tol=_SAME, abs_tol=_SAME):
                raise CannotShare(f"a reasoning scored {score:.6g} behind a shared prompt, {plain[index]:.6g} without")


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
