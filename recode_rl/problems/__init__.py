"""Data sets by name: each is read from its own files, or from a hub, as a list of Problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError
from recode_rl.extras import need
from recode_rl.problems import humaneval, mbpp, records, starter
from recode_rl.types import Problem

Loader = Callable[[Path | None], list[Problem]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a data set lives: its usual file names, its repository on the hub, and what turns a row into a Problem."""

    files: tuple[str, ...]
    hub: str
    problem: Callable[[dict[str, Any]], Problem]
    config: str | None = None


_ORIGINS = {
    "humaneval": Origin(humaneval.FILES, humaneval.HUB, humaneval.problem),
    "humaneval+": Origin(humaneval.PLUS_FILES, humaneval.PLUS_HUB, humaneval.plus_problem),
    "mbpp": Origin(mbpp.SANITIZED_FILES, mbpp.HUB, mbpp.problem, "sanitized"),
    "mbpp-full": Origin(mbpp.FULL_FILES, mbpp.HUB, mbpp.full_problem, "full"),
    "mbpp+": Origin(mbpp.PLUS_FILES, mbpp.PLUS_HUB, mbpp.plus_problem),
}


def load(dataset: str, path: Path | str | None = None) -> list[Problem]:
    """The problems of a data set, sorted by id with numbers in order of size.

    `path` is one of its files, or a folder that holds one (or a folder of such folders); None takes the starter corpus
    from the package and other data sets from a hub. "file" reads a problems.jsonl and keeps its order.
    ConfigError where the name is unknown or does not go with `path`, DataError where nothing can be read.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"data set {dataset!r}: expected one of {', '.join(DATASETS)}")
    return DATASETS[dataset](None if path is None else Path(path))


def _starter(path: Path | None) -> list[Problem]:
    if path is not None:
        raise ConfigError(f"data set 'starter' is part of the package; leave out the path {str(path)!r}")
    return starter.load()


def _file(path: Path | None) -> list[Problem]:
    if path is None:
        raise ConfigError("data set 'file' needs the path of a problems.jsonl")
    return records.load_problems(path)


def _load(name: str, path: Path | None) -> list[Problem]:
    origin = _ORIGINS[name]
    found = _from_hub(origin, origin.hub) if path is None else _from_path(name, origin, path)
    if not found:
        raise DataError(f"data set {name!r}: no problems in {path or origin.hub}; fetch it again")
    found.sort(key=lambda problem: _by_number(problem.id))
    for before, after in pairwise(found):
        if before.id == after.id:
            raise DataError(f"data set {name!r}: problem {after.id!r} occurs twice in {path or origin.hub}")
    return found


def _by_number(identifier: str) -> list[tuple[int, str]]:
    return [(int(part or 0), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", identifier)]


def _from_path(name: str, origin: Origin, path: Path) -> list[Problem]:
    if path.is_file():
        return _from_file(origin, path)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder; give the place of {' or '.join(origin.files)}")
    for file in (folder / usual for folder in (path, *_folders(path)) for usual in origin.files):
        if file.is_file():
            return _from_file(origin, file)
    if any(path.glob("*.parquet")) or any(path.glob("*/*.parquet")):  # a copy of the hub's repository
        return _from_hub(origin, str(path))
    raise DataError(f"{path}: no {' or '.join(origin.files)} in it or its folders; data set {name!r} needs it")


def _folders(path: Path) -> list[Path]:
    return sorted(inner for inner in path.iterdir() if inner.is_dir())


def _from_file(origin: Origin, file: Path) -> list[Problem]:
    if file.suffix == ".parquet":
        return _from_hub(Origin((), "", origin.problem), "parquet", data_files=str(file))
    if file.suffix != ".json":
        return jsonl.load(file, origin.problem)
    rows = jsonl.read_json(file)
    if not isinstance(rows, list):
        raise DataError(f"{file}: a {type(rows).__name__}; expected a JSON list of rows (JSON Lines end in .jsonl)")
    return _convert(origin, rows, str(file))


def _from_hub(origin: Origin, repository: str, **options: Any) -> list[Problem]:
    """All splits of a repository on the hub, or of a local folder in the same form."""
    datasets = need("datasets", "train")
    try:
        splits = datasets.load_dataset(repository, origin.config, **options)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{repository}: not to be had from the hub or the disk ({reason}); "
            f"give its files with a path (--from FILE|DIR){_named(origin.files)}"
        ) from None
    return _convert(origin, (row for split in splits.values() for row in split), repository)


def _named(files: tuple[str, ...]) -> str:
    return f", as {files[0]}" if files else ""


def _convert(origin: Origin, rows: Iterable[Any], where: str) -> list[Problem]:
    problems = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{where}: row {number}: {str(row)[:60]!r}; expected an object with columns")
        try:
            problems.append(origin.problem(row))
        except DataError as error:
            raise DataError(f"{where}: row {number}: {error}") from None
    return problems


DATASETS: dict[str, Loader] = {
    "starter": _starter,
    **{name: partial(_load, name) for name in _ORIGINS},
    "file": _file,
}
