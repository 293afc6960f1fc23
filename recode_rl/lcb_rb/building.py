"""Decided samples → the benchmark: pairs of a sound and a flawed reasoning of a problem, and what is known of them.

A problem needs both sides. Every flawed reasoning is rejected once, beside one sound reasoning of the same problem that
is drawn by the seed. Problems of the reserved dates stay out, and whatever is left out is counted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import statistics as plain
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from recode_rl import completion, jsonl
from recode_rl.errors import DataError
from recode_rl.lcb_rb.records import Final, Key
from recode_rl.pairs import load_pairs, pair_from_record
from recode_rl.statistics import mean_interval
from recode_rl.types import PreferencePair, Problem, Sample, Verdict

Baselines = Callable[[Sequence[PreferencePair]], Mapping[str, Sequence[float]]]
# Problems of these months are what the paper evaluates policies on: a reward model may not be chosen by them.
RESERVED = ("2024-10-01", "2025-02-28")
_SHINGLE = 4
_ALIKE = 0.8


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """`reserved`: first and last day that are kept out (None: nothing is); `seed` draws the chosen sides."""

    reserved: tuple[str, str] | None = RESERVED
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Built:
    """The pairs in the order of the problems, the two samples of each, and what was dropped, by reason."""

    pairs: list[PreferencePair]
    sides: list[tuple[Sample, Sample]]
    dropped: Counter[str]
    problems_without_date: int


def build(
    problems: Sequence[Problem], samples: Sequence[Sample], ends: Mapping[Key, Final], settings: BuildSettings
) -> Built:
    """The pairs that decisions allow. DataError where a decided sample or its problem is not there."""
    by_key = {(sample.problem_id, sample.sample_id): sample for sample in samples}
    known = {problem.id for problem in problems}
    dropped: Counter[str] = Counter()
    decided: dict[str, dict[str, list[Sample]]] = {}
    for key, final in ends.items():
        if key not in by_key or key[0] not in known:
            raise DataError(
                f"sample {key[1]!r} of problem {key[0]!r} is decided but not among the samples or problems; give the "
                "files that were adjudicated"
            )
        if final.judgement in ("sound", "flawed"):
            decided.setdefault(key[0], {}).setdefault(final.judgement, []).append(by_key[key])
        else:
            dropped[final.judgement or final.reason] += 1
    built = Built([], [], dropped, 0)
    without_date = 0
    for problem in problems:
        sides = decided.get(problem.id, {})
        count = sum(map(len, sides.values()))
        if not count:
            continue
        if is_reserved(problem, settings.reserved):
            dropped["problem of the reserved dates"] += count
        elif len(sides) < 2:
            dropped[f"problem without a {'flawed' if 'sound' in sides else 'sound'} reasoning"] += count
        else:
            without_date += problem.date is None
            _pair_up(problem, sides["sound"], sides["flawed"], settings.seed, built)
    return dataclasses.replace(built, problems_without_date=without_date)


def is_reserved(problem: Problem, window: tuple[str, str] | None) -> bool:
    """Whether a problem's date lies in the window, both ends included; one without a date does not."""
    return window is not None and problem.date is not None and window[0] <= problem.date[:10] <= window[1]


def _pair_up(problem: Problem, sound: Sequence[Sample], flawed: Sequence[Sample], seed: int, built: Built) -> None:
    for rejected in sorted(flawed, key=lambda sample: sample.sample_id):
        other = [sample for sample in sound if reasoning_of(sample) != reasoning_of(rejected)]
        if not other:
            built.dropped["equal sides"] += 1
            continue
        draw = hashlib.sha256(f"{seed}/{problem.id}/{rejected.sample_id}".encode()).digest()
        ordered = sorted(other, key=lambda sample: sample.sample_id)
        chosen = ordered[int.from_bytes(draw[:8], "big") % len(ordered)]
        built.sides.append((chosen, rejected))
        built.pairs.append(
            PreferencePair(
                id=f"{problem.id}/{chosen.sample_id}-{rejected.sample_id}",
                problem_id=problem.id,
                problem=problem.prompt,
                chosen=reasoning_of(chosen),
                rejected=reasoning_of(rejected),
                kind="lcb_rb",
                generator=rejected.model or "",
                difficulty=problem.difficulty,
            )
        )


def reasoning_of(sample: Sample) -> str:
    """The reasoning of a completion. DataError where there is none, which nobody can have decided about."""
    found = completion.parse(sample.completion or "").reasoning
    if not found:
        raise DataError(
            f"sample {sample.sample_id!r} of problem {sample.problem_id!r} has no reasoning; is it the file?"
        )
    return found


def lengths(pairs: Sequence[PreferencePair]) -> dict[str, Any]:
    """Words of both sides, and how often the chosen one is longer (a tie counts half), with an interval by problems."""
    chosen, rejected = [len(pair.chosen.split()) for pair in pairs], [len(pair.rejected.split()) for pair in pairs]
    longer = [0.5 if a == b else float(a > b) for a, b in zip(chosen, rejected, strict=True)]
    share = mean_interval(longer, clusters=[pair.problem_id for pair in pairs])
    return {
        "chosen_words": {"mean": plain.fmean(chosen), "median": plain.median(chosen)},
        "rejected_words": {"mean": plain.fmean(rejected), "median": plain.median(rejected)},
        "chosen_longer": share.mean,
        "interval": share.as_list(),
    }


