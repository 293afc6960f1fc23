"""R_proc of everything that a policy wrote in training, also where its rule did not ask: what makes arms comparable.

An outcome-only run never asks the reward model, and a gated one asks it for passing samples alone. Their completions
are scored here behind the training, by the reward model of the recipe; no score of these is ever rewarded.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from recode_rl import completion, jsonl
from recode_rl.problems.records import load_problems
from recode_rl.progress import Progress

Record = dict[str, Any]
Scorer = Callable[[Sequence[tuple[str, str]]], Sequence[float]]


def watch(run: Path, scorer: Scorer, out: Path, title: str) -> list[Record]:
    """One line a step, kept in `out` as they come: mean R_proc of all completions, of passing and of failing ones.

    `run` is the folder of a policy training. A completion without a reasoning counts 0, as in the reward; one that our
    infrastructure failed is left out.
    """
    prompts = {problem.id: problem.prompt for problem in load_problems(run / "problems.jsonl")}
    jsonl.repair(out)
    done = [record for _, record in jsonl.read(out)] if out.exists() else []
    steps = list(_steps(run / "completions.jsonl"))
    with Progress(f"{title}: watching", len(steps), len(done)) as progress:
        for step, records in steps[len(done) :]:
            done.append(_watched(step, records, prompts, scorer))
            with jsonl.Appender(out) as file:
                file.append(done[-1])
            progress.advance()
    return done


def _steps(path: Path) -> Iterator[tuple[int, list[Record]]]:
    records = [record for _, record in jsonl.read(path) if "status" in record]
    for step, group in groupby(records, key=lambda record: int(record["step"])):
        yield step, list(group)


def _watched(step: int, records: Sequence[Record], prompts: dict[str, str], scorer: Scorer) -> Record:
    known = [_known(record) for record in records]
    scores = [score or 0.0 for score in known]
    asked = []
    for place, (record, score) in enumerate(zip(records, known, strict=True)):
        reasoning = completion.parse(record["completion"]).reasoning
        if score is None and reasoning:
            asked.append((place, (prompts[record["problem_id"]], reasoning)))
    if asked:
        for (place, _), score in zip(asked, scorer([item for _, item in asked]), strict=True):
            scores[place] = float(score)
    passed = [record["status"] == "passed" for record in records]
    return {
        "step": step,
        "watch/process": statistics.fmean(scores),
        "watch/process_passing": _mean([score for score, ok in zip(scores, passed, strict=True) if ok]),
        "watch/process_failing": _mean([score for score, ok in zip(scores, passed, strict=True) if not ok]),
    }


def _known(record: Record) -> float | None:
    """R_proc as it was rewarded, or as the monitor saw it."""
    found = [record[key] for key in ("process", "audited") if record.get(key) is not None]
    return float(found[0]) if found else None


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None
