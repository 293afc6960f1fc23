"""The benchmark of scoring on a tiny model: its numbers have the promised shape, and it compares what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason="needs the extra [train]")

BENCH = Path(__file__).resolve().parents[1] / "bench" / "scoring.py"


def bench(model: Path, *options: str) -> dict[str, Any]:
    sizes = ["--prompt-tokens", "120", "--reasoning-tokens", "60", "--rounds", "2"]
    command = [sys.executable, str(BENCH), "--model", str(model), *sizes, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_one_run(tiny_reward: Path) -> None:
    found = bench(tiny_reward)
    assert found["ratio"] > 0
    assert found["ratio_trl"] > 0
    assert found["ratio_cpu"] > 0
    assert len(found["ratio_of_rounds"]) == 2
    assert set(found["seconds"]) == set(found["cpu_seconds"]) == set(found["tokens"]) == {"ours", "plain", "trl"}
    assert found["greatest_difference"] < 1e-4
    assert found["shared"] is True
    assert found["passing"] == 4
    assert len(found["reasoning_tokens"]) == 8
    assert all(abs(tokens - 60) < 12 for tokens in found["reasoning_tokens"])
    prompt, longest = found["prompt_tokens"], max(found["reasoning_tokens"])
    assert abs(prompt - 120) < 20
    assert found["tokens"]["plain"] == 8 * (prompt + longest + 1)
    assert prompt + 4 * 50 < found["tokens"]["ours"] <= prompt + 4 * (longest + 1)
    assert found["tokens"]["trl"] > found["tokens"]["plain"]


def test_a_language_model_gets_a_random_head(tiny: Path) -> None:
    assert bench(tiny, "--passing", "8")["passing"] == 8
