"""Variants become pairs with the better side first, and what does not fit is counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from recode_rl.errors import DataError
from recode_rl.pairs import load_pairs, make_pairs, pair_from_record, refuse_overlap, write_pairs
from recode_rl.types import PreferencePair, Problem, Quality, Variant
from recode_rl.types import Tests as ProblemTests

RECORD = {"id": "p/opt_deg", "problem_id": "p", "problem": "s", "chosen": "good", "rejected": "bad", "kind": "opt_deg"}


def problem(identifier: str = "p") -> Problem:
    return Problem(identifier, f"statement of {identifier}", ProblemTests("answer", answer="1"), difficulty="easy")


def variant(quality: Quality, reasoning: str, *methods: str, identifier: str = "p") -> Variant:
    return Variant(identifier, quality, reasoning, methods, generator="writer")


THREE = [
    variant("degraded", "wrong plan", "logical_gap"),
    variant("base", "a plan"),
    variant("optimized", "a better plan", "focus", "complete"),
]


def test_three_variants_give_three_pairs() -> None:
    made = make_pairs([problem()], THREE)
    assert not made.refused
    assert {pair.kind: (pair.chosen, pair.rejected, pair.methods) for pair in made.pairs} == {
        "opt_deg": ("a better plan", "wrong plan", ("logical_gap",)),
        "opt_ori": ("a better plan", "a plan", ("focus", "complete")),
        "ori_deg": ("a plan", "wrong plan", ("logical_gap",)),
    }
    for pair in made.pairs:
        assert pair.id == f"p/{pair.kind}"
        assert (pair.problem_id, pair.problem, pair.difficulty) == ("p", "statement of p", "easy")
        assert pair.generator == "writer"


def test_a_missing_variant_costs_its_pairs_and_is_counted() -> None:
    made = make_pairs([problem(), problem("q")], THREE[:2])
    assert [pair.id for pair in made.pairs] == ["p/ori_deg"]
    assert dict(made.refused) == {
        "opt_deg: variant missing": 2,
        "opt_ori: variant missing": 2,
        "ori_deg: variant missing": 1,
    }


def test_equal_sides_are_refused_and_counted() -> None:
    made = make_pairs([problem()], [*THREE[:2], variant("optimized", " a plan\n", "focus")])
    assert [pair.kind for pair in made.pairs] == ["opt_deg", "ori_deg"]
    assert dict(made.refused) == {"opt_ori: equal sides": 1}


def test_empty_sides_are_refused_and_counted() -> None:
    made = make_pairs([problem()], [THREE[0], THREE[2], variant("base", "  \n")])
    assert [pair.kind for pair in made.pairs] == ["opt_deg"]
    assert sum(made.refused.values()) == 2


def test_one_base_reasoning_meets_every_variant_made_of_it() -> None:
    more = [variant("optimized", "the best plan", "focus"), variant("degraded", "another wrong plan", "incomplete")]
    made = make_pairs([problem()], [*THREE, *more])
    assert not made.refused
    assert {pair.id: (pair.chosen, pair.rejected) for pair in made.pairs} == {
        "p/opt_deg": ("a better plan", "wrong plan"),
        "p/opt_deg/2": ("the best plan", "another wrong plan"),
        "p/opt_ori": ("a better plan", "a plan"),
        "p/opt_ori/2": ("the best plan", "a plan"),
        "p/ori_deg": ("a plan", "wrong plan"),
        "p/ori_deg/2": ("a plan", "another wrong plan"),
    }


def test_sets_of_variants_are_paired_in_their_order() -> None:
    second = [variant("base", "notes"), variant("optimized", "good notes"), variant("degraded", "bad notes")]
    made = make_pairs([problem()], [*THREE, *second])
    assert {pair.id: (pair.chosen, pair.rejected) for pair in made.pairs if pair.id.endswith("/2")} == {
        "p/opt_deg/2": ("good notes", "bad notes"),
        "p/opt_ori/2": ("good notes", "notes"),
        "p/ori_deg/2": ("notes", "bad notes"),
    }


def test_pairs_never_mix_problems() -> None:
    variants = [variant("optimized", "of p"), variant("degraded", "of q", identifier="q")]
    made = make_pairs([problem(), problem("q")], variants)
    assert made.pairs == []
    assert sum(made.refused.values()) == 6


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pairs = make_pairs([problem()], THREE).pairs
    assert write_pairs(tmp_path / "pairs.jsonl.gz", pairs) == 3
    assert load_pairs(tmp_path / "pairs.jsonl.gz") == pairs


def test_a_record_needs_only_its_texts_and_an_id() -> None:
    pair = pair_from_record({"id": "1", "problem": "s", "chosen": "a", "rejected": "b", "unknown": 3})
    assert (pair.kind, pair.problem_id, pair.methods, pair.generator, pair.difficulty) == ("other", "1", (), "", None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": ""}, "key 'id'"),
        ({"id": 3}, "key 'id'"),
        ({"problem": None}, "key 'problem'"),
        ({"chosen": "  \n"}, "key 'chosen'"),
        ({"rejected": ["a"]}, "key 'rejected'"),
        ({"kind": "opt-deg"}, "kind 'opt-deg': expected one of opt_deg, opt_ori, ori_deg, lcb_rb, other"),
        ({"kind": None}, "kind None"),
        ({"chosen": "bad\n"}, "chosen and rejected are equal"),
    ],
)
def test_a_bad_record_is_an_error_with_its_line(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps(RECORD) + "\n" + json.dumps({**RECORD, "id": "2", **change}) + "\n")
    with pytest.raises(DataError, match=f"pairs.jsonl: line 2: .*{reason}"):
        load_pairs(path)


def test_an_id_twice_and_an_empty_file_are_errors(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text((json.dumps(RECORD) + "\n") * 2)
    with pytest.raises(DataError, match=r"pairs\.jsonl: line 2: pair id 'p/opt_deg' occurs twice \(first in line 1\)"):
        load_pairs(path)
    path.write_text("\n")
    with pytest.raises(DataError, match=r"no pairs in it"):
        load_pairs(path)


def pairs_of(*problems: str, statement: str = "statement of {}") -> list[PreferencePair]:
    return [
        PreferencePair(f"{name}/{kind}", name, statement.format(name), "good", "bad", kind)
        for name in problems
        for kind in ("opt_deg", "ori_deg")
    ]


def test_a_problem_on_both_sides_of_a_split_is_refused_by_name(tmp_path: Path) -> None:
    train, held_out = pairs_of("p", "q", "r"), pairs_of("s", "q", "r")
    refuse_overlap(train, pairs_of("s", "t"))
    refuse_overlap(train, [])
    named = "pair 'q/opt_deg' of the training pairs and pair 'q/opt_deg' of the held-out pairs, and so are 1 more"
    with pytest.raises(DataError, match=f"problem 'q' is on both sides of the split: {named}; take each problem out"):
        refuse_overlap(train, held_out)
    files = tmp_path / "train.jsonl", tmp_path / "valid.jsonl"
    write_pairs(files[0], train)
    write_pairs(files[1], held_out)
    files[1].write_text("\n" + files[1].read_text())
    lines = r"train\.jsonl: line 3 \(pair 'q/opt_deg'\) and .*valid\.jsonl: line 4 \(pair 'q/opt_deg'\)"
    with pytest.raises(DataError, match=lines):
        refuse_overlap(train, held_out, *files)


def test_a_statement_under_another_id_is_the_same_problem() -> None:
    train, held_out = pairs_of("p", statement="Add  a and b."), pairs_of("q", statement="Add a\nand b.")
    with pytest.raises(DataError, match=r"problem 'q' \(with the statement of 'p'\) is on both sides of the split"):
        refuse_overlap(train, held_out)
