"""The equation, with every number worked out by hand."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import get_args

import pytest

from recode_rl.errors import ConfigError, InfrastructureError, SandboxError
from recode_rl.reward import COMPILER_OUTCOME, Reward, Scored, combine, find_rule, rule_names
from recode_rl.types import STATUS_SEVERITY, Problem, RewardBreakdown, Status, Verdict
from recode_rl.types import Tests as ProblemTests

PROBLEM = Problem("p", "the statement", ProblemTests("stdio"))
GOOD = "<think>plan</think><answer>```\nx\n```</answer>"
NO_FORM = "<think>plan</think> so <answer>x</answer>"
EMPTY_THINK = "<think> </think><answer>x</answer>"
NO_THINK = "<answer>x</answer>"


def verdict(status: Status = "passed", passed: int = 4, total: int = 4) -> Verdict:
    return Verdict(status, passed, total, "stdio")


PASSED = verdict()
FAILED = verdict("wrong_answer", 3)


class FixedGrader:
    """Hands out the verdicts it was given, and keeps what it was asked."""

    def __init__(self, *verdicts: Verdict | SandboxError) -> None:
        self.verdicts = verdicts
        self.programs: list[str | None] = []

    def grade_many(self, jobs: Sequence[tuple[Problem, str | None]]) -> Sequence[Verdict | SandboxError]:
        self.programs += [program for _, program in jobs]
        return self.verdicts


class FixedScorer:
    """Hands out scores in turn, and keeps each batch of items it was asked about."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.asked: list[list[tuple[str, str]]] = []

    def __call__(self, items: Sequence[tuple[str, str]]) -> Sequence[float]:
        self.asked.append(list(items))
        return self.scores[: len(items)]


def one(rule: str, text: str, result: Verdict, scorer: FixedScorer | None = None) -> RewardBreakdown:
    (scored,) = Reward(rule, FixedGrader(result), scorer).score([(PROBLEM, text)])
    assert isinstance(scored, Scored)
    return scored.reward


@pytest.mark.parametrize(
    ("rule", "text", "result", "process", "total"),
    [
        ("consistency_gated", GOOD, PASSED, 0.42, 2.42),
        ("consistency_gated", NO_FORM, PASSED, 0.42, 1.42),
        ("consistency_gated", GOOD, FAILED, None, 1.0),
        ("consistency_gated", NO_FORM, FAILED, None, 0.0),
        ("posterior", GOOD, PASSED, 0.42, 2.42),
        ("posterior", GOOD, FAILED, None, 1.0),
        ("outcome_only", GOOD, PASSED, None, 2.0),
        ("outcome_only", NO_FORM, FAILED, None, 0.0),
        ("additive", GOOD, PASSED, 0.42, 2.42),
        ("additive", GOOD, FAILED, 0.42, 1.42),
        ("additive", NO_FORM, verdict("no_code", 0), 0.42, 0.42),
        ("soft_gated", GOOD, PASSED, 0.42, 2.42),
        ("soft_gated", GOOD, FAILED, 0.42, 1.0 + 0.75 * 0.42),
        ("soft_gated", GOOD, verdict("wrong_answer", 0), None, 1.0),
        ("soft_gated", GOOD, verdict("no_code", 0, 0), None, 1.0),
        ("compiler", GOOD, PASSED, None, 2.0),
        ("compiler", GOOD, FAILED, None, 0.7),
        ("compiler", NO_FORM, verdict("runtime_error", 0), None, -0.6),
        ("consistency_gated+compiler", GOOD, PASSED, 0.42, 2.42),
        ("consistency_gated+compiler", GOOD, FAILED, None, 0.7),
        ("posterior+compiler", GOOD, verdict("compile_error", 0), None, 0.0),
        ("outcome_only+compiler", GOOD, verdict("timeout", 1), None, 0.4),
        ("additive+compiler", GOOD, FAILED, 0.42, 1.0 - 0.3 + 0.42),
        ("additive+compiler", NO_FORM, verdict("compile_error", 0), 0.42, -1.0 + 0.42),
        ("soft_gated+compiler", GOOD, FAILED, 0.42, 1.0 - 0.3 + 0.75 * 0.42),
        ("soft_gated+compiler", GOOD, PASSED, 0.42, 2.42),
    ],
)
def test_the_equation(rule: str, text: str, result: Verdict, process: float | None, total: float) -> None:
    scorer = FixedScorer(0.42)
    reward = one(rule, text, result, scorer)
    assert reward.process == process
    assert reward.total == pytest.approx(total)
    assert (reward.rule, reward.status, reward.pass_rate) == (rule, result.status, result.pass_rate)
    assert scorer.asked == ([] if process is None else [[("the statement", "plan")]])


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("passed", 1.0),
        ("wrong_answer", -0.3),
        ("runtime_error", -0.6),
        ("timeout", -0.6),
        ("memory_limit", -0.6),
        ("output_limit", -0.6),
        ("compile_error", -1.0),
        ("no_code", -1.0),
    ],
)
def test_the_compiler_reward_of_every_status(status: Status, outcome: float) -> None:
    result = verdict(status, 4 if status == "passed" else 0)
    assert one("compiler", GOOD, result).outcome == outcome
    assert one("outcome_only", GOOD, result).outcome == (1.0 if status == "passed" else 0.0)


