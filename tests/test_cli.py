"""The verbs as a user meets them: exit status, one sentence on stderr, one JSON object on stdout, files whole."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny import write_lines

from recode_rl import __version__, cli, jsonl

ROOT = Path(__file__).resolve().parents[1]

PROBLEMS = [
    {
        "id": "square",
        "prompt": "Square a number.",
        "difficulty": "easy",
        "tests": {"kind": "asserts", "entry_point": "f", "asserts": ["assert f(2) == 4", "assert f(3) == 9"]},
    },
    {
        "id": "double",
        "prompt": "Read a number and print its double.",
        "difficulty": "hard",
        "tests": {"kind": "stdio", "cases": [{"input": "3\n", "output": "6\n"}, {"input": "0\n", "output": "0\n"}]},
    },
]


def completion(program: str) -> str:
    return f"<think>\nthink\n</think>\n<answer>\n```python\n{program}\n```\n</answer>"


SAMPLES = [
    {"problem_id": "double", "sample_id": "0", "program": "print(2 * int(input()))"},
    {"problem_id": "square", "sample_id": "0", "completion": completion("def f(x):\n    return x * x")},
    {"problem_id": "square", "sample_id": "1", "completion": completion("def f(x):\n    return x + x"), "tokens": 30},
    {"problem_id": "square", "sample_id": "2", "completion": "I do not know."},
    {"problem_id": "double", "sample_id": "1", "program": "print("},
]
STATUSES = ["passed", "passed", "wrong_answer", "no_code", "compile_error"]


@dataclass(frozen=True, slots=True)
class Result:
    status: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The message of an error: the last line of stderr, which must be one sentence of ours."""
        last = self.err.splitlines()[-1]
        assert last.startswith("recode-rl: "), self.err
        assert "Traceback" not in self.err
        return last.removeprefix("recode-rl: ")

    @property
    def value(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        assert self.status == 0, self.err
        assert self.out.endswith("\n")
        assert self.out.count("\n") == 1
        value = json.loads(self.out)
        assert isinstance(value, dict)
        return value


Run = Callable[..., Result]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; programs that it starts share its streams, so they are seen as well."""

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["recode-rl", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capfd.readouterr()
        return Result(end.value.code if isinstance(end.value.code, int) else 0, out, err)

    return call


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "problems.jsonl", PROBLEMS)


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "samples.jsonl", SAMPLES)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    records = [
        {
            "id": f"p{n}",
            "problem_id": f"p{n}",
            "problem": "Add two numbers.",
            "chosen": "Short and right.",
            "rejected": "Long" + " and wrong" * (n + 1) + "." if n < 9 else "No.",
            "kind": "opt_deg" if n % 2 else "ori_deg",
        }
        for n in range(12)
    ]
    return write_lines(tmp_path / "pairs.jsonl", records)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- help and usage ----------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Every verb (with its group) and its command."""

    def walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from walk(command, f"{prefix}{name} ")
            else:
                yield prefix + name, command

    return walk(typer.main.get_command(cli.app), "")


VERBS = dict(commands())


def test_the_verbs_are_those_of_the_contract() -> None:
    expected = "quickstart problems sample grade reward eval train-rm eval-rm score train sft report doctor"
    assert set(VERBS) >= {*expected.split(), "models fetch", "models import"}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(run: Run, verb: str) -> None:
    result = run(*verb.split(), "--help")
    text = " ".join(result.out.split())
    assert result.status == 0
    assert re.search(rf"Examples?: recode-rl {verb}", text)
    assert VERBS[verb].help.split("\n")[0] in text
    assert "--json" in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_example_can_be_parsed_by_its_verb(verb: str) -> None:
    command = VERBS[verb]
    _, _, examples = command.epilog.partition(": ")
    for example in examples.split(" | "):
        words = shlex.split(example)
        assert words[: 1 + len(verb.split())] == ["recode-rl", *verb.split()]
        context = command.make_context(verb, words[1 + len(verb.split()) :])
        missing = [p.name for p in command.params if p.required and context.params[p.name] is None]
        assert not missing


def test_help_and_version(run: Run) -> None:
    listed = run("--help")
    assert listed.status == 0
    assert all(re.search(rf"^  {verb} ", listed.out, re.MULTILINE) for verb in VERBS if " " not in verb)
    assert run("--version").out == f"recode-rl {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["grad"],
        ["grade"],
        ["grade", "--problems", "p", "--samples", "s"],
        ["grade", "--problems", "p", "--samples", "s", "--out", "o", "--isolation", "none"],
        ["grade", "--problems", "p", "--samples", "s", "--out", "o", "--workers", "0"],
        ["sample", "--problems", "p", "--model", "m", "--out", "o", "--n", "zero"],
        ["eval", "--problems", "p", "--out", "o"],
        ["eval", "--problems", "p", "--out", "o", "--model", "m", "--samples", "s"],
        ["quickstart", "--size", "huge"],
        ["models", "fetch"],
        ["doctor", "--nonsense"],
        [],
    ],
)
def test_wrong_usage_ends_with_status_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.status == 2
    assert "Traceback" not in result.err
    assert "Usage" in result.err + result.out


