"""The correlation of reasoning quality and correctness: the printed counts, another library, and problems as strata."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recode_rl import jsonl
from recode_rl.errors import DataError
from recode_rl.lcb_rb.correlation import (
    PAPER_COUNTS,
    PAPER_P,
    Row,
    Table,
    chi_squared,
    correlate,
    join,
    load_records,
    odds_ratio,
    phi,
    table_of,
    tail,
    wilson,
    within_problems,
)
from recode_rl.lcb_rb.records import Judged
from recode_rl.types import Verdict

PAPER = Table(3133, 8376, 5051, 16586)
PASS, FAIL = Verdict("passed", 1, 1, "stdio"), Verdict("wrong_answer", 0, 1, "stdio")


def rows(problem: str, *cells: int) -> list[Row]:
    """Sound passed, sound failed, flawed passed, flawed failed."""
    kinds = [(True, True), (True, False), (False, True), (False, False)]
    return [Row(problem, *kind) for kind, count in zip(kinds, cells, strict=True) for _ in range(count)]


def test_the_counts_of_the_paper_give_another_p_than_it_prints() -> None:
    assert PAPER.cells == PAPER_COUNTS
    assert chi_squared(PAPER) == pytest.approx(60.76, abs=0.005)
    assert tail(chi_squared(PAPER)) == pytest.approx(6.4e-15, rel=0.01)
    # Neither Pearson's χ² nor the corrected one gives the printed p.
    assert tail(chi_squared(PAPER, corrected=True)) == pytest.approx(7.2e-15, rel=0.01)
    assert PAPER_P == 9.3e-15
    assert "does not follow" in correlate(PAPER)["paper"]["note"]
    assert "paper" not in correlate(Table(3133, 8376, 5051, 16587))


@pytest.mark.parametrize("cells", [PAPER_COUNTS, (12, 5, 7, 9), (40, 3, 2, 60), (1, 1, 1, 1)])
def test_another_library_says_the_same(cells: tuple[int, int, int, int]) -> None:
    stats = pytest.importorskip("scipy.stats", reason="needs the extra [train]")
    table, square = Table(*cells), [cells[:2], cells[2:]]
    for corrected in (False, True):
        theirs = stats.chi2_contingency(square, correction=corrected)
        assert chi_squared(table, corrected) == pytest.approx(theirs.statistic, rel=1e-9)
        assert tail(chi_squared(table, corrected)) == pytest.approx(theirs.pvalue, rel=1e-6)
    theirs = stats.contingency.odds_ratio(square, kind="sample")
    ends = theirs.confidence_interval(0.95)
    assert odds_ratio(table) == pytest.approx((theirs.statistic, ends.low, ends.high), rel=1e-9)
    assert abs(phi(table)) == pytest.approx(stats.contingency.association(square, "cramer"), rel=1e-9)
    share = stats.binomtest(cells[0], cells[0] + cells[1]).proportion_ci(method="wilson")
    assert wilson(cells[0], cells[0] + cells[1]) == pytest.approx((share.low, share.high), rel=1e-9)


def test_an_empty_cell_is_met_with_halves_and_an_empty_row_refused() -> None:
    ratio, low, high = odds_ratio(Table(5, 0, 3, 4))
    assert ratio == pytest.approx((5.5 * 4.5) / (0.5 * 3.5))
    assert 0 < low < ratio < high
    with pytest.raises(DataError, match="a row or a column is empty"):
        Table(0, 0, 3, 4)
    with pytest.raises(DataError, match="whole numbers"):
        Table(-1, 2, 3, 4)


def test_the_interval_of_v_holds_it_and_begins_at_zero_where_the_sign_is_open() -> None:
    low, high = correlate(PAPER)["cramers_v_interval"]
    assert 0 < low < abs(phi(PAPER)) < high < 0.06
    open_sign = correlate(Table(10, 10, 11, 10))["cramers_v_interval"]
    assert open_sign[0] == 0 < open_sign[1]


def test_an_association_between_problems_alone_is_none_within_them() -> None:
    """Easy problems have sound reasonings and passes, hard ones neither; within each nothing goes together."""
    found = rows("easy", 64, 16, 16, 4) + rows("hard", 4, 16, 16, 64)
    values = correlate(table_of(found), found)
    assert values["p"] < 1e-6
    assert values["within_problems"]["chi2"] == pytest.approx(0)
    assert values["within_problems"]["odds_ratio"] == pytest.approx(1)
    low, high = values["within_problems"]["interval"]
    assert low < 1 < high
    assert values["problems"] == values["within_problems"]["problems"] == 2


def test_the_test_within_problems_is_that_of_the_textbook() -> None:
    """One stratum: CMH is Pearson's χ² times (n - 1) / n, and the common odds ratio that of the table."""
    found = rows("one", 12, 5, 7, 9)
    table = table_of(found)
    within = within_problems(found)
    assert within is not None
    assert within["chi2"] == pytest.approx(chi_squared(table) * 32 / 33)
    assert within["odds_ratio"] == pytest.approx(12 * 9 / (5 * 7))
    assert within_problems(rows("a", 3, 0, 2, 0) + rows("b", 0, 4, 0, 1)) is None