def test_no_status_is_without_a_compiler_reward_or_a_severity() -> None:
    assert set(COMPILER_OUTCOME) == set(get_args(Status)) == set(STATUS_SEVERITY)


@pytest.mark.parametrize("text", [EMPTY_THINK, NO_THINK, "<think>a</think><think>b</think><answer>x</answer>"])
@pytest.mark.parametrize(("rule", "result"), [("consistency_gated", PASSED), ("additive", FAILED)])
def test_without_a_reasoning_the_process_reward_is_zero_and_nobody_is_asked(
    text: str, rule: str, result: Verdict
) -> None:
    scorer = FixedScorer(0.9)
    reward = one(rule, text, result, scorer)
    assert reward.process == 0.0
    assert reward.total == reward.format + reward.outcome
    assert scorer.asked == []


def test_a_gated_out_sample_without_a_reasoning_has_no_process_reward_at_all() -> None:
    assert one("consistency_gated", EMPTY_THINK, FAILED, FixedScorer(0.9)).process is None


def test_a_batch_asks_once_about_the_passing_samples_and_keeps_its_order() -> None:
    scorer = FixedScorer(0.1, 0.9)
    grader = FixedGrader(FAILED, PASSED, SandboxError("gone"), PASSED, PASSED)
    problems = [Problem(str(number), f"statement {number}", ProblemTests("stdio")) for number in range(5)]
    texts = [f"<think>t{number}</think><answer>code{number}</answer>" for number in range(4)] + [EMPTY_THINK]
    results = Reward("consistency_gated", grader, scorer).score(list(zip(problems, texts, strict=True)))
    assert scorer.asked == [[("statement 1", "t1"), ("statement 3", "t3")]]
    assert grader.programs == ["code0", "code1", "code2", "code3", "x"]
    processes = [result.reward.process if isinstance(result, Scored) else result for result in results]
    assert processes == [None, 0.1, grader.verdicts[2], 0.9, 0.0]
    assert [result.completion.text for result in results if isinstance(result, Scored)] == [*texts[:2], *texts[3:]]


def test_a_sandbox_failure_is_absent_and_the_others_are_not() -> None:
    failure = SandboxError("no cell")
    results = Reward("outcome_only", FixedGrader(failure, PASSED)).score([(PROBLEM, GOOD), (PROBLEM, GOOD)])
    assert results[0] is failure
    assert isinstance(results[1], Scored) and results[1].reward.total == 2.0


