"""The model card of a reward model: what it is, what it was trained on, how it did there, how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recode_rl import jsonl

_CARD = """---
library_name: transformers
pipeline_tag: text-classification
base_model: {base_id}
tags: [reward-model, code, reasoning, crpl]
---

# A reward model for reasoning about programs

Scores a reasoning for a programming problem: the sigmoid of its one output is the process reward in [0, 1]. It reads
the problem and the reasoning, never the program. It was trained by Bradley–Terry on pairs of reasonings (CRPL).

## Training

| | |
|---|---|
| base | `{base}` |
| weights | {weights} |
| pairs | {trained} for training ({kinds}), {validation} held out, {refused} refused |
| problems | {problems} |
| generators of the reasonings | {generators} |
| pairs file | {pairs} |
| epochs, learning rate, pairs an update | {epochs}, {learning_rate}, {batch_size} |
| longest input | {max_length} tokens; {cut} reasonings lost their middle |
| precision, seed | {precision}, {seed} |
| code | recode-rl, commit {commit} |

{held_out}

`manifest.json` holds the whole configuration and the versions of all packages, `metrics.jsonl` every step.

## Use

```
recode-rl score --model FOLDER --pairs pairs.jsonl --out scores.jsonl
recode-rl eval-rm --model FOLDER --pairs pairs.jsonl
```

An input is the text `Problem:\\n…\\n\\nReasoning:\\n…` followed by the end token; `recode_rl.scorer.encode` builds it.
Scores of other inputs (a program, a chat, an empty reasoning) mean nothing.

## Limits

Accuracy on the pairs it was trained on says little. Judge it on problems and authors it has not seen
(`recode-rl eval-rm`), beside the baselines that do not read the problem, and look at what sways it
(`recode-rl audit-rm`) before its score is worth a reward.
"""


def write(folder: Path, base: str) -> None:
    """Write README.md into the folder of a reward model, out of its manifest and metrics."""
    manifest = jsonl.read_json(folder / "manifest.json")
    (folder / "README.md").write_text(_text(manifest, _held_out(folder / "metrics.jsonl"), base), encoding="utf-8")


def _text(manifest: dict[str, Any], held_out: str, base: str) -> str:
    config = manifest["config"]
    lora = config.get("lora")
    # A local folder is nobody else's address.
    name = base if base.count("/") == 1 and not Path(base).exists() else Path(base).name
    return _CARD.format(
        base=name,
        base_id=name,
        weights=f"adapters of rank {lora['rank']}, merged" if lora else "all trained",
        trained=manifest["pairs"]["trained"],
        validation=manifest["pairs"]["validation"],
        kinds=_counts(manifest["kinds"]),
        refused=sum(manifest["refused"].values()),
        problems=manifest["problems"],
        generators=_counts(manifest["generators"]),
        pairs=f"`{Path(config['pairs']).name}`" if config["pairs"] else "the starter corpus",
        cut=manifest["reasonings_cut"],
        commit=manifest["git_commit"] or "unknown",
        held_out=held_out,
        **{key: config[key] for key in ("epochs", "learning_rate", "batch_size", "max_length", "precision", "seed")},
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name or 'not named'} {count}" for name, count in sorted(counts.items()))


def _held_out(metrics: Path) -> str:
    """The best evaluation on held-out problems, by its loss: the one whose weights were kept."""
    found = [line for _, line in jsonl.read(metrics) if "eval_loss" in line] if metrics.exists() else []
    if not found:
        return "No problems were held out in training."
    best = min(found, key=lambda line: float(line["eval_loss"]))
    return (
        f"Kept is the checkpoint of step {best['step']}, with the lowest loss on held-out problems: "
        f"{best['eval_loss']:.4f}, accuracy {best['eval_accuracy']:.3f}."
    )
