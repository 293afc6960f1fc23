"""Keep the small files of a run under docs/results: metrics, results, manifest, the figure, and a table in Markdown.

    python tools/collect_results.py runs/medium docs/results/quickstart

Models, samples and checkpoints stay behind. The table is made from the files, so no number is typed by hand.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.report import figure_png
from recode_rl.statistics import difference_interval

KEPT = (
    "manifest.json",
    "metrics.jsonl",
    "sft/metrics.jsonl",
    "sft/manifest.json",
    "reward-model/metrics.jsonl",
    "reward-model/manifest.json",
    "reward-model/evaluation.json",
    "policy/manifest.json",
    "eval/*/results.json",
    "eval/*/rewards.jsonl",
)
LABELS = {"before_sft": "before SFT", "after_sft": "after SFT", "after_rl": "after CG-GRPO"}


def keep(run: Path, out: Path) -> None:
    """Copy the small files."""
    for pattern in KEPT:
        for source in run.glob(pattern):
            target = out / source.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def cell(part: dict[str, Any] | None, name: str = "mean") -> str:
    """A number with its interval."""
    if part is None:
        return "none passed"
    low, high = part["interval"]
    return f"{part[name]:.3f} [{low:.3f}, {high:.3f}]"


def evaluations(run: Path) -> list[str]:
    """A row for each evaluation, and the paired differences between the last two."""
    rows = [
        "| evaluation | pass rate | total reward | format | process reward (passing) | tokens |",
        "|---|---|---|---|---|---|",
    ]
    for label, name in LABELS.items():
        path = run / "eval" / label / "results.json"
        if path.exists():
            r = jsonl.read_json(path)
            reward = r["reward"]
            rows.append(
                f"| {name} | {cell(r, 'pass@1')} | {cell(reward['total'])} | {cell(reward['format'])} | "
                f"{cell(reward['process_passing'])} | {r['tokens']['mean']:.0f} |"
            )
    return [*rows, "", *differences(run)]


def differences(run: Path) -> list[str]:
    """After CG-GRPO minus after SFT, sample by sample, with bootstrap intervals over problems."""
    before, after = (load(run / "eval" / label / "rewards.jsonl") for label in ("after_sft", "after_rl"))
    keys = sorted(set(before) & set(after))
    clusters = [problem for problem, _ in keys]
    lines = ["After CG-GRPO minus after SFT, paired by problem and sample:", ""]
    for name, value in (("pass rate", passed), ("total reward", total), ("format", formatted)):
        d = difference_interval([value(after[k]) for k in keys], [value(before[k]) for k in keys], clusters=clusters)
        lines.append(f"- {name}: {d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}]")
    return lines


def load(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Rewards by problem and sample."""
    return {(r["problem_id"], r["sample_id"]): r for _, r in jsonl.read(path)}


def passed(record: dict[str, Any]) -> float:
    """1.0 where every test passed."""
    return float(record["status"] == "passed")


def total(record: dict[str, Any]) -> float:
    """R."""
    return float(record["total"])


def formatted(record: dict[str, Any]) -> float:
    """R_fmt."""
    return float(record["format"])


def reward_model(run: Path) -> list[str]:
    """Accuracy on pairs beside the blind baselines."""
    e = jsonl.read_json(run / "reward-model" / "evaluation.json")
    rows = ["| judge | pairs | accuracy |", "|---|---|---|", f"| reward model | {e['n']} | {cell(e, 'accuracy')} |"]
    rows += [f"| reward model, {k} | {v['n']} | {cell(v, 'accuracy')} |" for k, v in e["by_kind"].items()]
    rows += [f"| reward model, {k} | {v['n']} | {cell(v, 'accuracy')} |" for k, v in e["by_method"].items()]
    rows += [f"| baseline: {k} | {v['n']} | {cell(v, 'accuracy')} |" for k, v in e["baselines"].items()]
    low, high = e["difference_interval"]
    best = f"Reward model minus the best baseline ({e['best_baseline']}), paired: {e['difference']:+.3f}"
    return [*rows, "", f"{best} [{low:+.3f}, {high:+.3f}]"]


def main() -> None:
    """Copy and draw."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    keep(run, out)
    figure_png(run, out / "figure.png")
    lines: list[str] = []
    if (run / "reward-model" / "evaluation.json").exists():
        lines += [*reward_model(run), ""]
    if (run / "eval" / "after_rl" / "rewards.jsonl").exists():
        lines += evaluations(run)
    jsonl.write_text(out / "tables.md", "\n".join(lines) + "\n")
    print(f"{out}: kept")


if __name__ == "__main__":
    main()
