"""Studies on random two-layer models: arms that can be compared, records that are whole or absent, and the table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import by_text, everything

from recode_rl import jsonl
from recode_rl.ablations import numbers, results, runs, sets
from recode_rl.ablations.config import StudyConfig, reward_model_config, train_config
from recode_rl.ablations.pairs import Wanted, draw_exactly, draw_pairs, draw_scored
from recode_rl.ablations.study import ablate, read_study
from recode_rl.ablations.watch import watch
from recode_rl.config import RewardModelConfig, build
from recode_rl.errors import ConfigError, DataError, TimeOver
from recode_rl.grading import Grader
from recode_rl.interrupts import check, time_limit
from recode_rl.pairs import write_pairs
from recode_rl.problems import starter
from recode_rl.problems.records import write_problems
from recode_rl.problems.splits import split_by_id
from recode_rl.reward_model.scored import ScoredReasoning
from recode_rl.types import PreferencePair, Problem, Verdict

for module in ("trl", "sklearn", "matplotlib"):
    pytest.importorskip(module, reason="needs the extras [train] and [report]")

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("opt_deg", "opt_ori", "ori_deg")
GENERATORS = ("a", "b", "c")

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A model this small is slower on two threads than on one."""
    import torch

    torch.set_num_threads(1)


def corpus(problems: int = 40) -> list[PreferencePair]:
    """Every kind of pair of every generator for each problem; the better side speaks of sums."""
    return [
        PreferencePair(
            f"p{n}/{kind}/{who}", f"p{n}", f"Add {n} to n.", f"The sum is {n}, a sum, says {who}.", f"Loop {n} {who}.",
            kind, ("logical_gap",), who,  # type: ignore[arg-type]
        )
        for n in range(problems)
        for kind in KINDS
        for who in GENERATORS
    ]  # fmt: skip


TRAIN = [pair for pair in corpus() if split_by_id(pair.problem_id) == "train"]


# -- pairs of arms -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kinds", "generators"),
    [(KINDS, ()), (("opt_ori",), ()), (("opt_deg", "ori_deg"), ()), (KINDS, ("b",)), (("ori_deg",), ("a", "c"))],
)
def test_arms_have_as_many_pairs_of_the_same_problems_in_even_shares(
    kinds: tuple[Any, ...], generators: tuple[str, ...]
) -> None:
    drawn = draw_pairs(TRAIN, Wanted(18, kinds, generators), seed=3)
    plain = draw_pairs(TRAIN, Wanted(18, KINDS), seed=3)
    assert len(drawn) == len({pair.id for pair in drawn}) == 18
    assert [pair.problem_id for pair in drawn] == [pair.problem_id for pair in plain]
    assert len({pair.problem_id for pair in drawn}) == 18
    cells = Counter((pair.kind, pair.generator) for pair in drawn)
    assert set(cells) == {(kind, who) for kind in kinds for who in generators or GENERATORS}
    assert len(set(cells.values())) == 1


def test_pairs_of_one_problem_are_of_one_generator_and_of_all_kinds() -> None:
    drawn = draw_pairs(TRAIN, Wanted(18, KINDS, per_problem=3), seed=0)
    by_problem: dict[str, list[PreferencePair]] = {}
    for pair in drawn:
        by_problem.setdefault(pair.problem_id, []).append(pair)
    assert len(by_problem) == 6
    for pairs in by_problem.values():
        assert {pair.kind for pair in pairs} == set(KINDS)
        assert len({pair.generator for pair in pairs}) == 1
    assert Counter(pair.generator for pair in drawn) == {"a": 6, "b": 6, "c": 6}


def test_another_seed_draws_other_problems() -> None:
    one, other = (draw_pairs(TRAIN, Wanted(12, KINDS), seed=seed) for seed in (0, 1))
    assert {pair.problem_id for pair in one} != {pair.problem_id for pair in other}


