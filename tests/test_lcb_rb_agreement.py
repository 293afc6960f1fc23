"""Cohen's κ, its interval, and the judge beside people."""

from __future__ import annotations

import pytest
from lcb_rb_data import decision

from recode_rl.lcb_rb.agreement import (
    between_annotators,
    confusion,
    judge_against_humans,
    kappa,
    kappa_interval,
    summarise,
)
from recode_rl.lcb_rb.records import Decision, Judged
from recode_rl.lcb_rb.words import stats_lines


def decide(who: str, said: list[str]) -> list[Decision]:
    return [decision((f"p{i // 2}", str(i)), who, word) for i, word in enumerate(said)]


def test_kappa_of_a_table_worked_out_by_hand() -> None:
    """0.7 the same, by chance 0.5 · 0.6 + 0.5 · 0.4 = 0.5: (0.7 - 0.5) / (1 - 0.5) = 0.4."""
    assert kappa([[20, 5], [10, 15]]) == pytest.approx(0.4)
    assert kappa([[5, 0], [0, 5]]) == 1
    assert kappa([[0, 5], [5, 0]]) == -1
    assert kappa([[5, 0], [0, 0]]) is None
    assert kappa([[0, 0], [0, 0]]) is None


def test_another_library_says_the_same() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="needs the extra [train]")
    left = list("sffmsfmssffmmsfs")
    right = list("sfsmsfmfsffsmsss")
    ours = kappa(confusion(list(zip(left, right, strict=True)), "sfm"))
    assert ours == pytest.approx(metrics.cohen_kappa_score(left, right, labels=list("sfm")))


def test_the_interval_holds_kappa_and_needs_two_answers() -> None:
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    found = kappa_interval(pairs, (True, False), [str(i) for i in range(50)])
    assert found is not None
    assert found[0] < 0.4 < found[1]
    whole = kappa_interval(pairs, (True, False), [str(i // 10) for i in range(50)])
    assert whole is not None
    assert whole[1] - whole[0] > found[1] - found[0]  # ten samples of a problem say less than ten problems
    assert kappa_interval([(True, True)] * 5, (True, False), list("abcde")) is None


def test_every_pair_of_annotators_and_every_question() -> None:
    decisions = decide("ada", ["sound", "flawed", "misaligned", "sound"])
    decisions += decide("bo", ["sound", "sound", "misaligned", "misaligned"])
    decisions += decide("cy", ["sound"])
    decisions.append(decision(("p0", "1"), "team", "flawed", "resolver"))
    found = {(tuple(one["annotators"]), one["question"]): one for one in between_annotators(decisions)}
    assert {who for who, _ in found} == {("ada", "bo"), ("ada", "cy"), ("bo", "cy")}
    both = found[("ada", "bo"), "both"]
    assert both["confusion"] == [[1, 0, 1], [1, 0, 0], [0, 0, 1]]
    assert both["agreement"] == 0.5
    assert found[("ada", "bo"), "aligned"]["confusion"] == [[2, 1], [0, 1]]
    assert found[("ada", "cy"), "sound"]["kappa"] is None
    lines = stats_lines(summarise(decisions, None))
    assert any("κ has no value" in line for line in lines)


def test_the_judge_beside_what_people_hold_in_the_end() -> None:
    truth = ["sound", "flawed", "flawed", "misaligned", "sound", "flawed"]
    decisions = decide("ada", truth) + decide("bo", [*truth[:5], "sound"])  # the last is not resolved
    said = ["sound", "sound", "flawed", "flawed", "unparsable", "flawed"]
    judged = [Judged(f"p{i // 2}", str(i), word, "tiny") for i, word in enumerate(said)]  # type: ignore[arg-type]
    found = judge_against_humans(judged, decisions)
    assert found is not None
    assert found["n"] == 4
    assert found["overruled"] == 0.5
    assert found["unparsable"] == 1
    assert found["by_judgement"] == {"sound": {"n": 2, "overruled": 1}, "flawed": {"n": 2, "overruled": 1}}
    assert found["soundness"]["sensitivity"]["mean"] == 0.5
    assert found["soundness"]["specificity"]["mean"] == 1
    assert found["soundness"]["precision"]["mean"] == 1
    assert judge_against_humans(judged, []) is None
    assert any("overruled in 0.500" in line for line in stats_lines(summarise(decisions, judged)))
