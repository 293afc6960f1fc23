"""What several test modules share."""

from __future__ import annotations

import os

# Two-layer models on several threads wait for each other more than they compute; set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest

from recode_rl.grading import Grader


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; tests that need it are skipped where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: this test reads real data sets")
    return folder


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    """A real grader for the tests of one module."""
    with Grader() as grader:
        yield grader


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer language model as a checkpoint folder; tests must not write into it."""
    pytest.importorskip("transformers", reason="needs the extra [train]")
    from tiny import tiny_model

    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random two-layer reward model as a checkpoint folder; tests must not write into it."""
    pytest.importorskip("transformers", reason="needs the extra [train]")
    from tiny import tiny_reward_model

    return tiny_reward_model(tmp_path_factory.mktemp("models") / "tiny-reward")
