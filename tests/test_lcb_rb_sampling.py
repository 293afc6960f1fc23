"""Samples of every problem from an endpoint: resumable, in order, graded by the command."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from chat_server import running
from lcb_rb_data import PROGRAM, problem

from recode_rl.completion import render
from recode_rl.lcb_rb.records import load_verdicts
from recode_rl.problems.records import write_problems
from recode_rl.sampling import SamplingSettings, draw, load_samples, open_model

for module in ("openai", "tenacity", "httpx2"):
    pytest.importorskip(module, reason="needs the extra [remote]")

PROBLEMS = [problem("a"), problem("b", prompt="Another problem.")]


def model(request: dict[str, Any]) -> str:
    """A right program on even seeds."""
    return render(f"Seed {request['seed']}.", PROGRAM if request["seed"] % 2 == 0 else "print(0)")


def test_every_request_has_a_seed_of_its_own_and_a_second_run_asks_for_nothing(tmp_path: Path) -> None:
    out = tmp_path / "samples.jsonl"
    with running(model) as server:
        settings = SamplingSettings(samples=5, temperature=1.0, max_tokens=64)
        opened = partial(open_model, "tiny", server.url, settings)
        made = draw(opened, PROBLEMS, settings, out, "sampling", "tiny")
        assert len(server.requests) == len({request["seed"] for request in server.requests}) == 10
        assert {request["temperature"] for request in server.requests} == {1.0}
        assert draw(opened, PROBLEMS, settings, out, "sampling", "tiny") == made == load_samples(out)
        assert len(server.requests) == 10
        assert [(s.problem_id, s.sample_id) for s in made] == [(p, str(i)) for p in "ab" for i in range(5)]


def test_the_command_samples_and_grades(tmp_path: Path) -> None:
    write_problems(tmp_path / "p.jsonl", PROBLEMS)
    command = [sys.executable, "-m", "recode_rl", "lcb-rb", "sample", "--problems", str(tmp_path / "p.jsonl"), "--json"]
    with running(model) as server:
        more = ["--endpoint", server.url, "--model", "tiny", "--n", "3", "--out", str(tmp_path / "samples.jsonl")]
        done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    verdicts = load_verdicts(tmp_path / "verdicts.jsonl")
    right = sum(request["seed"] % 2 == 0 for request in server.requests)
    assert values["samples"] == len(verdicts) == 6
    assert values["passed"] == sum(verdict.passed for verdict in verdicts.values()) == right
    assert (tmp_path / "samples.manifest.json").exists()
