"""Which samples people look at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.lcb_rb.candidates import Selection, draw, load_candidates, write_candidates
from recode_rl.lcb_rb.records import Judged
from recode_rl.types import Verdict

PASS, FAIL = Verdict("passed", 1, 1, "stdio"), Verdict("wrong_answer", 0, 1, "stdio")
SAID = ["sound"] * 6 + ["flawed"] * 6 + ["misaligned", "unparsable"]
JUDGED = [Judged("p", str(i), word, "j") for i, word in enumerate(SAID)]  # type: ignore[arg-type]
VERDICTS = {("p", str(i)): PASS if i % 3 == 0 else FAIL for i in range(14)}


def test_sound_ones_may_be_chosen_and_flawed_ones_rejected_whatever_became_of_them() -> None:
    drawn = draw(JUDGED, VERDICTS, Selection())
    assert Counter((c.side, c.passed) for c in drawn.candidates) == {
        ("chosen", True): 2,
        ("chosen", False): 4,
        ("rejected", True): 2,
        ("rejected", False): 4,
    }
    assert drawn.dropped == {"misaligned": 1, "unparsable": 1}


def test_a_few_of_each_side_are_even_in_their_outcomes_and_drawn_by_the_seed() -> None:
    drawn = draw(JUDGED, VERDICTS, Selection(per_side=4, seed=1))
    assert Counter((c.side, c.passed) for c in drawn.candidates) == dict.fromkeys(
        [("chosen", True), ("chosen", False), ("rejected", True), ("rejected", False)], 2
    )
    assert drawn.dropped["more than wanted of a side"] == 4
    assert draw(JUDGED, VERDICTS, Selection(per_side=4, seed=1)) == drawn
    others = [draw(JUDGED, VERDICTS, Selection(per_side=2, seed=seed)).candidates for seed in range(8)]
    assert any(other != others[0] for other in others)
    assert draw(JUDGED[::-1], VERDICTS, Selection(per_side=4, seed=1)).candidates == drawn.candidates


def test_a_problem_with_one_side_is_dropped_unless_it_is_asked_for() -> None:
    alone = [Judged("q", "0", "flawed", "j"), Judged("q", "1", "flawed", "j")]
    verdicts = {("q", "0"): PASS}
    assert draw(alone, verdicts, Selection()).dropped == {"problem with one side alone": 1, "no verdict": 1}
    assert len(draw(alone, verdicts, Selection(one_sided=True)).candidates) == 1


def test_the_file_comes_back_as_it_was(tmp_path: Path) -> None:
    drawn = draw(JUDGED, VERDICTS, Selection())
    write_candidates(tmp_path / "c.jsonl", drawn.candidates)
    assert load_candidates(tmp_path / "c.jsonl") == drawn.candidates
    jsonl.write(tmp_path / "c.jsonl", [{"problem_id": "p", "sample_id": "0", "side": "left", "passed": True}])
    with pytest.raises(DataError, match=r"line 1: expected keys problem_id"):
        load_candidates(tmp_path / "c.jsonl")
