"""One (arm, seed) at a time: train, judge or watch, and write down its small record when all of it is there."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl, training
from recode_rl.ablations.config import ArmConfig, StudyConfig, base_model, reward_model_config, train_config
from recode_rl.ablations.pairs import Wanted, draw_exactly, draw_scored
from recode_rl.ablations.sets import JudgedSet
from recode_rl.ablations.watch import watch
from recode_rl.errors import ConfigError
from recode_rl.monitor.monitor import ALARMS_FILE
from recode_rl.reward_model.evaluate import score_pairs
from recode_rl.reward_model.scored import ScoredReasoning, load_scored
from recode_rl.reward_model.stage import Reading, digest, made_by, scorer_of
from recode_rl.scorer import open_scorer
from recode_rl.types import PreferencePair

Record = dict[str, Any]
_COUNTS = ("pairs", "reasonings", "kinds", "scores", "generators", "problems", "refused", "reasonings_cut")
_ASIDE = ("out", "track")  # where results go and who is told of them makes no difference


@dataclass(frozen=True, slots=True)
class Run:
    """One arm with one seed, and where it lives."""

    study: StudyConfig
    arm: ArmConfig
    seed: int

    @property
    def title(self) -> str:
        """What progress calls it."""
        return f"{self.arm.name}, seed {self.seed}"

    @property
    def record(self) -> Path:
        """The small file that says what came out."""
        return self.study.out / "records" / self.arm.name / f"seed-{self.seed}.json"

    @property
    def metrics(self) -> Path:
        """One line a step, beside it."""
        return self.record.with_name(f"seed-{self.seed}.metrics.jsonl")

    @property
    def work(self) -> Path:
        """Models, checkpoints and samples."""
        return self.study.out / "work" / self.arm.name / f"seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class Material:
    """What the reward models of a study are trained on, and judged on; empty where no arm is one."""

    train: Sequence[PreferencePair] = ()
    sets: Sequence[JudgedSet] = ()


def all_runs(study: StudyConfig) -> list[Run]:
    """Every (arm, seed), in an order that has each arm once before any has its second seed.

    An arm that trains nothing has no seed, and is there once. So is one without its file of scores: not at all.
    """
    return [
        Run(study, arm, seed)
        for seed in study.seeds
        for arm in study.arms
        if lacks(study, arm) is None and (arm.kind != "eval-rm" or seed == study.seeds[0])
    ]


def lacks(study: StudyConfig, arm: ArmConfig) -> str | None:
    """What an arm cannot do without and was not given; None where nothing is missing."""
    if arm.kind == "train-rm" and arm.settings.get("objective") == "score" and study.scored is None:
        return "scored, a file of a judge's scores, was not given"
    return None


def identity(run: Run, material: Material) -> Record:
    """What a record is of: two runs with the same identity have the same result."""
    study, arm, folder = run.study, run.arm, run.work / "reward-model"
    if arm.kind == "train":
        return {"config": train_config(study, arm, run.seed, run.work / "run").model_dump(mode="json")}
    if arm.kind == "eval-rm":
        model = arm.model or f"score:{base_model(study)}"
        return {"model": model, "model_made": made_by(model), "max_length": study.pairs.max_length}
    config = reward_model_config(study, arm, run.seed, folder)
    trained_on = _digest(_scored(run, material)) if config.objective == "score" else digest(_drawn(run, material))
    values = config.model_dump(mode="json")
    return {"config": values, "trained_on": trained_on, "max_length": study.pairs.max_length}


def recorded(run: Run, material: Material) -> Record | None:
    """The record of a run, where it is there and complete; ConfigError where it is of something else.

    A record that lacks a set of pairs which the study has now is not complete: its run is done again.
    """
    if not run.record.is_file():
        return None
    found: Record = jsonl.read_json(run.record)
    _same(run.record, found.get("identity", {}), identity(run, material))
    if run.arm.kind == "train":
        return found if run.metrics.is_file() else None
    judged = found.get("judged", {})
    whole = all(judged.get(s.name, {}).get("digest") == s.digest for s in material.sets)
    return found if whole else None


def _same(path: Path, found: Record, wanted: Record) -> None:
    """ConfigError for the first thing that differs. A key that only one side has is younger than the other."""
    for key in sorted(found.keys() & wanted.keys()):
        if isinstance(found[key], dict) and isinstance(wanted[key], dict):
            _same(path, found[key], wanted[key])
        elif key not in _ASIDE and found[key] != wanted[key]:
            raise ConfigError(
                f"{path}: recorded with {key} = {found[key]!r}, not {wanted[key]!r}; choose another out, or remove it"
            )


def do(run: Run, material: Material) -> None:
    """Train, judge, and leave the record, which appears whole and last; a stopped run continues where it was."""
    started = time.monotonic()
    who = identity(run, material)
    starts = _count_starts(run)
    found = _KINDS[run.arm.kind](run, material)
    manifest = jsonl.manifest(
        "ablate", run.arm.model_dump(mode="json"), arm=run.arm.name, seed=run.seed, identity=who, **found
    )
    manifest |= {"seconds": round(time.monotonic() - started, 1), "starts": starts}
    jsonl.write_text(run.record, jsonl.dumps(manifest) + "\n")
    training.release()
    if not run.study.keep:
        shutil.rmtree(run.work, ignore_errors=True)


def _count_starts(run: Run) -> int:
    """How often this run was begun: where it is more than once, its seconds are those of the last time."""
    path = run.work / "starts.json"
    count = int(jsonl.read_json(path)) + 1 if path.is_file() else 1
    jsonl.write_json(path, count)
    return count


def _train_reward_model(run: Run, material: Material) -> Record:
    from recode_rl.reward_model.train import train
    from recode_rl.reward_model.train_score import train_score

    config = reward_model_config(run.study, run.arm, run.seed, run.work / "reward-model")
    if config.objective == "score":
        folder = train_score(config, _scored(run, material), run.title)
    else:
        folder = train(config, _drawn(run, material), run.title)
    training.release()
    jsonl.write_bytes(run.metrics, (folder / "metrics.jsonl").read_bytes())
    manifest = jsonl.read_json(folder / "manifest.json")
    trained = {key: manifest[key] for key in _COUNTS if key in manifest}
    return {"trained": trained, **_judged(run, str(folder), material)}


def _wanted(run: Run) -> Wanted:
    return Wanted(run.study.pairs.per_arm, run.arm.kinds, run.arm.generators, run.arm.per_problem)


def _drawn(run: Run, material: Material) -> list[PreferencePair]:
    return draw_exactly(material.train, _wanted(run), run.seed, run.arm.name)


def _scored(run: Run, material: Material) -> list[ScoredReasoning]:
    if run.study.scored is None:
        raise ConfigError(f"arm {run.arm.name!r}: {lacks(run.study, run.arm)}")
    return draw_scored(load_scored(run.study.scored), material.train, _wanted(run), run.seed, run.arm.name)


def _digest(scored: Sequence[ScoredReasoning]) -> str:
    lines = (jsonl.dumps({"of": [one.id, one.problem, one.reasoning, one.score]}) for one in scored)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:20]


def _judge(run: Run, material: Material) -> Record:
    return _judged(run, run.arm.model or f"score:{base_model(run.study)}", material)


def _judged(run: Run, model: str, material: Material) -> Record:
    """Per set, what each pair counts: 1 where the better side is preferred, 0.5 at a tie, else 0."""
    scorer = remembering(scorer_of(model, Reading(max_length=run.study.pairs.max_length)))
    found = {}
    for judged in material.sets:
        scores = score_pairs(scorer, judged.pairs, run.work / f"{judged.name}.jsonl", f"{run.title}: {judged.name}")
        found[judged.name] = {"digest": judged.digest, "correct": [score.correct for score in scores]}
    return {"judged": found}


def remembering(scorer: Any) -> Any:
    """The scorer, asked once for a reasoning that stands in several pairs; raw scores stay raw scores."""
    raw = getattr(scorer, "logits", None)
    ask: Callable[[Sequence[tuple[str, str]]], Sequence[float]] = raw or scorer
    known: dict[tuple[str, str], float] = {}

    def remembered(items: Sequence[tuple[str, str]]) -> list[float]:
        new = [item for item in dict.fromkeys(items) if item not in known]
        known.update(zip(new, ask(new) if new else (), strict=True))
        return [known[item] for item in items]

    if raw is not None:
        remembered.logits = remembered  # type: ignore[attr-defined]  # as score_pairs looks for it
    return remembered


def _train_policy(run: Run, material: Material) -> Record:
    from recode_rl.policy.stage import train_from_config

    config = train_config(run.study, run.arm, run.seed, run.work / "run")
    train_from_config(config)
    training.release()
    watched: dict[int, Record] = {}
    if config.reward.model is not None:
        scorer = open_scorer(config.reward.model, config.reward.max_length)
        watched = {row["step"]: row for row in watch(config.out, scorer, run.work / "watch.jsonl", run.title)}
    rows = [{**row, **watched.get(row["step"], {})} for _, row in jsonl.read(config.out / "metrics.jsonl")]
    jsonl.write(run.metrics, rows)
    return {"steps": len(rows), "alarms": _alarms(config.out / ALARMS_FILE)}


def _alarms(path: Path) -> list[Record]:
    """What the monitor said of a training, without its explanations."""
    found = [record for _, record in jsonl.read(path)] if path.is_file() else []
    return [{"step": record["step"], "name": record["name"]} for record in found]


_KINDS: dict[str, Callable[[Run, Material], Record]] = {
    "train-rm": _train_reward_model,
    "eval-rm": _judge,
    "train": _train_policy,
}
