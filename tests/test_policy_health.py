"""What a run says about itself: steps that taught nothing, rewards that never change, weights that are no numbers."""

from __future__ import annotations

import pytest

from recode_rl.errors import SandboxError
from recode_rl.policy.health import CONSTANT_STEPS, Streak, Watch, broken_weight
from recode_rl.policy.rewards import Row
from recode_rl.reward import Scored, combine, find_rule
from recode_rl.types import Completion, Status, Verdict


def row(status: Status, process: float | None = None) -> Row:
    verdict = Verdict(status, int(status == "passed"), 1, "stdio")
    reward = combine(find_rule("consistency_gated"), format_ok=True, verdict=verdict, process=process)
    return Row("p", "text", 9, Scored(Completion("text", "plan", "x", "x", True), verdict, reward))


WRONG, LOST = row("wrong_answer"), Row("p", "text", 9, SandboxError("the cell is gone"))


def test_a_streak_is_said_at_its_start_and_each_time_it_has_doubled() -> None:
    streak = Streak()
    assert [streak.grows(True) for _ in range(9)] == [True, True, False, True, False, False, False, True, False]
    assert not streak.grows(False)
    assert streak.grows(True)
    late = Streak(first=5)
    said = [number for number in range(1, 50) if late.grows(True)]
    assert said == [5, 10, 20, 40]


def test_a_step_without_any_signal_is_said_at_once_with_what_to_do() -> None:
    watch = Watch(group_size=2)
    (said,) = watch.notices(1, [WRONG] * 4)
    assert said.startswith("step 1: in each of the 2 groups all completions earned the same, so nothing was learnt")
    assert "(0 of 4 programs passed)" in said and "easier problems" in said
    (said,) = watch.notices(2, [row("passed", 0.5)] * 4)
    assert "for 2 steps now" in said and "harder problems" in said
    assert watch.notices(3, [WRONG, row("passed", 0.5), WRONG, WRONG]) == []
    assert len(watch.notices(4, [WRONG] * 4)) == 1


def test_groups_that_differ_from_each_other_alone_have_no_signal_either() -> None:
    (said,) = Watch(group_size=2).notices(1, [WRONG, WRONG, row("passed", 0.5), row("passed", 0.5)])
    assert "(2 of 4 programs passed)" in said and "larger group" in said


def test_a_reward_that_never_changes_is_said_after_a_few_steps() -> None:
    watch = Watch(group_size=4)
    said = [text for step in range(1, CONSTANT_STEPS + 1) for text in watch.notices(step, [WRONG] * 4)]
    assert f"step {CONSTANT_STEPS}: every completion of the last {CONSTANT_STEPS} steps has earned 1" in said
    watch = Watch(group_size=4)
    for step in range(1, 20):  # constant within a step, but another one in the next
        notices = watch.notices(step, [WRONG] * 4 if step % 2 else [row("passed", 0.5)] * 4)
        assert not any("every completion" in text for text in notices)


def test_a_reward_model_that_gives_the_same_to_all_is_said() -> None:
    watch = Watch(group_size=10)
    rows = [row("passed", 0.731)] * 8 + [WRONG] * 2
    said = [text for step in range(1, CONSTANT_STEPS + 1) for text in watch.notices(step, rows)]
    assert len(said) == 1
    assert f"has given 0.731 to every reasoning of the last {CONSTANT_STEPS} steps" in said[0]
    watch = Watch(group_size=10)
    rows = [row("passed", 0.7), *[row("passed", 0.731)] * 7, WRONG, WRONG]
    assert [text for step in range(1, 20) for text in watch.notices(step, rows)] == []


def test_samples_that_we_lost_are_said_and_say_nothing_of_the_policy() -> None:
    (said,) = Watch(group_size=2).notices(3, [LOST, WRONG, row("passed", 0.5), WRONG])
    assert said == "step 3: 1 of 4 samples have no reward, by no fault of theirs: the cell is gone"
    (said,) = Watch(group_size=2).notices(3, [LOST] * 4)
    assert "4 of 4" in said


def test_the_first_weight_that_is_no_number_has_a_name() -> None:
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    assert broken_weight(model) is None
    for value in (float("nan"), float("inf")):
        with torch.no_grad():
            model[1].weight[2, 1] = value
        assert broken_weight(model) == "1.weight"
    with torch.no_grad():
        model[0].bias[0], model[0].bias[1] = float("inf"), float("-inf")
    assert broken_weight(model) == "0.bias"
