"""Our verdicts against EvalPlus's own checker and LiveCodeBench's official ones, on a seeded share of the programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
PYTHON = ROOT / ".venv-bench" / "bin" / "python"


def test_verdicts_agree(tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("the data sets are not there")
    sets = ["humaneval+", "mbpp+", "livecodebench"]
    probe = "import evalplus, termcolor, multipledispatch"
    if not PYTHON.is_file() or subprocess.run([PYTHON, "-c", probe], capture_output=True).returncode:
        sets = ["livecodebench"]  # EvalPlus is not installed: python bench/evaluation.py --setup
    command = [sys.executable, str(ROOT / "tools" / "agreement.py"), "--data", str(DATA), "--work", str(tmp_path)]
    command += ["--share", "0.03", "--seed", "1", "--broken", "2", "--python", str(PYTHON), "--json", "--only", *sets]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert set(results) == set(sets)
    for name, found in results.items():
        assert found["programs"] > 10, name
        assert found["canonical_failed_here"] == []
        assert all(each["explained"] for each in found["disagreements"])