def test_problems_drawn_whole_make_wider_intervals_than_samples() -> None:
    same = [row for i in range(6) for row in rows(f"s{i}", 9, 1, 9, 1) + rows(f"f{i}", 0, 10, 9, 11)]
    by_problem, by_sample = correlate(table_of(same), same), correlate(table_of(same))
    assert by_problem["intervals_by"] == "problem"

    def width(values: dict[str, list[float]]) -> float:
        return values["cramers_v_interval"][1] - values["cramers_v_interval"][0]

    assert width(by_problem) > width(by_sample)


def test_judgements_meet_verdicts_and_the_rest_is_counted() -> None:
    said = ("sound", "flawed", "misaligned", "unparsable", "sound")
    judged = [Judged("p", str(i), word, "j") for i, word in enumerate(said)]  # type: ignore[arg-type]
    study = join(judged, {("p", "0"): PASS, ("p", "1"): FAIL, ("p", "2"): PASS})
    assert study.rows == [Row("p", True, True), Row("p", False, False)]
    assert study.left_out == {"misaligned": 1, "unparsable": 1, "no verdict": 1}


def test_records_say_the_quality_in_one_word_or_in_answers(tmp_path: Path) -> None:
    lines = [
        {"problem_id": "p", "judgement": "sound", "passed": True},
        {"problem_id": "p", "sound": False, "passed": False},
        {"problem_id": "p", "sound": True, "aligned": False, "passed": True},
    ]
    jsonl.write(tmp_path / "r.jsonl", lines)
    study = load_records(tmp_path / "r.jsonl")
    assert study.rows == [Row("p", True, True), Row("p", False, False)]
    assert study.left_out == {"misaligned": 1}
    jsonl.write(tmp_path / "r.jsonl", [*lines, {"problem_id": "p", "passed": True}])
    with pytest.raises(DataError, match=r"r\.jsonl: line 4: expected"):
        load_records(tmp_path / "r.jsonl")


def run(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recode_rl", "lcb-rb", "correlation", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_command_prints_what_other_programs_read() -> None:
    done = run("--table", "3133", "8376", "5051", "16586", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["chi2"] == pytest.approx(60.76, abs=0.005)
    assert values["p"] == pytest.approx(6.4e-15, rel=0.01)
    assert values["odds_ratio"] == pytest.approx(3133 * 16586 / (8376 * 5051))
    assert values["cramers_v"] == pytest.approx(0.0428, abs=1e-4)
    said = run("--table", "3133", "8376", "5051", "16586").stderr
    assert "9.3e-15" in said
    assert "p 6.4e-15" in said


def test_the_command_takes_one_source() -> None:
    assert run().returncode == run("--table", "1", "2", "3", "4", "--records", "x").returncode == 2
    assert "expected whole numbers" in run("--table", "1", "-2", "3", "4").stderr
