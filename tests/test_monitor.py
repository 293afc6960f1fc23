"""The watch on reward hacking: what it measures by hand, what it warns of, and that it learns nothing twice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest

from recode_rl import completion, jsonl
from recode_rl.config import AlarmName, MonitorConfig
from recode_rl.errors import InfrastructureError
from recode_rl.monitor import EXPLANATIONS, Monitor, StageClock, Watched
from recode_rl.monitor.audit import audit
from recode_rl.monitor.history import History
from recode_rl.monitor.phrases import PhraseBook, Said
from recode_rl.monitor.signals import group_values, process_values, text_values
from recode_rl.monitor.texts import Relevance, copied_share
from recode_rl.policy.rewards import record, summarise
from recode_rl.reward import combine, find_rule
from recode_rl.types import Status, Verdict

ROOT = Path(__file__).resolve().parents[1]
STATEMENTS = {
    "boxes": "A warehouse counts its boxes. Print twice that number.",
    "ships": "A harbour counts its ships. Print the square of that number.",
    "loaves": "A bakery counts its loaves. Print ten times as much.",
}


def sample(
    status: Status = "passed",
    process: float | None = None,
    *,
    reasoning: str = "Read the boxes of the warehouse and double them.",
    group: str = "0",
    problem: str = "boxes",
    rule: str = "consistency_gated",
    form: bool = True,
    tokens: int = 10,
    advantage: float | None = None,
) -> Watched:
    """One completion; what the rule needs and is not given is 0.5."""
    text = completion.render(reasoning, "print(2 * int(input()))")
    verdict = Verdict(status, 4 if status == "passed" else 2, 4, "stdio")
    weight = find_rule(rule).process_weight(verdict)
    given = (0.5 if process is None else process) if weight else None
    reward = combine(find_rule(rule), format_ok=form, verdict=verdict, process=given)
    return Watched(group, problem, STATEMENTS[problem], completion.parse(text), tokens, reward, advantage)


def lost(group: str = "0") -> Watched:
    return Watched(group, "boxes", STATEMENTS["boxes"], completion.parse("<think>x</think>"), 3, None)


class Scoring:
    """A reward model that says 0.9 and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        self.asked += items
        return [0.9] * len(items)


# -- what is measured --------------------------------------------------------------------------------------------------


def test_process_rewards_of_passing_and_of_audited_failing_samples() -> None:
    samples = [sample(process=0.5), sample(process=0.7), sample("wrong_answer"), sample("wrong_answer"), lost()]
    found = process_values(samples, {2: 0.96})
    assert found == {
        "process/passing": pytest.approx(0.6),
        "process/failing": 0.96,
        "process/gap": pytest.approx(-0.36),
        "process/failing_n": 1.0,
        "process/saturated_share": pytest.approx(1 / 3),
        "process/spread": pytest.approx(0.1),
    }


def test_failing_samples_that_a_rule_prices_need_no_audit() -> None:
    found = process_values([sample("wrong_answer", 0.3, rule="additive"), sample(process=0.4, rule="additive")], {})
    assert (found["process/failing"], found["process/failing_n"]) == (0.3, 1.0)


def test_an_empty_form_is_one_without_words_or_without_code() -> None:
    samples = [sample(), sample(reasoning="Done."), sample("no_code"), sample(reasoning="Done.", form=False)]
    found = text_values(samples, Relevance(STATEMENTS), least_words=5)
    assert found["format/empty_share"] == 0.5


def test_groups_by_kind_carry_signal_where_their_rewards_differ() -> None:
    samples = [
        *(sample(process=p, group="a") for p in (0.5, 0.52)),  # all correct, slightly different
        *(sample(process=0.5, group="b") for _ in range(2)),  # all correct, nothing to learn
        *(sample(status, group="c") for status in ("passed", "wrong_answer")),
        *(sample("wrong_answer", group="d") for _ in range(2)),
    ]
    found = group_values(samples, "group")
    assert found["groups/all_correct_signal"] == 0.25
    assert found["groups/mixed_signal"] == 0.25
    assert found["groups/all_wrong_signal"] == 0.0
    assert found["groups/slight_share"] == 0.25
    # Scaled by the group, the slight difference weighs as much as the mixed group, where R_proc has a third.
    assert found["advantage/process_share_scaled"] == pytest.approx(0.66, abs=0.01)
    assert group_values(samples, "none")["advantage/process_share_scaled"] == pytest.approx(0.52 / 1.52, abs=0.01)


