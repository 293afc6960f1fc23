"""What the recorded runs of a study come to: accuracies with intervals, and the ends of training curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl import jsonl
from recode_rl.ablations.config import StudyConfig
from recode_rl.ablations.runs import Run
from recode_rl.ablations.sets import HELD_OUT
from recode_rl.statistics import Interval, crossed_interval, mean_interval

Record = dict[str, Any]

# Columns of a training run that a study looks at, by what tables and figures call them.
CURVES = {
    "watch/process": "process reward, all completions",
    "watch/process_passing": "process reward, passing ones",
    "watch/process_failing": "process reward, failing ones",
    "reward/pass_rate": "pass rate in training",
    "tokens/completion_mean": "tokens of a completion",
    "eval/pass_rate": "pass rate on held-out problems",
}
_WINDOW = 6  # the first and the last sixth of a run are compared; the table says so


@dataclass(frozen=True, slots=True)
class Judgements:
    """What every pair of a set counts, by seed; a judge without a seed has the same for all of them."""

    by_seed: dict[int, list[float]]
    fixed: list[float] | None = None

    def of(self, seed: int) -> list[float] | None:
        """The verdicts with one seed, None where that was not run."""
        return self.fixed if self.fixed is not None else self.by_seed.get(seed)

    @property
    def seeds(self) -> list[int]:
        """The seeds that were run."""
        return sorted(self.by_seed)


def summarise(study: StudyConfig) -> Record:
    """Everything that tables and figures show, from the small files alone."""
    names = [HELD_OUT, *study.pairs.transfer]
    stored = {name: study.out / "sets" / f"{name}.json" for name in names}
    sets = {name: jsonl.read_json(path) for name, path in stored.items() if path.is_file()}
    return {
        "title": study.title,
        "reference": study.compared_with,
        "arms": {arm.name: {"label": arm.label, "kind": arm.kind, **_facts(study, arm.name)} for arm in study.arms},
        "sets": {name: _set(study, name, found) for name, found in sets.items()},
        "training": _training(study),
    }


def _records(study: StudyConfig, arm: str) -> dict[int, Record]:
    """The records of an arm by seed."""
    runs = [Run(study, study.arm(arm), seed) for seed in study.seeds]
    return {run.seed: jsonl.read_json(run.record) for run in runs if run.record.is_file()}


def _facts(study: StudyConfig, arm: str) -> Record:
    """How often an arm was run, on what, and how long it took (as far as it was done in one go)."""
    records = _records(study, arm)
    seconds = [record["seconds"] for record in records.values() if record["starts"] == 1]
    trained = [record["trained"] for record in records.values() if "trained" in record]
    return {
        "seeds": sorted(records),
        "trained": trained[0] if trained else None,
        "alarms": {seed: record["alarms"] for seed, record in records.items() if record.get("alarms")},
        "seconds": sum(seconds) / len(seconds) if seconds else None,
    }


# -- pairs -------------------------------------------------------------------------------------------------------------


def _set(study: StudyConfig, name: str, found: Record) -> Record:
    """Each arm's accuracy on one set of pairs, by kind, method and generator, and against two yardsticks."""
    pairs: list[Record] = found["pairs"]
    arms = {arm.name: _judgements(study, arm.name, name, found["digest"]) for arm in study.arms}
    baselines = {key: Judgements({}, values) for key, values in found["baselines"].items()}
    best = max(found["baselines"], key=lambda key: sum(found["baselines"][key]))
    reference = arms[study.compared_with]
    return {
        "pairs": len(pairs),
        "problems": len({pair["problem_id"] for pair in pairs}),
        "best_baseline": best,
        "arms": {
            key: {
                "seeds": judged.seeds,
                **_accuracies(judged, pairs, study.seeds),
                "against_reference": _difference(judged, reference, pairs, study.seeds),
                "against_baseline": _difference(judged, baselines[best], pairs, study.seeds),
            }
            for key, judged in arms.items()
            if judged is not None
        },
        "baselines": {key: _accuracies(judged, pairs, study.seeds[:1]) for key, judged in baselines.items()},
    }


def _judgements(study: StudyConfig, arm: str, name: str, digest: str) -> Judgements | None:
    found = {
        seed: [float(value) for value in record["judged"][name]["correct"]]
        for seed, record in _records(study, arm).items()
        if record.get("judged", {}).get(name, {}).get("digest") == digest
    }
    if not found:
        return None
    fixed = next(iter(found.values())) if study.arm(arm).kind == "eval-rm" else None
    return Judgements(found, fixed)


