"""Data sets by name: each is read from its own files, or from a hub, as a list of Problems.

A row that no program can be graded by, because it has no tests or none that can be read, is skipped and counted by its
reason. Any other row that cannot be read is an error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError
from recode_rl.extras import need
from recode_rl.problems import (
    apps,
    bigcodebench,
    code_contests,
    deepcoder,
    gsm8k,
    humaneval,
    humanevalpack,
    leetcode,
    livecodebench,
    mathematics,
    mbpp,
    quixbugs,
    records,
    selection,
    splits,
    starter,
)
from recode_rl.problems.rows import UnusableRow
from recode_rl.progress import console
from recode_rl.types import Problem

Row = dict[str, Any]
REPEATED = "it occurs again"
_EVERYTHING = selection.Selection()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The problems of a data set, and the ids of rows that were skipped, by reason."""

    problems: list[Problem]
    skipped: Mapping[str, list[str]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many rows were skipped, by reason."""
        return {reason: len(ids) for reason, ids in self.skipped.items()}

    def said(self) -> str:
        """The same for a person, empty where none was: "3 rows skipped (2: no tests; 1: it occurs again)"."""
        counts = self.counts()
        reasons = "; ".join(f"{count}: {reason}" for reason, count in counts.items())
        return f"{sum(counts.values())} rows skipped ({reasons})" if counts else ""


Loader = Callable[[Path | None], Loaded]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a data set lives: its usual file names, its repository on the hub, and what turns a row into a Problem.

    `configs` are the configurations of the repository that are read, `files_on_hub` the files by split of one that has
    no other form, `newest` says that its splits are versions, `wanted` which rows belong to the set, and `repeats` that
    rows are known to occur more than once. A set whose splits are files of their own has their names in `parts`.
    """

    files: tuple[str, ...]
    hub: str
    problem: Callable[[Row], Problem]
    configs: tuple[str | None, ...] = (None,)
    files_on_hub: Mapping[str, str] = field(default_factory=dict)
    newest: bool = False
    repeats: bool = False
    wanted: Callable[[Row], bool] = lambda row: True
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


_ORIGINS = {
    "humaneval": Origin(humaneval.FILES, humaneval.HUB, humaneval.problem),
    "humaneval+": Origin(humaneval.PLUS_FILES, humaneval.PLUS_HUB, humaneval.plus_problem),
    "mbpp": Origin(mbpp.SANITIZED_FILES, mbpp.HUB, mbpp.problem, ("sanitized",)),
    "mbpp-full": Origin(mbpp.FULL_FILES, mbpp.HUB, mbpp.full_problem, ("full",)),
    "mbpp+": Origin(mbpp.PLUS_FILES, mbpp.PLUS_HUB, mbpp.plus_problem),
    "livecodebench": Origin(
        livecodebench.FILES, livecodebench.HUB, livecodebench.problem, files_on_hub=livecodebench.HUB_FILES
    ),
    "bigcodebench": Origin(bigcodebench.FILES, bigcodebench.HUB, bigcodebench.problem, newest=True),
    "bigcodebench-hard": Origin(
        bigcodebench.HARD_FILES,
        bigcodebench.HARD_HUB,
        bigcodebench.hard_problem,
        newest=True,
        wanted=bigcodebench.is_hard,
    ),
    "apps": Origin(apps.FILES, apps.HUB, apps.problem, files_on_hub=apps.HUB_FILES, repeats=True),
    "taco": Origin(apps.TACO_FILES, apps.TACO_HUB, apps.taco_problem, repeats=True),
    "code-contests": Origin(code_contests.FILES, code_contests.HUB, code_contests.problem, repeats=True),
    "deepcoder": Origin(deepcoder.FILES, deepcoder.HUB, deepcoder.problem, deepcoder.CONFIGS, repeats=True),
    "leetcode": Origin(leetcode.FILES, leetcode.HUB, leetcode.problem),
    "quixbugs": Origin(quixbugs.FILES, quixbugs.HUB, quixbugs.problem),
    "gsm8k": Origin((), gsm8k.HUB, gsm8k.problem, (gsm8k.CONFIG,), parts=gsm8k.FILES),
    "math": Origin(mathematics.MATH_FILES, mathematics.MATH_HUB, mathematics.math_problem, repeats=True),
    "math500": Origin(mathematics.MATH500_FILES, mathematics.MATH500_HUB, mathematics.math500_problem),
    "minerva": Origin(mathematics.MINERVA_FILES, mathematics.MINERVA_HUB, mathematics.minerva_problem),
    "aime24": Origin(mathematics.AIME24_FILES, mathematics.AIME24_HUB, mathematics.aime24_problem),
    "dapo-math": Origin(
        mathematics.DAPO_FILES,
        mathematics.DAPO_HUB,
        mathematics.dapo_problem,
        (mathematics.DAPO_CONFIG,),
        repeats=True,
    ),
    "humanevalpack": Origin(humanevalpack.FILES, humanevalpack.HUB, humanevalpack.problem, (humanevalpack.CONFIG,)),
}


def load(dataset: str, path: Path | str | None = None) -> list[Problem]:
    """The problems of a data set as `read` gives them; what was skipped is said on stderr."""
    loaded = read(dataset, path)
    if loaded.skipped:
        console.print(f"{dataset}: {len(loaded.problems)} problems, {loaded.said()}", soft_wrap=True)
    return loaded.problems


def read(dataset: str, path: Path | str | None = None) -> Loaded:
    """The problems of a data set, sorted by id with numbers in order of size, and what was skipped.

    `path` is one of its files, or a folder that holds one (or a folder of such folders); None takes the starter corpus
    from the package and other data sets from a hub. "file" reads a problems.jsonl and keeps its order.
    ConfigError where the name is unknown or does not go with `path`, DataError where nothing can be read.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"data set {dataset!r}: expected one of {', '.join(DATASETS)}")
    return DATASETS[dataset](None if path is None else Path(path))


def write(
    dataset: str, path: Path | str | None, split: str, out: Path, wanted: selection.Selection = _EVERYTHING
) -> dict[str, Any]:
    """Write the problems of one split ("all": of every split) as problems.jsonl, with a manifest beside it.

    Returns the counts, which the manifest has too: `problems`, `left_out` (of other splits), `skipped` (by reason),
    `kinds`, and `digest`, by which the same problems are known again.
    """
    loaded = read(dataset, path)
    chosen, left = selection.select(splits.select(loaded.problems, split), wanted)
    if others := len(loaded.problems) - len(chosen) - sum(left.values()):
        left = {"another split": others, **left}
    records.write_problems(out, chosen)
    dates = sorted(problem.date for problem in chosen if problem.date)
    counts = {
        "dataset": dataset,
        "problems": len(chosen),
        "left_out": len(loaded.problems) - len(chosen),
        "left_out_by": left,
        "skipped": loaded.counts(),
        "kinds": dict(Counter(problem.tests.kind for problem in chosen)),
        "difficulties": dict(Counter(problem.difficulty for problem in chosen if problem.difficulty)),
        "dates": [dates[0], dates[-1]] if dates else None,
        "digest": records.digest(chosen),
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
    }
    config = {"dataset": dataset, "from": None if path is None else str(path), "split": split, "out": str(out)}
    config |= dataclasses.asdict(wanted)
    made = jsonl.manifest("problems", config, counts=counts, skipped={r: list(i) for r, i in loaded.skipped.items()})
    jsonl.write_json(jsonl.manifest_path(out), made)
    return counts


def _starter(part: starter.Part, path: Path | None) -> Loaded:
    if path is not None:
        raise ConfigError(f"data set 'starter' is part of the package; leave out the path {str(path)!r}")
    return Loaded(starter.load(part))


def _file(path: Path | None) -> Loaded:
    if path is None:
        raise ConfigError("data set 'file' needs the path of a problems.jsonl")
    return Loaded(records.load_problems(path))


class _Rows:
    """Turns the rows of one data set into problems, and keeps account of those it skips."""

    def __init__(self, name: str, origin: Origin) -> None:
        self.name = name
        self.origin = origin
        self.skipped: dict[str, list[str]] = {}
        self._seen: set[str] = set()

    def problem(self, row: Row) -> Problem | None:
        """The problem of a row, None where the row is not of the set or cannot be used."""
        if not self.origin.wanted(row):
            return None
        try:
            made = self.origin.problem(row)
        except UnusableRow as unusable:
            self.skip(unusable.reason, unusable.identifier)
            return None
        if self.origin.repeats and made.id in self._seen:  # not kept until all are read: some sets are mostly repeats
            self.skip(REPEATED, made.id)
            return None
        self._seen.add(made.id)
        return made

    def skip(self, reason: str, identifier: str) -> None:
        """Count a row that is not used."""
        self.skipped.setdefault(reason, []).append(identifier)

    def unique(self, problems: list[Problem], where: Path | str) -> list[Problem]:
        """Sorted by id. DataError where a row occurs again, in a set that is not known for it."""
        problems.sort(key=lambda problem: _by_number(problem.id))
        if twice := [a.id for a, b in pairwise(problems) if a.id == b.id]:
            raise DataError(f"data set {self.name!r}: problem {twice[0]!r} occurs twice in {where}")
        if REPEATED in self.skipped:
            self.skipped[REPEATED] = self.skipped.pop(REPEATED)  # the last reason: the others say more
        return problems


def _load(name: str, path: Path | None) -> Loaded:
    origin = _ORIGINS[name]
    rows = _Rows(name, origin)
    where = path or origin.hub
    found = _from_hub(rows, origin.hub) if path is None else _from_path(rows, path)
    if not found:
        skipped = f", {Loaded([], rows.skipped).said()}" if rows.skipped else ""
        raise DataError(f"data set {name!r}: no problems in {where}{skipped}; fetch it again")
    return Loaded(rows.unique(found, where), rows.skipped)


def _by_number(identifier: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", identifier)]


def _from_path(rows: _Rows, path: Path) -> list[Problem]:
    origin = rows.origin
    usual_names = " or ".join(origin.files or [" and ".join(names[0] for names in origin.parts.values())])
    if path.is_file():
        return _from_file(rows, path, next((s for s, names in origin.parts.items() if path.name in names), None))
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; give the place of {usual_names}")
    if parts := [(split, file) for split, names in origin.parts.items() for file in _first(path, names)]:
        return [problem for split, file in parts for problem in _from_file(rows, file, split)]
    for file in (folder / usual for folder in (path, *_folders(path)) for usual in origin.files):
        if file.is_file():
            return _from_file(rows, file)
    if any(path.glob("*.parquet")) or any(path.glob("*/*.parquet")):  # a copy of the hub's repository
        return _from_hub(rows, str(path))
    if parts := [(split, file) for split, files in origin.files_on_hub.items() for file in sorted(path.glob(files))]:
        return [problem for split, file in parts for problem in _from_file(rows, file, split)]
    raise DataError(f"{path}: no {usual_names} in it or its folders; data set {rows.name!r} needs it")


def _first(folder: Path, names: Iterable[str]) -> list[Path]:
    return [folder / name for name in names if (folder / name).is_file()][:1]


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir())


def _from_file(rows: _Rows, file: Path, split: str | None = None) -> list[Problem]:
    if file.suffix == ".parquet":
        return _convert(rows, _hub_rows(rows, "parquet", (None,), data_files=str(file)), str(file))
    about = {} if split is None else {"hub_split": split}
    if file.suffix != ".json":
        return _kept(jsonl.load(file, lambda row: rows.problem({**about, **row})))
    values = jsonl.read_json(file)
    if not isinstance(values, list):
        raise DataError(f"{file}: a {type(values).__name__}; expected a JSON list of rows (JSON Lines end in .jsonl)")
    return _convert(rows, values, str(file))


def _from_hub(rows: _Rows, repository: str) -> list[Problem]:
    """All problems of a repository on the hub, or of a local folder in the same form."""
    origin = rows.origin
    if origin.files_on_hub and repository == origin.hub:
        files = {split: f"hf://datasets/{repository}/{name}" for split, name in origin.files_on_hub.items()}
        return _convert(rows, _hub_rows(rows, "json", (None,), data_files=files), repository)
    return _convert(rows, _hub_rows(rows, repository, origin.configs), repository)


def _hub_rows(rows: _Rows, repository: str, configs: Iterable[str | None], **options: Any) -> Iterable[Row]:
    """The rows of all splits (the newest one where splits are versions), each with its split and configuration.

    A file alone has no split of its own: what the reader calls it says nothing.
    """
    alone = isinstance(options.get("data_files"), str)
    for config in configs:
        parts = _splits(rows.origin, repository, config, **options)
        names = sorted(parts, key=lambda name: _by_number(str(name)))
        for name in names[-1:] if rows.origin.newest else parts:
            about = {} if alone else {"hub_split": str(name), **({"hub_config": config} if config else {})}
            yield from ({**about, **row} if isinstance(row, dict) else row for row in parts[name])


def _splits(origin: Origin, repository: str, config: str | None, **options: Any) -> Any:
    datasets = need("datasets", "train")
    try:
        return datasets.load_dataset(repository, config, **options)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{origin.hub if repository == 'json' else repository}: not to be had from the hub or the disk ({reason}); "
            f"give its files with a path (--from FILE|DIR){_named(origin.files)}"
        ) from None


def _named(files: tuple[str, ...]) -> str:
    return f", as {files[0]}" if files else ""


def _convert(rows: _Rows, values: Iterable[Any], where: str) -> list[Problem]:
    problems = []
    for number, row in enumerate(values, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{where}: row {number}: {str(row)[:60]!r}; expected an object with columns")
        try:
            problems.append(rows.problem(row))
        except DataError as error:
            raise DataError(f"{where}: row {number}: {error}") from None
    return _kept(problems)


def _kept(problems: Iterable[Problem | None]) -> list[Problem]:
    return [problem for problem in problems if problem is not None]


DATASETS: dict[str, Loader] = {
    "starter": partial(_starter, "core"),
    "starter-harder": partial(_starter, "harder"),
    **{name: partial(_load, name) for name in _ORIGINS},
    "file": _file,
}