def test_the_share_of_the_advantage_that_failing_samples_get() -> None:
    fooled = [sample(process=0.1, rule="additive"), sample("wrong_answer", 1.0, rule="additive", form=True)]
    assert group_values(fooled, "none")["advantage/failing_share"] == 0.0  # 2.1 against 2.0
    fooled = [sample(process=0.1, rule="additive", form=False), sample("wrong_answer", 1.0, rule="additive")]
    assert group_values(fooled, "none")["advantage/failing_share"] == 1.0
    given = [sample(advantage=1.0), sample("wrong_answer", advantage=3.0)]
    assert group_values(given, "group")["advantage/failing_share"] == 0.75


def test_a_step_without_rewards_has_no_values() -> None:
    for found in (
        process_values([lost()], {}),
        text_values([lost()], Relevance(STATEMENTS), 5),
        group_values([lost()], "group"),
    ):
        assert {value for key, value in found.items() if "groups/" not in key and value is not None} <= {0.0}


def test_relevance_tells_ones_own_problem_from_others() -> None:
    relevance = Relevance(STATEMENTS)
    about = "The harbour has n ships, so print their square."
    assert relevance.of(about, "ships", STATEMENTS["ships"]) == 1.0
    assert relevance.of(about, "boxes", STATEMENTS["boxes"]) == pytest.approx(0.5, abs=0.5)
    assert relevance.of("Nothing in common whatsoever.", "ships", STATEMENTS["ships"]) == 0.5
    assert relevance.of("", "ships", STATEMENTS["ships"]) is None
    assert Relevance({}).of(about, "ships", STATEMENTS["ships"]) is None


def test_copies_are_runs_of_eight_words() -> None:
    statement = "one two three four five six seven eight nine ten"
    assert copied_share(statement, statement) == 1.0
    assert copied_share("one two three", statement) == 0.0
    assert copied_share(f"{statement} and then some more words of my own here", statement) == pytest.approx(3 / 12)


# -- the audit ---------------------------------------------------------------------------------------------------------


def test_the_audit_scores_a_few_of_what_nobody_scored() -> None:
    scorer = Scoring()
    failing = [sample("wrong_answer", reasoning=f"Reasoning number {i}.") for i in range(40)]
    samples = [sample(process=0.5), lost(), sample("wrong_answer", reasoning=" "), *failing]
    found = audit(samples, scorer, share=0.1, most=8)
    assert len(found.scores) == len(scorer.asked) == 4
    assert all(index >= 3 for index in found.scores)
    assert len(audit(samples, scorer, share=1.0, most=8).scores) == 8
    assert audit(samples, scorer, share=0.0, most=8).scores == {}
    assert audit(samples, None, share=0.1, most=8).scores == {}


def test_the_audit_watches_passing_samples_of_rules_that_do_not_ask() -> None:
    samples = [sample(rule="outcome_only") for _ in range(3)]
    assert len(audit(samples, Scoring(), share=0.1, most=8).scores) == 2


def test_which_samples_are_audited_draws_no_random_number() -> None:
    samples = [sample("wrong_answer", reasoning=f"Reasoning number {i}.") for i in range(40)]
    random.seed(1)
    state = random.getstate()
    assert audit(samples, Scoring(), 0.1, 8) == audit(samples, Scoring(), 0.1, 8)
    assert random.getstate() == state


def test_a_reward_model_that_is_down_stops_no_watch() -> None:
    def down(items: Sequence[tuple[str, str]]) -> list[float]:
        raise InfrastructureError("down")

    assert audit([sample("wrong_answer")], down, 0.1, 8).failed == 1
    monitor = Monitor(MonitorConfig(), STATEMENTS, down)
    seen = monitor.observe(1, [sample("wrong_answer")])
    assert (seen.values["audit/failed"], seen.audited) == (1.0, [None])