def test_problems_with_one_generator_each_are_drawn_evenly_too() -> None:
    shares = [pair for pair in TRAIN if GENERATORS[int(pair.problem_id[1:]) % 3] == pair.generator]
    drawn = draw_pairs(shares, Wanted(18, KINDS), seed=0)
    assert len(drawn) == 18
    assert Counter(pair.kind for pair in drawn) == dict.fromkeys(KINDS, 6)


def test_an_arm_that_cannot_have_as_many_pairs_is_refused() -> None:
    with pytest.raises(DataError, match=r"arm 'x': \d+ pairs of opt_deg with 1 a problem, but every arm gets 99"):
        draw_exactly(TRAIN, Wanted(99, ("opt_deg",)), 0, "x")
    with pytest.raises(DataError, match=r"arm 'x': no pair of generator 'd'; there are a, b, c"):
        draw_exactly(TRAIN, Wanted(2, KINDS, ("d",)), 0, "x")


def scored(per_problem: int = 3) -> list[ScoredReasoning]:
    return [
        ScoredReasoning(f"p{n}/{k}", f"p{n}", f"Add {n} to n.", f"Reasoning {k}.", (n + k) % 11 / 10, generator=f"g{k}")
        for n in range(40)
        for k in range(per_problem)
    ]


def test_a_score_based_arm_sees_as_many_reasonings_of_the_same_problems() -> None:
    wanted = Wanted(12, KINDS)
    drawn = draw_scored(scored(), TRAIN, wanted, 5, "score")
    assert len({one.id for one in drawn}) == 24
    assert {one.problem_id for one in drawn} == {pair.problem_id for pair in draw_pairs(TRAIN, wanted, 5)}
    assert set(Counter(one.generator for one in drawn).values()) == {8}
    with pytest.raises(DataError, match=r"have more of them judged"):
        draw_scored(scored(1)[:10], TRAIN, wanted, 5, "score")


# -- studies -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def study(tiny: Path, tmp_path: Path) -> StudyConfig:
    write_pairs(tmp_path / "pairs.jsonl", corpus())
    values = {
        "title": "Kinds of pairs",
        "out": tmp_path / "out",
        "seeds": [0, 1],
        "reference": "all",
        "reward_model": {
            "settings": {
                "base": str(tiny), "epochs": 1, "learning_rate": 3e-3, "batch_size": 6, "micro_batch": 6,
                "max_length": 64, "precision": "fp32",
            }
        },
        "pairs": {"file": tmp_path / "pairs.jsonl", "per_arm": 12, "held_out": 9},
        "arms": [
            {"name": "all", "title": "all kinds"},
            {"name": "one", "kinds": ["opt_deg"]},
            {"name": "score", "settings": {"objective": "score", "batch_size": 12}},
            {"name": "base", "title": "base model", "kind": "eval-rm"},
        ],
        "paper": [{"what": "CRPL", "on": "LCB-RB, 7B", "value": "62.6 %", "accuracy": 0.626}],
    }  # fmt: skip
    return build(StudyConfig, values, "study")


def changed(study: StudyConfig, **changes: Any) -> StudyConfig:
    return build(StudyConfig, {**study.model_dump(), **changes}, "study")


