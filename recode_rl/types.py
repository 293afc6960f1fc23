"""The nouns of the project as frozen dataclasses; files hold the same fields under the same names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

Status = Literal[
    "passed",
    "wrong_answer",
    "runtime_error",
    "timeout",
    "memory_limit",
    "output_limit",
    "compile_error",
    "no_code",
]
Isolation = Literal["proxied", "stdio", "shared", "none"]
TestsKind = Literal["stdio", "calls", "asserts", "check", "unittest", "answer"]
Quality = Literal["base", "optimized", "degraded"]
PairKind = Literal["opt_deg", "opt_ori", "ori_deg", "lcb_rb", "other"]

# Worst first: when tests of one program fail in different ways, the first of these that occurred is its status.
STATUS_SEVERITY: tuple[Status, ...] = (
    "no_code",
    "compile_error",
    "memory_limit",
    "timeout",
    "output_limit",
    "runtime_error",
    "wrong_answer",
    "passed",
)
DEGRADE_METHODS = ("factual_error", "misleading_path", "incomplete", "logical_gap", "acausal_order")
OPTIMIZE_METHODS = ("correct_facts", "focus", "complete", "bridge_gaps", "order_flow")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    `time_s` is CPU seconds for one test (wall time: `WALL_FACTOR` times that), `total_s` wall seconds for all tests of
    a program together, `memory_mb` MiB for all its processes, `output_mb` MiB of output, `files_mb` MiB written.
    """

    time_s: float = 4.0
    total_s: float = 40.0
    memory_mb: int = 1024
    output_mb: float = 8.0
    processes: int = 64
    files_mb: int = 256


WALL_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Tests:
    """The tests of a problem. Which fields are used depends on `kind`; see FORMATS in the documentation."""

    __test__: ClassVar[bool] = False  # not a test class, whatever its name makes test runners think

    kind: TestsKind
    cases: tuple[dict[str, Any], ...] = ()  # stdio: input, output; calls: args, kwargs, expected (decoded values)
    entry_point: str | None = None
    compare: str | None = None
    rel_tol: float = 1e-6
    setup: str = ""
    asserts: tuple[str, ...] = ()
    code: str | None = None
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Problem:
    """x: what the policy is asked, and what decides whether it succeeded."""

    id: str
    prompt: str
    tests: Tests
    source: str = ""
    starter_code: str | None = None
    difficulty: str | None = None
    date: str | None = None
    limits: Limits | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion:
    """y = (t, o): what the policy wrote, parsed. `program` is None where there is no code to grade."""

    text: str
    reasoning: str | None
    answer: str | None
    program: str | None
    format_ok: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """One completion (or one program already extracted from it) for one problem."""

    problem_id: str
    sample_id: str
    completion: str | None = None
    program: str | None = None
    model: str | None = None
    tokens: int | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the tests say about one program. A pass is positive evidence for every test."""

    status: Status
    tests_passed: int
    tests_total: int
    isolation: Isolation
    detail: str | None = None
    time_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.status == "passed"

    @property
    def pass_rate(self) -> float:
        """P_out, the share of tests passed, in [0, 1]; 0 where there are no tests."""
        return self.tests_passed / self.tests_total if self.tests_total else 0.0


@dataclass(frozen=True, slots=True)
class Variant:
    """One reasoning for a problem in one of three qualities, with the methods that made it so."""

    problem_id: str
    variant: Quality
    reasoning: str
    methods: tuple[str, ...] = ()
    explanation: str = ""
    generator: str = ""
    prompt_version: str = ""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two reasonings for one problem, the better one first."""

    id: str
    problem_id: str
    problem: str
    chosen: str
    rejected: str
    kind: PairKind
    methods: tuple[str, ...] = ()
    generator: str = ""
    difficulty: str | None = None


@dataclass(frozen=True, slots=True)
class RewardBreakdown:
    """R and its parts. `process` is None where the rule did not ask for it, never 0.0 for "gated out"."""

    rule: str
    format: float
    outcome: float
    process: float | None
    process_weight: float  # what R_proc was multiplied with: 0 or 1 for the gate, P_out for the soft gate
    pass_rate: float
    status: Status
    total: float