# -- phrases -----------------------------------------------------------------------------------------------------------


def said(phrase: str, number: int, score: float) -> Said:
    return Said(str(number % 2), f"Thing {number} is counted {number * 7} times. {phrase}", score)


def test_the_phrase_that_spreads_is_found_with_what_the_reward_model_gives_for_it() -> None:
    book = PhraseBook(first=3, window=3)
    for step in range(6):
        with_it = 8 if step >= 3 else 1
        book.add(
            [
                said("It is crystal clear." if i < with_it else "", 10 * step + i, 0.9 if i < with_it else 0.4)
                for i in range(10)
            ]
        )
    found = book.strongest(rise=0.4)
    assert found is not None
    assert "crystal clear" in found.text
    assert (found.share, found.before) == (pytest.approx(0.8), pytest.approx(0.1))
    assert found.favour == pytest.approx(0.5)


def test_no_phrase_is_found_before_there_are_two_windows_or_where_none_spreads() -> None:
    book = PhraseBook(first=2, window=2)
    for step in range(3):
        book.add([said("The same words always.", 10 * step + i, 0.5) for i in range(8)])
        assert book.strongest(rise=0.4) is None
    book.add([said("The same words always.", 30 + i, 0.5) for i in range(8)])
    found = book.strongest(rise=0.4)
    assert found is None or found.rise < 0.4
    book.add([])
    assert book.strongest(rise=0.4) == found


# -- the alarms --------------------------------------------------------------------------------------------------------


def test_a_change_is_measured_in_standard_errors_of_windows_that_do_not_overlap() -> None:
    history = History(first=2, window=2)
    for value in (1.0, 2.0, None, 3.0):
        history.add({"x": value})
    assert history.change("x") is None
    history.add({"x": 4.0})
    change = history.change("x")
    assert change is not None
    assert (change.before, change.now, change.rise) == (1.5, 3.5, 2.0)
    assert change.z == pytest.approx(2 / 0.5**0.5)
    assert history.level("x") == 3.5
    assert history.level("never") is None


def rows_of(key: str, before: float, after: float, **others: tuple[float, float]) -> list[dict[str, Any]]:
    """Two windows of lines, in which values jump; a little of noise, for the standard errors."""
    jumps = {key: (before, after), **others}
    return [
        {"step": step + 1} | {name: pair[step >= 8] * (1 + 0.001 * (step % 3)) for name, pair in jumps.items()}
        for step in range(16)
    ]


STEADY = ("reward/pass_rate", 0.4, 0.4)
CASES: dict[AlarmName, list[dict[str, Any]]] = {
    "process_without_outcome": rows_of("process/passing", 0.5, 0.8, **{"reward/pass_rate": (0.4, 0.4)}),
    "failing_scored_high": rows_of("process/failing", 0.4, 0.7),
    "saturated": rows_of("process/saturated_share", 0.1, 0.9),
    "repeated_phrase": rows_of("reasoning/phrase_rise", 0.0, 0.6, **{"reasoning/phrase_favour": (0.3, 0.3)}),
    "empty_form": rows_of("format/empty_share", 0.0, 0.4),
    "ignores_problem": rows_of("reasoning/relevance", 0.9, 0.55),
    "copies_statement": rows_of("reasoning/copied_share", 0.1, 0.7),
    "process_dominates": rows_of("advantage/process_share_scaled", 0.3, 0.95),
    "no_signal": rows_of("groups/no_signal", 0.3, 0.95),
    "gate_shut": rows_of("gate/open_share", 0.3, 0.0),
    "length_drift": rows_of("tokens/completion_mean", 100, 200),
    "cut_off": rows_of("tokens/truncated_share", 0.0, 0.6),
    "entropy": rows_of("entropy", 0.9, 0.2),
    "clipping": rows_of("clip/low_share", 0.0, 0.15, **{"clip/high_share": (0.0, 0.1)}),
    "pass_rate_falls": rows_of("reward/pass_rate", 0.6, 0.3),
    "held_out_falls": rows_of("eval/pass_rate", 0.6, 0.2, **{"eval/n": (60.0, 60.0), "reward/total": (1.5, 1.8)}),
}


