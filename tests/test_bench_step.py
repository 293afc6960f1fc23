"""The benchmark of a training step on a tiny model: what it compares, and the shape of its numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("trl", reason="needs the extra [train]")

BENCH = Path(__file__).resolve().parents[1] / "bench" / "step.py"


def test_one_run(tiny: Path) -> None:
    sizes = ["--prompt-tokens", "40", "--completion-tokens", "12", "--reasoning-tokens", "30", "--prompts", "1"]
    sizes += ["--group", "4", "--micro-batch", "2", "--rounds", "1", "--precision", "fp32"]
    command = [sys.executable, str(BENCH), "--policy", str(tiny), *sizes, "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["ratio"] > 0
    assert found["against"] == "outcome_only"
    assert len(found["ratio_of_rounds"]) == 1
    assert found["open_share"] == 0.5
    assert found["tokens"]["completion"] == 12
    gated, plain = found["stages"]["consistency_gated"], found["stages"]["outcome_only"]
    assert gated["score"] > 0
    assert plain["score"] == 0
    for seconds in (gated, plain):
        assert seconds["step"] == pytest.approx(seconds["generate"] + seconds["reward"] + seconds["update"], abs=1e-2)
        assert seconds["grade"] <= seconds["reward"] + 1e-2
