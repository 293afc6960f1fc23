"""The audit finds out models whose vice is known, and clears one that has none; it continues, and its page is safe."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError, InfrastructureError, MissingExtraError, ModelError
from recode_rl.pairs import make_pairs, write_pairs
from recode_rl.problems import starter
from recode_rl.problems.records import write_problems
from recode_rl.reward_model.audit import AuditSettings, audit, audit_model
from recode_rl.reward_model.audit_probes import PROBES
from recode_rl.reward_model.audit_texts import draw, probe
from recode_rl.reward_model.evaluate import sigmoid
from recode_rl.reward_model.stage import Reading
from recode_rl.scorer import RewardModelScorer
from recode_rl.types import PreferencePair

pytest.importorskip("matplotlib", reason="needs the extra [report]")
pytest.importorskip("jinja2", reason="needs the extra [report]")

Raw = Callable[[str, str], float]
SETTINGS = AuditSettings(limit=16)
FALLS = {name for name, kind in PROBES.items() if kind.expects == "fall"}
RISES = set(PROBES) - FALLS
ATTACK = "<script>alert(1)</script>"


class Scorer:
    """A reward model that is one function; it counts what it is asked."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self.asked: list[tuple[str, str]] = []

    def logits(self, items: Sequence[tuple[str, str]]) -> list[float]:
        self.asked += items
        return [self._raw(*item) for item in items]

    def __call__(self, items: Sequence[tuple[str, str]]) -> list[float]:
        return [sigmoid(self._raw(*item)) if item[1].strip() else 0.0 for item in items]


@pytest.fixture(scope="module")
def pairs() -> list[PreferencePair]:
    """All pairs of 24 problems of the starter corpus."""
    made = make_pairs(starter.load(), starter.variants()).pairs
    kept = list(dict.fromkeys(pair.problem_id for pair in made))[::5][:24]
    return [pair for pair in made if pair.problem_id in kept]


def sentences(text: str) -> list[str]:
    found = (" ".join(re.findall(r"\w+", part.lower())) for part in re.split(r"[.!?;:,]\s|\n", text))
    return [part for part in found if part]


def oracle(pairs: Sequence[PreferencePair]) -> Raw:
    """Knows the better reasonings of every problem: the share of such a one that a text has, in the right order."""
    known: dict[str, list[list[str]]] = {}
    for pair in pairs:
        sides = [pair.chosen] if pair.kind != "opt_ori" else [pair.chosen, pair.rejected]
        known.setdefault(pair.problem, []).extend(sentences(side) for side in sides)

    def share(good: list[str], text: str) -> float:
        place, found = 0, 0
        for sentence in good:
            at = text.find(f" {sentence} ", place)
            found, place = (found + 1, at + len(sentence)) if at >= 0 else (found, place)
        return found / len(good)

    def raw(problem: str, reasoning: str) -> float:
        text = f" {' '.join(re.findall(r'[0-9a-z_]+', reasoning.lower()))} "
        return 6 * max(share(good, text) for good in known[problem]) - 3

    return raw


def audited(raw: Raw, pairs: Sequence[PreferencePair], out: Path) -> dict[str, Any]:
    result = audit(Scorer(raw), pairs, out, SETTINGS)
    assert result == jsonl.read_json(out / "audit.json")
    assert sum(len(result[verdict]) for verdict in ("holds", "swayed", "blind", "unclear")) == len(PROBES)
    return result


def rows(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["probe"]: row for row in result["probes"]}


# -- models whose vice is known ----------------------------------------------------------------------------------------


def test_a_clean_model_passes_every_probe(pairs: list[PreferencePair], tmp_path: Path) -> None:
    result = audited(oracle(pairs), pairs, tmp_path)
    assert result["holds"] == list(PROBES)
    assert result["yardstick_is_mean_margin"] and result["margin_interval"][0] > 0
    assert result["notices"] == []
    assert rows(result)["other_problem"]["above_rejected"] < 0.5
    assert result["length"]["verdict"] != "follows length: longer scores higher"


def test_a_model_that_scores_length_is_found_out(pairs: list[PreferencePair], tmp_path: Path) -> None:
    result = audited(lambda _, reasoning: len(reasoning.split()) / 8, pairs, tmp_path)
    assert {"empty_sentences", "restated_problem", "repeated_plan", "keywords", "added_code"} <= set(result["swayed"])
    assert "bold" in result["holds"]
    assert "shuffled" in result["blind"]
    assert {"first_half", "nearly_empty"} <= set(result["holds"])
    assert result["length"]["verdict"] == "follows length: longer scores higher"
    assert result["length"]["pairs"]["rho"] == pytest.approx(1)
    assert rows(result)["repeated_plan"]["rises"] == 1.0


