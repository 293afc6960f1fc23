"""Data sets are found by name, in files, in folders and on a hub, and a sentence says what is missing."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl, problems
from recode_rl.errors import ConfigError, DataError
from recode_rl.problems import records, starter
from recode_rl.types import Problem
from recode_rl.types import Tests as ProblemTests

HUMANEVAL = [
    {
        "task_id": f"HumanEval/{number}",
        "prompt": f"def f{number}(x):\n    ...\n",
        "canonical_solution": "    return x\n",
        "entry_point": f"f{number}",
        "test": "def check(candidate):\n    assert candidate(1) == 1\n",
    }
    for number in (10, 9)
]
MBPP = [
    {
        "task_id": number,
        "prompt": "Write a function f.",
        "code": "def f(x):\n    return x\n",
        "test_imports": ["import math"],
        "test_list": ["assert f(1) == 1"],
    }
    for number in (2, 602, 12, 550)
]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local folder in the form of a repository on the hub, with a configuration and splits, in place of MBPP's."""
    datasets = pytest.importorskip("datasets", reason="reading from a hub needs the train extra")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "repository"
    jsonl.write(folder / "train.jsonl", MBPP[:2])
    jsonl.write(folder / "test.jsonl", MBPP[2:])
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: sanitized\n  data_files:\n"
        "  - split: train\n    path: train.jsonl\n  - split: test\n    path: test.jsonl\n---\n"
    )
    place(monkeypatch, "mbpp", str(folder))
    return folder


def place(monkeypatch: pytest.MonkeyPatch, name: str, repository: str) -> None:
    """Let a data set come from this repository."""
    monkeypatch.setitem(problems._ORIGINS, name, dataclasses.replace(problems._ORIGINS[name], hub=repository))


def ids(found: list[Problem]) -> list[str]:
    return [problem.id for problem in found]


def test_the_names() -> None:
    assert {"starter", "humaneval", "humaneval+", "mbpp", "mbpp-full", "mbpp+", "file"} <= set(problems.DATASETS)
    with pytest.raises(
        ConfigError, match=r"data set .human-eval.: expected one of starter, starter-harder, humaneval, "
    ):
        problems.load("human-eval")


def test_the_starter_corpus_comes_with_the_package() -> None:
    assert problems.load("starter") == starter.load()
    with pytest.raises(ConfigError, match=r"part of the package"):
        problems.load("starter", Path("x.jsonl"))


def test_a_problems_file_keeps_its_order(tmp_path: Path) -> None:
    made = [Problem(name, "p", ProblemTests("answer", answer="1")) for name in ("b", "a", "c")]
    jsonl.write(tmp_path / "p.jsonl", (records.problem_to_record(problem) for problem in made))
    assert problems.load("file", tmp_path / "p.jsonl") == made
    assert problems.load("file", str(tmp_path / "p.jsonl")) == made
    with pytest.raises(ConfigError, match=r"needs the path"):
        problems.load("file")


CONTESTS = [
    {"problem": f"Print {number}.", "tests": {"inputs": ["1\n"], "outputs": [f"{number}\n"]}} for number in (1, 2)
]


def test_rows_that_cannot_be_used_are_skipped_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "code_contests.jsonl"
    jsonl.write(file, [*CONTESTS, CONTESTS[0], {**CONTESTS[0], "problem": "Print 3.", "tests": None}])
    loaded = problems.read("code-contests", file)
    assert loaded.counts() == {"no tests": 1, "it occurs again": 1}
    assert len(loaded.problems) == 2
    assert problems.load("code-contests", file) == loaded.problems
    said = "code-contests: 2 problems, 2 rows skipped (1: no tests; 1: it occurs again)"
    assert capsys.readouterr().err.splitlines() == [said]


def test_a_data_set_without_skipped_rows_is_read_in_silence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jsonl.write(tmp_path / "mbpp.jsonl", MBPP)
    assert problems.read("mbpp", tmp_path / "mbpp.jsonl").said() == ""
    problems.load("mbpp", tmp_path / "mbpp.jsonl")
    assert capsys.readouterr().err == ""


def test_a_data_set_of_unusable_rows_alone_says_why(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "code_contests.jsonl", [{**CONTESTS[0], "tests": {}}])
    with pytest.raises(DataError, match=r"no problems in .*, 1 rows skipped \(1: no tests\)"):
        problems.load("code-contests", tmp_path)


