"""How good a reward model is on pairs: accuracy by kind and method with intervals, beside baselines that are blind.

Scores of a cross-validation are out of fold: every pair is judged by a model that saw no pair of its problem.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recode_rl import jsonl, training
from recode_rl.config import RewardModelConfig
from recode_rl.errors import DataError
from recode_rl.problems.splits import fold_of
from recode_rl.progress import Progress
from recode_rl.reward_model.baselines import run_baselines
from recode_rl.reward_model.train import train
from recode_rl.scorer import RewardModelScorer
from recode_rl.statistics import difference_interval, mcnemar, mean_interval
from recode_rl.types import PreferencePair

_CHUNK = 32


@dataclass(frozen=True, slots=True)
class PairScores:
    """Scores of both sides of a pair, each in [0, 1], or None where a judge's reply could not be read.

    `verdict` is what the pair counts where the two numbers do not say it: scores that are equal in their last digit, a
    judge that was asked twice.
    """

    chosen: float | None
    rejected: float | None
    verdict: float | None = None

    @property
    def correct(self) -> float:
        """1.0 where the chosen side is preferred, 0.5 at a tie or without a preference, else 0.0."""
        if self.verdict is not None:
            return self.verdict
        if self.chosen is None or self.rejected is None:
            return 0.5
        return preference(self.chosen, self.rejected)

    def record(self, pair: PreferencePair) -> dict[str, Any]:
        """The line of scores.jsonl; `correct` is there only where the scores do not say it."""
        line = {"id": pair.id, "chosen": self.chosen, "rejected": self.rejected}
        return line if self.verdict is None else {**line, "correct": self.verdict}


def preference(chosen: float, rejected: float) -> float:
    """1.0 where the chosen side has more, 0.5 at a tie, else 0.0."""
    return 0.5 if chosen == rejected else float(chosen > rejected)


def score_pairs(
    scorer: Callable[[Sequence[tuple[str, str]]], Sequence[float]],
    pairs: Sequence[PreferencePair],
    out: Path | None = None,
    title: str = "scoring pairs",
) -> list[PairScores]:
    """Score both sides of every pair; with `out`, one line a pair, continuing behind the lines that are there."""
    done = _stored(out, pairs) if out is not None else []
    with Progress(title, len(pairs), len(done)) as progress:
        for start in range(len(done), len(pairs), _CHUNK):
            part = pairs[start : start + _CHUNK]
            scores = _score(scorer, [(pair.problem, side) for pair in part for side in (pair.chosen, pair.rejected)])
            if out is not None:
                with jsonl.Appender(out) as file:
                    for pair, score in zip(part, scores, strict=True):
                        file.append(score.record(pair))
            done.extend(scores)
            progress.advance(len(part))
    return done


def _score(
    scorer: Callable[[Sequence[tuple[str, str]]], Sequence[float]], sides: Sequence[tuple[str, str]]
) -> list[PairScores]:
    """Scores of sides that follow each other as chosen, rejected, chosen, rejected, …

    A scorer that has raw scores (`logits`) is asked for those: far from zero, the sigmoid of both may be 1.0.
    """
    raw: Callable[[Sequence[tuple[str, str]]], Sequence[float]] | None = getattr(scorer, "logits", None)
    found = list((raw or scorer)(sides))
    scores = []
    for chosen, rejected in zip(found[::2], found[1::2], strict=True):
        if raw is None:
            scores.append(PairScores(chosen, rejected))
            continue
        squashed = PairScores(sigmoid(chosen), sigmoid(rejected))
        verdict = preference(chosen, rejected)
        scores.append(squashed if squashed.correct == verdict else replace(squashed, verdict=verdict))
    return scores


def sigmoid(value: float) -> float:
    """1 / (1 + e^-value), without overflow."""
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))


def _stored(out: Path, pairs: Sequence[PreferencePair]) -> list[PairScores]:
    """The scores of the first pairs that a file has, in their order."""
    jsonl.repair(out)
    if not out.exists():
        return []
    scores: list[PairScores] = []
    for number, record in jsonl.read(out):
        if len(scores) >= len(pairs) or record.get("id") != pairs[len(scores)].id:
            raise DataError(f"{out}: line {number}: a score of other pairs; remove the file or choose another --out")
        scores.append(_parsed(out, number, record))
    return scores


def read_scores(path: Path, pairs: Sequence[PreferencePair]) -> list[PairScores]:
    """The scores that a scores.jsonl has for these pairs, whatever else is in it; DataError where one is missing."""
    found: dict[Any, PairScores] = {}
    for number, record in jsonl.read(path):
        if record.get("id") in found:
            raise DataError(f"{path}: line {number}: pair {record.get('id')!r} has a score already; remove one line")
        found[record.get("id")] = _parsed(path, number, record)
    missing = [pair.id for pair in pairs if pair.id not in found]
    if missing:
        raise DataError(f"{path}: no score of {len(missing)} pairs ({', '.join(missing[:3])}); score all of them first")
    return [found[pair.id] for pair in pairs]


def _parsed(path: Path, number: int, record: dict[str, Any]) -> PairScores:
    for key in ("chosen", "rejected", "correct"):
        value = record.get(key)
        fits = value is None or (isinstance(value, (int, float)) and math.isfinite(value))
        if not fits or (key not in record and key != "correct"):
            raise DataError(f"{path}: line {number}: {key!r}: {value!r}; expected a number")
    return PairScores(record["chosen"], record["rejected"], record.get("correct"))


def cross_validate(
    config: RewardModelConfig, pairs: Sequence[PreferencePair], work: Path, folds: int = 5
) -> list[PairScores]:
    """Out-of-fold scores of every pair, by one model per fold; each fold's scores are kept as soon as it ends."""
    scores: dict[str, PairScores] = {}
    for fold in range(folds):
        held_out = [pair for pair in pairs if fold_of(pair.problem_id, folds) == fold]
        if not held_out:
            continue
        kept = work / f"fold-{fold}.jsonl"
        if kept.exists():
            shutil.rmtree(work / f"fold-{fold}", ignore_errors=True)
        else:
            rest = [pair for pair in pairs if fold_of(pair.problem_id, folds) != fold]
            folder = work / f"fold-{fold}"
            title = f"reward model, fold {fold + 1} of {folds}"
            train(config.model_copy(update={"out": folder, "validation_percent": 0}), rest, title)
            found = score_pairs(RewardModelScorer(str(folder), config.max_length), held_out, title=f"{title}: scoring")
            jsonl.write(kept, [score.record(pair) for pair, score in zip(held_out, found, strict=True)])
            training.release()
            shutil.rmtree(folder)  # its scores are what was wanted; five models fill a laptop's disk
        scores |= dict(zip((pair.id for pair in held_out), _stored(kept, held_out), strict=True))
    return [scores[pair.id] for pair in pairs]