def test_a_model_that_counts_bold_marks_is_found_out(pairs: list[PreferencePair], tmp_path: Path) -> None:
    result = audited(lambda _, reasoning: reasoning.count("**") / 2, pairs, tmp_path)
    assert result["swayed"] == ["bold"]
    assert set(result["blind"]) >= FALLS - {"copied_statement", "other_problem"}
    assert rows(result)["bold"]["words"].startswith("raises the score by")


@pytest.mark.parametrize(
    ("vice", "probe_name"),
    [("definitely|certain", "certainty"), (r"^#+ ", "headings"), (r"(?m)^- ", "bullets"), ("```", "added_code")],
)
def test_a_weakness_for_one_thing_on_top_of_a_good_model_is_found_out(
    vice: str, probe_name: str, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    good = oracle(pairs)
    result = audited(lambda p, r: good(p, r) + 3 * bool(re.search(vice, r.lower())), pairs, tmp_path)
    assert result["swayed"] == [probe_name]


def test_a_constant_model_is_blind_to_all_that_destroys(pairs: list[PreferencePair], tmp_path: Path) -> None:
    result = audited(lambda *_: 0.3, pairs, tmp_path)
    assert set(result["blind"]) == FALLS
    assert set(result["holds"]) == RISES
    assert result["margin"] == 0 and not result["yardstick_is_mean_margin"]
    assert "may not tell them apart" in result["notices"][0]
    assert result["length"]["partial"]["rho"] is None
    assert result["calibration"]["verdict"].startswith("says nothing")


def test_a_model_that_reads_the_reasoning_alone_is_blind_to_another_problem(
    pairs: list[PreferencePair], tmp_path: Path
) -> None:
    better = {pair.chosen for pair in pairs}
    result = audited(lambda _, r: 2.0 * (r in better) - 1, pairs, tmp_path)
    assert "other_problem" in result["blind"]


def test_an_over_confident_model_is_said_to_be(pairs: list[PreferencePair], tmp_path: Path) -> None:
    result = audited(lambda _, r: 9.0 * (len(r) % 2), pairs, tmp_path)  # sure of what it cannot know
    assert result["calibration"]["verdict"].startswith("over-confident")
    assert result["calibration"]["ece"] > result["calibration"]["ece_if_calibrated"][1]


# -- what is drawn and kept --------------------------------------------------------------------------------------------


def test_a_larger_limit_draws_the_same_problems_and_more(pairs: list[PreferencePair]) -> None:
    few, more, others = (
        {pair.problem_id for pair in draw(pairs, limit, seed)} for limit, seed in ((6, 0), (12, 0), (6, 1))
    )
    assert few < more and len(more) == 12
    assert few != others
    assert draw(pairs, None, 0) == pairs


def test_each_problem_is_probed_once_and_meets_the_reasoning_of_another(pairs: list[PreferencePair]) -> None:
    probings = probe(pairs, 0)
    assert [p.pair.problem_id for p in probings] == list(dict.fromkeys(pair.problem_id for pair in pairs))
    owner = {pair.chosen: pair.problem_id for pair in pairs}
    for probing in probings:
        other = probing.probed["other_problem"]
        assert owner[other.reasoning] != probing.pair.problem_id == other.problem_id


def test_a_stopped_audit_continues_and_asks_nothing_twice(pairs: list[PreferencePair], tmp_path: Path) -> None:
    raw = oracle(pairs)
    whole = audited(raw, pairs, tmp_path / "whole")

    class Failing(Scorer):
        def logits(self, items: Sequence[tuple[str, str]]) -> list[float]:
            if len(self.asked) > 150:
                raise InfrastructureError("the server is gone")
            return super().logits(items)

    first, second = Failing(raw), Scorer(raw)
    with pytest.raises(InfrastructureError):
        audit(first, pairs, tmp_path / "stopped", SETTINGS)
    assert not (tmp_path / "stopped" / "audit.json").exists()
    scores = tmp_path / "stopped" / "scores.jsonl"
    scores.write_bytes(scores.read_bytes()[:-9])  # killed in the middle of a line
    assert audit(second, pairs, tmp_path / "stopped", SETTINGS) == whole
    assert len(set(first.asked) & set(second.asked)) == 1
    assert len(set(first.asked) | set(second.asked)) == len(second.asked) + len(first.asked) - 1 == whole["texts"]
    again = Scorer(raw)
    assert audit(again, pairs, tmp_path / "stopped", SETTINGS) == whole
    assert again.asked == []


def test_scores_are_kept_with_their_texts(pairs: list[PreferencePair], tmp_path: Path) -> None:
    result = audited(lambda _, r: float(len(r)), pairs, tmp_path)
    lines = [record for _, record in jsonl.read(tmp_path / "scores.jsonl")]
    assert len(lines) == result["texts"] == len({line["key"] for line in lines})
    assert all(line["logit"] == len(line["reasoning"]) for line in lines)
    assert {line["what"] for line in lines} >= set(PROBES) | {"optimized", "base", "degraded"}


def test_scores_that_are_none_are_refused(pairs: list[PreferencePair], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"problem '.*' as nan; expected a number"):
        audit(Scorer(lambda *_: float("nan")), pairs, tmp_path, SETTINGS)
    (tmp_path / "scores.jsonl").write_text('{"key": "a", "logit": null}\n')
    with pytest.raises(DataError, match=r"scores\.jsonl: line 1: no score of an audit"):
        audit(Scorer(lambda *_: 0.0), pairs, tmp_path, SETTINGS)


def test_a_scorer_without_raw_scores_is_read_by_its_log_odds(pairs: list[PreferencePair], tmp_path: Path) -> None:
    raw = oracle(pairs)
    known = audited(raw, pairs, tmp_path / "raw")

    def remote(items: Sequence[tuple[str, str]]) -> list[float]:
        return [1.0 if r == "." else sigmoid(raw(p, r)) if r else 0.2 for p, r in items]

    result = audit(remote, pairs, tmp_path / "remote", SETTINGS)
    assert rows(result)["shuffled"]["shift"] == pytest.approx(rows(known)["shuffled"]["shift"])
    assert rows(result)["nearly_empty"]["verdict"] == "blind"
    assert "16 of" in result["notices"][0]
    assert known["empty"]["score"] == 0.0 and known["empty"]["words"].endswith("the reward does not ask the model.")
    assert result["empty"]["score"] == 0.2 and "gives 0.20" in result["empty"]["words"]


def test_few_problems_are_too_few_to_tell(pairs: list[PreferencePair], tmp_path: Path) -> None:
    one = [pair for pair in pairs if pair.problem_id == pairs[0].problem_id]
    result = audit(Scorer(lambda _, r: float(len(r))), one, tmp_path, SETTINGS)
    assert result["unclear"] == list(PROBES)
    assert rows(result)["other_problem"]["words"] == "applies to none of these texts"
    assert rows(result)["headings"]["words"] == "1 problems are too few to tell"
    assert result["length"]["verdict"].startswith(("no answer", "unclear"))


# -- the page ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags, what they would load, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for key, value in attrs:
            assert not key.startswith("on"), f"<{tag} {key}> runs a script"
            if key in ("src", "href", "action", "data", "srcset", "poster") and value:
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_what_models_and_data_sets_wrote_stays_text(tmp_path: Path) -> None:
    hostile = [
        PreferencePair(
            id=f"p{n}", problem_id=f"{ATTACK}{n}", problem=f"Sum {n}. {ATTACK} {{{{ 7 * 7 }}}}",
            chosen=f"Add {n}. {ATTACK} Then | print `it`. <img src=x onerror=alert(1)> \ud800", rejected=f"Bad {n}",
            kind="other",
        )
        for n in range(6)
    ]  # fmt: skip
    name = f"models/{ATTACK}`|\n<b>"
    result = audit(Scorer(lambda _, r: len(r) / 50), hostile, tmp_path, SETTINGS, name)
    text = (tmp_path / "audit.html").read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and ATTACK not in text
    assert f"Add 0. {ATTACK}" in page.text or f"Add 1. {ATTACK}" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert page.tags.count("img") == page.tags.count("source") == 3
    assert all(link.startswith("data:image/png;base64,iVBOR") for link in page.loads) and len(page.loads) == 6
    assert not re.search(r"https?://|@import|url\(", text)
    first = (tmp_path / "audit.md").read_text(encoding="utf-8").splitlines()[0]
    assert first == f"# Audit of `models/{ATTACK}'| <b>`"
    assert set(result["length"]["within"]) == {"chosen", "rejected"}


def test_page_table_and_pictures_are_there(pairs: list[PreferencePair], tmp_path: Path) -> None:
    result = audited(oracle(pairs), pairs, tmp_path)
    page = Page((tmp_path / "audit.html").read_text(encoding="utf-8"))
    table = (tmp_path / "audit.md").read_text(encoding="utf-8")
    for row in result["probes"]:
        assert row["title"] in page.text
        assert f"| {row['title']} | {'not rise' if row['expects'] == 'no rise' else 'fall'} | {row['n']} |" in table
    for text in (page.text, table):
        assert "there is no ground truth for it" in text
        assert "An empty think block scores 0 by rule" in text
    for name in re.findall(r"!\[.*\]\((.*)\)", table):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG\r\n")
    assert page.tags.count("details") == len(PROBES)
    assert not re.search(r"\b(nan|None|inf)\b", page.text + table)


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_whole_command_on_a_random_model(tiny_reward: Path, tmp_path: Path) -> None:
    out = tmp_path / "audit"
    settings, reading = AuditSettings(limit=6), Reading(max_length=256, template="recode")
    result = audit_model(str(tiny_reward), out, settings=settings, reading=reading)
    json.dumps(result, allow_nan=False)
    assert {path.name for path in out.iterdir()} == {
        "audit.json", "audit.md", "audit.html", "scores.jsonl", "manifest.json", "shifts.png", "length.png",
        "reliability.png",
    }  # fmt: skip
    assert result["problems"] == 6 and result["raw_scores"] and result["model"] == str(tiny_reward)
    assert 0 < result["reasonings_cut"] <= result["texts"]
    assert "lost their middle" in " ".join(result["notices"])
    line = next(record for _, record in jsonl.read(out / "scores.jsonl") if record["what"] == "shuffled")
    problem = next(problem for problem in starter.load() if problem.id == line["problem_id"])
    model = RewardModelScorer(str(tiny_reward), 256)
    assert line["score"] == pytest.approx(model([(problem.prompt, line["reasoning"])])[0], abs=1e-4)
    manifest = jsonl.read_json(out / "manifest.json")
    assert manifest["stage"] == "audit-rm"
    assert manifest["config"]["limit"] == 6 and manifest["config"]["share"] == 0.2
    assert audit_model(str(tiny_reward), out, settings=settings, reading=reading) == result


def test_scores_of_another_model_are_not_taken(tiny_reward: Path, pairs: list[PreferencePair], tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", pairs[:3])
    model, out, file = str(tiny_reward), tmp_path / "audit", tmp_path / "pairs.jsonl"
    audit_model(model, out, file)
    with pytest.raises(ConfigError, match="has scores of another max_length; choose another --out"):
        audit_model(model, out, file, reading=Reading(max_length=99))
    with pytest.raises(ConfigError, match="has scores of another model and max_length"):
        audit_model("elsewhere", out, file, reading=Reading(max_length=99))


def test_problems_choose_the_pairs(tiny_reward: Path, pairs: list[PreferencePair], tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", pairs)
    wanted = pairs[0].problem_id
    write_problems(tmp_path / "one.jsonl", [problem for problem in starter.load() if problem.id == wanted])
    known = {pair.problem_id for pair in pairs}
    write_problems(tmp_path / "none.jsonl", [problem for problem in starter.load() if problem.id not in known])
    result = audit_model(str(tiny_reward), tmp_path / "audit", tmp_path / "pairs.jsonl", tmp_path / "one.jsonl")
    assert (result["problems"], result["pairs"]) == (1, sum(pair.problem_id == wanted for pair in pairs))
    with pytest.raises(ConfigError, match="no problem in it has a pair"):
        audit_model(str(tiny_reward), tmp_path / "b", tmp_path / "pairs.jsonl", tmp_path / "none.jsonl")


def test_a_model_audited_on_what_it_was_trained_on_is_said_to_be(
    tiny_reward: Path, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    file, folder = tmp_path / "pairs.jsonl", tmp_path / "model"
    write_pairs(file, pairs[:3])
    folder.mkdir()
    for path in tiny_reward.iterdir():
        (folder / path.name).symlink_to(path)
    jsonl.write_json(folder / "manifest.json", {"stage": "train-rm", "created": "now", "config": {"pairs": str(file)}})
    assert "was trained on pairs of this file" in audit_model(str(folder), tmp_path / "audit", file)["notices"][0]
    jsonl.write_json(folder / "manifest.json", {"stage": "train-rm", "created": "later", "config": {"pairs": "other"}})
    with pytest.raises(ConfigError, match="another model_made"):
        audit_model(str(folder), tmp_path / "audit", file)
    result = audit_model(str(folder), tmp_path / "again", file)
    assert not any("was trained on" in notice for notice in result["notices"])


@pytest.mark.parametrize("model", ["baseline:length", "judge:gpt", "scores.jsonl"])
def test_what_is_no_reward_model_is_refused(model: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be audited"):
        audit_model(model, tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_a_missing_extra_is_named_before_anything_is_scored(
    module: str, monkeypatch: pytest.MonkeyPatch, pairs: list[PreferencePair], tmp_path: Path
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    scorer = Scorer(lambda *_: 0.0)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "recode-rl[report]"')):
        audit(scorer, pairs, tmp_path, SETTINGS)
    assert scorer.asked == []
