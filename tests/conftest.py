"""What several test modules share."""

from __future__ import annotations

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