def test_a_reward_model_that_is_down_takes_only_the_samples_that_needed_it() -> None:
    def down(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        raise InfrastructureError("endpoint http://x refused")

    results = Reward("consistency_gated", FixedGrader(PASSED, FAILED), down).score([(PROBLEM, GOOD)] * 2)
    assert isinstance(results[0], InfrastructureError) and "refused" in str(results[0])
    assert isinstance(results[1], Scored) and results[1].reward.total == 1.0


@pytest.mark.parametrize("scores", [(), (0.5,), (0.5, 0.5, 0.5)])
def test_a_wrong_number_of_scores_is_our_failure(scores: tuple[float, ...]) -> None:
    scorer: Callable[[Sequence[tuple[str, str]]], Sequence[float]] = lambda items: scores  # noqa: E731
    results = Reward("additive", FixedGrader(PASSED, PASSED), scorer).score([(PROBLEM, GOOD)] * 2)
    for result in results:
        assert isinstance(result, InfrastructureError) and f"{len(scores)} scores for 2 items" in str(result)


@pytest.mark.parametrize("score", [math.nan, math.inf, -0.01, 1.01])
def test_a_score_that_is_no_process_reward_is_our_failure_for_that_sample(score: float) -> None:
    results = Reward("additive", FixedGrader(PASSED, PASSED), FixedScorer(score, 1.0)).score([(PROBLEM, GOOD)] * 2)
    assert isinstance(results[0], InfrastructureError) and repr(score) in str(results[0])
    assert isinstance(results[1], Scored) and results[1].reward.total == 3.0


def test_other_exceptions_of_a_scorer_are_defects_and_are_not_swallowed() -> None:
    def broken(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Reward("additive", FixedGrader(PASSED), broken).score([(PROBLEM, GOOD)])


def test_an_empty_batch_has_no_rewards() -> None:
    assert Reward("consistency_gated", FixedGrader(), FixedScorer()).score([]) == []


@pytest.mark.parametrize("rule", rule_names())
def test_rules_that_use_a_reward_model_need_one(rule: str) -> None:
    if rule in ("outcome_only", "compiler", "outcome_only+compiler"):
        Reward(rule, FixedGrader())
    else:
        with pytest.raises(ConfigError, match=r"needs a reward model"):
            Reward(rule, FixedGrader())


@pytest.mark.parametrize("name", ["", "gated", "compiler+compiler", "additive+", "additive+x", "+compiler"])
def test_an_unknown_rule_names_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=r"consistency_gated.*soft_gated.compiler"):
        find_rule(name)


@pytest.mark.parametrize("process", [None, math.nan, -0.1, 1.1])
def test_combine_refuses_a_process_reward_that_is_missing_or_out_of_range(process: float | None) -> None:
    with pytest.raises(ValueError, match=r"needs a number"):
        combine(find_rule("additive"), format_ok=True, verdict=PASSED, process=process)


def test_combine_leaves_out_a_process_reward_that_the_rule_gives_no_weight() -> None:
    reward = combine(find_rule("consistency_gated"), format_ok=True, verdict=FAILED, process=0.8)
    assert (reward.process, reward.process_weight, reward.total) == (None, 0.0, 1.0)


# -- scoring beside grading --------------------------------------------------------------------------------------------


class AsTheyCome:
    """Tells of its verdicts in another order than that of the jobs."""

    def __init__(self, order: Sequence[int], *verdicts: Verdict | SandboxError) -> None:
        self.order, self.verdicts = order, verdicts

    def grade_many(
        self,
        jobs: Sequence[tuple[Problem, str | None]],
        on_done: Callable[[int, Verdict | SandboxError], None] | None = None,
    ) -> Sequence[Verdict | SandboxError]:
        assert on_done is not None
        for index in self.order:
            on_done(index, self.verdicts[index])
        return self.verdicts


BATCH = [
    (Problem(name, f"statement {name}", ProblemTests("stdio")), f"<think>t{number}</think><answer>x</answer>")
    for number, name in enumerate("aabbcc")
]
VERDICTS = (PASSED, PASSED, FAILED, PASSED, SandboxError("gone"), FAILED)


def by_text(items: Sequence[tuple[str, str]]) -> list[float]:
    return [int(reasoning[1:]) / 10 + 0.1 for _, reasoning in items]


@pytest.mark.parametrize("rule", ["consistency_gated", "soft_gated+compiler", "additive", "outcome_only"])
@pytest.mark.parametrize("order", [range(6), [5, 4, 3, 2, 1, 0], [0, 2, 4, 1, 3, 5], [3, 1], []])
def test_scoring_beside_grading_gives_the_same_rewards_in_any_order(rule: str, order: Sequence[int]) -> None:
    plain = Reward(rule, FixedGrader(*VERDICTS), by_text).score(BATCH)
    beside = Reward(rule, AsTheyCome(order, *VERDICTS), by_text).score_overlapped(BATCH)
    assert beside == plain


def test_what_is_scored_together_does_not_depend_on_the_order_of_the_verdicts() -> None:
    for order in (range(6), [1, 3, 5, 0, 2, 4]):
        scorer = FixedScorer(0.5, 0.5)
        Reward("consistency_gated", AsTheyCome(order, *VERDICTS), scorer).score_overlapped(BATCH)
        assert sorted(scorer.asked) == [[("statement a", "t0"), ("statement a", "t1")], [("statement b", "t3")]]


def test_a_reward_model_that_is_down_is_waited_for_once_in_a_batch() -> None:
    asked = 0

    def down(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        nonlocal asked
        asked += 1
        raise InfrastructureError("no answer")

    found = Reward("consistency_gated", AsTheyCome(range(6), *VERDICTS), down).score_overlapped(BATCH)
    assert asked == 1
    assert [isinstance(result, InfrastructureError) for result in found] == [True, True, False, True, True, False]


def test_a_scorer_is_at_work_while_programs_are_still_graded() -> None:
    begun = threading.Event()

    def scorer(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        begun.set()
        return [0.5] * len(items)

    class Waits(AsTheyCome):
        def grade_many(
            self,
            jobs: Sequence[tuple[Problem, str | None]],
            on_done: Callable[[int, Verdict | SandboxError], None] | None = None,
        ) -> Sequence[Verdict | SandboxError]:
            assert on_done is not None
            on_done(0, PASSED)
            on_done(1, PASSED)
            assert begun.wait(timeout=30)  # the other problems are not graded before this
            return self.verdicts

    reward = Reward("consistency_gated", Waits([], *VERDICTS), scorer)
    assert isinstance(reward.score_overlapped(BATCH)[0], Scored)
    spent = reward.spent.take()
    assert 0 < spent.grade <= spent.total
    assert reward.spent.take().total == 0


def test_an_error_of_the_scorer_that_is_no_failure_of_ours_is_raised() -> None:
    def wrong(items: Sequence[tuple[str, str]]) -> Sequence[float]:
        raise KeyError("a defect")

    with pytest.raises(KeyError, match="a defect"):
        Reward("consistency_gated", AsTheyCome(range(6), *VERDICTS), wrong).score_overlapped(BATCH)
