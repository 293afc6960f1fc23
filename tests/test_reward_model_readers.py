"""Preference data of others become pairs of one problem each, and what cannot is counted by its reason."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from tiny import write_lines

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError
from recode_rl.pairs import load_pairs
from recode_rl.reward_model import readers
from recode_rl.reward_model.readers import bigbench_mistake, preferences, prmbench, rewardbench

REWARDBENCH = {"prompt": "Write f.", "chosen": "good", "rejected": "bad", "chosen_model": "canonical"}
PRM = {
    "original_question": "What is 1 + 1?",
    "modified_question": "What is 1 + 1? ",
    "question": "What is $1 + 1$?",
    "original_process": ["1. Add.", "2. It is 2."],
    "modified_process": ["1. Add.", "2. It is 3."],
    "error_steps": [2],
    "idx": "a_0",
    "classification": "circular",
}


def prm(**change: Any) -> dict[str, Any]:
    return {**PRM, **change}


def test_rewardbench_keeps_the_subsets_that_are_asked_for() -> None:
    rows = [
        {**REWARDBENCH, "subset": "hep-python", "id": 3},
        {**REWARDBENCH, "subset": "math-prm", "id": 4, "prompt": "Solve."},
        {**REWARDBENCH, "subset": "xstest-should-refuse", "id": 5},
        {**REWARDBENCH, "subset": "hep-go", "id": 6, "rejected": " good\n"},
    ]
    made = rewardbench(rows, readers.CODE_SUBSETS)
    assert [(p.id, p.problem, p.chosen, p.rejected, p.kind, p.methods, p.generator) for p in made.pairs] == [
        ("rewardbench/hep-python/3", "Write f.", "good", "bad", "other", ("hep-python",), "canonical")
    ]
    assert made.refused == {"another subset": 2, "equal sides": 1}
    assert [p.methods for p in rewardbench(rows, readers.MATH_SUBSETS).pairs] == [("math-prm",)]


def test_prmbench_pairs_the_original_with_the_broken_process() -> None:
    made = prmbench([prm(), prm(classification="deception")])
    assert [(p.id, p.problem, p.chosen, p.rejected, p.methods) for p in made.pairs] == [
        (f"prmbench/a_0/{kind}", "What is 1 + 1?", "1. Add.\n2. It is 2.", "1. Add.\n2. It is 3.", (kind,))
        for kind in ("circular", "deception")
    ]
    assert len({p.problem_id for p in made.pairs}) == 1


def test_prmbench_leaves_out_what_is_no_pair() -> None:
    made = prmbench(
        [
            prm(modified_question="What is 1 + 2?"),
            prm(classification="multi_solutions"),
            prm(error_steps=[]),
            prm(modified_process=PRM["original_process"]),
        ]
    )
    assert made.pairs == []
    assert made.refused == {
        "the question was changed as well": 1,
        "class multi_solutions: both sides are right": 1,
        "no step is said to be wrong": 1,
        "equal sides": 1,
    }


def trace(task: str, asked: str, steps: list[str], mistake: int | None, answer: str = "x") -> dict[str, Any]:
    return {"task": task, "input": asked, "steps": steps, "mistake_index": mistake, "answer": answer, "target": "x"}


def test_traces_of_one_input_are_paired_and_those_of_two_are_not() -> None:
    made = bigbench_mistake(
        [
            trace("word_sorting", "b a", ["a < b"], None),
            trace("word_sorting", "b a", ["b < a"], 0),
            trace("word_sorting", "d c", ["c < d"], None),
            trace("word_sorting", "f e", ["f < e"], 0),
            trace("word_sorting", "h g", ["g < h"], None, answer="h g"),
        ]
    )
    assert [(p.chosen, p.rejected, p.methods) for p in made.pairs] == [("a < b", "b < a", ("word_sorting",))]
    assert made.pairs[0].problem.endswith("b a")
    assert +made.refused == {
        "a right trace, and no wrong one of the same input": 1,
        "a wrong trace, and no right one of the same input": 1,
        "no step is labelled wrong, but the answer is": 1,
    }


DYCK = ["Process each input.", "stack: empty", "( ; stack: (", "[ ; stack: ( [", "] ; stack: (", "The answer is )"]


def broken(place: int, line: str) -> list[str]:
    return [*DYCK[:place], line, *DYCK[place + 1 :]]


def test_a_dyck_trace_is_cut_behind_its_first_wrong_step_and_paired_with_the_right_one() -> None:
    made = bigbench_mistake([trace("dyck_languages", "( [ ]", broken(3, "[ ; stack: ["), 3)])
    (pair,) = made.pairs
    assert pair.chosen.split("\n") == DYCK[:4]
    assert pair.rejected.split("\n") == [*DYCK[:3], "[ ; stack: ["]
    assert not +made.refused


@pytest.mark.parametrize(
    ("asked", "steps", "mistake"),
    [
        ("( [ ]", broken(3, "[ ; stack: ["), 4),  # an earlier step is wrong already
        ("( [ ]", DYCK, 3),  # the rule finds that step right
        ("( [ ]", DYCK, 5),  # the mistake is in the words behind the stack
        ("( ) ]", broken(3, ") ; stack: ("), 3),  # the input is no prefix of balanced brackets
        ("( [ x", broken(3, "[ ; stack: ["), 3),
    ],
)
def test_a_dyck_trace_that_the_rule_does_not_fit_is_left_out(asked: str, steps: list[str], mistake: int) -> None:
    made = bigbench_mistake([trace("dyck_languages", asked, steps, mistake)])
    assert made.pairs == []
    assert made.refused["a wrong trace, and no right one of the same input"] == 1


def messages(*turns: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(turns)
    said = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return [{"role": "system", "content": system}, *said] if system else said


def test_sides_are_texts_or_messages() -> None:
    made = preferences(
        [
            {"prompt": "ask", "chosen": "good", "rejected": "bad", "id": "mine"},
            {"question": messages("ask", system="be brief"), "chosen": "good", "rejected": "bad"},
            {"chosen": messages("ask", "good"), "rejected": messages("ask", "bad")},
            {"prompt": "ask", "chosen": messages("ask", "good")[1:], "rejected": messages("ask", "bad")[1:]},
            {"prompt": "not this", "chosen": messages("ask", "good"), "rejected": messages("ask", "bad")},
        ]
    )
    assert [p.problem for p in made.pairs] == ["ask", "be brief\n\nask", "ask", "ask", "ask"]
    assert {(p.chosen, p.rejected, p.kind) for p in made.pairs} == {("good", "bad", "other")}
    assert [p.id for p in made.pairs] == ["mine", "2", "3", "4", "5"]
    assert made.pairs[0].problem_id == made.pairs[2].problem_id != made.pairs[1].problem_id


def test_conversations_that_are_no_pair_are_counted() -> None:
    made = preferences(
        [
            {"chosen": messages("a", "b", "c", "d"), "rejected": messages("a", "b", "c", "e")},
            {"chosen": messages("a", "b"), "rejected": messages("other", "c")},
            {"chosen": messages("a"), "rejected": messages("a")},
            {"prompt": "a", "chosen": "b", "rejected": " "},
            {"prompt": "a", "chosen": messages("a", "b"), "rejected": "c"},
        ]
    )
    assert made.pairs == []
    assert made.refused == {
        "a conversation of several turns": 1,
        "its sides answer different prompts": 2,
        "a side does not end with the assistant's message": 1,
        "empty side": 1,
    }


def test_ids_that_repeat_get_a_number() -> None:
    row = {"id": "same", "prompt": "p", "chosen": "a", "rejected": "b"}
    assert [p.id for p in preferences([row, row, {**row, "id": "other"}]).pairs] == ["same", "same#2", "other"]


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("preferences", {"chosen": "a", "rejected": "b"}, r"row 2: no problem: expected a column prompt, .*chosen"),
        ("preferences", {"prompt": "p", "chosen": 3, "rejected": "b"}, r"row 2: column 'chosen': '3'; expected text"),
        ("rewardbench", {"prompt": "p", "chosen": "a", "rejected": "b"}, r"row 2: column 'subset'"),
        ("prmbench", {"prompt": "p"}, r"row 2: column 'original_question'"),
        ("bigbench-mistake", {"mistake_index": 1}, r"row 2: column 'input'"),
    ],
)
def test_a_row_of_another_form_is_an_error_with_its_number(
    tmp_path: Path, name: str, row: dict[str, Any], reason: str
) -> None:
    good = {
        "preferences": {"prompt": "p", "chosen": "a", "rejected": "b"},
        "rewardbench": {**REWARDBENCH, "subset": "math-prm"},
        "prmbench": PRM,
        "bigbench-mistake": trace("t", "i", ["s"], None),
    }
    path = write_lines(tmp_path / "rows.jsonl", [good[name], row])
    with pytest.raises(DataError, match=reason) as raised:
        readers.write(name, str(path), tmp_path / "pairs.jsonl")
    assert str(path) in str(raised.value)
    assert not (tmp_path / "pairs.jsonl").exists()


ROWS = [{**REWARDBENCH, "subset": "math-prm", "id": n, "prompt": f"problem {n}"} for n in range(3)]


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra [train]")
    from pyarrow import parquet as files

    path.parent.mkdir(exist_ok=True)
    files.write_table(pyarrow.Table.from_pylist(rows), path)


@pytest.mark.parametrize("form", ["rows.jsonl", "rows.jsonl.gz", "rows.json", "rows.parquet"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_rows_come_from_any_of_these_files(tmp_path: Path, form: str, as_folder: bool) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    path = folder / form
    if form.endswith(".parquet"):
        parquet(path, ROWS)
    elif form.endswith(".json"):
        path.write_text(json.dumps(ROWS))
    else:
        jsonl.write(path, ROWS)
    out = tmp_path / "pairs.jsonl"
    counts = readers.write("rewardbench-math", str(folder if as_folder else path), out)
    assert counts == {
        "dataset": "rewardbench-math", "rows": 3, "pairs": 3, "pairs_found": 3, "problems": 3, "refused": {}
    }  # fmt: skip
    assert [p.problem for p in load_pairs(out)] == [f"problem {n}" for n in range(3)]
    assert jsonl.read_json(tmp_path / "pairs.manifest.json")["counts"] == counts


def test_a_copy_of_a_repository_gives_one_split(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "filtered-00000-of-00001.parquet", ROWS[:1])
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", ROWS)
    out = tmp_path / "pairs.jsonl"
    assert readers.write("rewardbench", str(tmp_path), out)["pairs"] == 1
    assert readers.write("rewardbench", str(tmp_path), out, "train")["pairs"] == 3


def test_a_folder_of_tasks_names_them_by_its_files(tmp_path: Path) -> None:
    record = trace("", "b a", ["a < b"], None)
    del record["task"]
    write_lines(tmp_path / "word_sorting.jsonl", [record, {**record, "steps": ["b < a"], "mistake_index": 0}])
    out = tmp_path / "out" / "pairs.jsonl"
    readers.write("bigbench-mistake", str(tmp_path), out)
    assert [p.methods for p in load_pairs(out)] == [("word_sorting",)]


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    with pytest.raises(ConfigError, match="data set 'rewardbanch': expected one of starter, rewardbench, "):
        readers.write("rewardbanch", None, out)
    with pytest.raises(ConfigError, match="'preferences' has no usual place; give a file"):
        readers.write("preferences", None, out)
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file or folder"):
        readers.write("preferences", str(tmp_path / "nowhere.jsonl"), out)
    with pytest.raises(DataError, match=r"no \.jsonl, \.json or \.parquet file"):
        readers.write("preferences", str(tmp_path), out)
    (tmp_path / "rows.json").write_text('{"a": 1}')
    with pytest.raises(DataError, match=r"rows\.json: expected a list of objects"):
        readers.write("preferences", str(tmp_path), out)
    only_chat = write_lines(tmp_path / "chat.jsonl", [{**REWARDBENCH, "subset": "mt-bench-easy"}])
    with pytest.raises(DataError, match=r"no pairs of 'rewardbench' in its 1 rows \(\{'another subset': 1\}\)"):
        readers.write("rewardbench", str(only_chat), out)
    assert not out.exists()


# -- the real files ----------------------------------------------------------------------------------------------------


def preferred(pairs: list[Any], length: Any) -> tuple[float, float]:
    """The share of pairs whose chosen side is strictly shorter, and the same with ties counted half."""
    margins = [length(p.rejected) - length(p.chosen) for p in pairs]
    strict = fmean(margin > 0 for margin in margins)
    return strict, strict + fmean(margin == 0 for margin in margins) / 2


def test_prmbench_is_read_whole_and_its_shorter_side_is_right_in_71_5_percent(shared_data: Path) -> None:
    rows = [row for _, row in jsonl.read(shared_data / "reasoning_pairs" / "prmbench.jsonl.gz")]
    characters = [tuple(len("\n".join(row[f"{side}_process"])) for side in ("original", "modified")) for row in rows]
    assert len(rows) == 6051
    assert fmean(a < b for a, b in characters) == pytest.approx(0.7154, abs=1e-4)

    made = prmbench(rows)
    assert made.refused == {"the question was changed as well": 456, "equal sides": 7}
    assert len(made.pairs) == 5588
    assert len({p.problem_id for p in made.pairs}) > 650
    strict, with_ties = preferred(made.pairs, len)
    assert strict == pytest.approx(0.7245, abs=2e-3)
    assert with_ties == pytest.approx(0.7435, abs=2e-3)


def test_bigbench_mistake_has_one_trace_an_input_and_dyck_traces_that_the_rule_fits(shared_data: Path) -> None:
    rows = [row for _, row in jsonl.read(shared_data / "reasoning_pairs" / "bigbench_mistake.jsonl.gz")]
    made = bigbench_mistake(rows)
    assert {p.methods for p in made.pairs} == {("dyck_languages",)}
    assert len(made.pairs) == 554
    assert len(made.pairs) + sum(made.refused.values()) == len(rows) == 2186
    for pair in made.pairs:
        good, bad = pair.chosen.split("\n"), pair.rejected.split("\n")
        assert len(good) == len(bad)
        assert good[:-1] == bad[:-1]


def test_the_starter_corpus_by_split_and_a_reproducible_share_of_it(tmp_path: Path) -> None:
    both = [readers.write("starter", None, tmp_path / f"{split}.jsonl", split) for split in ("train", "held_out")]
    whole = readers.write("starter", None, tmp_path / "all.jsonl")
    assert sum(counts["pairs"] for counts in both) == whole["pairs"] and min(counts["pairs"] for counts in both) > 0
    sides = [{pair.problem_id for pair in load_pairs(tmp_path / f"{split}.jsonl")} for split in ("train", "held_out")]
    assert not sides[0] & sides[1]
    few = readers.write("starter", None, tmp_path / "few.jsonl", "held_out", limit=20, seed=3)
    assert (few["pairs"], few["pairs_found"]) == (20, both[1]["pairs"])
    drawn = [pair.id for pair in load_pairs(tmp_path / "few.jsonl")]
    readers.write("starter", None, tmp_path / "again.jsonl", "held_out", limit=20, seed=3)
    assert [pair.id for pair in load_pairs(tmp_path / "again.jsonl")] == drawn and len(set(drawn)) == 20


@pytest.mark.parametrize(
    ("source", "split", "message"), [("x.jsonl", None, "leave it out"), (None, "test", "held_out")]
)
def test_what_the_starter_corpus_has_not_is_refused(source: Any, split: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        readers.write("starter", source, tmp_path / "pairs.jsonl", split)