def _accuracies(judged: Judgements, pairs: Sequence[Record], seeds: Sequence[int]) -> Record:
    groups: dict[str, Callable[[Record], Sequence[str]]] = {
        "by_kind": lambda pair: [pair["kind"]],
        "by_method": lambda pair: [] if pair["kind"] == "opt_ori" else pair["methods"],
        "by_generator": lambda pair: [pair["generator"]] if pair["generator"] else [],
    }
    own = judged.seeds or list(seeds)
    values: Record = _mean([(pair, seed, value) for seed in own for pair, value in _seen(judged, seed, pairs)])
    for name, keys in groups.items():
        names = sorted({key for pair in pairs for key in keys(pair)})
        values[name] = {
            key: _mean([(p, s, v) for s in own for p, v in _seen(judged, s, pairs) if key in keys(p)]) for key in names
        }
    return values


def _seen(judged: Judgements, seed: int, pairs: Sequence[Record]) -> list[tuple[Record, float]]:
    found = judged.of(seed)
    return [] if found is None else list(zip(pairs, found, strict=True))


def _mean(rows: Sequence[tuple[Record, int, float]]) -> Record:
    """Accuracy over (pair, seed), with an interval over seeds and problems."""
    interval = crossed_interval([v for _, _, v in rows], [s for _, s, _ in rows], [p["problem_id"] for p, _, _ in rows])
    return {"accuracy": interval.mean, "interval": interval.as_list(), "n": interval.n}


def _difference(
    ours: Judgements | None, other: Judgements | None, pairs: Sequence[Record], seeds: Sequence[int]
) -> Record | None:
    """Ours less the other's, paired by pair and seed; None for itself, and where they share no seed."""
    if ours is None or other is None or ours is other:
        return None
    rows = [
        (pair, seed, a - b)
        for seed in seeds
        for (pair, a), (_, b) in zip(_seen(ours, seed, pairs), _seen(other, seed, pairs), strict=False)
    ]
    if not rows:
        return None
    found = _mean(rows)
    return {"difference": found["accuracy"], "interval": found["interval"], "n": found["n"]}


# -- training runs -----------------------------------------------------------------------------------------------------


def curves(study: StudyConfig, arm: str) -> dict[int, list[Record]]:
    """The recorded steps of an arm that trains a policy, by seed."""
    runs = [Run(study, study.arm(arm), seed) for seed in study.seeds]
    found = [run for run in runs if run.arm.kind == "train" and run.record.is_file()]
    return {run.seed: [row for _, row in jsonl.read(run.metrics)] for run in found}


def _training(study: StudyConfig) -> Record:
    arms = {arm.name: curves(study, arm.name) for arm in study.arms}
    reference = arms[study.compared_with]
    return {name: _ends(by_seed, reference) for name, by_seed in arms.items() if by_seed}


def _ends(by_seed: dict[int, list[Record]], reference: dict[int, list[Record]]) -> Record:
    """Per column: its mean in the first and the last sixth of the steps, by seed too, and against the reference."""
    found = {}
    for key in CURVES:
        first, last = _values(by_seed, key, last=False), _values(by_seed, key, last=True)
        if not last:
            continue
        theirs = {} if by_seed is reference else _values(reference, key, last=True)
        shared = [last[place] - theirs[place] for place in last if place in theirs]
        found[key] = {
            "first": _plain(mean_interval(list(first.values()))) if first else None,
            "last": _plain(mean_interval(list(last.values()))),
            "last_by_seed": {
                seed: sum(values) / len(values)
                for seed in by_seed
                if (values := [value for (other, _), value in last.items() if other == seed])
            },
            "against_reference": _plain(mean_interval(shared)) if shared else None,
        }
    return found


def _values(by_seed: dict[int, list[Record]], key: str, last: bool) -> dict[tuple[int, int], float]:
    """The values of a column in the window at one end, by (seed, step); a step without one is left out.

    A column of which few steps have a value, as an evaluation every ten steps, has its first and its last value there.
    """
    found: dict[tuple[int, int], float] = {}
    for seed, rows in by_seed.items():
        known = [row for row in rows if row.get(key) is not None]
        width = max(1, len(rows) // _WINDOW)
        window = rows[-width:] if last else rows[:width]
        chosen = [row for row in window if row.get(key) is not None] or (known[-1:] if last else known[:1])
        found |= {(seed, int(row["step"])): float(row[key]) for row in chosen}
    return found


def _plain(interval: Interval) -> Record:
    return {"mean": interval.mean, "interval": interval.as_list(), "n": interval.n}
