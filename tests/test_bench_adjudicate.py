"""The benchmark of the adjudication page: its numbers have the promised shape."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

for module in ("starlette", "uvicorn", "jinja2", "markdown_it", "latex2mathml", "pygments"):
    pytest.importorskip(module, reason="needs the extra [adjudicate]")

BENCH = Path(__file__).resolve().parents[1] / "bench" / "adjudicate.py"


def test_one_run() -> None:
    command = [sys.executable, str(BENCH), "--items", "40", "--times", "6", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["items"] == 40
    assert found["ratio"] > 0
    assert set(found["open_ms"]) == {"first", "item", "list"}
    assert set(found["within"]) == {"open", "store"}
    for one in (*found["open_ms"].values(), found["store_ms"], found["sqlite_ms"], found["json_ms"]):
        assert 0 < one["median"] <= one["p95"] <= one["worst"]
