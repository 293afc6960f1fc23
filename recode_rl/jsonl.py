"""JSON Lines in and out: records are appended whole, files are replaced whole, runs leave a manifest."""

from __future__ import annotations

import dataclasses
import errno
import functools
import gzip
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any, TypeVar

from recode_rl.errors import DataError

T = TypeVar("T")

_REPORTED_PACKAGES = ("recode-rl", "torch", "transformers", "trl", "datasets", "numpy", "scikit-learn")


def read(path: Path | str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield `(line number, object)` for every line of a `.jsonl` or `.jsonl.gz` file.

    Raises DataError naming file, line and fix where a line is not one JSON object.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of an existing .jsonl or .jsonl.gz file")
    number = 0
    try:
        with _open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                yield number, _parse_line(path, number, line)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: after line {number}: the gzip stream is broken ({error}); fetch the file again"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: after line {number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from None


def _open_text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _parse_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)  # NaN and infinities are read, as the field's data sets have them, but never written
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        reason = "nested too deeply" if deep else getattr(error, "msg", None) or str(error)
        raise DataError(
            f"{path}: line {number}: not valid JSON ({reason}); each line must be one JSON object"
        ) from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: line {number}: a {type(value).__name__}; each line must be one JSON object")
    return value


def load(path: Path | str, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """Read a file and turn every line into a value; `parse` raises DataError with the reason, we add file and line."""
    values = []
    for number, record in read(path):
        try:
            values.append(parse(record))
        except DataError as error:
            raise DataError(f"{path}: line {number}: {error}") from None
    return values


def load_unique(path: Path | str, parse: Callable[[dict[str, Any]], T], noun: str, key: Callable[[T], str]) -> list[T]:
    """Like `load`, for files whose records have ids: an id that occurs twice, or no record at all, is a DataError."""
    values = load(path, parse)
    seen: set[str] = set()
    for value in values:
        if key(value) in seen:
            raise DataError(f"{path}: {noun} id {key(value)!r} occurs twice; ids must be unique")
        seen.add(key(value))
    if not values:
        raise DataError(f"{path}: no {noun}s in it; expected one JSON object a line")
    return values


def dumps(record: dict[str, Any]) -> str:
    """One line of JSON without a newline at its end; nan and infinities are refused, JSON has none."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, default=_plain)


def _bytes(record: dict[str, Any]) -> bytes:
    """A line as UTF-8; text with lone surrogates, which UTF-8 lacks, is written with escapes."""
    line = dumps(record)
    try:
        return line.encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(json.loads(line)).encode() + b"\n"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def write(path: Path | str, records: Iterable[dict[str, Any]]) -> int:
    """Replace a file in one rename with these records; returns how many were written."""
    count = 0
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        with gzip.open(scratch, "wb") if path.suffix == ".gz" else Path(scratch).open("wb") as file:
            for record in records:
                file.write(_bytes(record))
                count += 1
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return count


def write_text(path: Path | str, text: str) -> None:
    """Replace a text file in one rename."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path | str, content: bytes) -> None:
    """Replace a file in one rename."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def write_json(path: Path | str, value: Any) -> None:
    """Replace a JSON file in one rename."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=_plain) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file; DataError where it is missing or broken."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: line {error.lineno}: not valid JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason}); restore the file or remove it") from None


class Appender:
    """An append-only file of records that survives a kill at any moment.

    Opening it cuts off a last line that was written only in part (a kill, a full disk), so that what is in the file is
    whole. Each record is written and flushed in one call.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.suffix == ".gz":
            raise DataError(f"{path}: a compressed file cannot be appended to; choose a name that ends in .jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        repair(self.path)
        # Without a buffer, so that nothing of a record which did not fit on the disk is left to be written later.
        self._file = self.path.open("ab", buffering=0)

    def append(self, record: dict[str, Any]) -> None:
        """Add one record; it is in the file when this returns, or the file is as before and OSError is raised."""
        line = _bytes(record)
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            self._file.truncate(size)
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Appender:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def repair(path: Path | str) -> None:
    """Cut an unfinished last line off an append-only file, if there is one."""
    path = Path(path)
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        data = file.read()
        if not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def finite(value: float | None) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if value is not None and math.isfinite(value) else None


def manifest_path(records: Path) -> Path:
    """Where the manifest of a file of records lies: `p.manifest.json` beside `p.jsonl`."""
    return records.with_name(f"{records.name.removesuffix('.gz').removesuffix('.jsonl')}.manifest.json")


def manifest(stage: str, config: Any, **extra: Any) -> dict[str, Any]:
    """What made a result: the stage, its resolved config, versions, git commit, machine, and the time.

    Secrets never enter: configs hold none (keys come from the environment) and the environment is not recorded.
    """
    return {
        "stage": stage,
        "config": config,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": _versions(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        **extra,
    }


@functools.cache
def git_commit() -> str | None:
    """The commit of the source tree this package runs from (with "+" where it was changed), None outside a checkout.

    The first answer stays: what runs for hours asks at its start, and the tree may be another when it ends.
    """
    here = Path(__file__).resolve().parent
    try:
        run = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return run.stdout.strip() or None


def _versions() -> dict[str, str]:
    found = {}
    for name in _REPORTED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
