"""Judgements and decisions as files, and what is held of a sample in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
from lcb_rb_data import decision

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.lcb_rb.records import (
    Final,
    Judged,
    finals,
    judgement_of,
    load_all_decisions,
    load_decisions,
    load_judgements,
    load_verdicts,
    write_decisions,
    write_judgements,
)

KEY = ("p", "0")


def test_both_answers_in_one_word() -> None:
    assert judgement_of(sound=True, aligned=True) == "sound"
    assert judgement_of(sound=False, aligned=True) == "flawed"
    assert judgement_of(sound=True, aligned=False) == judgement_of(sound=False, aligned=False) == "misaligned"


def test_judgements_and_decisions_come_back_as_they_were(tmp_path: Path) -> None:
    judged = [
        Judged("p", "0", "flawed", "judge", "Step 2 is wrong.", "check-1", 2),
        Judged("p", "1", "unparsable", "j"),
    ]
    write_judgements(tmp_path / "j.jsonl", judged)
    assert load_judgements(tmp_path / "j.jsonl") == judged
    decided = [decision(KEY, "ada", "sound", note="why"), decision(KEY, "team", "flawed", "resolver")]
    write_decisions(tmp_path / "d.jsonl", decided)
    assert load_decisions(tmp_path / "d.jsonl") == decided


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sound": "yes"}, "sound 'yes': expected true or false"),
        ({"aligned": None}, "aligned None"),
        ({"annotator": " "}, "annotator: empty"),
        ({"role": "judge"}, "role 'judge'"),
        ({"note": 3}, "note '3'"),
        ({"problem_id": None}, "key 'problem_id'"),
    ],
)
def test_a_wrong_decision_is_named_by_file_and_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    line = {"problem_id": "p", "sample_id": "0", "annotator": "ada", "sound": True, "aligned": True}
    jsonl.write(tmp_path / "d.jsonl", [line | change])
    with pytest.raises(DataError, match=rf"d\.jsonl: line 1: {message}"):
        load_decisions(tmp_path / "d.jsonl")


def test_an_annotator_decides_once_also_over_several_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_decisions(tmp_path / name, [decision(KEY, "ada", "sound")])
    with pytest.raises(DataError, match=r"sample '0' of problem 'p' is judged 2 times by ada"):
        load_all_decisions([tmp_path / "a", tmp_path / "b"])


def test_an_unknown_judgement_is_refused(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "j.jsonl", [{"problem_id": "p", "sample_id": "0", "judgement": "yes"}])
    with pytest.raises(DataError, match=r"line 1: judgement 'yes': expected one of sound, flawed"):
        load_judgements(tmp_path / "j.jsonl")


def test_a_verdict_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    line = {"problem_id": "p", "sample_id": "0", "passed": True, "status": "timeout"}
    jsonl.write(tmp_path / "v.jsonl", [{**line, "isolation": "stdio", "tests_passed": 0, "tests_total": 1}])
    with pytest.raises(DataError, match=r"sample '0' of problem 'p': passed True does not go with"):
        load_verdicts(tmp_path / "v.jsonl")


def test_two_who_agree_decide() -> None:
    assert finals([decision(KEY, "ada", "flawed"), decision(KEY, "bo", "flawed")]) == {KEY: Final("flawed")}


def test_one_alone_decides_only_where_one_is_enough() -> None:
    alone = [decision(KEY, "ada", "flawed")]
    assert finals(alone)[KEY].reason == "fewer than 2 annotators"
    assert finals(alone, annotators=1)[KEY] == Final("flawed")


def test_a_resolver_decides_a_disagreement_and_nothing_else() -> None:
    apart = [decision(KEY, "ada", "sound"), decision(KEY, "bo", "flawed")]
    assert finals(apart)[KEY].reason == "disagreement without a resolution"
    resolver = decision(KEY, "team", "flawed", "resolver")
    assert finals([*apart, resolver])[KEY] == Final("flawed")
    agreed = [decision(KEY, "ada", "sound"), decision(KEY, "bo", "sound")]
    assert finals([*agreed, resolver])[KEY] == Final("sound")


def test_two_who_differ_on_what_does_not_matter_agree() -> None:
    one = decision(KEY, "ada", "misaligned")
    other = decision(KEY, "bo", "misaligned")
    other = type(other)(*KEY, "bo", not one.sound, False)
    assert finals([one, other])[KEY] == Final("misaligned")
