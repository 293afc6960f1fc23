"""Which grader a configuration asks for: the sandbox of this machine, or a SandboxFusion server."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from recode_rl.errors import SandboxError
from recode_rl.grading.grader import Done, Grader, Job
from recode_rl.types import Problem, Verdict

if TYPE_CHECKING:  # grading itself needs no package but the standard library
    from recode_rl.config import GraderConfig


class AnyGrader(Protocol):
    """What every grader can do; a context manager that ends what it started."""

    def grade(self, problem: Problem, program: str | None) -> Verdict:
        """The verdict on one program; SandboxError where nothing was learnt about it."""

    def grade_many(self, jobs: Sequence[Job], on_done: Done | None = None) -> list[Verdict | SandboxError]:
        """The verdict or the SandboxError of each job, in their order."""

    def describe(self) -> dict[str, Any]:
        """What a manifest says about it: engine, level of isolation, limits."""

    def __enter__(self) -> Self:
        """Itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what it started."""


def open_grader(config: GraderConfig) -> AnyGrader:
    """The grader of a configuration. SandboxError where `require` asks for walls that are missing."""
    if config.engine == "sandbox-fusion":
        from recode_rl.grading.fusion import FusionGrader

        return FusionGrader(str(config.url), workers=config.workers, defaults=config.limits())
    return Grader(
        workers=config.workers,
        defaults=config.limits(),
        require=config.require,
        isolation=config.isolation,
        engine=config.engine,
        interpreter=config.interpreter,
    )
