"""The report: every part of a run is on the page, a missing part is named, and nothing a model wrote is markup."""

from __future__ import annotations

import json
import math
import random
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl
from recode_rl.errors import DataError, MissingExtraError
from recode_rl.report import build_report, figure_png, summarise
from recode_rl.report.completions import choose
from recode_rl.report.panels import gate, training, watched
from recode_rl.report.plots import smoothed
from recode_rl.report.run import read_run, read_runs
from recode_rl.report.summary import notices

ATTACK = "<script>alert(1)</script>"
PROBLEMS = 24
LABELS = ("before_sft", "after_sft", "after_rl")


def make_run(folder: Path, *, rl: bool = True, seed: int = 0, steps: int = 60) -> Path:
    """A run folder as quickstart writes it, with made-up numbers."""
    rng = random.Random(seed)
    manifest = {
        "stage": "quickstart",
        "created": "2025-01-02T03:04:05+00:00",
        "git_commit": "0123456789ab",
        "python": "3.11.9",
        "command": f"recode-rl quickstart --seed {seed}",
        "seed": seed,
        "config": {"policy": {"learning_rate": 1e-6, "rule": "consistency_gated"}, "seed": seed},
        "stages": {"sft": {"seconds": 61.0}, "reward_model": {"seconds": 340.5}, "rl": {"seconds": 9200}},
        "evaluations": list(LABELS),
    }
    jsonl.write_json(folder / "manifest.json", manifest)
    jsonl.write(
        folder / "problems.jsonl",
        [
            {"id": f"p/{i}", "prompt": f"Statement number {i}: add {i} to x & return <it>.", "tests": {}}
            for i in range(PROBLEMS)
        ],
    )
    jsonl.write(
        folder / "sft" / "metrics.jsonl", [{"step": i, "loss": 2 * math.exp(-i / 9), "time_s": i} for i in range(30)]
    )
    jsonl.write(
        folder / "reward-model" / "metrics.jsonl",
        [
            {"step": i, "loss": 0.7 - 0.01 * i, "accuracy": 0.5 + 0.01 * i}
            | ({"eval_accuracy": 0.5 + 0.008 * i, "eval_loss": 0.69 - 0.006 * i} if i % 5 == 0 else {})
            for i in range(31)
        ],
    )
    jsonl.write_json(folder / "reward-model" / "evaluation.json", reward_model_evaluation())
    if rl:
        jsonl.write(folder / "metrics.jsonl", [rl_row(i, steps, rng) for i in range(steps)])
    for place, label in enumerate(LABELS if rl else LABELS[:2]):
        make_evaluation(folder / "eval" / label, place, rng)
    return folder


def reward_model_evaluation() -> dict[str, Any]:
    def part(accuracy: float, n: int) -> dict[str, Any]:
        return {"accuracy": accuracy, "interval": [accuracy - 0.06, accuracy + 0.05], "n": n}

    return {
        **part(0.83, 300),
        "by_kind": {"opt_deg": part(0.93, 100), "opt_ori": part(0.71, 100), "ori_deg": part(0.85, 100)},
        "by_method": {"logical_gap": part(0.8, 60), "factual_error": part(0.9, 60)},
        "baselines": {"shorter": part(0.38, 300), "longer": part(0.62, 300), "ngrams": part(0.74, 300)},
        "best_baseline": "ngrams",
        "difference": 0.09,
        "difference_interval": [0.03, 0.15],
        "folds": [{"fold": i, "n": 60, "accuracy": 0.8 + 0.02 * i} for i in range(5)],
    }


def rl_row(step: int, steps: int, rng: random.Random) -> dict[str, Any]:
    done = step / steps
    passed = max(0.0, min(1.0, 0.15 + 0.4 * done + rng.gauss(0, 0.05)))
    process = None if step == 3 else 0.4 + 0.35 * done + rng.gauss(0, 0.04)
    form = min(1.0, 0.7 + 0.5 * done + rng.gauss(0, 0.02))
    row = {
        "step": step,
        "time_s": 9.0 * step,
        "reward/total": form + passed + passed * (process or 0),
        "reward/format": form,
        "reward/outcome": passed,
        "reward/process_passing": process,
        "gate/open_share": passed,
        "groups/all_correct": round(8 * passed**2),
        "groups/all_wrong": round(8 * (1 - passed) ** 2),
        "groups/mixed": 8 - round(8 * passed**2) - round(8 * (1 - passed) ** 2),
        "tokens/completion_mean": 300 - 60 * done + rng.gauss(0, 8),
        "tokens/truncated_share": max(0.0, 0.12 - 0.1 * done + rng.gauss(0, 0.01)),
        "advantage/process_share": 0.2 + 0.1 * done,
        "infra/failed": 0,
        "loss": rng.gauss(0, 0.02),
        "grad_norm": 1 + rng.random(),
        "entropy": 1.2 - 0.4 * done,
        "clip/high_share": 0.02,
        "an/unknown_key": 7.25,
    }
    if step % 20 == 0:
        row |= {"eval/pass_rate": 0.2 + 0.3 * done, "eval/reward_total": 1.2 + done}
    return row


