"""The whole method on one machine: data → SFT → reward model → CG-GRPO → evaluation → report.

Stages meet in files of the run folder. A stage that left its result is not run again, and each one continues by itself
where it was stopped, so the same command after a Ctrl-C or a kill at any moment completes the run.
"""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl, models, training
from recode_rl.config import (
    DataConfig,
    EvaluationConfig,
    GrpoConfig,
    Precision,
    RewardConfig,
    RewardModelConfig,
    SftConfig,
    TrainConfig,
)
from recode_rl.errors import ConfigError
from recode_rl.evals.run import Evaluation, evaluate
from recode_rl.grading import Grader
from recode_rl.pairs import make_pairs, write_pairs
from recode_rl.policy import sft, trl
from recode_rl.problems import starter
from recode_rl.problems.records import write_problems
from recode_rl.problems.splits import select, split_by_id
from recode_rl.progress import clock, say
from recode_rl.reward_model import evaluate as reward_model_evaluation
from recode_rl.reward_model.train import subsample
from recode_rl.reward_model.train import train as train_reward_model
from recode_rl.sampling import LocalModel, SamplingSettings
from recode_rl.scorer import RewardModelScorer
from recode_rl.types import PreferencePair, Problem

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Size:
    """The budget of a quickstart. Tokens are what two CPU cores can do in the stated time."""

    minutes: str
    problems: int | None  # held-out problems in the evaluations before and after
    samples: int
    sft_epochs: float
    pairs: int | None  # pairs of the cross-validation, drawn evenly over the kinds
    reward_epochs: float
    steps: int
    prompts_per_step: int
    group_size: int
    updates_per_batch: int
    eval_every: int
    max_tokens: int


SIZES = {
    "tiny": Size(
        minutes="under 5", problems=4, samples=2, sft_epochs=0.3, pairs=24, reward_epochs=1, steps=2,
        prompts_per_step=2, group_size=4, updates_per_batch=2, eval_every=0, max_tokens=160,
    ),
    "small": Size(
        minutes="under 20", problems=12, samples=2, sft_epochs=1.5, pairs=60, reward_epochs=1, steps=4,
        prompts_per_step=4, group_size=4, updates_per_batch=2, eval_every=0, max_tokens=208,
    ),
    "medium": Size(
        minutes="up to 150", problems=None, samples=8, sft_epochs=3, pairs=600, reward_epochs=1, steps=16,
        prompts_per_step=4, group_size=8, updates_per_batch=2, eval_every=8, max_tokens=256,
    ),
}  # fmt: skip

# Sampling in training and evaluation. At temperature 1 a model of this size writes much noise: after the warm start of
# "medium" 2 % of its programs for held-out problems passed, too few to learn from (docs/results/quickstart.md).
TEMPERATURE = 0.7

# The first 16 layers: half the cost, and a linear probe on the starter pairs finds the middle layers of SmolLM2-135M
# at least as telling as the last ones.
REWARD_LAYERS = 16


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line decides."""

    out: Path
    size: str = "small"
    model: str = "smollm2-135m"
    precision: Precision = "bf16-master"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A quickstart in progress: its settings, its budget, and where things are."""

    settings: Settings
    size: Size
    model: str

    @property
    def out(self) -> Path:
        """The run folder."""
        return self.settings.out

    def held_out(self) -> list[Problem]:
        """The problems of the evaluations, none of which any stage trains on."""
        return select(starter.load(), "held_out")[: self.size.problems]

    def pairs(self, split: str) -> list[PreferencePair]:
        """All pairs of the corpus, or those of the problems of one split."""
        made = make_pairs(starter.load("all"), starter.variants())
        return [p for p in made.pairs if split == "all" or split_by_id(p.problem_id) == split]


def quickstart(settings: Settings) -> dict[str, Any]:
    """Run every stage and return the summary of the report."""
    if settings.size not in SIZES:
        raise ConfigError(f"size {settings.size!r}: expected one of {', '.join(SIZES)}")
    size = SIZES[settings.size]
    known = settings.model in models.KNOWN_MODELS
    model = str(models.fetch(settings.model)) if known else models.resolve(settings.model)
    _same_run(settings)
    run = Run(settings, size, model)
    stages: list[tuple[str, Callable[[Run], None]]] = [
        ("corpus", _corpus),
        ("SFT warm start", _sft),
        ("reward model", _reward_model),
        ("reward model evaluation", _judge_reward_model),
        ("evaluation before SFT", lambda r: _evaluate(r, "before_sft", r.model)),
        ("evaluation after SFT", lambda r: _evaluate(r, "after_sft", str(r.out / "sft"))),
        ("CG-GRPO", _train),
        ("evaluation after CG-GRPO", lambda r: _evaluate(r, "after_rl", str(r.out / "policy"))),
        ("report", _report),
    ]
    say(f"quickstart --size {settings.size}: {size.minutes} minutes on two CPU cores; results in {settings.out}")
    for number, (name, stage) in enumerate(stages, start=1):
        say(f"[{number}/{len(stages)}] {name}")
        started = time.monotonic()
        stage(run)
        training.release()
        _record_stage(run, name, time.monotonic() - started)
    _report(run)  # once more, with the last stage's time in the manifest
    from recode_rl.report import summarise

    return {**summarise(run.out), "report": str(run.out / "report.html")}


