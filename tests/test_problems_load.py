"""Data sets are found by name, in files, in folders and on a hub, and a sentence says what is missing."""

from __future__ import annotations

import dataclasses
import gzip
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
        ConfigError, match=r"data set 'human-eval': expected one of starter, humaneval, humaneval\+, mbpp"
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