def make_evaluation(folder: Path, place: int, rng: random.Random) -> None:
    samples: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []
    rewards: list[dict[str, Any]] = []
    for i in range(PROBLEMS):
        key = {"problem_id": f"p/{i}", "sample_id": "0"}
        passed = i < 5 + 5 * place
        process = round(0.2 + 0.7 * rng.random(), 3) if passed else None
        answer = f"<answer>\n```python\ndef f(x):\n    return x + {i}  # {ATTACK}\n```\n</answer>"
        samples.append(key | {"completion": f"<think>Think {ATTACK} about {i}.</think>{answer}", "tokens": 90 + i})
        status = "passed" if passed else "wrong_answer"
        detail = None if passed else f"f(1) gave {ATTACK}"
        counts = {"tests_passed": 3 if passed else 1, "tests_total": 3}
        verdicts.append(key | {"passed": passed, "status": status, "isolation": "proxied", "detail": detail} | counts)
        total = 1.0 + passed + (process or 0.0)
        rewards.append(
            key
            | {"rule": "consistency_gated", "format": 1.0, "outcome": float(passed), "process": process, "total": total}
        )
    jsonl.write(folder / "samples.jsonl", samples)
    jsonl.write(folder / "verdicts.jsonl", verdicts)
    jsonl.write(folder / "rewards.jsonl", rewards)
    rate = (5 + 5 * place) / PROBLEMS

    def mean(value: float) -> dict[str, Any]:
        return {"mean": value, "interval": [value * 0.85, value * 1.1]}

    results = {
        "pass@1": rate,
        "interval": [rate - 0.12, rate + 0.13],
        "n": PROBLEMS,
        "samples": PROBLEMS,
        "by_difficulty": {
            kind: {"pass@1": rate * share, "interval": [rate * share * 0.7, rate * share * 1.2], "n": 8}
            for kind, share in (("hard", 0.5), ("easy", 1.4), ("medium", 1.0))
        },
        "reward": {
            "total": mean(1.3 + rate),
            "format": mean(0.9),
            "outcome": mean(rate),
            "process_passing": mean(0.4 + 0.1 * place) if place else None,
        },
        "tokens": {
            "mean": 280.0 - 20 * place,
            "interval": [260.0 - 20 * place, 300.0 - 20 * place],
            "passing_mean": 210.0,
        },
        "by_status": {"passed": 5 + 5 * place, "wrong_answer": 19 - 5 * place},
        "not_evaluated": [],
    }
    jsonl.write_json(folder / "results.json", results)