def _same_run(settings: Settings) -> None:
    """A folder belongs to one size, model, precision and seed: mixing them would make a report of nothing."""
    settings.out.mkdir(parents=True, exist_ok=True)
    path = settings.out / "manifest.json"
    wanted = {"size": settings.size, "model": settings.model, "precision": settings.precision, "seed": settings.seed}
    if path.exists():
        found = jsonl.read_json(path).get("config", {})
        if found != wanted:
            raise ConfigError(
                f"{settings.out} holds a run with {found}, not {wanted}; choose another --out or remove it"
            )
        return
    manifest = jsonl.manifest("quickstart", wanted, seed=settings.seed, stages={})
    jsonl.write_json(path, {**manifest, "evaluations": ["before_sft", "after_sft", "after_rl"]})


def _record_stage(run: Run, name: str, seconds: float) -> None:
    """Add a stage's time and commit to the manifest; a stage in several goes adds up."""
    path = run.out / "manifest.json"
    manifest = jsonl.read_json(path)
    before = manifest["stages"].get(name, {"seconds": 0.0, "runs": 0})
    manifest["stages"][name] = {
        "seconds": round(before["seconds"] + seconds, 1),
        "runs": before["runs"] + 1,
        # Of the process so far, so that the stage with the peak is the first one that shows it.
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "git_commit": before.get("git_commit", jsonl.git_commit()),  # of the run that completed the stage
    }
    jsonl.write_json(path, manifest)
    say(f"    done in {clock(seconds)}")


def _corpus(run: Run) -> None:
    problems = starter.load("all")
    write_problems(run.out / "problems.jsonl", problems)
    jsonl.write(run.out / "variants.jsonl", map(dataclasses.asdict, starter.variants()))
    count = write_pairs(run.out / "pairs.jsonl", run.pairs("all"))
    held_out = len(select(problems, "held_out"))
    say(f"    {len(problems)} problems ({held_out} held out), {count} pairs")


def _sft(run: Run) -> None:
    sft.train(
        SftConfig(
            model=run.model,
            out=run.out / "sft",
            epochs=run.size.sft_epochs,
            learning_rate=1e-4,
            batch_size=8,
            micro_batch=2,  # with 4 this stage alone would need 7 GB
            precision=run.settings.precision,
            seed=run.settings.seed,
        )
    )


def _reward_config(run: Run, out: Path) -> RewardModelConfig:
    return RewardModelConfig(
        base=run.model,
        out=out,
        epochs=run.size.reward_epochs,
        layers=min(REWARD_LAYERS, models.layer_count(run.model)),
        learning_rate=4e-5,
        batch_size=8,
        micro_batch=4,
        max_length=512,
        validation_percent=0,
        limit=run.size.pairs,
        precision=run.settings.precision,
        seed=run.settings.seed,
    )


def _reward_model(run: Run) -> None:
    train_reward_model(_reward_config(run, run.out / "reward-model"), run.pairs("train"))


def _judge_reward_model(run: Run) -> None:
    """Accuracy over five folds by problem, beside the blind baselines."""
    path = run.out / "reward-model" / "evaluation.json"
    if path.exists():
        return
    pairs = sorted(subsample(run.pairs("all"), run.size.pairs, run.settings.seed), key=lambda pair: pair.id)
    config = _reward_config(run, run.out / "reward-model").model_copy(update={"limit": None})
    scores = reward_model_evaluation.cross_validate(config, pairs, run.out / "reward-model-folds", FOLDS)
    summary = reward_model_evaluation.summarise(pairs, scores, FOLDS)
    jsonl.write_json(path, summary)
    say(
        f"    accuracy {summary['accuracy']:.3f} on {summary['n']} pairs, best blind baseline "
        f"({summary['best_baseline']}) {summary['baselines'][summary['best_baseline']]['accuracy']:.3f}"
    )


def _train(run: Run) -> None:
    size = run.size
    trl.train(
        TrainConfig(
            model=str(run.out / "sft"),
            out=run.out,
            data=DataConfig(eval_limit=size.problems),
            reward=RewardConfig(model=str(run.out / "reward-model"), max_length=512),
            grpo=GrpoConfig(
                steps=size.steps,
                prompts_per_step=size.prompts_per_step,
                group_size=size.group_size,
                updates_per_batch=size.updates_per_batch,
                micro_batch=2,  # the peak of memory is here: a step with 2 is as fast as with 4 and takes 1.5 GB less
                learning_rate=1e-5,
                temperature=TEMPERATURE,
                max_completion_tokens=size.max_tokens,
                precision=run.settings.precision,
            ),
            evaluation=EvaluationConfig(every=size.eval_every),
            save_every=max(1, size.steps // 4),
            seed=run.settings.seed,
        )
    )


def _evaluate(run: Run, label: str, model: str) -> None:
    out = run.out / "eval" / label
    if (out / "results.json").exists():
        return
    with Grader() as grader:
        results = evaluate(
            Evaluation(
                problems=run.held_out(),
                out=out,
                model=lambda: LocalModel.load(model),
                sampling=SamplingSettings(
                    samples=run.size.samples,
                    temperature=TEMPERATURE,
                    max_tokens=run.size.max_tokens,
                    seed=run.settings.seed,
                ),
                rule="consistency_gated",
                scorer=RewardModelScorer(str(run.out / "reward-model"), 512),
                title=label.replace("_", " "),
            ),
            grader,
        )
    say(f"    pass@1 {results['pass@1']:.3f}, total reward {results['reward']['total']['mean']:.3f}")


def _report(run: Run) -> None:
    from recode_rl.report import build_report

    build_report([run.out], run.out / "report.html")