def summarise(
    pairs: Sequence[PreferencePair], scores: Sequence[PairScores], folds: int | None = None
) -> dict[str, Any]:
    """Accuracy (0–1) with a 95 % interval over problems, by kind and method, against the blind baselines, paired."""
    correct = [score.correct for score in scores]
    clusters = [pair.problem_id for pair in pairs]
    baselines = run_baselines(pairs)
    best = max(baselines, key=lambda name: sum(baselines[name]))
    difference = difference_interval(correct, baselines[best], clusters=clusters)
    summary = {
        **_accuracy(correct, clusters),
        "by_kind": _grouped(pairs, correct, lambda pair: [pair.kind]),
        "by_method": _grouped(pairs, correct, lambda pair: [] if pair.kind == "opt_ori" else list(pair.methods)),
        "by_difficulty": _grouped(pairs, correct, lambda pair: [pair.difficulty] if pair.difficulty else []),
        "baselines": {name: _accuracy(values, clusters) for name, values in baselines.items()},
        "best_baseline": best,
        "difference": difference.mean,
        "difference_interval": [difference.low, difference.high],
    }
    if folds:
        summary["folds"] = [
            {"fold": fold, "n": len(part), "accuracy": sum(part) / len(part)}
            for fold in range(folds)
            if (part := [c for p, c in zip(pairs, correct, strict=True) if fold_of(p.problem_id, folds) == fold])
        ]
    return summary


def compare(
    pairs: Sequence[PreferencePair], ours: Sequence[PairScores], others: Sequence[PairScores]
) -> dict[str, Any]:
    """Two models on the same pairs: the difference of their accuracies (ours less the other's), paired.

    The interval is a bootstrap over problems. `mcnemar_p` is the exact two-sided p over the pairs that one of them gets
    right (more than half of what a pair can count) and the other does not; it takes pairs for independent.
    """
    a, b = [score.correct for score in ours], [score.correct for score in others]
    clusters = [pair.problem_id for pair in pairs]
    difference = difference_interval(a, b, clusters=clusters)
    right_a, right_b = [value > 0.5 for value in a], [value > 0.5 for value in b]
    return {
        **_accuracy(b, clusters),
        "difference": difference.mean,
        "difference_interval": difference.as_list(),
        "only_model_right": sum(x and not y for x, y in zip(right_a, right_b, strict=True)),
        "only_other_right": sum(y and not x for x, y in zip(right_a, right_b, strict=True)),
        "mcnemar_p": mcnemar(right_a, right_b),
    }


def _accuracy(correct: Sequence[float], clusters: Sequence[str]) -> dict[str, Any]:
    interval = mean_interval(correct, clusters=clusters)
    return {"accuracy": interval.mean, "interval": [interval.low, interval.high], "n": len(correct)}


def _grouped(
    pairs: Sequence[PreferencePair], correct: Sequence[float], keys: Callable[[PreferencePair], Sequence[str]]
) -> dict[str, Any]:
    groups: dict[str, list[tuple[float, str]]] = {}
    for pair, value in zip(pairs, correct, strict=True):
        for key in keys(pair):
            groups.setdefault(key, []).append((value, pair.problem_id))
    return {key: _accuracy([v for v, _ in rows], [c for _, c in rows]) for key, rows in sorted(groups.items())}