def test_writing_leaves_a_manifest_with_what_was_skipped(tmp_path: Path) -> None:
    file, out = tmp_path / "code_contests.jsonl", tmp_path / "made" / "problems.jsonl"
    jsonl.write(file, [*CONTESTS, CONTESTS[0]])
    counts = problems.write("code-contests", file, "all", out)
    assert {name: counts[name] for name in ("dataset", "problems", "left_out", "left_out_by", "skipped", "kinds")} == {
        "dataset": "code-contests",
        "problems": 2,
        "left_out": 0,
        "left_out_by": {},
        "skipped": {"it occurs again": 1},
        "kinds": {"stdio": 2},
    }
    assert counts["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    manifest = jsonl.read_json(tmp_path / "made" / "problems.manifest.json")
    assert (manifest["stage"], manifest["counts"], manifest["config"]["split"]) == ("problems", counts, "all")
    (repeated,) = manifest["skipped"]["it occurs again"]
    assert repeated in {problem.id for problem in records.load_problems(out)}
    assert problems.write("code-contests", file, "train", out)["left_out"] == 2


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p"])
def test_the_manifest_lies_beside_the_file(name: str) -> None:
    assert jsonl.manifest_path(Path("a") / name) == Path("a/p.manifest.json")


def test_a_path_may_be_the_file_its_folder_or_the_folder_above(tmp_path: Path) -> None:
    file = tmp_path / "data" / "humaneval" / "HumanEval.jsonl"
    jsonl.write(file, HUMANEVAL)
    for path in (file, file.parent, tmp_path / "data"):
        assert ids(problems.load("humaneval", path)) == ["HumanEval/9", "HumanEval/10"]


def test_a_file_may_have_any_name_and_be_compressed(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "mine.jsonl.gz", HUMANEVAL)
    assert len(problems.load("humaneval", tmp_path / "mine.jsonl.gz")) == 2
    jsonl.write(tmp_path / "HumanEval.jsonl.gz", HUMANEVAL[:1])
    assert ids(problems.load("humaneval", tmp_path)) == ["HumanEval/10"]


def test_each_set_of_a_folder_takes_its_own_file(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "sanitized_mbpp.jsonl", MBPP[:1])
    jsonl.write(tmp_path / "mbpp.jsonl", [{**row, "text": row["prompt"]} for row in MBPP])
    assert len(problems.load("mbpp", tmp_path)) == 1
    assert len(problems.load("mbpp-full", tmp_path)) == 4


def test_the_sanitized_set_may_be_one_json_list(tmp_path: Path) -> None:
    file = tmp_path / "sanitized-mbpp.json"
    file.write_text(json.dumps(MBPP, indent=2))
    assert ids(problems.load("mbpp", tmp_path)) == ["Mbpp/2", "Mbpp/12", "Mbpp/550", "Mbpp/602"]
    file.write_text('{"task_id": 2}')
    with pytest.raises(DataError, match=r"sanitized-mbpp.json: a dict; expected a JSON list"):
        problems.load("mbpp", file)
    file.write_text("[3]")
    with pytest.raises(DataError, match=r"sanitized-mbpp.json: row 1: '3'"):
        problems.load("mbpp", file)


def test_a_bad_row_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mbpp.jsonl"
    jsonl.write(file, [MBPP[0], {**MBPP[1], "code": None}])
    with pytest.raises(DataError, match=r"mbpp.jsonl: line 2: column 'code'"):
        problems.load("mbpp", file)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none: no such file or folder; .*HumanEval.jsonl"):
        problems.load("humaneval", tmp_path / "none")
    with pytest.raises(DataError, match=r"no MbppPlus-OriginFmt.jsonl.gz .*'mbpp\+'"):
        problems.load("mbpp+", tmp_path)
    (tmp_path / "HumanEval.jsonl").write_text("")
    with pytest.raises(DataError, match=r"'humaneval': no problems in .*"):
        problems.load("humaneval", tmp_path)
    with gzip.open(tmp_path / "twice.jsonl.gz", "wt") as file:
        file.write((json.dumps(MBPP[0]) + "\n") * 2)
    with pytest.raises(DataError, match=r"'Mbpp/2' occurs twice"):
        problems.load("mbpp", tmp_path / "twice.jsonl.gz")


def test_a_hub_gives_all_splits_of_the_configuration(hub: Path) -> None:
    found = problems.load("mbpp")
    assert ids(found) == ["Mbpp/2", "Mbpp/12", "Mbpp/550", "Mbpp/602"]
    assert [problem.metadata["split"] for problem in found] == ["prompt", "held_out", "held_out", "train"]
    jsonl.write(hub.parent / "mbpp.jsonl", MBPP)
    assert found == problems.load("mbpp", hub.parent / "mbpp.jsonl")


def test_a_row_of_a_hub_that_is_bad_is_named(hub: Path) -> None:
    jsonl.write(hub / "test.jsonl", [{**MBPP[2], "test_list": ["assert g(1)"]}])
    with pytest.raises(DataError, match=r"repository: row 3: problem 'Mbpp/12'.*calls no function"):
        problems.load("mbpp")


def test_a_copy_of_a_hub_repository_is_read_from_its_parquet_files(hub: Path, tmp_path: Path) -> None:
    import datasets

    copy = tmp_path / "copy"
    (copy / "data").mkdir(parents=True)
    shard = copy / "data" / "test-00000-of-00001.parquet"
    datasets.Dataset.from_list(HUMANEVAL).to_parquet(str(shard))
    from_file = problems.load("humaneval", shard)
    assert ids(from_file) == ["HumanEval/9", "HumanEval/10"]
    assert problems.load("humaneval", copy) == from_file


def raised(name: str) -> Exception:
    """One of the ways in which a hub fails."""
    import datasets

    kinds: dict[str, Any] = {
        "offline": ConnectionError("Couldn't reach the Hub\nwith a second line"),
        "unknown": datasets.exceptions.DatasetNotFoundError("Dataset 'x' doesn't exist"),
        "build": datasets.exceptions.DatasetGenerationError("An error occurred"),
        "configuration": ValueError("BuilderConfig 'sanitized' not found"),
        "silent": OSError(),
    }
    error: Exception = kinds[name]
    return error


@pytest.mark.parametrize("name", ["offline", "unknown", "build", "configuration", "silent"])
def test_a_hub_that_fails_is_one_sentence_that_says_to_give_a_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="reading from a hub needs the train extra")
    error = raised(name)

    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(DataError, match=r"google-research-datasets/mbpp: .*--from FILE\|DIR.*sanitized_mbpp") as caught:
        problems.load("mbpp")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "repository", "configuration"),
    [
        ("humaneval", "openai/openai_humaneval", None),
        ("humaneval+", "evalplus/humanevalplus", None),
        ("mbpp", "google-research-datasets/mbpp", "sanitized"),
        ("mbpp-full", "google-research-datasets/mbpp", "full"),
        ("mbpp+", "evalplus/mbppplus", None),
        ("bigcodebench", "bigcode/bigcodebench", None),
        ("bigcodebench-hard", "bigcode/bigcodebench-hard", None),
        ("taco", "BAAI/TACO", None),
        ("code-contests", "deepmind/code_contests", None),
        ("leetcode", "newfacade/LeetCodeDataset", None),
        ("quixbugs", "Muennighoff/quixbugs", None),
        ("humanevalpack", "bigcode/humanevalpack", "python"),
    ],
)
def test_the_repositories(
    name: str, repository: str, configuration: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="reading from a hub needs the train extra")
    asked = []

    def answer(*args: object) -> dict[str, list[object]]:
        asked.append(args)
        return {"test": []}

    monkeypatch.setattr(datasets, "load_dataset", answer)
    with pytest.raises(DataError, match=r"no problems in"):
        problems.load(name)
    assert asked == [(repository, configuration)]


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("livecodebench", {"test": "hf://datasets/livecodebench/code_generation_lite/test*.jsonl"}),
        (
            "apps",
            {
                "train": "hf://datasets/codeparrot/apps/train.jsonl",
                "test": "hf://datasets/codeparrot/apps/test.jsonl",
            },
        ),
    ],
)
def test_repositories_that_need_a_script_are_read_by_their_files(
    name: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets", reason="reading from a hub needs the train extra")
    asked = []

    def answer(*args: object, **options: object) -> dict[str, list[object]]:
        asked.append((args, options))
        return {"test": []}

    monkeypatch.setattr(datasets, "load_dataset", answer)
    with pytest.raises(DataError, match=r"no problems in"):
        problems.load(name)
    assert asked == [(("json", None), {"data_files": files})]


def test_the_newest_of_splits_that_are_versions_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets", reason="reading from a hub needs the train extra")
    row = {
        "complete_prompt": "def task_func():\n",
        "canonical_solution": "    return 1\n",
        "test": "import unittest\n",
        "entry_point": "task_func",
        "libs": "[]",
    }
    versions = {f"v0.1.{number}": [{**row, "task_id": f"BigCodeBench/{number}"}] for number in (10, 9)}
    monkeypatch.setattr(datasets, "load_dataset", lambda *args: versions)
    assert ids(problems.load("bigcodebench")) == ["BigCodeBench/10"]
