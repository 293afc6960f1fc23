"""The reward columns that TRL sums, and the values of a step, each worked out by hand."""

from __future__ import annotations

import dataclasses
import pickle
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from recode_rl.errors import EndpointError, InfrastructureError, ReCodeError, SandboxError, UnreachableError
from recode_rl.policy.rewards import (
    Outcome,
    RewardColumns,
    Row,
    group_kind,
    no_signal,
    process_share,
    record,
    scored_group,
    summarise,
)
from recode_rl.reward import Reward, Scored, combine, find_rule
from recode_rl.types import Completion, Problem, Status, Verdict
from recode_rl.types import Tests as Given

GOOD = "<think>plan</think><answer>x</answer>"
NO_FORM = "<think>plan</think> so <answer>x</answer>"
BROKEN = SandboxError("the sandbox is gone")
PROBLEMS = {name: Problem(name, f"statement of {name}", Given("stdio")) for name in ("p", "q")}
PASSED = Verdict("passed", 4, 4, "stdio")
HALF = Verdict("wrong_answer", 2, 4, "stdio")


class Grades:
    """Hands out verdicts in turn and counts the calls."""

    def __init__(self, *verdicts: Verdict | SandboxError) -> None:
        self.verdicts, self.calls = list(verdicts), 0

    def grade_many(self, jobs: Sequence[tuple[Problem, str | None]]) -> Sequence[Verdict | SandboxError]:
        self.calls += 1
        return [self.verdicts.pop(0) for _ in jobs]


class Scorer:
    """Scores every reasoning alike and keeps what it was asked."""

    def __init__(self, score: float = 0.5, error: InfrastructureError | None = None) -> None:
        self.score, self.error = score, error
        self.asked: list[list[tuple[str, str]]] = []

    def __call__(self, items: Sequence[tuple[str, str]]) -> Sequence[float]:
        self.asked.append(list(items))
        if self.error is not None:
            raise self.error
        return [self.score] * len(items)


