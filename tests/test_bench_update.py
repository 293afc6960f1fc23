"""The benchmark of an update on a tiny model: what it compares, and the shape of its numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the extra [train]")

BENCH = Path(__file__).resolve().parents[1] / "bench" / "update.py"


def test_one_run(tiny: Path) -> None:
    sizes = ["--rows", "8", "--group", "4", "--prompt", "20", "--tokens", "12", "--micro", "2", "--our-micro", "4"]
    command = [sys.executable, str(BENCH), "--model", str(tiny), *sizes, "--repeat", "1", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["micro"] == {"trl": 2, "packed": 4}
    assert 8 * 3 <= found["completion_tokens"] <= 8 * 12
    assert all(seconds > 0 for seconds in found["seconds"].values())
    assert found["ratio"] == pytest.approx(found["seconds"]["trl"] / found["seconds"]["packed"], rel=0.2)
