"""How good a reward model is on pairs: accuracy by kind and method with intervals, beside baselines that are blind.

Scores of a cross-validation are out of fold: every pair is judged by a model that saw no pair of its problem.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from recode_rl.statistics import difference_interval, mean_interval
from recode_rl.types import PreferencePair

_CHUNK = 32


@dataclass(frozen=True, slots=True)
class PairScores:
    """Process rewards of both sides of a pair, each in [0, 1]."""

    chosen: float
    rejected: float

    @property
    def correct(self) -> float:
        """1.0 where the chosen side scores higher, 0.5 at a tie, else 0.0."""
        return 0.5 if self.chosen == self.rejected else float(self.chosen > self.rejected)


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
            sides = [(pair.problem, side) for pair in part for side in (pair.chosen, pair.rejected)]
            values = list(scorer(sides))
            scores = [PairScores(values[2 * i], values[2 * i + 1]) for i in range(len(part))]
            if out is not None:
                with jsonl.Appender(out) as file:
                    for pair, score in zip(part, scores, strict=True):
                        file.append({"id": pair.id, "chosen": score.chosen, "rejected": score.rejected})
            done.extend(scores)
            progress.advance(len(part))
    return done


def _stored(out: Path, pairs: Sequence[PreferencePair]) -> list[PairScores]:
    jsonl.repair(out)
    if not out.exists():
        return []
    scores: list[PairScores] = []
    for number, record in jsonl.read(out):
        if len(scores) >= len(pairs) or record.get("id") != pairs[len(scores)].id:
            raise DataError(f"{out}: line {number}: a score of other pairs; remove the file or choose another --out")
        scores.append(PairScores(record["chosen"], record["rejected"]))
    return scores


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
            jsonl.write(
                kept,
                [
                    {"id": p.id, "chosen": s.chosen, "rejected": s.rejected}
                    for p, s in zip(held_out, found, strict=True)
                ],
            )
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
