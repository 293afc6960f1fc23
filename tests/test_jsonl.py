"""Nothing is half-written, and a broken file is named with its line."""

from __future__ import annotations

import errno
import gzip
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import DataError


def records_of(path: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(path)]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    records: list[dict[str, Any]] = [{"a": 1, "t": "é\u2028\x0c\n\r\x85"}, {}, {"deep": [[{"x": None}]]}]
    assert jsonl.write(tmp_path / "new" / name, records) == 3
    assert records_of(tmp_path / "new" / name) == records


def test_lines_are_counted_with_the_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\r\n\n   \n{"a": 2}')
    assert list(jsonl.read(path)) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"a": ', "not valid JSON"),
        ("{'a': 1}", "not valid JSON"),
        ('{"a": 1} {"a": 2}', "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[1, 2]", "a list"),
        ("3", "a int"),
        ("null", "a NoneType"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"a": 1}}\n\n{line}\n{{"a": 2}}\n')
    with pytest.raises(DataError, match=f"bad.jsonl: line 3: .*{reason}.*one JSON object"):
        records_of(path)


def test_a_number_with_too_many_digits_is_a_malformed_line(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"a": ' + "1" * 5000 + "}\n")
    with pytest.raises(DataError, match=r"line 1"):
        records_of(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl: no such file"):
        records_of(tmp_path / "none.jsonl")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "\xe9"}\n')
    with pytest.raises(DataError, match=r"latin.jsonl: .*not UTF-8"):
        records_of(path)


@pytest.mark.parametrize("keep", [5, 25, -3])
def test_a_gzip_file_that_was_cut_off_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:keep])
    with pytest.raises(DataError, match=r"cut.jsonl.gz: .*gzip stream is broken"):
        records_of(path)


def test_a_file_that_is_no_gzip_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plain.jsonl.gz"
    path.write_bytes(b'{"a": 1}\n')
    with pytest.raises(DataError, match=r"gzip stream is broken"):
        records_of(path)


def test_a_gzip_file_with_a_flipped_byte_is_named(tmp_path: Path) -> None:
    data = bytearray(gzip.compress("".join(f'{{"a": {n * n}}}\n' for n in range(3000)).encode(), mtime=0))
    data[12] ^= 0xFF
    path = tmp_path / "flipped.jsonl.gz"
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"flipped.jsonl.gz"):
        records_of(path)


def test_load_says_where_a_record_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"b": 1}\n')

    def parse(record: dict[str, Any]) -> int:
        if "a" not in record:
            raise DataError("key 'a' is missing")
        return int(record["a"])

    with pytest.raises(DataError, match=r"a.jsonl: line 3: key 'a' is missing"):
        jsonl.load(path, parse)
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert jsonl.load(path, parse) == [1, 2]


@dataclass
class Point:
    x: int
    y: tuple[int, ...]


def test_dumps_writes_plain_forms_on_one_line() -> None:
    line = jsonl.dumps({"p": Point(1, (2, 3)), "s": {"b", "a"}, "f": Path("/a/b"), "t": "ü\n"})
    assert "\n" not in line and "ü" in line
    assert json.loads(line) == {"p": {"x": 1, "y": [2, 3]}, "s": ["a", "b"], "f": "/a/b", "t": "ü\n"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), Point, 1j])
def test_dumps_refuses_what_json_has_no_form_for(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        jsonl.dumps({"a": value})


def failing() -> Iterator[dict[str, Any]]:
    yield {"a": 2}
    raise RuntimeError("the source broke")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_source_that_fails_leaves_the_old_file_alone(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    jsonl.write(path, [{"a": 1}])
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"the source broke"):
        jsonl.write(path, failing())
    assert path.read_bytes() == before
    assert names(tmp_path) == [name]


def test_a_full_disk_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    jsonl.write_json(path, {"a": 1})

    def full(*names: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    for write in (lambda: jsonl.write_json(path, {"a": 2}), lambda: jsonl.write(path, [{"a": 2}])):
        with pytest.raises(OSError, match=r"No space left"):
            write()
    assert jsonl.read_json(path) == {"a": 1}
    assert names(tmp_path) == ["a.json"]


def test_a_value_that_cannot_be_written_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    jsonl.write(path, [{"a": 1}])
    with pytest.raises(ValueError, match=r"JSON"):
        jsonl.write(path, [{"a": 2}, {"a": float("nan")}])
    assert records_of(path) == [{"a": 1}]
    assert names(tmp_path) == ["a.jsonl"]


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "a.jsonl", [{}])
    jsonl.write_text(tmp_path / "b" / "c.txt", "x")
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "b" / "c.txt").stat().st_mode & 0o777 == 0o644