# -- recipes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "recipe"),
    [
        ("train", 'model = "m"\nout = "o"\n[reward]\nrule = "outcome_only"\n[grpo]\nstepz = 3\n'),
        ("sft", 'out = "o"\nstepz = 3\n'),
        ("train-rm", 'out = "o"\nstepz = 3\n'),
    ],
)
def test_an_unknown_recipe_key_is_one_sentence(run: Run, tmp_path: Path, verb: str, recipe: str) -> None:
    (tmp_path / "r.toml").write_text(recipe)
    result = run(verb, tmp_path / "r.toml")
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert re.search(r"r\.toml: unknown key '(grpo\.)?stepz'; known keys here: ", result.sentence)
    assert names(tmp_path) == {"r.toml"}


@pytest.mark.parametrize("verb", ["train", "sft", "train-rm"])
def test_a_recipe_that_is_not_there_or_not_toml_is_named(run: Run, tmp_path: Path, verb: str) -> None:
    missing = run(verb, tmp_path / "missing.toml")
    assert missing.status == 1
    assert "missing.toml: no such recipe" in missing.sentence
    (tmp_path / "bad.toml").write_text("steps = = 3")
    assert "bad.toml: not valid TOML" in run(verb, tmp_path / "bad.toml").sentence


def test_an_override_is_checked_as_the_recipe_is(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('out = "o"\n')
    assert "unknown key 'nonsense'" in run("sft", tmp_path / "r.toml", "nonsense=1").sentence
    assert "expected key.path=value" in run("sft", tmp_path / "r.toml", "nonsense").sentence


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").rglob("*.toml")), ids=lambda path: path.name)
def test_every_recipe_of_the_project_is_valid(recipe: Path) -> None:
    import tomllib

    from recode_rl.ablations.config import StudyConfig
    from recode_rl.config import RewardModelConfig, SftConfig, Strict, TrainConfig, load_recipe
    from recode_rl.crpl.config import SynthConfig

    keys = set(tomllib.loads(recipe.read_text()))
    by_key: dict[str, type[Strict]] = {"arms": StudyConfig, "reward": TrainConfig, "base": RewardModelConfig}
    by_key["generators"] = SynthConfig
    kind = next((kind for key, kind in by_key.items() if key in keys), SftConfig)
    assert load_recipe(kind, recipe)


def test_options_of_train_rm_win_over_its_recipe_and_may_reach_into_tables(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recode_rl.config import RewardModelConfig
    from recode_rl.reward_model import stage

    seen: list[RewardModelConfig] = []
    done = {"trained": 1, "validation": 0}
    monkeypatch.setattr(stage, "train_from_config", lambda config: seen.append(config) or done)
    (tmp_path / "r.toml").write_text('out = "o"\nbase = "b"\n[lora]\nrank = 2\nalpha = 8.0\n')
    assert run("train-rm", tmp_path / "r.toml", "--lora", 4, "--validation", "held.jsonl").status == 0
    assert run("train-rm", "--out", "o", "--lora", 4, "--pairs", "p.jsonl").status == 0
    scored = run("train-rm", "--objective", "score", "--scored", "s.jsonl", "--out", "o")
    assert "trained on 1 reasonings" in scored.err
    with_recipe, alone, by_score = seen
    assert with_recipe.lora is not None and alone.lora is not None
    assert (with_recipe.lora.rank, with_recipe.lora.alpha, alone.lora.rank) == (4, 8.0, 4)
    assert (with_recipe.validation, with_recipe.base) == (Path("held.jsonl"), "b")
    assert (by_score.objective, by_score.scored, by_score.lora) == ("score", Path("s.jsonl"), None)
    assert "--pairs" in run("train-rm", "--help").out
    refused = run("train-rm", "--objective", "score", "--out", "o")
    assert (refused.status, 'objective "score" needs scored' in refused.sentence) == (1, True)


def test_judge_scores_reasonings_and_names_those_it_did_not_reach(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="needs the extra [remote]")
    from chat_server import running

    records = [{"problem_id": f"p{n}", "problem": "Do it.", "reasoning": f"way {n}"} for n in range(3)]
    asked = ("judge", "--reasonings", write_lines(tmp_path / "r.jsonl", records), "--out", tmp_path / "s.jsonl")
    with running(lambda request: "Score: 0.3" if "way 1" in request["messages"][0]["content"] else "hm") as server:
        asked = (*asked, "--endpoint", server.url, "--model", "j", "--concurrency", 1)
        stopped = run(*asked, "--max-requests", 2)
        assert stopped.status == 1
        assert "1 reasonings were not judged (p2/reasoning): the budget of 2 requests" in stopped.sentence
        value = run(*asked, "--json").value
        assert len(server.requests) == 3
    assert (value["scored"], value["unreadable"], value["not_judged"]) == (1, ["p0/reasoning", "p2/reasoning"], [])
    assert [record["score"] for _, record in jsonl.read(tmp_path / "s.jsonl")] == [0.3]


# -- grade -------------------------------------------------------------------------------------------------------------


def test_grade_writes_one_line_a_sample_in_the_order_of_the_samples(
    run: Run, problems: Path, samples: Path, tmp_path: Path
) -> None:
    out = tmp_path / "verdicts.jsonl"
    value = run("grade", "--problems", problems, "--samples", samples, "--out", out, "--json").value
    assert value == {
        "samples": 5,
        "passed": 2,
        "by_status": {"passed": 2, "wrong_answer": 1, "no_code": 1, "compile_error": 1},
        "not_graded": [],
    }
    lines = [record for _, record in jsonl.read(out)]
    assert [(line["problem_id"], line["sample_id"]) for line in lines] == [
        (sample["problem_id"], sample["sample_id"]) for sample in SAMPLES
    ]
    assert [line["status"] for line in lines] == STATUSES
    assert [line["passed"] for line in lines] == [status == "passed" for status in STATUSES]
    assert [line["format_ok"] for line in lines] == [None, True, True, False, None]
    assert [(line["tests_passed"], line["tests_total"]) for line in lines[:3]] == [(2, 2), (2, 2), (1, 2)]


def test_grade_without_json_says_its_summary_on_stderr(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    result = run("grade", "--problems", problems, "--samples", samples, "--out", tmp_path / "v.jsonl")
    assert (result.status, result.out) == (0, "")
    assert "2 of 5 passed" in result.err.splitlines()[-1]


def test_grade_continues_where_it_stopped(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    arguments = ("grade", "--problems", problems, "--samples", samples, "--out", out, "--json")
    first = run(*arguments).value
    whole = out.read_text()
    lines = whole.splitlines(keepends=True)
    marked = lines[0].replace('"detail": null', '"detail": "kept"')
    out.write_text(marked + lines[1] + lines[2][:25])  # as after a kill in the middle of a line
    assert run(*arguments).value == first
    after = out.read_text().splitlines(keepends=True)
    assert after[:2] == [marked, lines[1]], "what is there is kept"
    assert [json.loads(line)["status"] for line in after] == STATUSES
    before = out.read_bytes()
    assert run(*arguments).value == first
    assert out.read_bytes() == before


def test_verdicts_on_other_samples_are_not_continued(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "verdicts.jsonl"
    run("grade", "--problems", problems, "--samples", samples, "--out", out)
    before = out.read_bytes()
    other = write_lines(tmp_path / "other.jsonl", SAMPLES[::-1])
    result = run("grade", "--problems", problems, "--samples", other, "--out", out)
    assert result.status == 1
    assert "line 1: a verdict on other samples" in result.sentence
    assert out.read_bytes() == before


def test_samples_for_an_unknown_problem_are_named(run: Run, problems: Path, tmp_path: Path) -> None:
    samples = write_lines(tmp_path / "s.jsonl", [*SAMPLES, {**SAMPLES[0], "problem_id": "triple", "sample_id": "7"}])
    for verb, more in (("grade", ["v.jsonl"]), ("reward", ["r.jsonl", "--rule", "outcome_only"]), ("eval", ["folder"])):
        result = run(verb, "--problems", problems, "--samples", samples, "--out", tmp_path / more[0], *more[1:])
        assert result.status == 1
        assert "sample '7' is for problem 'triple', which is not among the 2 problems" in result.sentence


def test_a_problem_without_tests_is_named(run: Run, samples: Path, tmp_path: Path) -> None:
    for number, tests in enumerate([None, {"kind": "stdio", "cases": []}, {"kind": "quiz"}]):
        record = {"id": "empty", "prompt": "x", **({"tests": tests} if tests else {})}
        problems = write_lines(tmp_path / f"p{number}.jsonl", [*PROBLEMS, record])
        result = run("grade", "--problems", problems, "--samples", samples, "--out", tmp_path / "v.jsonl")
        assert result.status == 1
        assert f"p{number}.jsonl: line 3: problem 'empty': " in result.sentence
        assert "tests" in result.sentence
    assert not (tmp_path / "v.jsonl").exists()


# -- reward ------------------------------------------------------------------------------------------------------------


def test_reward_by_outcome_only(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "rewards.jsonl"
    arguments = ("reward", "--problems", problems, "--samples", samples, "--rule", "outcome_only", "--out", out)
    assert run(*arguments, "--json").value == {
        "rewarded": 5,
        "mean": 0.8,
        "rule": "outcome_only",
        "not_rewarded": [],
    }
    lines = [record for _, record in jsonl.read(out)]
    assert [line["total"] for line in lines] == [1.0, 2.0, 1.0, 0.0, 0.0]
    assert all(line["process"] is None for line in lines)
    assert list(lines[1]) == [
        "problem_id", "sample_id", "rule", "format", "outcome", "process", "pass_rate", "status", "total",
    ]  # fmt: skip


def test_reward_with_stored_scores_opens_the_gate_for_passing_samples_only(
    run: Run, problems: Path, samples: Path, tmp_path: Path
) -> None:
    stored = [{"problem_id": s["problem_id"], "sample_id": s["sample_id"], "process": 0.25} for s in SAMPLES]
    scores = write_lines(tmp_path / "scores.jsonl", stored)
    out = tmp_path / "rewards.jsonl"
    result = run("reward", "--problems", problems, "--samples", samples, "--scores", scores, "--out", out, "--json")
    assert result.value["rule"] == "consistency_gated"
    lines = [record for _, record in jsonl.read(out)]
    assert [line["process"] for line in lines] == [0.25, 0.25, None, None, None]
    assert [line["total"] for line in lines] == [1.25, 2.25, 1.0, 0.0, 0.0]


def test_a_reward_that_lacks_a_score_is_named_at_the_end(
    run: Run, problems: Path, samples: Path, tmp_path: Path
) -> None:
    scores = write_lines(tmp_path / "scores.jsonl", [{"problem_id": "square", "sample_id": "0", "process": 0.5}])
    out = tmp_path / "rewards.jsonl"
    result = run("reward", "--problems", problems, "--samples", samples, "--scores", scores, "--out", out)
    assert result.status == 1
    assert "1 samples have no reward (double/0)" in result.sentence
    assert len([record for _, record in jsonl.read(out)]) == 4


def test_reward_says_what_it_needs(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    arguments = ("reward", "--problems", problems, "--samples", samples, "--out", tmp_path / "r.jsonl")
    assert "needs one of --reward-model and --scores" in run(*arguments).sentence
    unknown = run(*arguments, "--rule", "gated")
    assert (unknown.status, "expected one of consistency_gated, " in unknown.sentence) == (1, True)
    scores = write_lines(tmp_path / "scores.jsonl", [{"problem_id": "square", "sample_id": "0", "process": 1.5}])
    assert "process 1.5: expected a number in [0, 1]" in run(*arguments, "--scores", scores).sentence
    assert names(tmp_path) == {"problems.jsonl", "samples.jsonl", "scores.jsonl"}


# -- eval, problems, doctor, eval-rm, models ---------------------------------------------------------------------------


def test_eval_of_stored_samples(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    out = tmp_path / "evaluation"
    value = run("eval", "--problems", problems, "--samples", samples, "--out", out, "--json").value
    assert value["samples"] == 5
    assert value["n"] == 2
    assert value["interval"][0] <= value["pass@1"] <= value["interval"][1]
    assert value["by_difficulty"]["easy"]["pass@1"] == pytest.approx(1 / 3)
    assert value["by_difficulty"]["hard"]["pass@1"] == pytest.approx(1 / 2)
    assert value["not_evaluated"] == []
    assert json.loads((out / "results.json").read_text()) == value
    written = {"problems.jsonl", "graded.json", "rewards.jsonl", "verdicts.jsonl"}
    assert names(out) == written | {f"results.{ending}" for ending in ("json", "md", "html")}


def test_problems_in_our_format(run: Run, tmp_path: Path) -> None:
    from recode_rl.problems.records import load_problems

    out = tmp_path / "starter.jsonl"
    value = run("problems", "starter", "--out", out, "--json").value
    assert value["dataset"] == "starter"
    assert value["problems"] == len(load_problems(out)) >= 120
    parts = [
        run("problems", "starter", "--split", split, "--out", tmp_path / f"{split}.jsonl", "--json").value["problems"]
        for split in ("train", "held_out")
    ]
    assert sum(parts) == value["problems"]
    assert min(parts) > 0


def test_an_unknown_data_set_or_a_missing_one_is_named(run: Run, tmp_path: Path) -> None:
    unknown = run("problems", "nonsense", "--out", tmp_path / "p.jsonl")
    assert (unknown.status, "data set 'nonsense': expected one of starter, " in unknown.sentence) == (1, True)
    missing = run("problems", "mbpp", "--from", tmp_path / "nowhere", "--out", tmp_path / "p.jsonl")
    assert (missing.status, "nowhere: no such file or folder" in missing.sentence) == (1, True)
    assert names(tmp_path) == set()


def test_doctor(run: Run) -> None:
    findings = run("doctor", "--json").value["findings"]
    assert {"Python", "sandbox"} <= {finding["name"] for finding in findings}
    assert all(set(finding) == {"name", "state", "detail", "fix"} for finding in findings)
    assert "Python" in run("doctor").out


def test_eval_rm_of_a_baseline(run: Run, pairs: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra [train]")
    value = run("eval-rm", "--model", "baseline:length", "--pairs", pairs, "--json").value
    assert value["accuracy"] == 8.5 / 12  # eight shorter sides are right, three are wrong, one is a tie
    assert value["n"] == 12
    assert value["interval"][0] <= value["accuracy"] <= value["interval"][1]
    assert {kind: part["n"] for kind, part in value["by_kind"].items()} == {"opt_deg": 6, "ori_deg": 6}
    assert set(value["baselines"]) == {"shorter", "longer", "shorter_characters", "longer_characters", "ngrams"}
    unknown = run("eval-rm", "--model", "baseline:luck", "--pairs", pairs)
    assert (unknown.status, "'baseline:luck': expected baseline:length or " in unknown.sentence) == (1, True)


def test_eval_rm_and_score_with_a_reward_model(run: Run, pairs: Path, tiny_reward: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra [train]")
    out = tmp_path / "scores.jsonl"
    assert run("score", "--model", tiny_reward, "--pairs", pairs, "--out", out, "--json").value == {
        "pairs": 12,
        "cut": 0,
    }
    lines = [record for _, record in jsonl.read(out)]
    assert [set(line) for line in lines] == [{"id", "chosen", "rejected"}] * 12
    right = sum(line["chosen"] > line["rejected"] for line in lines) / 12
    value = run("eval-rm", "--model", tiny_reward, "--pairs", pairs, "--out", tmp_path / "again.jsonl", "--json").value
    assert value["accuracy"] == pytest.approx(right)
    again = [record for _, record in jsonl.read(tmp_path / "again.jsonl")]
    assert [line["chosen"] for line in again] == pytest.approx([line["chosen"] for line in lines], abs=1e-5)


def test_sample_then_grade(run: Run, problems: Path, tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "written.jsonl"
    arguments = ("sample", "--problems", problems, "--model", tiny, "--max-tokens", 6, "--out", out, "--json")
    assert run(*arguments).value == {"samples": 2, "tokens": 12}
    before = out.read_bytes()
    assert run(*arguments).value["samples"] == 2
    assert out.read_bytes() == before
    value = run("grade", "--problems", problems, "--samples", out, "--out", tmp_path / "v.jsonl", "--json").value
    assert (value["samples"], value["passed"]) == (2, 0)


def test_models_that_cannot_be_had_are_one_sentence(run: Run, tmp_path: Path) -> None:
    unknown = run("models", "fetch", "gpt-5")
    assert (unknown.status, "expected one of smollm2-135m" in unknown.sentence) == (1, True)
    (tmp_path / "x.gguf").write_text("no")
    bad = run("models", "import", tmp_path / "x.gguf", "--out", tmp_path / "model")
    assert (bad.status, "x.gguf: not a GGUF file" in bad.sentence) == (1, True)
    assert names(tmp_path) == {"x.gguf"}


# -- bad input, everywhere ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["grade", "--problems", "MISSING", "--samples", "SAMPLES", "--out", "OUT"],
        ["grade", "--problems", "PROBLEMS", "--samples", "MISSING", "--out", "OUT"],
        ["reward", "--problems", "MISSING", "--samples", "SAMPLES", "--rule", "outcome_only", "--out", "OUT"],
        ["reward", "--problems", "PROBLEMS", "--samples", "SAMPLES", "--scores", "MISSING", "--out", "OUT"],
        ["eval", "--problems", "MISSING", "--samples", "SAMPLES", "--out", "OUT"],
        ["sample", "--problems", "MISSING", "--model", "/no/model", "--out", "OUT"],
        ["eval-rm", "--model", "baseline:length", "--pairs", "MISSING"],
        ["score", "--model", "/no/model", "--pairs", "MISSING", "--out", "OUT"],
        ["problems", "file", "--from", "MISSING", "--out", "OUT"],
        ["models", "import", "MISSING", "--out", "OUT"],
        ["report", "MISSING", "--out", "OUT"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_a_missing_file_is_named_and_nothing_is_written(
    run: Run, problems: Path, samples: Path, tmp_path: Path, arguments: list[str]
) -> None:
    places = {"MISSING": tmp_path / "absent.jsonl", "PROBLEMS": problems, "SAMPLES": samples, "OUT": tmp_path / "out"}
    result = run(*(places.get(argument, argument) for argument in arguments))
    assert result.status == 1
    assert str(tmp_path / "absent.jsonl") in result.sentence
    assert names(tmp_path) == {"problems.jsonl", "samples.jsonl"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "--problems", "PROBLEMS", "--out", "OUT", "--model"],
        ["eval-rm", "--pairs", "PAIRS", "--model"],
        ["score", "--pairs", "PAIRS", "--out", "OUT", "--model"],
        ["reward", "--problems", "PROBLEMS", "--samples", "SAMPLES", "--out", "OUT", "--reward-model"],
        ["train-rm", "--pairs", "PAIRS", "--out", "OUT", "--base"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_model_folder_that_is_no_model_is_named_and_nothing_is_written(
    run: Run, problems: Path, samples: Path, pairs: Path, tmp_path: Path, arguments: list[str]
) -> None:
    folder = tmp_path / "not-a-model"
    folder.mkdir()
    places = {"PROBLEMS": problems, "SAMPLES": samples, "PAIRS": pairs, "OUT": tmp_path / "out"}
    before = names(tmp_path)
    result = run(*(places.get(argument, argument) for argument in arguments), folder)
    assert result.status == 1
    assert f"{folder}: no config.json in it, so it is no model" in result.sentence
    assert names(tmp_path) == before


def test_a_line_that_is_no_json_is_named(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    samples.write_text(samples.read_text() + "{not json}\n")
    result = run("grade", "--problems", problems, "--samples", samples, "--out", tmp_path / "v.jsonl")
    assert result.status == 1
    assert "samples.jsonl: line 6: not valid JSON" in result.sentence


def test_an_output_that_cannot_be_a_file_is_named(run: Run, problems: Path, samples: Path, tmp_path: Path) -> None:
    arguments = ("grade", "--problems", problems, "--samples", samples, "--out")
    folder = run(*arguments, tmp_path)
    assert (folder.status, folder.sentence) == (1, f"{tmp_path}: is a directory; give another path")
    below_a_file = run(*arguments, problems / "v.jsonl")
    assert (below_a_file.status, str(problems) in below_a_file.sentence) == (1, True)
    assert names(tmp_path) == {"problems.jsonl", "samples.jsonl"}


# -- a full disk, a stop by the user, a defect -------------------------------------------------------------------------


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a small disk of its own with a few bytes left; skipped where nothing can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        (folder / "kept.jsonl").write_text('{"kept": true}\n')
        with (folder / "ballast").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(b"x" * 4096)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full_is_one_sentence_and_nothing_is_half_written(
    run: Run, problems: Path, samples: Path, full_disk: Path
) -> None:
    before = {path.name: path.read_bytes() for path in full_disk.iterdir()}
    replaced = run("problems", "starter", "--out", full_disk / "kept.jsonl")
    assert (replaced.status, "the disk is full" in replaced.sentence) == (1, True)
    assert "make room and run the same command again" in replaced.sentence
    assert {path.name: path.read_bytes() for path in full_disk.iterdir()} == before
    appended = run("grade", "--problems", problems, "--samples", samples, "--out", full_disk / "v.jsonl")
    assert (appended.status, "the disk is full" in appended.sentence) == (1, True)
    assert (full_disk / "v.jsonl").read_bytes() == b""
    (full_disk / "ballast").unlink()
    value = run("grade", "--problems", problems, "--samples", samples, "--out", full_disk / "v.jsonl", "--json").value
    assert value["passed"] == 2


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device", "runs/x/metrics.jsonl"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 72384 vs 72336"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_every_librarys_way_to_say_that_the_disk_is_full(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("recode_rl.models.fetch", full)
    result = run("models", "fetch", "smollm2-135m")
    assert (result.status, "the disk is full" in result.sentence) == (1, True)


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), OSError(5, "I/O error", "x"), KeyError("step")])
def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def defect(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("recode_rl.models.fetch", defect)
    monkeypatch.setattr(sys, "argv", ["recode-rl", "models", "fetch", "smollm2-135m"])
    with pytest.raises(type(error)) as found:
        cli.main()
    assert found.value is error


def test_a_stop_by_the_user_says_how_to_continue(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recode_rl.models.fetch", stop)
    result = run("models", "fetch", "smollm2-135m")
    assert (result.status, result.sentence) == (130, "stopped; run the same command again to continue")


def test_ctrl_c_while_programs_run_leaves_a_file_that_can_be_continued(
    run: Run, problems: Path, samples: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "started"
    slow = {
        "id": "slow",
        "prompt": "x",
        "limits": {"time_s": 1.0, "total_s": 3.0},
        "tests": {"kind": "stdio", "cases": [{"input": "", "output": "1\n"}]},
    }
    write_lines(problems, [*PROBLEMS, slow])
    write_lines(samples, [*SAMPLES, {"problem_id": "slow", "sample_id": "0", "program": "import time; time.sleep(60)"}])
    out = tmp_path / "v.jsonl"
    arguments = ["grade", "--problems", str(problems), "--samples", str(samples), "--out", str(out)]
    code = f"""
import pathlib, signal, sys
from recode_rl.grading import Grader
grade = Grader.grade
def watched(self, problem, program):
    if problem.id == "slow":
        pathlib.Path({str(marker)!r}).touch()
    return grade(self, problem, program)
Grader.grade = watched
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv = ["recode-rl", *{arguments!r}]
from recode_rl.cli import main
main()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(1200):
            if marker.exists() or process.poll() is not None:
                break
            process_wait(process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "recode-rl: stopped; run the same command again to continue"
    assert run(*arguments).status == 0
    assert [record["status"] for _, record in jsonl.read(out)] == [*STATUSES, "timeout"]


def process_wait(process: subprocess.Popen[str]) -> None:
    """Wait a moment for a process."""
    try:
        process.wait(0.05)
    except subprocess.TimeoutExpired:
        return
