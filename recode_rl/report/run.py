"""Reads a run folder: whatever of it is there, nothing invented for what is not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import DataError

Record = dict[str, Any]

USUAL_ORDER = ("before_sft", "after_sft", "after_rl")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One folder under `eval/`, or a folder that `eval` wrote by itself."""

    label: str
    folder: Path
    results: Record


@dataclass(frozen=True, slots=True)
class Run:
    """What one run folder holds; an empty value where a file is missing."""

    path: Path
    name: str
    manifest: Record = field(default_factory=dict)
    rl: tuple[Record, ...] = ()
    sft: tuple[Record, ...] = ()
    reward_model_training: tuple[Record, ...] = ()
    reward_model: Record = field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = ()
    alarms: tuple[Record, ...] = ()


def read_run(path: Path, name: str | None = None) -> Run:
    """Read a run folder. Raises DataError where it is no folder, holds nothing of a run, or a file is broken."""
    if not path.is_dir():
        raise DataError(f"{path}: no such run folder; give the folder that a training or quickstart run wrote")
    manifest = _object(path / "manifest.json")
    run = Run(
        path=path,
        name=name or path.resolve().name,
        manifest=manifest,
        rl=_steps(path / "metrics.jsonl"),
        sft=_steps(path / "sft" / "metrics.jsonl"),
        reward_model_training=_steps(path / "reward-model" / "metrics.jsonl"),
        reward_model=_object(path / "reward-model" / "evaluation.json"),
        evaluations=(*_alone(path), *_evaluations(path / "eval", manifest)),
        alarms=tuple(records(path / "alarms.jsonl")),
    )
    parts = (run.manifest, run.rl, run.sft, run.reward_model_training, run.reward_model, run.evaluations)
    if not any(parts):
        raise DataError(
            f"{path}: nothing of a run in this folder; expected some of manifest.json, metrics.jsonl, "
            "reward-model/evaluation.json, eval/LABEL/results.json, results.json"
        )
    return run


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read several run folders under names that tell them apart."""
    if not paths:
        raise DataError("no run folder given; name at least one")
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = ["/".join(path.resolve().parts[-2:]) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    return [read_run(path, name) for path, name in zip(paths, names, strict=True)]


def number(value: Any) -> float | None:
    """The value as a finite number, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def pair(value: Any) -> tuple[float, float] | None:
    """`[low, high]` as two finite numbers, None for anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return None if low is None or high is None else (low, high)


def inside(record: Any, *keys: str) -> Any:
    """`record[key][key]…`, None as soon as one of them is not there."""
    for key in keys:
        if not isinstance(record, Mapping):
            return None
        record = record.get(key)
    return record


def column(rows: Sequence[Record], key: str) -> list[tuple[float, float | None]]:
    """`(step, value)` of every row that has the key; None where the run wrote null, for instance "nothing passed"."""
    return [(float(row["step"]), number(row[key])) for row in rows if key in row]


def ends(rows: Sequence[Record], key: str, share: float = 0.1) -> tuple[float, float] | None:
    """Mean of the first and of the last tenth (`share`) of a column's values; None where there are none."""
    values = [value for _, value in column(rows, key) if value is not None]
    if not values:
        return None
    count = max(1, round(len(values) * share))
    return sum(values[:count]) / count, sum(values[-count:]) / count


def records(path: Path) -> list[Record]:
    """All records of a JSON Lines file or of its `.gz`, none where the file is missing."""
    found = present(path)
    return [record for _, record in jsonl.read(found)] if found else []


def present(path: Path) -> Path | None:
    """The JSON Lines file or its `.gz`, None where there is neither."""
    return next((file for file in (path, path.with_name(path.name + ".gz")) if file.is_file()), None)


def _object(path: Path) -> Record:
    if not path.is_file():
        return {}
    value = jsonl.read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: a {type(value).__name__}; the file must hold one JSON object")
    return value


def _steps(path: Path) -> tuple[Record, ...]:
    """Rows by step. A continued run may have written a step twice: the last one counts."""
    rows: dict[float, Record] = {}
    for place, row in enumerate(records(path)):
        step = number(row.get("step"))
        step = float(place) if step is None else step
        rows[step] = {**rows.get(step, {}), **row, "step": step}
    return tuple(rows[step] for step in sorted(rows))


def _alone(folder: Path) -> tuple[Evaluation, ...]:
    """The evaluation that a folder is itself, as `eval --out` leaves it."""
    results = _object(folder / "results.json")
    return (Evaluation(folder.resolve().name, folder, results),) if "pass@1" in results else ()


def _evaluations(folder: Path, manifest: Record) -> tuple[Evaluation, ...]:
    found = {path.parent.name: path for path in sorted(folder.glob("*/results.json"))}
    stated = manifest.get("evaluations")
    wanted = [*stated] if isinstance(stated, (list, dict)) else []
    order = [label for label in (*wanted, *USUAL_ORDER, *found) if isinstance(label, str) and label in found]
    return tuple(Evaluation(label, found[label].parent, _object(found[label])) for label in dict.fromkeys(order))