class Seen:
    """Keeps every batch that the columns announce."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, list[Row]]] = []

    def __call__(self, step: int, rows: list[Row]) -> None:
        self.batches.append((step, rows))


def columns(
    grades: Grades, scorer: Scorer | None, rule: str = "consistency_gated", max_infra_share: float = 0.5
) -> tuple[RewardColumns, Seen]:
    seen = Seen()
    return RewardColumns(Reward(rule, grades, scorer), PROBLEMS, max_infra_share, seen), seen


def batch(texts: Sequence[str], ids: Sequence[str] | None = None, step: int = 0) -> dict[str, Any]:
    """What TRL hands to a reward function, with columns that ours has no use for."""
    return {
        "prompts": [[{"role": "user", "content": "?"}]] * len(texts),
        "completions": [[{"role": "assistant", "content": text}] for text in texts],
        "completion_ids": [[1] * (index + 1) for index in range(len(texts))],
        "problem_id": list(ids or ["p"] * len(texts)),
        "trainer_state": SimpleNamespace(global_step=step),
        "log_metric": None,
    }


def call(made: RewardColumns, given: dict[str, Any]) -> dict[str, list[float | None]]:
    return {function.__name__: function(**given) for function in made.functions()}


def test_columns_hold_the_parts_and_none_where_the_gate_was_shut_or_we_failed() -> None:
    scorer = Scorer(0.25)
    made, _ = columns(Grades(PASSED, HALF, BROKEN, PASSED), scorer)
    found = call(made, batch([GOOD, GOOD, GOOD, NO_FORM], ["p", "q", "p", "q"]))
    assert found == {
        "r_fmt": [1.0, 1.0, None, 0.0],
        "r_out": [1.0, 0.0, None, 1.0],
        "r_proc": [0.25, None, None, 0.25],
    }
    assert scorer.asked == [[("statement of p", "plan"), ("statement of q", "plan")]]


def test_a_batch_is_graded_and_scored_once_for_all_columns_and_the_next_batch_again() -> None:
    grades, scorer = Grades(PASSED, PASSED, HALF, PASSED), Scorer()
    made, seen = columns(grades, scorer)
    first, second = batch([GOOD, GOOD], step=0), batch([GOOD, GOOD], step=1)
    call(made, first)
    assert (grades.calls, len(scorer.asked)) == (1, 1)
    found = call(made, second)  # equal texts, but another list: another batch
    assert (grades.calls, len(scorer.asked)) == (2, 2)
    assert found["r_proc"] == [None, 0.5]
    assert [step for step, _ in seen.batches] == [0, 1]
    assert [row.tokens for row in seen.batches[1][1]] == [1, 2]


def test_a_batch_without_a_passing_sample_does_not_call_the_reward_model() -> None:
    scorer = Scorer()
    made, _ = columns(Grades(HALF, BROKEN), scorer)
    assert call(made, batch([GOOD, GOOD]))["r_proc"] == [None, None]
    assert scorer.asked == []


def test_a_reward_model_that_is_down_leaves_passing_samples_out_and_keeps_the_others() -> None:
    made, _ = columns(Grades(PASSED, HALF), Scorer(error=InfrastructureError("endpoint down")))
    found = call(made, batch([GOOD, GOOD]))
    assert found == {"r_fmt": [None, 1.0], "r_out": [None, 0.0], "r_proc": [None, None]}


@pytest.mark.parametrize(
    ("rule", "outcome", "process"),
    [
        ("consistency_gated", [1.0, 0.0], [0.5, None]),
        ("posterior", [1.0, 0.0], [0.5, None]),
        ("outcome_only", [1.0, 0.0], [None, None]),
        ("additive", [1.0, 0.0], [0.5, 0.5]),
        ("soft_gated", [1.0, 0.0], [0.5, 0.25]),
        ("compiler", [1.0, -0.3], [None, None]),
        ("consistency_gated+compiler", [1.0, -0.3], [0.5, None]),
        ("soft_gated+compiler", [1.0, -0.3], [0.5, 0.25]),
    ],
)
def test_columns_add_up_to_the_total_of_every_rule(
    rule: str, outcome: list[float], process: list[float | None]
) -> None:
    made, seen = columns(Grades(PASSED, HALF), Scorer(0.5), rule)
    found = call(made, batch([GOOD, GOOD]))
    assert (found["r_out"], found["r_proc"]) == (outcome, process)
    totals = [sum(column[index] or 0.0 for column in found.values()) for index in range(2)]
    assert totals == pytest.approx([row.outcome.reward.total for row in seen.batches[0][1] if good(row.outcome)])


def good(outcome: Outcome) -> bool:
    return isinstance(outcome, Scored)


def test_a_reward_model_s_server_that_is_down_stops_the_run_at_once() -> None:
    made, seen = columns(
        Grades(PASSED, HALF), Scorer(error=UnreachableError("http://x: no answer")), max_infra_share=1.0
    )
    with pytest.raises(InfrastructureError, match=r"the reward model cannot be asked: http://x: no answer"):
        call(made, batch([GOOD, GOOD]))
    assert seen.batches == []


def test_a_request_that_a_server_refuses_costs_its_samples_and_not_the_run() -> None:
    made, _ = columns(Grades(PASSED, HALF), Scorer(error=EndpointError("http://x: answered 422")))
    assert call(made, batch([GOOD, GOOD]))["r_out"] == [None, 0.0]


def test_what_does_not_end_with_an_end_is_truncated_whatever_its_length() -> None:
    made, seen = columns(Grades(PASSED, PASSED, PASSED), Scorer())
    made.ends = frozenset({7, 8})
    given = batch([GOOD] * 3)
    given["completion_ids"] = [[1, 2, 7], [1, 2, 3], [8]]
    call(made, given)
    rows = seen.batches[0][1]
    assert [row.truncated for row in rows] == [False, True, False]
    assert [record(1, row)["truncated"] for row in rows] == [False, True, False]


def together(*parts: Callable[[], Any]) -> list[Any]:
    """Calls in one thread each, as processes would make them; an error of ours in the place of its result."""
    found: list[Any] = [None] * len(parts)

    def run(number: int) -> None:
        try:
            found[number] = parts[number]()
        except (ReCodeError, ValueError) as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


class Exchange:
    """Gathers what two threads hand in, by way of pickles, as processes do."""

    def __init__(self) -> None:
        self.barrier, self.parts = threading.Barrier(2, timeout=30), [b"", b""]

    def of(self, number: int) -> Callable[[Any], list[Any]]:
        def gather(part: Any) -> list[Any]:
            self.parts[number] = pickle.dumps(part)
            self.barrier.wait()
            found = [pickle.loads(part) for part in self.parts]
            self.barrier.wait()
            return found

        return gather


def two(first: Grades, second: Grades, max_infra_share: float = 0.5) -> list[tuple[RewardColumns, Seen]]:
    exchange = Exchange()
    made = [columns(grades, Scorer(0.5), max_infra_share=max_infra_share) for grades in (first, second)]
    for number, (each, _) in enumerate(made):
        each.gather = exchange.of(number)
    return made


def test_of_two_processes_each_gives_its_own_column_and_both_see_all_rows() -> None:
    (left, left_seen), (right, right_seen) = two(Grades(PASSED, BROKEN), Grades(HALF, PASSED))
    ours, theirs = together(lambda: call(left, batch([GOOD] * 2)), lambda: call(right, batch([GOOD] * 2, ["q", "q"])))
    assert ours["r_proc"] == [0.5, None]
    assert theirs["r_proc"] == [None, 0.5]
    for seen in (left_seen, right_seen):
        (_, rows) = seen.batches[0]
        assert [(row.problem_id, isinstance(row.outcome, InfrastructureError)) for row in rows] == [
            ("p", False), ("p", True), ("q", False), ("q", False),
        ]  # fmt: skip
    assert (left.failed, left.seen) == (right.failed, right.seen) == (1, 4)


def test_where_one_process_has_to_stop_all_do() -> None:
    (left, _), (right, _) = two(Grades(*[BROKEN] * 10), Grades(*[PASSED] * 10), max_infra_share=0.4)
    found = together(lambda: call(left, batch([GOOD] * 10)), lambda: call(right, batch([GOOD] * 10)))
    assert [str(error)[:22] for error in found] == ["10 of 20 samples (50%)"] * 2

    class Faulty(Grades):
        def grade_many(self, jobs: Sequence[tuple[Problem, str | None]]) -> Sequence[Verdict | SandboxError]:
            raise ValueError("no such thing")

    (left, _), (right, _) = two(Faulty(), Grades(PASSED))
    found = together(lambda: call(left, batch([GOOD])), lambda: call(right, batch([GOOD])))
    assert isinstance(found[0], ValueError)
    assert str(found[1]) == "process 0 stopped (ValueError: no such thing), so this one does"


def test_an_unknown_problem_is_not_graded_as_another() -> None:
    made, _ = columns(Grades(PASSED), Scorer())
    with pytest.raises(KeyError, match="elsewhere"):
        call(made, batch([GOOD], ["elsewhere"]))


def test_too_many_failures_of_ours_stop_the_run_with_the_last_reason() -> None:
    made, _ = columns(Grades(*[PASSED] * 15, *[BROKEN] * 5), Scorer(), max_infra_share=0.2)
    with pytest.raises(InfrastructureError, match=r"5 of 20 samples \(25%\).*max_infra_share = 20%.*sandbox is gone"):
        call(made, batch([GOOD] * 20))


def test_a_share_at_the_limit_goes_on_and_the_share_is_of_the_whole_run() -> None:
    made, _ = columns(Grades(*[PASSED] * 15, *[BROKEN] * 6), Scorer(), max_infra_share=0.25)
    assert call(made, batch([GOOD] * 20))["r_out"].count(None) == 5
    with pytest.raises(InfrastructureError, match="6 of 21"):
        call(made, batch([GOOD]))


def test_a_handful_of_samples_is_too_few_to_stop_for() -> None:
    made, _ = columns(Grades(*[BROKEN] * 19), Scorer(), max_infra_share=0.0)
    assert call(made, batch([GOOD] * 19))["r_fmt"] == [None] * 19


def scored(
    status: Status, process: float | None = None, *, form: bool = True, rule: str = "consistency_gated"
) -> Scored:
    verdict = Verdict(status, 4 if status == "passed" else 1, 4, "stdio")
    text = GOOD if form else NO_FORM
    reward = combine(find_rule(rule), format_ok=form, verdict=verdict, process=process)
    return Scored(Completion(text, "plan", "x", "x", form), verdict, reward)


def row(outcome: Outcome, tokens: int = 10, problem: str = "p") -> Row:
    return Row(problem, GOOD, tokens, outcome)


def test_the_values_of_a_step_by_hand() -> None:
    rows = [
        row(scored("passed", 0.75), 4),  # 2.75
        row(scored("passed", 0.25), 6),  # 2.25: all correct
        row(scored("wrong_answer"), 20),  # 1
        row(scored("passed", 0.5, form=False), 10),  # 1.5: mixed
        row(scored("no_code", form=False), 20),  # 0
        row(BROKEN, 12),  # all that is scored is wrong
        row(scored("runtime_error"), 8),  # 1
        row(scored("runtime_error"), 8),  # 1: all wrong, nothing to learn
    ]
    rows[2] = dataclasses.replace(rows[2], truncated=True)
    rows[4] = dataclasses.replace(rows[4], truncated=True)
    found = summarise(rows, group_size=2)
    # Advantages owed to R_proc: .25 + .25, then .25 + .25; to the rest: 0, then |1 - 1| twice, 0, 0.
    assert found == {
        "reward/total": pytest.approx((2.75 + 2.25 + 1 + 1.5 + 0 + 1 + 1) / 7),
        "reward/format": pytest.approx(5 / 7),
        "reward/outcome": pytest.approx(3 / 7),
        "reward/process_passing": pytest.approx(0.5),
        "reward/pass_rate": pytest.approx(3 / 7),
        "reward/tests_passed_share": pytest.approx((3 + 4 * 0.25) / 7),
        "gate/open_share": pytest.approx(3 / 7),
        "groups/all_correct": 0.25,
        "groups/all_wrong": 0.5,
        "groups/mixed": 0.25,
        "groups/no_signal": 0.5,
        "tokens/completion_mean": 11.0,
        "tokens/truncated_share": 0.25,
        "advantage/process_share": pytest.approx(1.0),
        "infra/failed": 1.0,
    }


def test_the_share_of_the_process_reward_in_the_advantages_by_hand() -> None:
    mixed = [scored("passed", 0.8), scored("wrong_answer")]
    # R_proc deviates by 0.4 and 0.4; format + outcome, 2 and 1, by 0.5 and 0.5.
    assert process_share([mixed]) == pytest.approx(0.8 / 1.8)
    soft = [scored("passed", 0.8, rule="soft_gated"), scored("wrong_answer", 0.8, rule="soft_gated")]
    # The weights are 1 and 1/4: 0.8 and 0.2 deviate by 0.3 each.
    assert process_share([soft]) == pytest.approx(0.6 / 1.6)
    assert process_share([mixed, soft]) == pytest.approx((0.8 + 0.6) / (1.8 + 1.6))
    assert process_share([[scored("wrong_answer")] * 2]) is None
    assert process_share([[], []]) is None


def test_kinds_of_groups() -> None:
    passed, failed = scored("passed", 0.5), scored("timeout")
    assert group_kind([passed, passed]) == "all_correct"
    assert group_kind([failed, passed]) == "mixed"
    assert group_kind([failed, failed]) == "all_wrong"
    assert group_kind([]) == "all_wrong"
    assert scored_group([row(passed), row(BROKEN)]) == [passed]


def test_a_group_has_no_signal_where_all_earned_the_same() -> None:
    assert no_signal([])
    assert no_signal([scored("passed", 0.5), scored("passed", 0.5)])
    assert not no_signal([scored("passed", 0.5), scored("passed", 0.51)])


def test_a_step_that_we_failed_altogether_has_no_rewards_and_is_counted() -> None:
    found = summarise([row(BROKEN), row(BROKEN)], group_size=2)
    assert found["infra/failed"] == 2.0
    assert found["reward/total"] is None
    assert found["gate/open_share"] is None
    assert found["tokens/completion_mean"] == 10


def test_records_keep_what_was_absent_absent() -> None:
    shut = record(3, row(scored("wrong_answer")))
    assert (shut["step"], shut["process"], shut["total"], shut["status"]) == (3, None, 1.0, "wrong_answer")
    opened = record(3, row(scored("passed", 0.25)))
    assert (opened["process"], opened["total"], opened["tokens"]) == (0.25, 2.25, 10)
    failed = record(4, row(BROKEN))
    assert failed == {"step": 4, "problem_id": "p", "completion": GOOD, "error": "the sandbox is gone"}