class Page(HTMLParser):
    """Tags, what they would load, and the visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in_style = tag == "style"
        for key, value in attrs:
            assert not key.startswith("on"), f"<{tag} {key}> runs a script"
            if key in ("src", "href", "xlink:href", "action", "data", "srcset", "poster") and value:
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.words.append(data)
        self._in_style = False

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(out: Path, *runs: Path) -> tuple[Page, str]:
    build_report(runs, out)
    text = out.read_text(encoding="utf-8")
    return Page(text), text


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "full")


@pytest.fixture(scope="module")
def full_page(full: Path) -> tuple[Page, str]:
    return page_of(full / "report.html", full)


def test_the_headline_has_before_and_after(full_page: tuple[Page, str]) -> None:
    text = full_page[0].text
    assert "20.8 % → 62.5 %" in text
    assert "+41.7 points" in text
    assert "before SFT → after RL" in text
    assert "2025-01-02 03:04 UTC" in text
    assert "Gate open" in text
    assert "83.0 % best baseline 74.0 % (word n-grams)" in text


def test_every_part_is_on_the_page(full_page: tuple[Page, str]) -> None:
    page, text = full_page
    for title in (
        "Total reward",
        "Gate open: share",
        "Process reward",
        "Groups",
        "Cut off",
        "Pass rate by difficulty",
        "Pair accuracy",
    ):
        assert title in page.text
    for row in ("opt_deg", "logical gap", "fold 4", "2.6 h", "an/unknown_key", "recode-rl quickstart --seed 0"):
        assert row in page.text.replace("improved over damaged", "opt_deg")
    assert page.tags.count("svg") >= 18
    assert "absent" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)


def test_what_models_wrote_stays_text(full_page: tuple[Page, str]) -> None:
    page, text = full_page
    assert "script" not in page.tags
    assert ATTACK not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6
    assert f"Think {ATTACK} about" in page.text


def test_the_page_loads_nothing(full_page: tuple[Page, str]) -> None:
    page, text = full_page
    assert page.loads
    assert all(link.startswith("#") for link in page.loads)
    assert not re.search(r"https?://", text)
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not {"link", "img", "iframe", "object", "embed"} & {*page.tags}


def test_references_inside_the_figures_resolve_and_are_unique(full_page: tuple[Page, str]) -> None:
    _, text = full_page
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    assert used and used <= set(ids)


def test_figures_take_every_colour_from_the_page(full_page: tuple[Page, str]) -> None:
    _, text = full_page
    figures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert not {match for figure in figures for match in re.findall(r"#[0-9a-f]{6}\b", figure)}
    defined = set(re.findall(r"(--[a-z0-9-]+):", text))
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", text)) <= defined
    assert "prefers-color-scheme: dark" in text


def test_three_completions_are_chosen_from_the_last_evaluation(full: Path, full_page: tuple[Page, str]) -> None:
    high, low, failed = choose(read_run(full))
    rewards = [row for _, row in jsonl.read(full / "eval" / "after_rl" / "rewards.jsonl") if row["process"] is not None]
    assert high.rewards["process"] == max(row["process"] for row in rewards)
    assert low.rewards["process"] == min(row["process"] for row in rewards)
    assert not failed.verdict["passed"]
    assert failed.statement.startswith("Statement number 15")
    assert "def f(x)" in high.program and "```" not in high.program
    text = full_page[0].text
    assert "gate shut" in text  # a gated-out process reward is absent, not zero
    assert "add 15 to x & return <it>." in text


def test_completions_without_process_rewards_or_form(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    folder = run / "eval" / "after_rl"
    (folder / "rewards.jsonl").unlink()
    samples = [row for _, row in jsonl.read(folder / "samples.jsonl")]
    for row in samples[15:]:
        row["completion"] = "no blocks at all"
    jsonl.write(folder / "samples.jsonl", samples)
    first, second, failed = choose(read_run(run))
    assert (first.problem_id, second.problem_id) == ("p/0", "p/1")
    assert (failed.text, failed.program) == ("no blocks at all", "")
    page, _ = page_of(tmp_path / "out.html", run)
    assert "no blocks at all" in page.text


def test_a_run_without_rl_says_so(tmp_path: Path) -> None:
    page, _ = page_of(tmp_path / "out.html", make_run(tmp_path / "only sft", rl=False))
    assert "No RL metrics in this run." in page.text
    assert "20.8 % → 41.7 %" in page.text
    assert "Gate open" not in page.text


def test_every_missing_part_is_named(tmp_path: Path) -> None:
    run = tmp_path / "bare"
    jsonl.write(run / "metrics.jsonl", [{"step": 1, "reward/total": 1.0}, {"step": 2, "reward/outcome": None}])
    page, _ = page_of(tmp_path / "out.html", run)
    for part in ("evaluation", "reward model evaluation", "fine-tuning metrics", "evaluation samples", "manifest"):
        assert f"No {part} in this run." in page.text
    assert "No RL metrics" not in page.text
    assert "No headline numbers in this run." in page.text


def test_two_runs_stand_side_by_side(tmp_path: Path, full: Path) -> None:
    other = make_run(tmp_path / "other", seed=1)
    (other / "reward-model" / "evaluation.json").unlink()
    page, text = page_of(tmp_path / "out.html", full, other)
    assert "2 runs" in page.text
    assert "No reward model evaluation in other." in page.text
    assert "Groups: full" in page.text and "Groups: other" in page.text
    assert "Settings that differ" in page.text
    assert "policy.rule" not in re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
    assert text.count('class="tiles"') == 2


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / parent / "run", rl=False) for parent in ("a", "b")]
    assert [run.name for run in read_runs(runs)] == ["a/run", "b/run"]


def test_names_and_labels_are_escaped_in_figures_too(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a <b> $x$", rl=False)
    (run / "eval" / "after_sft").rename(run / "eval" / "<img src=x> $\\frac$")
    page, _ = page_of(tmp_path / "out.html", run, make_run(tmp_path / "b", rl=False))
    assert not {"b", "img"} & {*page.tags} - {"b"}
    assert "<img src=x>" in page.text


def test_a_continued_run_counts_a_repeated_step_once(tmp_path: Path) -> None:
    rows = [{"step": 2, "reward/total": 5.0}, {"step": 1, "reward/total": 1.0}, {"step": 2, "reward/total": 2.0}]
    jsonl.write(tmp_path / "metrics.jsonl", rows)
    assert [row["reward/total"] for row in read_run(tmp_path).rl] == [1.0, 2.0]


def test_evaluations_come_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    manifest = json.loads((run / "manifest.json").read_text())
    jsonl.write_json(run / "manifest.json", manifest | {"evaluations": ["after_rl", "never_made", "after_sft"]})
    assert [e.label for e in read_run(run).evaluations] == ["after_rl", "after_sft", "before_sft"]


def test_a_folder_that_eval_wrote_is_a_run(tmp_path: Path) -> None:
    """Its own results are its one evaluation, beside those of a training run."""
    make_evaluation(tmp_path / "he-plus", 3, random.Random(0))
    (found,) = read_run(tmp_path / "he-plus").evaluations
    assert (found.label, found.results["pass@1"]) == ("he-plus", 20 / 24)
    both = tmp_path / "both.html"
    build_report([make_run(tmp_path / "run"), tmp_path / "he-plus"], both)
    assert "83.3 %" in both.read_text(encoding="utf-8")  # 20 of 24 problems; the run's own have 5, 10 and 15
    figure_png(tmp_path / "he-plus", tmp_path / "he-plus.png")


def test_summary_has_the_paired_difference(full: Path) -> None:
    found = summarise(full)
    json.dumps(found, allow_nan=False)
    assert found["run"] == "full"
    assert found["steps"] == 59
    assert found["evaluations"] == {"before_sft": 5 / 24, "after_sft": 10 / 24, "after_rl": 15 / 24}
    change = found["pass@1"]
    assert (change["before"], change["after"], change["n"]) == (5 / 24, 15 / 24, 24)
    assert change["interval"][0] < 10 / 24 < change["interval"][1]
    assert found["reward_model"]["baseline_accuracy"] == 0.74
    assert found["gate_open_share"]["first"] < found["gate_open_share"]["last"]


def test_summary_of_a_run_that_evaluated_only_while_training(tmp_path: Path) -> None:
    jsonl.write(tmp_path / "metrics.jsonl", [{"step": i, "eval/pass_rate": i / 10} for i in range(1, 4)])
    found = summarise(tmp_path)
    assert (found["pass@1"]["before"], found["pass@1"]["after"], found["pass@1"]["to"]) == (0.1, 0.3, "step 3")
    assert found["reward_total"] is None
    assert found["reward_model"] is None


def test_a_difference_over_part_of_the_problems_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", rl=False)
    verdicts = run / "eval" / "after_sft" / "verdicts.jsonl"
    jsonl.write(verdicts, [row for _, row in jsonl.read(verdicts)][:10])
    page, _ = page_of(tmp_path / "out.html", run)
    assert "+50.0 points (20.0 to 80.0) on 10 shared problems" in page.text
    assert summarise(run)["pass@1"]["difference"] == 0.5


def test_evaluations_while_training_are_marked_on_what_they_measure(tmp_path: Path) -> None:
    rows = [{"step": i, "reward/outcome": -0.5, "gate/open_share": 0.2, "eval/pass_rate": 0.2} for i in range(3)]
    gated, plain = tmp_path / "gated", tmp_path / "plain"
    jsonl.write(gated / "metrics.jsonl", rows)
    jsonl.write(plain / "metrics.jsonl", [{key: row[key] for key in row if key != "gate/open_share"} for row in rows])
    noted = {panel.title for panel in [*training([read_run(gated)]), *gate([read_run(gated)])] if panel.note}
    assert noted == {"Gate open: share of completions that passed"}
    assert {panel.title for panel in training([read_run(plain)]) if panel.note} == {"Outcome reward"}


def test_notices_name_what_looks_wrong(tmp_path: Path) -> None:
    rows = [
        {
            "step": i,
            "reward/outcome": 0.3,
            "reward/process_passing": 0.97,
            "gate/open_share": 0.0,
            "tokens/truncated_share": 0.5,
            "infra/failed": 1,
        }
        for i in range(20)
    ]
    jsonl.write(tmp_path / "metrics.jsonl", rows)
    weak = reward_model_evaluation() | {"difference_interval": [-0.01, 0.1]}
    jsonl.write_json(tmp_path / "reward-model" / "evaluation.json", weak)
    found = " ".join(notices(read_run(tmp_path)))
    for part in (
        "process reward stands at 0.97",
        "gate stayed shut",
        "50 % of the completions",
        "adds up to 20",
        "n-grams",
    ):
        assert part in found


def test_a_sound_run_has_no_notices(full: Path) -> None:
    assert notices(read_run(full)) == []


def test_smoothing_skips_gaps() -> None:
    values = [1.0, float("nan"), 3.0] + [2.0] * 20
    found = smoothed(values)
    assert len(found) == len(values)
    assert found[1] == 2.0
    assert found[10] == 2.0


def test_the_main_figure_is_a_picture(full: Path, tmp_path: Path) -> None:
    out = tmp_path / "docs" / "figure.png"
    figure_png(full, out)
    assert out.read_bytes().startswith(b"\x89PNG\r\n")
    assert [path.name for path in out.parent.iterdir()] == ["figure.png"]


def test_a_failing_report_leaves_the_old_page(tmp_path: Path, full: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("old")
    broken = make_run(tmp_path / "broken", rl=False)
    (broken / "eval" / "after_sft" / "verdicts.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"verdicts\.jsonl: line 1"):
        build_report([full, broken], out)
    assert out.read_text() == "old"


@pytest.mark.parametrize("content", [None, "empty"])
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None) -> None:
    folder = tmp_path / "nothing"
    if content:
        folder.mkdir()
    with pytest.raises(DataError, match="nothing"):
        build_report([folder], tmp_path / "out.html")


def test_no_run_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no run folder given"):
        build_report([], tmp_path / "out.html")


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_a_missing_extra_names_its_install(
    module: str, monkeypatch: pytest.MonkeyPatch, full: Path, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=re.escape('pip install "recode-rl[report]"')):
        build_report([full], tmp_path / "out.html")


def test_importing_the_report_stays_light() -> None:
    import subprocess

    code = "import sys, recode_rl.report; print({'matplotlib', 'jinja2', 'numpy'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def watched_run(folder: Path) -> Path:
    """A run that the monitor has looked at, with an alarm."""
    rng = random.Random(1)
    rows = [
        {
            **rl_row(step, 20, rng),
            "process/passing": 0.5 + 0.02 * step,
            "process/failing": 0.4 + 0.02 * step if step % 2 else None,
            "process/saturated_share": 0.0,
            "reasoning/relevance": 0.95,
            "reasoning/copied_share": 0.01,
            "reasoning/phrase_rise": None if step < 16 else 0.5,
            "reasoning/phrase_favour": None if step < 16 else 0.3,
            "format/empty_share": 0.02,
            "time/generate_s": 2.0,
            "time/grade_s": 1.0,
        }
        for step in range(1, 21)
    ]
    jsonl.write(folder / "metrics.jsonl", rows)
    alarm = {"step": 16, "name": "repeated_phrase", "message": f"“{ATTACK}” stands in 50%", "look_at": "the phrase"}
    jsonl.write(folder / "alarms.jsonl", [alarm])
    return folder


def test_what_the_monitor_saw_and_warned_of_is_on_the_page(tmp_path: Path) -> None:
    run = watched_run(tmp_path / "watched")
    titles = [panel.title for panel in watched([read_run(run)])]
    assert titles == [
        "Process reward, passed and failed",
        "The phrase that spreads most",
        "What reasonings are made of",
        "Seconds of a step by stage",
        "Process rewards of 0.95 and more",
    ]
    assert any(notice.startswith("Alarm at step 16, repeated phrase: ") for notice in notices(read_run(run)))
    build_report([run], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Watch on reward hacking" in page
    assert "Look at: the phrase." in page
    assert ATTACK not in page


def test_a_run_without_a_monitor_has_no_such_section(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps=5)
    assert watched([read_run(run)]) == []
    build_report([run], tmp_path / "report.html")
    assert "Watch on reward hacking" not in (tmp_path / "report.html").read_text(encoding="utf-8")
