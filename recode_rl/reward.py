"""THE EQUATION: R = R_fmt + R_out + w(verdict) · R_proc, and its named alternatives.

A rule says two things about a graded completion: what the outcome is worth, and the weight of the process reward.
Weight 0 means that the reward model is not asked at all and `process` is None (absent), never 0.0.

    rule                 w                     paper
    consistency_gated    1 if passed else 0    the method (CG-GRPO)
    outcome_only         0                     plain GRPO
    additive             1                     ablation: gets hacked
    soft_gated           P_out                 ablation: share of tests passed
    posterior            1 if passed else 0    P-GRPO, the earlier name of the gated rule
    compiler             0                     R_out replaced by +1 / -0.3 / -0.6 / -1 (see COMPILER_OUTCOME)

"RULE+compiler" combines a weight with the compiler outcome; the gate still asks for "passed".
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, cast

from recode_rl import completion as completions
from recode_rl.errors import ConfigError, InfrastructureError, SandboxError
from recode_rl.types import Completion, Problem, RewardBreakdown, Status, Verdict

COMPILER_OUTCOME: dict[Status, float] = {
    "passed": 1.0,
    "wrong_answer": -0.3,
    "runtime_error": -0.6,
    "timeout": -0.6,
    "memory_limit": -0.6,
    "output_limit": -0.6,
    "compile_error": -1.0,
    "no_code": -1.0,
}


class Grades(Protocol):
    """What the reward asks of a grader: verdicts in order, an infrastructure failure in the place of its sample."""

    def grade_many(self, jobs: Sequence[tuple[Problem, str | None]]) -> Sequence[Verdict | SandboxError]:
        """Grade `(problem, program)` jobs."""
        ...


class GradesAsTheyCome(Protocol):
    """A grader that also tells of each verdict as it comes in, which scoring beside grading needs."""

    def grade_many(
        self,
        jobs: Sequence[tuple[Problem, str | None]],
        on_done: Callable[[int, Verdict | SandboxError], None] | None = None,
    ) -> Sequence[Verdict | SandboxError]:
        """Grade jobs; `on_done(index, result)` is called in this thread."""
        ...


Scorer = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
"""Scores `(problem statement, reasoning)` items: process rewards in [0, 1]; InfrastructureError when it cannot."""


def consistency_gate(verdict: Verdict) -> float:
    """1 where the program passed every test, else 0."""
    return 1.0 if verdict.passed else 0.0


def no_process(verdict: Verdict) -> float:
    """Never: the process reward is not asked for."""
    return 0.0


def always(verdict: Verdict) -> float:
    """1 whatever the tests say."""
    return 1.0


def share_passed(verdict: Verdict) -> float:
    """P_out, the share of tests passed."""
    return verdict.pass_rate


def binary_outcome(verdict: Verdict) -> float:
    """R_out: 1 where the program passed every test, else 0."""
    return 1.0 if verdict.passed else 0.0


def compiler_outcome(verdict: Verdict) -> float:
    """The compiler reward in place of R_out: graded by how the program failed."""
    return COMPILER_OUTCOME[verdict.status]


PROCESS_WEIGHTS: dict[str, Callable[[Verdict], float]] = {
    "consistency_gated": consistency_gate,
    "posterior": consistency_gate,
    "outcome_only": no_process,
    "additive": always,
    "soft_gated": share_passed,
}


@dataclass(frozen=True, slots=True)
class Rule:
    """A named reward rule: the worth of an outcome and the weight of the process reward."""

    name: str
    outcome: Callable[[Verdict], float]
    process_weight: Callable[[Verdict], float]

    @property
    def uses_process(self) -> bool:
        """Whether this rule can ever ask the reward model."""
        return self.process_weight is not no_process


def rule_names() -> list[str]:
    """All names that `find_rule` takes."""
    return [*PROCESS_WEIGHTS, "compiler", *(f"{name}+compiler" for name in PROCESS_WEIGHTS)]


def find_rule(name: str) -> Rule:
    """The rule of that name; ConfigError lists the names there are."""
    if name == "compiler":
        return Rule(name, compiler_outcome, no_process)
    base, plus, suffix = name.partition("+")
    if base not in PROCESS_WEIGHTS or (plus and suffix != "compiler"):
        raise ConfigError(f"reward rule {name!r}: expected one of {', '.join(rule_names())}")
    return Rule(name, compiler_outcome if plus else binary_outcome, PROCESS_WEIGHTS[base])


def combine(rule: Rule, *, format_ok: bool, verdict: Verdict, process: float | None) -> RewardBreakdown:
    """Add the parts up. `process` in [0, 1] is needed exactly where the rule gives it weight; ValueError otherwise."""
    weight = rule.process_weight(verdict)
    if weight and (process is None or not 0.0 <= process <= 1.0):
        raise ValueError(f"process reward {process!r}: rule {rule.name} needs a number in [0, 1] here")
    reward_format = 1.0 if format_ok else 0.0
    outcome = rule.outcome(verdict)
    used = process if weight else None
    return RewardBreakdown(
        rule=rule.name,
        format=reward_format,
        outcome=outcome,
        process=used,
        process_weight=weight,
        pass_rate=verdict.pass_rate,
        status=verdict.status,
        total=reward_format + outcome + (weight * used if used is not None else 0.0),
    )


@dataclass(frozen=True, slots=True)
class Scored:
    """One sample with everything that was learnt about it."""

    completion: Completion
    verdict: Verdict
    reward: RewardBreakdown


@dataclass
class Spent:
    """Seconds since the last `take`: grading by the clock, the reward model at work, and all of it together.

    Where the reward model works beside the grader, `total` is less than the sum of the two.
    """

    grade: float = 0.0
    score: float = 0.0
    total: float = 0.0

    def take(self) -> Spent:
        """What was spent, and begin anew."""
        taken = Spent(self.grade, self.score, self.total)
        self.grade = self.score = self.total = 0.0
        return taken


class Reward:
    """Parse, grade, score the samples that the rule gives weight, add up: one object for every engine."""

    def __init__(self, rule: str, grader: Grades, scorer: Scorer | None = None) -> None:
        """`scorer` may be None for rules that never use the process reward; ConfigError otherwise."""
        self.rule = find_rule(rule)
        if self.rule.uses_process and scorer is None:
            raise ConfigError(f"reward rule {rule!r} needs a reward model; name one, or choose outcome_only")
        self._grader = grader
        self._scorer = scorer
        self.spent = Spent()
        """Of `score` alone; for one thread at a time."""

    @property
    def scorer(self) -> Scorer | None:
        """What scores reasonings, for those who watch."""
        return self._scorer

    def score(self, batch: Sequence[tuple[Problem, str]]) -> list[Scored | InfrastructureError]:
        """The reward of each `(problem, completion text)`, in order.

        A sample that our own infrastructure failed (sandbox gone, reward model down) is the InfrastructureError in its
        place: it is absent from the reward, not worth zero.
        """
        started = time.perf_counter()
        problems, parsed = self._parsed(batch)
        verdicts = self._grader.grade_many(_jobs(problems, parsed))
        self.spent.grade += time.perf_counter() - started
        priced = price(self.rule, self._timed(self._scorer), problems, parsed, verdicts)
        self.spent.total += time.perf_counter() - started
        return priced

    def score_overlapped(self, batch: Sequence[tuple[Problem, str]]) -> list[Scored | InfrastructureError]:
        """The same, where the reward model scores the samples of a problem once they are graded, beside the others.

        For graders that tell of verdicts as they come in. What is scored together is the samples of one problem,
        whatever the order of the verdicts, so that the same batch is always scored in the same way.
        """
        started = time.perf_counter()
        problems, parsed = self._parsed(batch)
        grader = cast(GradesAsTheyCome, self._grader)
        pricing = _ByProblem(self.rule, self._timed(self._scorer), problems, parsed)
        with pricing:
            verdicts = grader.grade_many(_jobs(problems, parsed), pricing.add)
            self.spent.grade += time.perf_counter() - started
            priced = pricing.results(verdicts)
        self.spent.total += time.perf_counter() - started
        return priced

    def _parsed(self, batch: Sequence[tuple[Problem, str]]) -> tuple[list[Problem], list[Completion]]:
        return [problem for problem, _ in batch], [completions.parse(text) for _, text in batch]

    def _timed(self, scorer: Scorer | None) -> Scorer | None:
        if scorer is None:
            return None

        def timed(items: Sequence[tuple[str, str]]) -> Sequence[float]:
            started = time.perf_counter()
            try:
                return scorer(items)
            finally:
                self.spent.score += time.perf_counter() - started

        return timed


def _jobs(problems: Sequence[Problem], parsed: Sequence[Completion]) -> list[tuple[Problem, str | None]]:
    return [(p, completions.submission(completion, p.tests)) for p, completion in zip(problems, parsed, strict=True)]


class _ByProblem:
    """Prices the samples of each problem in a thread of its own as soon as the last of them is graded."""

    def __init__(
        self, rule: Rule, scorer: Scorer | None, problems: Sequence[Problem], parsed: Sequence[Completion]
    ) -> None:
        self._rule, self._scorer, self._problems, self._parsed = rule, scorer, problems, parsed
        self._verdicts: dict[int, Verdict | SandboxError] = {}
        self._places: dict[str, list[int]] = {}
        for index, problem in enumerate(problems):
            self._places.setdefault(problem.id, []).append(index)
        self._missing = {name: len(places) for name, places in self._places.items()}
        self._futures: dict[str, Future[list[Scored | InfrastructureError]]] = {}
        self._down: InfrastructureError | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="scoring")

    def add(self, index: int, verdict: Verdict | SandboxError) -> None:
        """One more verdict; with the last one of a problem its samples are handed on."""
        self._verdicts[index] = verdict
        name = self._problems[index].id
        self._missing[name] -= 1
        if not self._missing[name]:
            self._futures[name] = self._pool.submit(self._price, self._places[name])

    def results(self, verdicts: Sequence[Verdict | SandboxError]) -> list[Scored | InfrastructureError]:
        """All samples in their order, once their problems are priced."""
        for index, verdict in enumerate(verdicts):
            if index not in self._verdicts:
                self.add(index, verdict)
        found: dict[int, Scored | InfrastructureError] = {}
        for name, future in self._futures.items():
            found |= zip(self._places[name], future.result(), strict=True)
        return [found[index] for index in range(len(self._problems))]

    def _price(self, places: Sequence[int]) -> list[Scored | InfrastructureError]:
        return price(
            self._rule,
            None if self._scorer is None else functools.partial(self._asking, self._scorer),
            [self._problems[index] for index in places],
            [self._parsed[index] for index in places],
            [self._verdicts[index] for index in places],
        )

    def _asking(self, scorer: Scorer, items: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Once the reward model is down it is not waited for again in this batch."""
        if self._down is not None:
            raise self._down
        try:
            return scorer(items)
        except InfrastructureError as error:
            self._down = error
            raise

    def __enter__(self) -> _ByProblem:
        return self

    def __exit__(self, *exc: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


def price(
    rule: Rule,
    scorer: Scorer | None,
    problems: Sequence[Problem],
    parsed: Sequence[Completion],
    verdicts: Sequence[Verdict | SandboxError],
    known: Sequence[float | None] | None = None,
) -> list[Scored | InfrastructureError]:
    """The reward of completions that are graded already; all sequences have one entry a sample.

    The scorer is called once, for the samples that the rule gives weight. `known` has process rewards scored before,
    which are taken instead of asking; one that is needed and None is an InfrastructureError in its place.
    """
    processes = _processes(rule, scorer, problems, parsed, verdicts, known)
    results: list[Scored | InfrastructureError] = []
    for completion, verdict, process in zip(parsed, verdicts, processes, strict=True):
        if isinstance(verdict, InfrastructureError):
            results.append(verdict)
        elif isinstance(process, InfrastructureError):
            results.append(process)
        else:
            reward = combine(rule, format_ok=completion.format_ok, verdict=verdict, process=process)
            results.append(Scored(completion, verdict, reward))
    return results


def _processes(
    rule: Rule,
    scorer: Scorer | None,
    problems: Sequence[Problem],
    parsed: Sequence[Completion],
    verdicts: Sequence[Verdict | SandboxError],
    known: Sequence[float | None] | None,
) -> list[float | InfrastructureError | None]:
    """R_proc where the rule gives it weight, None elsewhere."""
    processes: list[float | InfrastructureError | None] = [None] * len(parsed)
    asked: list[int] = []
    for index, (completion, verdict) in enumerate(zip(parsed, verdicts, strict=True)):
        if isinstance(verdict, SandboxError) or not rule.process_weight(verdict):
            continue
        if not completion.reasoning and (completion.text or known is None):
            processes[index] = 0.0  # the policy's doing, not ours: nothing to score
        elif known is None:
            asked.append(index)
        else:
            score = known[index]
            processes[index] = InfrastructureError("no process reward is known") if score is None else _checked(score)
    answers = _ask(scorer, [(problems[i].prompt, parsed[i].reasoning or "") for i in asked])
    for index, answer in zip(asked, answers, strict=True):
        processes[index] = answer
    return processes


def _ask(scorer: Scorer | None, items: Sequence[tuple[str, str]]) -> Sequence[float | InfrastructureError]:
    if not items:
        return []
    if scorer is None:
        raise ConfigError("this reward rule needs a reward model, and none was given")
    try:
        scores = scorer(items)
    except InfrastructureError as error:
        return [error] * len(items)
    if len(scores) != len(items):
        return [InfrastructureError(f"reward model returned {len(scores)} scores for {len(items)} items")] * len(items)
    return [_checked(score) for score in scores]


def _checked(score: float) -> float | InfrastructureError:
    if math.isfinite(score) and 0.0 <= score <= 1.0:
        return score
    return InfrastructureError(f"process reward {score!r}: expected a number in [0, 1]")
