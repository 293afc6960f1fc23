"""The data card of a built benchmark: what it holds, how it was made, who decided, what is known against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recode_rl.types import Problem

# By the source of a problem. Statements belong to those who wrote them, whatever licence a data set is under.
LICENCES = {
    "livecodebench": "code of LiveCodeBench MIT; statements remain those of AtCoder, Codeforces and LeetCode",
    "code-contests": "CodeContests CC BY 4.0; statements remain those of Codeforces, AtCoder, CodeChef and others",
    "leetcode": "LeetCodeDataset Apache-2.0; statements remain those of LeetCode",
    "apps": "APPS MIT; statements remain those of their sites",
    "taco": "TACO Apache-2.0; statements remain those of their sites",
    "deepcoder": "the licences of the data sets that it was put together from; statements remain those of their sites",
    "humaneval": "HumanEval MIT",
    "humaneval+": "HumanEval MIT, EvalPlus Apache-2.0",
    "humanevalpack": "HumanEvalPack MIT",
    "mbpp": "MBPP CC BY 4.0",
    "mbpp+": "MBPP CC BY 4.0, EvalPlus Apache-2.0",
    "bigcodebench": "BigCodeBench Apache-2.0",
    "quixbugs": "QuixBugs MIT",
    "starter": "this project's corpus, Apache-2.0",
}
_UNKNOWN = "not known here; look it up before you pass statements on"
_CARD = """# {title}

Pairs of reasonings for programming problems, a sound one and a flawed one of the same problem. What a reward model
makes of them says whether it can see the quality of a reasoning where the outcome cannot tell. Made with `recode-rl
lcb-rb`; the method is that of LCB-RB in the ReCode paper, the data are not.

{note}

## What is there

| | |
|---|---|
| pairs | {pairs} of {problems} problems |
| by difficulty | {difficulty} |
| reasonings written by | {models} |
| chosen reasonings | {chosen} different ones |
| outcomes of the programs | {outcomes} |
| problems without a date | {without_date} |
| statements | {statements} |

{how_to_read}

## How it was made

{made}

Left out on the way: {dropped}.

## Who decided

{people}

## What is known against it

{against}

## Licences

The pairs as such, the decisions and this text: Apache-2.0. Reasonings are output of the models named above, under their
terms. Statements of problems:

{licences}
"""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What the card is made of: `results` of `building.measure`, `stats` of `agreement.summarise`, and settings."""

    title: str
    note: str
    results: Mapping[str, Any]
    stats: Mapping[str, Any]
    problems: Sequence[Problem]
    settings: Mapping[str, Any]
    statements: bool


def write_card(facts: CardFacts) -> str:
    """README.md of the benchmark."""
    results = facts.results
    used = "in the file" if facts.statements else "left out, with their digests in their place"
    fill = "recode-rl lcb-rb fill --pairs pairs.jsonl --problems problems.jsonl --out filled.jsonl"
    how = "" if facts.statements else f"Put the statements back before use:\n\n```\n{fill}\n```\n\n"
    file = "pairs.jsonl" if facts.statements else "filled.jsonl"
    how += f"Measure a reward model:\n\n```\nrecode-rl eval-rm --model DIR --pairs {file}\n```"
    return _CARD.format(
        title=facts.title,
        note=facts.note.strip(),
        pairs=results["pairs"],
        problems=results["problems"],
        difficulty=_counts(results["by_difficulty"]),
        models=_counts(results["models"]),
        chosen=results["chosen_reasonings"],
        outcomes="not given" if results["outcomes"] is None else _counts(results["outcomes"]),
        without_date=results["problems_without_date"],
        statements=used,
        how_to_read=how,
        made=_made(facts.settings),
        dropped=_counts(results["dropped"]) or "nothing",
        people=_people(facts.stats),
        against=_against(results),
        licences=_licences(facts.problems),
    ).replace("\n\n\n\n", "\n\n")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _interval(ends: Sequence[float] | None, percent: bool = True) -> str:
    if ends is None:
        return "no interval"
    return "[" + ", ".join(f"{100 * end:.1f}" if percent else f"{end:.2f}" for end in ends) + "]"


def _made(settings: Mapping[str, Any]) -> str:
    window = settings.get("reserved")
    reserved = f"Problems dated {window[0]} to {window[1]} are kept out." if window else "No dates are kept out."
    return (
        f"Every flawed reasoning is the rejected side of one pair; its chosen side is drawn (seed {settings['seed']}) "
        f"from the sound reasonings of the same problem. Problems without both were dropped. {reserved} Reasonings "
        "whose program does not follow them were dropped, as were disagreements that nobody resolved. `manifest.json` "
        "has the settings, versions and all counts."
    )


def _people(stats: Mapping[str, Any]) -> str:
    lines = [f"Decisions by annotator: {_counts(stats['annotators'])}; resolved: {stats['resolved']}."]
    for found in stats["between_annotators"]:
        value = "none (one answer alone)" if found["kappa"] is None else f"{found['kappa']:.3f}"
        who = " and ".join(found["annotators"])
        lines.append(
            f"- {who}, question “{found['question']}”: Cohen's κ {value} {_interval(found['interval'], False)}, "
            f"the same in {_percent(found['agreement'])} of {found['n']}."
        )
    if judge := stats.get("judge"):
        lines.append(
            f"- The judge ({judge['judge']}) was overruled in {_percent(judge['overruled'])} "
            f"{_interval(judge['overruled_interval'])} of {judge['n']} samples."
        )
    return "\n".join(lines)


def _against(results: Mapping[str, Any]) -> str:
    length, alike = results["lengths"], results["near_duplicates"]
    lines = [
        f"- The chosen side has more words in {_percent(length['chosen_longer'])} {_interval(length['interval'])} of "
        f"the pairs (medians {length['chosen_words']['median']:g} and {length['rejected_words']['median']:g} words).",
        f"- Nearly equal: {len(alike['problems'])} pairs of statements, {len(alike['reasonings'])} pairs of "
        f"reasonings within a problem; {alike['pairs_with_nearly_equal_sides']} pairs whose sides are nearly equal.",
        "- Baselines that see nothing of the problem, accuracy with a 95 % interval over problems:",
        "",
        "| baseline | accuracy | |",
        "|---|---|---|",
    ]
    for name, found in results["baselines"].items():
        lines.append(f"| `{name}` | {_percent(found['accuracy'])} | {_interval(found['interval'])} |")
    return "\n".join(lines)


def _licences(problems: Sequence[Problem]) -> str:
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.source or "unknown"] = counts.get(problem.source or "unknown", 0) + 1
    return "\n".join(
        f"- {source} ({count} problems): {LICENCES.get(source, _UNKNOWN)}." for source, count in sorted(counts.items())
    )