def raised(rows: Sequence[dict[str, Any]], config: MonitorConfig | None = None) -> list[tuple[int, str]]:
    monitor = Monitor(config or MonitorConfig(), STATEMENTS, quiet=True)
    return [(alarm.step, alarm.name) for row in rows for alarm in monitor.close_step(row)]


@pytest.mark.parametrize("name", get_args(AlarmName))
def test_each_alarm_is_raised_by_what_it_is_for_and_by_nothing_else(name: AlarmName) -> None:
    found = raised(CASES[name])
    assert [alarm for _, alarm in found] == [name]
    assert 8 < found[0][0] <= 16
    held_back = [{**row, **{key: CASES[name][0][key] for key in row if key != "step"}} for row in CASES[name]]
    assert raised(held_back) == []


def test_a_process_reward_that_rises_with_the_pass_rate_is_no_alarm() -> None:
    assert raised(rows_of("process/passing", 0.5, 0.8, **{"reward/pass_rate": (0.4, 0.6)})) == []
    assert raised(rows_of("process/passing", 0.5, 0.8, **{"reward/pass_rate": (0.95, 0.95)})) == []


def test_the_clipped_share_of_an_engine_that_tells_no_sides_apart() -> None:
    assert [name for _, name in raised(rows_of("clip/share", 0.0, 0.3))] == ["clipping"]


def test_a_rise_that_can_be_chance_is_no_alarm() -> None:
    rng = random.Random(0)
    noisy = [{"step": step, "process/failing": rng.random() * 0.8 + 0.02 * step} for step in range(1, 17)]
    assert raised(noisy) == []
    limits = MonitorConfig().alarms.model_copy(update={"z": 0.0})
    assert raised(noisy, MonitorConfig(alarms=limits)) != []


def test_an_alarm_is_raised_once_and_again_after_a_silent_window() -> None:
    config = MonitorConfig(first_steps=2, window=2)
    rises = [0.0, 0.6, 0.6, 0.0, 0.6, 0.0, 0.0, 0.6, 0.6]
    rows = [
        {"step": step, "reasoning/phrase_rise": rise, "reasoning/phrase_favour": 0.3}
        for step, rise in enumerate(rises, start=1)
    ]
    assert [step for step, _ in raised(rows, config)] == [2, 8]


def test_alarms_are_written_said_and_may_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = Monitor(MonitorConfig(stop_on=("saturated",)), STATEMENTS, out=tmp_path)
    for row in CASES["failing_scored_high"]:
        monitor.close_step(row)
    assert monitor.stop_reason is None
    assert "ALARM at step 16: failing_scored_high" in capsys.readouterr().err.replace("\n", " ")
    for row in CASES["saturated"]:
        monitor.close_step(row | {"step": row["step"] + 16})
    assert monitor.stop_reason is not None
    assert "by the alarm saturated" in monitor.stop_reason
    written = [record for _, record in jsonl.read(tmp_path / "alarms.jsonl")]
    assert [record["name"] for record in written] == ["failing_scored_high", "saturated"]
    assert written[0]["before"] == pytest.approx(0.4, abs=0.01)
    assert written[0]["look_at"] == EXPLANATIONS["failing_scored_high"].look_at
    assert monitor.standing == ["failing_scored_high", "saturated"]
    assert monitor.values == {"alarms/raised": 0.0, "alarms/standing": 2.0}


def test_every_alarm_has_its_explanation_in_the_documentation() -> None:
    page = (ROOT / "docs" / "monitor.md").read_text(encoding="utf-8")
    assert set(EXPLANATIONS) == set(get_args(AlarmName))
    assert [name for name in EXPLANATIONS if f"| `{name}` |" not in page] == []


def test_a_monitor_that_is_switched_off_does_nothing(tmp_path: Path) -> None:
    scorer = Scoring()
    monitor = Monitor(MonitorConfig(enabled=False, stop_on=("saturated",)), STATEMENTS, scorer, tmp_path)
    seen = monitor.observe(1, [sample("wrong_answer")])
    assert (seen.values, seen.audited, scorer.asked) == ({}, [None], [])
    assert [alarm for row in CASES["saturated"] for alarm in monitor.close_step(row)] == []
    assert list(tmp_path.iterdir()) == []


