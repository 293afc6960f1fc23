"""`ablate`: every (arm, seed) of a study that is not recorded yet, one at a time, and a table and a figure of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.ablations import results
from recode_rl.ablations.config import StudyConfig
from recode_rl.ablations.runs import Material, Run, all_runs, do, lacks, recorded
from recode_rl.ablations.sets import judged_sets, study_pairs, write_set
from recode_rl.config import from_command_line
from recode_rl.errors import ConfigError, TimeOver
from recode_rl.interrupts import time_limit
from recode_rl.progress import say
from recode_rl.report.drawing import require_matplotlib


def read_study(
    path: Path, overrides: Sequence[str] = (), out: Path | None = None, base: str | None = None
) -> StudyConfig:
    """A study file with changes; `base` is the model that all arms start from."""
    changes = list(overrides)
    if base is not None:
        changes += [f"reward_model.settings.base={base}", f"train.settings.model={base}"]
    return from_command_line(StudyConfig, path, changes, {"out": out})


def ablate(
    study: StudyConfig, only: Sequence[str] = (), seeds: Sequence[int] = (), limit_s: float | None = None
) -> dict[str, Any]:
    """Run what is not recorded, of these arms and seeds (none named: all); table, figure and results after each run.

    After `limit_s` seconds the run in progress is stopped, to be continued by the next call. Returns what was run, what
    is left of what was wanted, what is recorded, and where table and figure are.
    """
    require_matplotlib()  # before hours of training, not after
    wanted = _wanted(study, only, seeds)
    material = _material(study)
    ran: list[str] = []
    try:
        with time_limit(limit_s):
            for number, run in enumerate(wanted, start=1):
                if recorded(run, material) is None and limit_s != 0:
                    say(f"[{number}/{len(wanted)}] {run.title}")
                    do(run, material)
                    ran.append(run.title)
                    results.write(study)
    except TimeOver as stop:
        say(str(stop))
    values = results.write(study)
    return {
        "ran": ran,
        "left": [run.title for run in wanted if recorded(run, material) is None],
        "recorded": sum(recorded(run, material) is not None for run in all_runs(study)),
        "runs": len(all_runs(study)),
        "absent": {arm.name: reason for arm in study.arms if (reason := lacks(study, arm))},
        **values,
    }


def _wanted(study: StudyConfig, only: Sequence[str], seeds: Sequence[int]) -> list[Run]:
    named = {study.arm(name).name for name in only}
    for name in named:
        if (reason := lacks(study, study.arm(name))) is not None:
            raise ConfigError(f"arm {name!r} cannot be run: {reason}")
    for seed in seeds:
        if seed not in study.seeds:
            raise ConfigError(f"seed {seed}: expected one of {', '.join(map(str, study.seeds))}")
    return [run for run in all_runs(study) if (not named or run.arm.name in named) and (not seeds or run.seed in seeds)]


def _material(study: StudyConfig) -> Material:
    """What the reward models are trained and judged on; the judged sets are written down."""
    jsonl.write_json(study.out / "study.json", study.model_dump(mode="json"))
    if all(arm.kind == "train" for arm in study.arms):
        return Material()
    train, held_out = study_pairs(study)
    sets = judged_sets(study, train, held_out)
    for judged in sets:
        write_set(study.out, judged)
    return Material(train, sets)