def record(study: StudyConfig, arm: str, seed: int = 0) -> dict[str, Any]:
    return dict(jsonl.read_json(study.out / "records" / arm / f"seed-{seed}.json"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that are really done, in order."""
    done: list[str] = []
    do = runs.do

    def noted(run: runs.Run, material: runs.Material) -> None:
        done.append(run.title)
        do(run, material)

    monkeypatch.setattr("recode_rl.ablations.study.do", noted)
    return done


def test_a_study_runs_every_arm_and_seed_once_and_what_is_recorded_not_again(
    study: StudyConfig, trained: list[str]
) -> None:
    values = ablate(study)
    assert trained == ["all, seed 0", "one, seed 0", "base, seed 0", "all, seed 1", "one, seed 1"]
    assert (values["ran"], values["left"], values["recorded"], values["runs"]) == (trained, [], 5, 5)
    assert values["absent"] == {"score": "scored, a file of a judge's scores, was not given"}
    assert not any((study.out / "work").rglob("*.safetensors"))

    for arm in ("all", "one"):
        for seed in (0, 1):
            found = record(study, arm, seed)
            assert (found["arm"], found["seed"]) == (arm, seed)
            assert found["trained"]["pairs"] == {"given": 12, "trained": 12, "validation": 0}
            assert found["trained"]["problems"] == 12
            steps = [row for _, row in jsonl.read(study.out / "records" / arm / f"seed-{seed}.metrics.jsonl")]
            assert [row["step"] for row in steps] == [1, 2]
            assert len(found["judged"]["held-out"]["correct"]) == 9
    assert record(study, "one")["trained"]["kinds"] == {"opt_deg": 12}
    assert record(study, "all", 0)["identity"]["trained_on"] != record(study, "all", 1)["identity"]["trained_on"]

    before = {path: path.read_bytes() for path in (study.out / "records").rglob("*") if path.is_file()}
    again = ablate(study)
    assert (again["ran"], again["recorded"], len(trained)) == ([], 5, 5)
    assert {path: path.read_bytes() for path in before} == before

    (study.out / "records" / "one" / "seed-1.json").unlink()
    assert ablate(study)["ran"] == ["one, seed 1"]
    ours, theirs = json.loads(before[study.out / "records" / "one" / "seed-1.json"]), record(study, "one", 1)
    assert ours["judged"] == theirs["judged"]


def test_arms_and_seeds_can_be_chosen_and_names_are_checked(study: StudyConfig, trained: list[str]) -> None:
    values = ablate(study, only=["one"], seeds=[1])
    assert trained == ["one, seed 1"]
    assert (values["recorded"], values["runs"], values["left"]) == (1, 5, [])
    with pytest.raises(ConfigError, match=r"arm 'two': expected one of all, one, score, base"):
        ablate(study, only=["two"])
    with pytest.raises(ConfigError, match=r"seed 7: expected one of 0, 1"):
        ablate(study, seeds=[7])
    with pytest.raises(ConfigError, match=r"arm 'score' cannot be run: scored"):
        ablate(study, only=["score"])
    assert len(trained) == 1


def test_no_time_runs_nothing_and_draws_what_is_there(study: StudyConfig, trained: list[str]) -> None:
    values = ablate(study, limit_s=0)
    assert trained == []
    assert len(values["left"]) == 5
    assert values["figure"] is None
    assert "Not recorded yet: all kinds, one, score, base model." in Path(values["table"]).read_text()
    ablate(study, only=["all"], seeds=[0])
    values = ablate(study, limit_s=0)
    assert (study.out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "| all kinds | 1 | " in Path(values["table"]).read_text()


def test_a_time_limit_stops_a_run_that_goes_on_later(
    study: StudyConfig, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def over() -> None:
        calls.append(1)
        if len(calls) == 2:  # behind the second update
            raise TimeOver("the time that was allowed is over")

    monkeypatch.setattr("recode_rl.interrupts.check", over)
    longer = changed(study, reward_model={"settings": {**study.reward_model.settings, "evaluate_every": 1}})
    values = ablate(longer, only=["one"], seeds=[0], limit_s=600)
    assert (values["ran"], values["left"]) == ([], ["one, seed 0"])
    assert not (study.out / "records").exists()
    values = ablate(longer, only=["one"], seeds=[0])
    assert (values["ran"], values["left"]) == (["one, seed 0"], [])
    assert record(study, "one")["starts"] == 2


def test_the_time_limit_is_heeded_by_all_progress() -> None:
    with pytest.raises(TimeOver, match="run the same command again"), time_limit(0):
        check()
    check()
    with time_limit(None), time_limit(60):
        check()


def test_a_record_of_something_else_is_not_taken_for_this(study: StudyConfig) -> None:
    ablate(study, only=["one"], seeds=[0])
    settings = {**study.reward_model.settings, "learning_rate": 1e-3}
    with pytest.raises(ConfigError, match=r"seed-0\.json: recorded with learning_rate = 0\.003, not 0\.001"):
        ablate(changed(study, reward_model={"settings": settings}), only=["one"], seeds=[0])
    pairs = {**study.pairs.model_dump(), "per_arm": 6}
    with pytest.raises(ConfigError, match=r"seed-0\.json: recorded with trained_on = "):
        ablate(changed(study, pairs=pairs), only=["one"], seeds=[0])
    with pytest.raises(ConfigError, match=r"held-out\.json: the pairs of an earlier run are others"):
        ablate(changed(study, pairs={**study.pairs.model_dump(), "held_out": 6}))


def test_a_record_without_a_set_that_is_judged_now_is_not_complete(study: StudyConfig, tmp_path: Path) -> None:
    ablate(study, only=["base"])
    others = [PreferencePair(f"q{n}", f"q{n}", f"Double {n}.", f"Twice {n}.", f"Half {n}.", "other") for n in range(5)]
    write_pairs(tmp_path / "others.jsonl", others)
    wider = changed(study, pairs={**study.pairs.model_dump(), "transfer": {"others": tmp_path / "others.jsonl"}})
    assert ablate(wider, only=["base"])["ran"] == ["base, seed 0"]
    assert {name: len(part["correct"]) for name, part in record(study, "base")["judged"].items()} == {
        "held-out": 9,
        "others": 5,
    }
    assert "## Pairs of others" in (study.out / "table.md").read_text()
    write_pairs(tmp_path / "others.jsonl", [PreferencePair("x", "x", "Add 1 to n.", "a", "b", "other"), *others])
    with pytest.raises(ConfigError, match=r"others\.json: the pairs of an earlier run are others|both sides") as error:
        ablate(wider)
    assert "others" in str(error.value)


def test_an_arm_with_scores_of_a_judge(study: StudyConfig, tmp_path: Path) -> None:
    jsonl.write(tmp_path / "scored.jsonl", [json.loads(jsonl.dumps({"of": one}))["of"] for one in scored()])
    given = changed(study, scored=tmp_path / "scored.jsonl")
    assert ablate(given, only=["score"], seeds=[0])["ran"] == ["score, seed 0"]
    found = record(study, "score")
    assert found["trained"]["reasonings"]["trained"] == 24
    steps = [row["step"] for _, row in jsonl.read(study.out / "records" / "score" / "seed-0.metrics.jsonl")]
    assert steps == [1, 2]  # as many as the arms with pairs have
    assert len(found["judged"]["held-out"]["correct"]) == 9


KILLED = """
import os, signal, sys
from pathlib import Path
from recode_rl.ablations import runs, study
runs.score_pairs = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
study.ablate(study.read_study(Path(sys.argv[1])))
"""


def test_a_killed_run_leaves_nothing_half_recorded_and_is_completed(study: StudyConfig, tmp_path: Path) -> None:
    recipe = tmp_path / "study.toml"
    recipe.write_text(toml(study))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(recipe)], env=environment, capture_output=True, text=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list((study.out / "records").rglob("*.json")) == []
    manifest = study.out / "work" / "one" / "seed-0" / "reward-model" / "manifest.json"
    trained = manifest.read_bytes()
    assert ablate(read_study(recipe))["ran"] == ["one, seed 0"]
    assert manifest.read_bytes() == trained, "what was trained before the kill is judged"
    assert len(record(study, "one")["judged"]["held-out"]["correct"]) == 9
    assert record(study, "one")["starts"] == 2


def toml(study: StudyConfig) -> str:
    """The second arm of the study as a file; a JSON string is a TOML string."""
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in study.reward_model.settings.items())
    arm = study.arms[1]
    return (
        f'title = "t"\nout = {json.dumps(str(study.out))}\nseeds = [0]\nkeep = true\n'
        f"[reward_model.settings]\n{settings}\n"
        f"[pairs]\nfile = {json.dumps(str(study.pairs.file))}\nper_arm = 12\nheld_out = 9\n"
        f'[[arms]]\nname = "{arm.name}"\nkinds = {json.dumps(arm.kinds)}\n'
    )


# -- numbers and tables ------------------------------------------------------------------------------------------------


def recorded_by_hand(study: StudyConfig, verdicts: dict[tuple[str, int], list[float]]) -> None:
    """Sets and records as runs leave them, with verdicts that a reader can add up."""
    train, held_out = sets.study_pairs(study)
    (judged,) = sets.judged_sets(study, train, held_out)
    sets.write_set(study.out, judged)
    for (arm, seed), correct in verdicts.items():
        value = {"seconds": 2.0, "starts": 1, "judged": {"held-out": {"digest": judged.digest, "correct": correct}}}
        jsonl.write_json(study.out / "records" / arm / f"seed-{seed}.json", value)


def test_the_table_is_made_from_the_records(study: StudyConfig) -> None:
    all_right, some = [1.0] * 9, [1.0, 0.0, 0.5] * 3
    recorded_by_hand(study, {("all", 0): all_right, ("all", 1): all_right, ("one", 0): some, ("base", 0): [0.0] * 9})
    found = numbers.summarise(study)
    judged = found["sets"]["held-out"]
    assert (judged["pairs"], judged["problems"]) == (9, 3)
    assert judged["arms"]["all"]["accuracy"] == 1.0
    assert judged["arms"]["all"]["against_reference"] is None
    assert judged["arms"]["one"]["accuracy"] == pytest.approx(0.5)
    assert judged["arms"]["one"]["against_reference"]["difference"] == pytest.approx(-0.5)
    assert judged["arms"]["one"]["against_reference"]["n"] == 9  # the seed that both have
    assert judged["arms"]["base"]["against_reference"] == {"difference": -1.0, "interval": [-1.0, -1.0], "n": 18}
    assert judged["arms"]["one"]["by_kind"]["opt_deg"]["n"] == 3
    assert set(judged["arms"]["all"]["by_generator"]) == set(GENERATORS)
    best = judged["best_baseline"]
    expected = judged["arms"]["all"]["accuracy"] - judged["baselines"][best]["accuracy"]
    assert judged["arms"]["all"]["against_baseline"]["difference"] == pytest.approx(expected)

    results.write(study)
    table = (study.out / "table.md").read_text()
    ours, theirs = table.split("## What the paper reports")
    assert "| all kinds | 2 | 100.0 [100.0, 100.0] |  |" in ours
    assert "| one | 1 | 50.0 [" in ours
    assert "−50.0 [" in ours
    assert "62.6" not in ours
    assert "**Not ours.**" in theirs
    assert "| CRPL | LCB-RB, 7B | 62.6 % |" in theirs
    assert "Not recorded yet: score." in table
    assert jsonl.read_json(study.out / "results.json")["arms"]["all"]["seeds"] == [0, 1]


def test_a_judge_without_a_seed_stands_beside_every_seed(study: StudyConfig) -> None:
    recorded_by_hand(study, {("all", 1): [1.0] * 9, ("base", 0): [0.0, 1.0, 1.0] * 3})
    judged = numbers.summarise(study)["sets"]["held-out"]["arms"]
    assert judged["base"]["n"] == 9
    assert judged["base"]["against_reference"]["difference"] == pytest.approx(-1 / 3)


# -- policies ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def policies(tiny: Path, tiny_reward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyConfig:
    """Three rules, two steps, verdicts without running anything."""
    monkeypatch.setattr("recode_rl.completion.parse", everything)

    def grade_many(self: Grader, jobs: Sequence[tuple[Problem, str | None]], on_done: object = None) -> list[Verdict]:
        return [by_text(*job) for job in jobs]

    monkeypatch.setattr(Grader, "grade_many", grade_many)
    values = {
        "title": "Rules",
        "out": tmp_path / "out",
        "seeds": [0],
        "keep": True,
        "train": {
            "settings": {
                "model": str(tiny),
                "reward": {"model": str(tiny_reward)},
                "grpo": {
                    "steps": 2, "prompts_per_step": 2, "group_size": 4, "micro_batch": 4, "learning_rate": 1e-3,
                    "max_completion_tokens": 16, "precision": "fp32",
                },
                "evaluation": {"every": 0},
            }
        },
        "arms": [
            {"name": name, "kind": "train", "settings": {"reward": {"rule": rule}}}
            for name, rule in (("gated", "consistency_gated"), ("additive", "additive"), ("outcome", "outcome_only"))
        ],
    }  # fmt: skip
    return build(StudyConfig, values, "study")


def test_arms_that_train_policies_differ_in_their_settings_alone(policies: StudyConfig) -> None:
    configs = [train_config(policies, arm, 7, Path("x")) for arm in policies.arms]
    assert [config.reward.rule for config in configs] == ["consistency_gated", "additive", "outcome_only"]
    rest = [config.model_dump(exclude={"reward": {"rule"}}) for config in configs]
    assert rest[0] == rest[1] == rest[2]
    assert configs[0].seed == 7


def test_a_study_of_policies_records_its_curves_and_what_no_rule_asked_for(policies: StudyConfig) -> None:
    values = ablate(policies)
    assert values["recorded"] == 3
    for arm in policies.arms:
        rows = [row for _, row in jsonl.read(policies.out / "records" / arm.name / "seed-0.metrics.jsonl")]
        assert [row["step"] for row in rows] == [1, 2]
        for row in rows:
            assert 0 < row["watch/process"] < 1
            assert row["tokens/completion_mean"] > 0
    training = jsonl.read_json(policies.out / "results.json")["training"]
    assert training["gated"]["watch/process"]["against_reference"] is None
    for arm in ("additive", "outcome"):
        ours = {key: training[arm][key]["last"]["mean"] for key in ("watch/process", "tokens/completion_mean")}
        against = training[arm]["watch/process"]["against_reference"]["mean"]
        assert against == pytest.approx(ours["watch/process"] - training["gated"]["watch/process"]["last"]["mean"])
    table = Path(values["table"]).read_text()
    assert "| process reward, all completions | outcome | " in table
    assert (policies.out / "work" / "gated" / "seed-0" / "run" / "policy").is_dir()
    assert ablate(policies)["ran"] == []


def test_what_the_policy_wrote_is_scored_once_and_failing_samples_are_told_apart(tmp_path: Path) -> None:
    problem = starter.load()[0]
    write_problems(tmp_path / "problems.jsonl", [problem])

    def line(step: int, reasoning: str, status: str, process: float | None) -> dict[str, Any]:
        text = f"<think>{reasoning}</think><answer>x</answer>"
        return {"step": step, "problem_id": problem.id, "completion": text, "status": status, "process": process}

    jsonl.write(
        tmp_path / "completions.jsonl",
        [
            line(1, "right", "passed", 0.8),
            line(1, "unasked", "wrong_answer", None),
            line(1, "", "wrong_answer", None),
            {"step": 1, "problem_id": problem.id, "completion": "", "error": "the sandbox is gone"},
            line(2, "unasked too", "passed", None),
            {**line(3, "audited", "wrong_answer", None), "audited": 0.7},
        ],
    )
    asked: list[tuple[str, str]] = []

    def scorer(items: Sequence[tuple[str, str]]) -> list[float]:
        asked.extend(items)
        return [0.4] * len(items)

    found = watch(tmp_path, scorer, tmp_path / "watch.jsonl", "x")
    assert asked == [(problem.prompt, "unasked"), (problem.prompt, "unasked too")]
    assert found[0] == {
        "step": 1,
        "watch/process": pytest.approx((0.8 + 0.4 + 0.0) / 3),
        "watch/process_passing": 0.8,
        "watch/process_failing": pytest.approx(0.2),
    }
    assert (found[1]["watch/process"], found[1]["watch/process_failing"]) == (0.4, None)
    assert found[2]["watch/process_failing"] == 0.7
    assert watch(tmp_path, scorer, tmp_path / "watch.jsonl", "x") == found
    assert len(asked) == 2


# -- study files -------------------------------------------------------------------------------------------------------

ARM = {"name": "a"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"arms": [ARM, ARM]}, "two arms have one name: a, a"),
        ({"arms": [ARM], "reference": "b"}, "reference 'b': expected one of a"),
        ({"arms": [ARM], "seeds": [1, 1]}, "a seed occurs twice"),
        ({"arms": [{"name": "a", "settings": {"seed": 3}}]}, "arm 'a': seed: the study decides this for every arm"),
        ({"arms": [ARM], "reward_model": {"settings": {"limit": 3}}}, "settings of train-rm: limit: the study decides"),
        ({"arms": [ARM], "nonsense": 1}, "unknown key 'nonsense'"),
        ({"arms": [{"name": "A b"}]}, "arms.0.name = 'A b'"),
    ],
)
def test_a_study_that_cannot_be_one_is_refused_in_a_sentence(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(StudyConfig, {"title": "t", "out": "o", **values}, "s.toml")
    assert message in str(error.value)


def test_a_recipe_and_settings_go_together_and_the_arm_wins(tmp_path: Path) -> None:
    recipe = tmp_path / "rm.toml"
    recipe.write_text('base = "b"\nout = "elsewhere"\nepochs = 3\nlayers = 2\nlearning_rate = 1e-3\nlimit = 5\n')
    values = {
        "title": "t",
        "out": tmp_path,
        "scored": "s.jsonl",
        "reward_model": {"recipe": recipe, "settings": {"epochs": 2}},
        "arms": [
            {"name": "a"},
            {"name": "b", "settings": {"learning_rate": 1e-4}},
            {"name": "c", "settings": {"objective": "score"}},
        ],
    }
    study = build(StudyConfig, values, "s.toml")
    a, b, c = (reward_model_config(study, arm, 4, tmp_path / "x") for arm in study.arms)
    assert (a.base, a.epochs, a.layers, a.learning_rate, a.limit, a.seed) == ("b", 2, 2, 1e-3, None, 4)
    assert b == a.model_copy(update={"learning_rate": 1e-4})
    assert (c.layers, c.scored) == (None, Path("s.jsonl"))


@pytest.mark.parametrize("name", ["crpl", "hacking"])
def test_the_studies_of_the_project_resolve(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    overrides = ["scored=x.jsonl"] if name == "crpl" else []
    study = read_study(ROOT / "recipes" / "ablations" / f"{name}.toml", overrides, tmp_path, "some/model")
    resolve: dict[str, Callable[..., Any]] = {"train-rm": reward_model_config, "train": train_config}
    configs = [resolve[arm.kind](study, arm, 0, tmp_path) for arm in study.arms if arm.kind in resolve]
    assert len(configs) >= 4
    assert {getattr(config, "base", None) or config.model for config in configs} == {"some/model"}
    updates = set()
    for config in configs:
        if isinstance(config, RewardModelConfig):
            items = study.pairs.per_arm * (2 if config.objective == "score" else 1)
            updates.add((items / config.batch_size, config.epochs))
    assert len(updates) <= 1
    assert all(row.value for row in study.paper)


def test_the_corpus_has_enough_for_the_study_of_the_project(tmp_path: Path) -> None:
    study = read_study(ROOT / "recipes" / "ablations" / "crpl.toml", (), tmp_path)
    train, held_out = sets.study_pairs(study)
    (judged,) = sets.judged_sets(study, train, held_out)
    assert Counter(pair.kind for pair in judged.pairs).total() == study.pairs.held_out
    assert len(set(Counter((pair.kind, pair.generator) for pair in judged.pairs).values())) == 1
    problems = set()
    for arm in study.arms:
        if arm.kind == "train-rm":
            wanted = Wanted(study.pairs.per_arm, arm.kinds, arm.generators, arm.per_problem)
            drawn = draw_exactly(train, wanted, 0, arm.name)
            problems.add(frozenset(pair.problem_id for pair in drawn) if arm.per_problem == 1 else frozenset())
    assert len(problems - {frozenset()}) == 1, "all arms see the same problems"
