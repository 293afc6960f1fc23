"""Decisions → pairs: both sides of a problem, reserved dates, what is known against them, the card, the way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lcb_rb_data import REASONING, decision, problem, sample, write_samples

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError
from recode_rl.lcb_rb.building import BuildSettings, build, duplicates, fill, is_reserved, lengths, near_duplicates
from recode_rl.lcb_rb.records import Decision, Final, finals, write_decisions
from recode_rl.lcb_rb.stage import Building, build_files, read_reserve
from recode_rl.pairs import load_pairs
from recode_rl.problems.records import write_problems
from recode_rl.types import Problem, Sample

SAID = {"0": "sound", "1": "flawed", "2": "flawed", "3": "sound", "4": "misaligned"}


def ends(*names: str, said: dict[str, str] = SAID) -> dict[tuple[str, str], Final]:
    return {(name, number): Final(word) for name in names for number, word in said.items()}  # type: ignore[arg-type]


def samples_of(*names: str) -> list[Sample]:
    return [sample(name, number) for name in names for number in range(5)]


def test_every_flawed_reasoning_meets_a_sound_one_of_its_problem() -> None:
    built = build([problem("a"), problem("b")], samples_of("a", "b"), ends("a", "b"), BuildSettings())
    assert [(c.problem_id, r.sample_id) for c, r in built.sides] == [("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")]
    assert all(chosen.sample_id in "03" for chosen, _ in built.sides)
    assert all(pair.kind == "lcb_rb" and pair.generator == "tiny-model" for pair in built.pairs)
    assert built.dropped == {"misaligned": 2}
    assert built.problems_without_date == 2


def test_the_chosen_side_is_drawn_by_the_seed_and_by_nothing_else() -> None:
    found = ends("a")
    first = build([problem("a")], samples_of("a"), found, BuildSettings(seed=3)).pairs
    backwards = dict(reversed(list(found.items())))
    assert build([problem("a")], samples_of("a")[::-1], backwards, BuildSettings(seed=3)).pairs == first
    drawn = {build([problem("a")], samples_of("a"), found, BuildSettings(seed=s)).pairs[0].chosen for s in range(20)}
    assert len(drawn) == 2


def test_a_problem_that_lacks_a_side_is_dropped_and_counted() -> None:
    one_side = {("a", "0"): Final("sound"), ("b", "1"): Final("flawed"), ("b", "2"): Final(None, "disagreement")}
    built = build([problem("a"), problem("b")], samples_of("a", "b"), one_side, BuildSettings())
    assert not built.pairs
    assert built.dropped == {
        "problem without a flawed reasoning": 1,
        "problem without a sound reasoning": 1,
        "disagreement": 1,
    }


@pytest.mark.parametrize(
    ("date", "reserved"),
    [("2024-09-30", False), ("2024-10-01", True), ("2025-02-28T10:00:00", True), ("2025-03-01", False), (None, False)],
)
def test_the_reserved_dates_are_kept_out_both_ends_included(date: str | None, reserved: bool) -> None:
    one = problem("a", date)
    assert is_reserved(one, BuildSettings().reserved) is reserved
    built = build([one], samples_of("a"), ends("a"), BuildSettings())
    assert bool(built.pairs) is not reserved
    assert built.dropped["problem of the reserved dates"] == (4 if reserved else 0)
    assert build([one], samples_of("a"), ends("a"), BuildSettings(reserved=None)).pairs


def test_reserved_dates_as_an_option() -> None:
    assert read_reserve("2024-10-01..2025-02-28") == ("2024-10-01", "2025-02-28")
    assert read_reserve("none") is None
    for wrong in ("2024", "2024-10-01..", "2025-01-01..2024-01-01", "2024-13-01..2025-01-01"):
        with pytest.raises(ConfigError, match="reserve"):
            read_reserve(wrong)


def test_equal_sides_make_no_pair() -> None:
    same = [sample("a", 0, "The same."), sample("a", 1, "The same."), sample("a", 2, "Another.")]
    found = {("a", "0"): Final("sound"), ("a", "1"): Final("flawed"), ("a", "2"): Final("flawed")}
    built = build([problem("a")], same, found, BuildSettings())
    assert [pair.rejected for pair in built.pairs] == ["Another."]
    assert built.dropped == {"equal sides": 1}


def test_a_decision_about_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="is decided but not among the samples"):
        build([problem("a")], [], ends("a"), BuildSettings())


def test_texts_that_are_nearly_the_same_are_found() -> None:
    text = " ".join(f"word{i}" for i in range(60))
    found = near_duplicates(
        {"a": text, "b": text + " end", "c": text.replace("word3 ", "x "), "d": "other words", "e": ""}
    )
    assert {(one, other) for one, other, _ in found} == {("a", "b"), ("a", "c"), ("b", "c")}
    built = build([problem("a")], samples_of("a"), ends("a"), BuildSettings())
    alike = duplicates(built)
    assert alike["pairs_with_nearly_equal_sides"] == 2  # they differ in one number
    assert alike["problems"] == []


def test_lengths_say_how_far_a_ruler_gets() -> None:
    long = [sample("a", i, REASONING + (" And more words." if i in (0, 3) else "") + f" {i}") for i in range(5)]
    found = lengths(build([problem("a")], long, ends("a"), BuildSettings()).pairs)
    assert found["chosen_longer"] == 1
    assert found["chosen_words"]["mean"] == found["rejected_words"]["mean"] + 3


# Over files


def write_all(folder: Path, problems: list[Problem]) -> Building:
    write_problems(folder / "p.jsonl", problems)
    texts = {"0": "Careful. ", "3": "Careful. ", "1": "Hasty. ", "2": "Hasty. ", "4": ""}
    samples = [sample(p.id, int(n), f"{text}{REASONING} {p.id} {n}") for p in problems for n, text in texts.items()]
    write_samples(folder / "s.jsonl", samples)
    decisions: list[Decision] = []
    for p in problems:
        for number, word in SAID.items():
            decisions.append(decision((p.id, number), "ada", word))
            decisions.append(decision((p.id, number), "bo", "sound" if number == "2" else word))
            if number == "2":
                decisions.append(decision((p.id, number), "team", "flawed", "resolver"))
    write_decisions(folder / "d.jsonl", decisions)
    jsonl.write(
        folder / "j.jsonl",
        [{"problem_id": p.id, "sample_id": "1", "judgement": "sound", "judge": "tiny"} for p in problems],
    )
    return Building(folder / "p.jsonl", folder / "s.jsonl", (folder / "d.jsonl",), folder / "out", folder / "j.jsonl")


def blind(pairs: Any) -> dict[str, list[float]]:
    return {"shorter": [float(len(pair.chosen) < len(pair.rejected)) for pair in pairs]}


def test_the_folder_has_pairs_a_card_and_a_manifest(tmp_path: Path) -> None:
    job = write_all(tmp_path, [problem("a", "2024-05-01"), problem("b"), problem("c", "2024-12-01")])
    values = build_files(job, blind)
    pairs = load_pairs(job.out / "pairs.jsonl")
    assert values["pairs"] == len(pairs) == 4
    assert values["problems"] == 2
    assert values["judge_overruled"] == 1
    assert values["dropped"] == {"misaligned": 3, "problem of the reserved dates": 4}
    card = (job.out / "README.md").read_text(encoding="utf-8")
    for part in (
        "4 of 2 problems",
        "2024-10-01 to 2025-02-28",
        "misaligned 3",
        "Cohen's κ",
        "The judge (tiny) was overruled in 100.0 %",
        "`shorter`",
        "starter (2 problems): this project's corpus, Apache-2.0.",
        "tiny-model 4",
    ):
        assert part in card, part
    manifest = jsonl.read_json(job.out / "manifest.json")
    assert manifest["results"]["dropped"] == values["dropped"]
    assert manifest["stats"]["resolved"] == 3


def test_the_real_baselines_run_on_it_and_eval_rm_reads_it(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs the extra [train]")
    from recode_rl.reward_model.baselines import run_baselines
    from recode_rl.reward_model.stage import evaluate_on_file

    job = write_all(tmp_path, [problem(name) for name in "abcdefgh"])
    values = build_files(job, run_baselines)
    found = evaluate_on_file("baseline:ngrams", job.out / "pairs.jsonl")
    assert found["accuracy"] == values["baselines"]["ngrams"]["accuracy"] == 1  # "Careful" and "Hasty" give it away
    assert set(found["by_kind"]) == {"lcb_rb"}


def test_nothing_to_build_says_what_was_dropped(tmp_path: Path) -> None:
    job = write_all(tmp_path, [problem("a", "2024-12-01")])
    with pytest.raises(DataError, match=r"no pair can be made .*reserved dates"):
        build_files(job, blind)
    assert not job.out.exists()


def test_pairs_without_statements_can_be_filled_again(tmp_path: Path) -> None:
    job = write_all(tmp_path, [problem("a"), problem("b")])
    build_files(job, blind)
    whole = load_pairs(job.out / "pairs.jsonl")
    bare = Building(
        **{**{name: getattr(job, name) for name in job.__slots__}, "statements": False, "out": tmp_path / "o"}
    )
    build_files(bare, blind)
    text = (bare.out / "pairs.jsonl").read_text(encoding="utf-8")
    assert "You are given" not in text
    assert "problem_sha256" in text
    assert "lcb-rb fill" in (bare.out / "README.md").read_text(encoding="utf-8")
    problems = [problem("a"), problem("b")]
    assert fill(bare.out / "pairs.jsonl", problems, tmp_path / "filled.jsonl") == 4
    assert load_pairs(tmp_path / "filled.jsonl") == whole
    with pytest.raises(DataError, match=r"line 1: problem 'a' has another statement"):
        fill(bare.out / "pairs.jsonl", [problem("a", prompt="Other."), problems[1]], tmp_path / "x")
    with pytest.raises(DataError, match=r"line 3: problem 'b' is not among"):
        fill(bare.out / "pairs.jsonl", problems[:1], tmp_path / "x")


def test_verdicts_say_which_sides_passed(tmp_path: Path) -> None:
    job = write_all(tmp_path, [problem("a")])
    line = {"problem_id": "a", "passed": True, "status": "passed", "tests_passed": 1, "tests_total": 1}
    jsonl.write(tmp_path / "v.jsonl", [{**line, "sample_id": n, "isolation": "stdio"} for n in "012"])
    job = Building(**{**{name: getattr(job, name) for name in job.__slots__}, "verdicts": tmp_path / "v.jsonl"})
    values = build_files(job, blind)
    assert sum(values["outcomes"].values()) == 2
    assert all(key.endswith("rejected passed") for key in values["outcomes"])
    lines = [json.loads(text) for text in (job.out / "pairs.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(one["passed"][1] is True for one in lines)


def test_disagreements_without_a_resolution_are_left_out() -> None:
    apart = [decision(("a", "1"), "ada", "flawed"), decision(("a", "1"), "bo", "sound")]
    sure = [decision(("a", n), who, SAID[n]) for n in "02" for who in ("ada", "bo")]
    built = build([problem("a")], samples_of("a"), finals([*apart, *sure]), BuildSettings())
    assert len(built.pairs) == 1
    assert built.dropped == {"disagreement without a resolution": 1}