def test_json_files(tmp_path: Path) -> None:
    jsonl.write_json(tmp_path / "a.json", {"a": [1, "ü"]})
    assert jsonl.read_json(tmp_path / "a.json") == {"a": [1, "ü"]}
    with pytest.raises(DataError, match=r"none.json: no such file"):
        jsonl.read_json(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{\n"a": }')
    with pytest.raises(DataError, match=r"bad.json: line 2: not valid JSON"):
        jsonl.read_json(tmp_path / "bad.json")


def test_an_appended_record_is_in_the_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    with jsonl.Appender(path) as file:
        file.append({"a": 1})
        assert records_of(path) == [{"a": 1}]
        file.append({"a": 2})
        assert records_of(path) == [{"a": 1}, {"a": 2}]
    with jsonl.Appender(path) as file:
        file.append({"a": 3})
    assert records_of(path) == [{"a": 1}, {"a": 2}, {"a": 3}]


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b'{"a": 1}\n{"a": 2', b'{"a": 1}\n'),
        (b'{"a": 1', b""),
        (b'{"a": 1}\n', b'{"a": 1}\n'),
        (b'{"a": 1}\n{"a": "\xc3', b'{"a": 1}\n'),
        (b"", b""),
    ],
)
def test_a_last_line_that_was_cut_off_is_removed(tmp_path: Path, content: bytes, kept: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with jsonl.Appender(path) as file:
        assert path.read_bytes() == kept
        file.append({"b": 1})
    assert path.read_bytes() == kept + b'{"b": 1}\n'


def test_repair_leaves_a_missing_file_missing(tmp_path: Path) -> None:
    jsonl.repair(tmp_path / "none.jsonl")
    assert names(tmp_path) == []


def test_a_record_that_cannot_be_written_leaves_the_file_whole(tmp_path: Path) -> None:
    with jsonl.Appender(tmp_path / "a.jsonl") as file:
        file.append({"a": 1})
        with pytest.raises(ValueError, match=r"JSON"):
            file.append({"a": float("inf")})
        file.append({"a": 2})
    assert records_of(tmp_path / "a.jsonl") == [{"a": 1}, {"a": 2}]


# A file size limit fails a write in the middle of a record, as a full disk does.
_FILL = """
import resource, signal, sys
from recode_rl import jsonl
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
file = jsonl.Appender(sys.argv[1])
file.append({"text": "x" * 50})
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    file.append({"text": "y" * 50})
except OSError:
    print("refused")
if sys.argv[2] == "go on":
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    file.append({"text": "z"})
    file.close()
else:
    import os
    os.kill(os.getpid(), signal.SIGKILL)
"""


def fill(path: Path, then: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-uc", _FILL, str(path), then], capture_output=True, text=True, check=False)


def test_a_disk_that_fills_up_costs_the_record_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    run = fill(path, "die")
    assert (run.stdout, run.returncode) == ("refused\n", -signal.SIGKILL), run.stderr
    assert records_of(path) == [{"text": "x" * 50}]


def test_appending_goes_on_when_the_disk_has_room_again(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    run = fill(path, "go on")
    assert (run.stdout, run.returncode) == ("refused\n", 0), run.stderr
    assert records_of(path) == [{"text": "x" * 50}, {"text": "z"}]


def test_finite() -> None:
    assert jsonl.finite(0.5) == 0.5
    assert jsonl.finite(float("nan")) is None
    assert jsonl.finite(float("-inf")) is None
    assert jsonl.finite(None) is None


def test_a_manifest_says_what_made_a_result_and_can_be_written(tmp_path: Path) -> None:
    made = jsonl.manifest("grade", {"workers": 2}, kept=3)
    assert (made["stage"], made["config"], made["kept"]) == ("grade", {"workers": 2}, 3)
    jsonl.write_json(tmp_path / "manifest.json", made)
    assert jsonl.read_json(tmp_path / "manifest.json")["python"] == ".".join(map(str, sys.version_info[:3]))


def test_a_manifest_names_the_commit_that_was_asked_for_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of hours is that of the code it began with, wherever the tree has gone since."""
    jsonl.git_commit.cache_clear()
    described = iter(["first", "second"])

    def describe(*args: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, next(described) + "\n", "")

    monkeypatch.setattr(jsonl.subprocess, "run", describe)
    assert jsonl.git_commit() == "first"
    assert jsonl.manifest("train", {})["git_commit"] == "first"
    jsonl.git_commit.cache_clear()


def test_a_manifest_holds_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    assert "sk-very-secret" not in jsonl.dumps(jsonl.manifest("sample", {}))