def near_duplicates(texts: Mapping[str, str]) -> list[tuple[str, str, float]]:
    """Names of texts that are nearly the same, with their likeness: the share of runs of four words that they share."""
    runs = {name: _runs(text) for name, text in texts.items()}
    found = []
    for (one, a), (other, b) in combinations(runs.items(), 2):
        small, large = sorted((len(a), len(b)))
        if small < _ALIKE * large:
            continue
        alike = len(a & b) / len(a | b)
        if alike >= _ALIKE:
            found.append((one, other, round(alike, 3)))
    return found


def _runs(text: str) -> set[tuple[str, ...]]:
    words = text.casefold().split()
    return {tuple(words[i : i + _SHINGLE]) for i in range(max(1, len(words) - _SHINGLE + 1))}


def duplicates(built: Built) -> dict[str, Any]:
    """Nearly equal statements of different problems, and nearly equal reasonings within a problem."""
    statements = {pair.problem_id: pair.problem for pair in built.pairs}
    used: dict[str, dict[str, str]] = {}
    for chosen, rejected in built.sides:
        for sample in (chosen, rejected):
            used.setdefault(sample.problem_id, {})[sample.sample_id] = reasoning_of(sample)
    reasonings: list[dict[str, Any]] = [
        {"problem_id": problem, "samples": [one, other], "likeness": alike}
        for problem, texts in used.items()
        for one, other, alike in near_duplicates(texts)
    ]
    problems = [{"problems": [a, b], "likeness": alike} for a, b, alike in near_duplicates(statements)]
    across = sum({one["samples"][0], one["samples"][1]} in _sides_of(built, one["problem_id"]) for one in reasonings)
    return {"problems": problems, "reasonings": reasonings, "pairs_with_nearly_equal_sides": across}


def _sides_of(built: Built, problem_id: str) -> list[set[str]]:
    return [{a.sample_id, b.sample_id} for a, b in built.sides if a.problem_id == problem_id]


def measure(built: Built, baselines: Baselines, verdicts: Mapping[Key, Verdict] | None = None) -> dict[str, Any]:
    """What the card says of the pairs. DataError where there are none."""
    pairs = built.pairs
    if not pairs:
        raise DataError(
            f"no pair can be made ({dict(built.dropped)}); decide about more samples, or see what was dropped"
        )
    clusters = [pair.problem_id for pair in pairs]
    blind = {}
    for name, values in baselines(pairs).items():
        accuracy = mean_interval(values, clusters=clusters)
        blind[name] = {"accuracy": accuracy.mean, "interval": accuracy.as_list()}
    return {
        "pairs": len(pairs),
        "problems": len(set(clusters)),
        "by_difficulty": dict(Counter(pair.difficulty or "unknown" for pair in pairs)),
        "models": dict(Counter(pair.generator or "unknown" for pair in pairs)),
        "chosen_reasonings": len({(a.problem_id, a.sample_id) for a, _ in built.sides}),
        "outcomes": None if verdicts is None else _outcomes(built, verdicts),
        "dropped": dict(built.dropped.most_common()),
        "problems_without_date": built.problems_without_date,
        "lengths": lengths(pairs),
        "near_duplicates": duplicates(built),
        "baselines": blind,
    }


def _outcomes(built: Built, verdicts: Mapping[Key, Verdict]) -> dict[str, int]:
    """How many pairs have a passing chosen side, and a passing rejected one."""

    def word(sample: Sample) -> str:
        verdict = verdicts.get((sample.problem_id, sample.sample_id))
        return "unknown" if verdict is None else "passed" if verdict.passed else "failed"

    return dict(Counter(f"chosen {word(a)}, rejected {word(b)}" for a, b in built.sides))


def records(
    built: Built, verdicts: Mapping[Key, Verdict] | None = None, statements: bool = True
) -> Iterable[dict[str, Any]]:
    """Lines of pairs.jsonl; without statements, their digests stand in their place (see `fill`)."""
    for pair, (chosen, rejected) in zip(built.pairs, built.sides, strict=True):
        line = dataclasses.asdict(pair)
        line["samples"] = [chosen.sample_id, rejected.sample_id]
        if verdicts is not None:
            found = [verdicts.get((sample.problem_id, sample.sample_id)) for sample in (chosen, rejected)]
            line["passed"] = [None if verdict is None else verdict.passed for verdict in found]
        if not statements:
            line["problem_sha256"] = _digest(line.pop("problem"))
        yield line


def fill(path: Path, problems: Sequence[Problem], out: Path) -> int:
    """Put the statements back into pairs that were written without them; returns the number of pairs.

    DataError where a problem is missing or has another text than the pairs were made from.
    """
    by_id = {problem.id: problem for problem in problems}
    filled = []
    for number, record in jsonl.read(path):
        identifier, digest = record.get("problem_id"), record.pop("problem_sha256", None)
        problem = by_id.get(str(identifier))
        if problem is None:
            raise DataError(
                f"{path}: line {number}: problem {identifier!r} is not among the problems; fetch its data set"
            )
        if digest is not None and digest != _digest(problem.prompt):
            raise DataError(
                f"{path}: line {number}: problem {identifier!r} has another statement than these pairs were made from; "
                "fetch the release that the data card names"
            )
        line = {"id": record.get("id"), "problem_id": problem.id, "problem": problem.prompt, **record}
        try:
            pair_from_record(line)
        except DataError as error:
            raise DataError(f"{path}: line {number}: {error}") from None
        filled.append(line)
    jsonl.write(out, filled)
    return len(load_pairs(out))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
