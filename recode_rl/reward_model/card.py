"""The model card of a reward model: what it is, what it was trained on, how it did there, how to use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recode_rl import jsonl

_CARD = """---
library_name: transformers
pipeline_tag: {pipeline}
base_model: {base}
tags: [reward-model, code, reasoning, crpl]
---

# A reward model for reasoning about programs

{purpose}

## Training

| | |
|---|---|
| base | `{base}` |
| weights | {weights} |
{data}
| epochs, learning rate, {unit} an update | {epochs}, {learning_rate}, {batch_size} |
| longest input | {max_length} tokens; {cut} reasonings lost their middle |
| precision, seed | {precision}, {seed} |
| code | recode-rl, commit {commit} |

{held_out}

`manifest.json` holds the whole configuration and the versions of all packages, `metrics.jsonl` every step.

## Use

```
{use}
```

{form}
Scores of other inputs (a program, a chat, an empty reasoning) mean nothing.

## Limits

Accuracy on the pairs it was trained on says little. Judge it on problems and authors it has not seen
(`recode-rl eval-rm`), beside the baselines that do not read the problem, and look at what sways it
(`recode-rl audit-rm`) before its score is worth a reward.
"""

_PAIRS = {
    "pipeline": "text-classification",
    "unit": "pairs",
    "purpose": """Scores a reasoning for a programming problem: the sigmoid of its one output is the process reward in
[0, 1]. It reads the problem and the reasoning, never the program. It was trained by Bradley–Terry on pairs of
reasonings (CRPL).""",
    "data": """| pairs | {trained} for training ({kinds}), {validation} held out, {refused} refused |
| problems | {problems} |
| generators of the reasonings | {generators} |
| pairs file | {file} |""",
    "use": """recode-rl score --model FOLDER --pairs pairs.jsonl --out scores.jsonl
recode-rl eval-rm --model FOLDER --pairs pairs.jsonl""",
    "form": """An input is the text `Problem:\\n…\\n\\nReasoning:\\n…` followed by the end token;
`recode_rl.scorer.encode` builds it.""",
}

_SCORES = {
    "pipeline": "text-generation",
    "unit": "reasonings",
    "purpose": """The score-based baseline: a language model that says a score from 0.0 to 1.0, in steps of 0.1, for a
reasoning for a programming problem; the expected value over these eleven texts is its process reward. It reads the
problem and the reasoning, never the program. It was trained on the scores that a judge model gave, by cross-entropy on
the score's tokens alone.""",
    "data": """| reasonings | {trained} for training, {validation} held out |
| their scores | {scores} |
| judged by | {judges} |
| problems | {problems} |
| generators of the reasonings | {generators} |
| file | {file} |""",
    "use": """recode-rl eval-rm --model FOLDER --pairs pairs.jsonl
recode-rl audit-rm --model FOLDER --out audit""",
    "form": """An input is the text `Problem:\\n…\\n\\nReasoning:\\n…\\n\\nScore of the reasoning from 0.0 to 1.0:`;
`recode_rl.reward_model.generative` builds and reads it.""",
}


def write(folder: Path) -> None:
    """Write README.md into the folder of a reward model, out of its manifest and metrics."""
    manifest = jsonl.read_json(folder / "manifest.json")
    (folder / "README.md").write_text(_text(manifest, folder / "metrics.jsonl"), encoding="utf-8")


def _text(manifest: dict[str, Any], metrics: Path) -> str:
    config = manifest["config"]
    by_score = config.get("objective") == "score"
    texts, counts = (_SCORES, _about_scores(manifest)) if by_score else (_PAIRS, _about_pairs(manifest))
    lora, base = config.get("lora"), config["base"]
    return _CARD.format(
        # A local folder is nobody else's address.
        base=base if base.count("/") == 1 and not Path(base).exists() else Path(base).name,
        weights=f"adapters of rank {lora['rank']}, merged" if lora else "all trained",
        data=texts["data"].format(**counts, **_about_all(manifest)),
        cut=manifest["reasonings_cut"],
        commit=manifest["git_commit"] or "unknown",
        held_out=_held_out(metrics, manifest.get("held_out_loss_of_frequencies")),
        form=texts["form"] + ("" if by_score else _reading(config)),
        **{key: texts[key] for key in ("pipeline", "unit", "purpose", "use")},
        **{key: config[key] for key in ("epochs", "learning_rate", "batch_size", "max_length", "precision", "seed")},
    )


def _reading(config: dict[str, Any]) -> str:
    """What a loader that knows sequence classifiers alone would miss."""
    if config.get("pooling", "last") == "last" and not config.get("likelihood"):
        return ""
    read = "the mean state of the reasoning" if config["pooling"] == "mean" else "the end token"
    likely = f", and {config['likelihood']} times its mean log-probability is added" if config["likelihood"] else ""
    if config.get("copy_length"):
        likely += f" (without copies of {config['copy_length']} tokens or more)"
    return f"\nThe head reads {read}{likely}: `recode_reading` in config.json, which only this package reads."


def _about_all(manifest: dict[str, Any]) -> dict[str, Any]:
    return {"problems": manifest["problems"], "generators": _counts(manifest["generators"])}


def _about_pairs(manifest: dict[str, Any]) -> dict[str, Any]:
    file = manifest["config"]["pairs"]
    return {
        **{key: manifest["pairs"][key] for key in ("trained", "validation")},
        "kinds": _counts(manifest["kinds"]),
        "refused": sum(manifest["refused"].values()),
        "file": f"`{Path(file).name}`" if file else "the starter corpus",
    }


def _about_scores(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        **{key: manifest["reasonings"][key] for key in ("trained", "validation")},
        "scores": ", ".join(f"{score}: {count}" for score, count in sorted(manifest["scores"].items())),
        "judges": _counts(manifest["judges"]),
        "file": f"`{Path(manifest['config']['scored']).name}`",
    }


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name or 'not named'} {count}" for name, count in sorted(counts.items()))


def _held_out(metrics: Path, of_frequencies: float | None) -> str:
    """The best evaluation on held-out problems, by its loss: the one whose weights were kept."""
    found = [line for _, line in jsonl.read(metrics) if "eval_loss" in line] if metrics.exists() else []
    if not found:
        return "No problems were held out in training."
    best = min(found, key=lambda line: float(line["eval_loss"]))
    kept = f"Kept is the checkpoint of step {best['step']}, with the lowest loss on held-out problems: "
    kept += f"{best['eval_loss']:.4f}"
    if of_frequencies is None:
        return f"{kept}, accuracy {best['eval_accuracy']:.3f}."
    return f"{kept} nats a token. Saying each score as often as it occurs in training would have {of_frequencies:.4f}."