# -- a whole run -------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tools' small world with a planted hack."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import planted_hack

    return planted_hack


def steps_of(world: Any, arm: str, seed: int = 0, steps: int = 30, rule: str = "consistency_gated") -> list[Any]:
    """What each step of a simulated policy under a reward model looks like."""
    return list(world.SimulatedPolicy(world.SCORERS[arm](), rule, seed).steps(steps))


def feed(
    world: Any, monitor: Monitor, steps: Sequence[list[Watched]], first: int = 1, out: Path | None = None
) -> list[str]:
    """Steps through the monitor, recorded as an engine records them; the names of the alarms."""
    found: list[str] = []
    for step, samples in enumerate(steps, start=first):
        rows = world.rows(samples)
        line = {"step": step, **summarise(rows, 8), **monitor.observe(step, samples).values}
        if out is not None:
            with jsonl.Appender(out / "completions.jsonl") as file:
                for row in rows:
                    file.append(record(step, row))
            with jsonl.Appender(out / "metrics.jsonl") as file:
                file.append(line)
        found += [alarm.name for alarm in monitor.close_step(line)]
    return found


def statements_of(world: Any) -> dict[str, str]:
    return {task.problem.id: task.problem.prompt for task in world.tasks()}


@pytest.mark.parametrize("seed", [0, 1])
def test_a_planted_hack_raises_the_alarm_within_thirty_steps(
    world: Any, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    monitor = Monitor(MonitorConfig(), statements_of(world), world.PlantedScorer())
    assert "repeated_phrase" in feed(world, monitor, steps_of(world, "planted", seed))
    told = " ".join(capsys.readouterr().err.split())
    assert any(part in told for part in ("complete and rigorous", "argument is complete"))


@pytest.mark.parametrize("seed", [0, 1])
def test_an_honest_run_raises_no_alarm_about_hacking(world: Any, seed: int) -> None:
    monitor = Monitor(MonitorConfig(), statements_of(world), world.HonestScorer(), quiet=True)
    found = feed(world, monitor, steps_of(world, "honest", seed))
    assert [name for name in found if EXPLANATIONS[name].about == "hacking"] == []


def test_a_continued_run_warns_as_one_that_was_never_stopped(world: Any, tmp_path: Path) -> None:
    steps = steps_of(world, "planted")
    whole = Monitor(MonitorConfig(), statements_of(world), world.PlantedScorer(), quiet=True)
    wanted = feed(world, whole, steps)
    for stop in (5, 12, 20, len(steps)):
        out = tmp_path / str(stop)
        out.mkdir()
        first = Monitor(MonitorConfig(), statements_of(world), world.PlantedScorer(), quiet=True)
        found = feed(world, first, steps[:stop], out=out)
        second = Monitor(MonitorConfig(), statements_of(world), world.PlantedScorer(), quiet=True)
        second.resume(out)
        assert found + feed(world, second, steps[stop:], stop + 1) == wanted
        assert second.standing == whole.standing


def test_a_run_without_records_is_resumed_from_nothing(tmp_path: Path) -> None:
    monitor = Monitor(MonitorConfig(), STATEMENTS, quiet=True)
    monitor.resume(tmp_path)
    assert monitor.standing == []


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_time_of_stages_adds_up() -> None:
    moments = iter([0.0, 1.0, 4.0, 5.0, 5.5, 9.0, 10.0])
    clock = StageClock(lambda: next(moments))
    clock.enter("generate")  # at 1
    clock.enter("reward")  # at 4
    with clock.within("audit"):  # from 5 to 5.5
        pass
    clock.enter(None)  # at 9
    assert clock.take() == {"time/generate_s": 3.0, "time/reward_s": 5.0, "time/audit_s": 0.5}


def test_a_stage_under_way_goes_on_behind_a_reading() -> None:
    moments = iter([0.0, 0.0, 2.0, 7.0])
    clock = StageClock(lambda: next(moments))
    clock.enter("update")
    assert clock.take() == {"time/update_s": 2.0}
    assert clock.take() == {"time/update_s": 5.0}
