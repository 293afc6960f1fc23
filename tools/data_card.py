"""Write the numbers of the starter corpus into its data card: `python tools/data_card.py`.

The card (`recode_rl/problems/starter/README.md`) holds them between two marks; a test compares.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean, median

from recode_rl.pairs import make_pairs
from recode_rl.problems import starter
from recode_rl.problems.splits import split_by_id
from recode_rl.reward_model.baselines import run_baselines
from recode_rl.statistics import mean_interval
from recode_rl.types import DEGRADE_METHODS, OPTIMIZE_METHODS, PreferencePair, Quality, Variant

CARD = Path(__file__).resolve().parents[1] / "recode_rl" / "problems" / "starter" / "README.md"
BEGIN, END = "<!-- numbers: tools/data_card.py -->", "<!-- end of numbers -->"
LEVELS = ("easy", "medium", "hard")
QUALITIES: tuple[Quality, ...] = ("optimized", "base", "degraded")
PARTS: tuple[starter.Part, ...] = ("core", "harder")
STYLES = {"starter-corpus": "prose", "starter-corpus/steps": "steps", "starter-corpus/notes": "notes"}


def main() -> int:
    """Replace what stands between the marks."""
    text = CARD.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    CARD.write_text(f"{head}{BEGIN}\n\n{contents()}\n\n{baselines()}\n\n{END}{tail}", encoding="utf-8")
    return 0


def contents() -> str:
    """What is in the corpus: problems, split, methods, lengths."""
    entries = starter.entries("all")
    pairs = _pairs("all")
    cases = sum(len(entry.problem.tests.cases) for entry in entries)
    lines = [f"{len(entries)} problems with {cases} tests, {len(pairs)} pairs."]
    rows = []
    for part in PARTS:
        themes = sorted({entry.problem.metadata["theme"] for entry in starter.entries(part)})
        for theme in themes:
            of_theme = [e.problem for e in starter.entries(part) if e.problem.metadata["theme"] == theme]
            calls = sum(problem.tests.kind == "calls" for problem in of_theme)
            levels = Counter(problem.difficulty for problem in of_theme)
            rows.append([part, f"`{theme}`", calls, len(of_theme) - calls, *(levels[x] for x in LEVELS), len(of_theme)])
    lines += _table(["part", "theme", "functions", "stdin/stdout", *LEVELS, "problems"], rows)
    rows = []
    for split in ("train", "held_out"):
        chosen = [entry.problem for entry in entries if split_by_id(entry.problem.id) == split]
        levels = Counter(problem.difficulty for problem in chosen)
        count = sum(split_by_id(pair.problem_id) == split for pair in pairs)
        rows.append([f"`{split}`", *(levels[level] for level in LEVELS), len(chosen), count])
    lines += ["**Split**, by the digest of the id (`recode_rl/problems/splits.py`):"]
    lines += _table(["split", *LEVELS, "problems", "pairs"], rows)
    by_style: dict[str, list[Variant]] = {style: [] for style in STYLES}
    for variant in starter.variants():
        by_style[variant.generator].append(variant)
    lines += ["**Methods.** A degraded reasoning has one, an optimized one has one or two:"]
    rows = [
        [f"`{method}`", *(sum(method in v.methods for v in by_style[style]) for style in STYLES)]
        for method in (*DEGRADE_METHODS, *OPTIMIZE_METHODS)
    ]
    lines += _table(["method", *STYLES.values()], rows)
    lines += ["**Length** in words, mean (median, range):"]
    rows = []
    for quality in QUALITIES:
        counts = [[len(v.reasoning.split()) for v in by_style[style] if v.variant == quality] for style in STYLES]
        rows.append(
            [f"`{quality}`", *(f"{fmean(c):.1f} ({median(c):.0f}, {min(c)}–{max(c)})" if c else "" for c in counts)]
        )
    lines += _table(["quality", *STYLES.values()], rows)
    return "\n\n".join(lines)


def baselines() -> str:
    """What baselines that do not read the problem score, over parts, kinds and styles."""
    lines = []
    groups: list[tuple[str, Callable[[PreferencePair], bool]]] = [("all pairs", lambda pair: True)]
    groups += [(f"`{kind}`", lambda pair, kind=kind: pair.kind == kind) for kind in ("opt_deg", "opt_ori", "ori_deg")]  # type: ignore[misc]
    groups += [(name, lambda pair, style=style: pair.generator == style) for style, name in STYLES.items()]  # type: ignore[misc]
    parts: tuple[starter.Part, ...] = ("all", "harder")
    for part in parts:
        pairs = _pairs(part)
        found = run_baselines(pairs)
        rows = []
        for name, belongs in groups:
            places = [place for place, pair in enumerate(pairs) if belongs(pair)]
            clusters = [pairs[place].problem_id for place in places]
            cells = [_interval([found[key][place] for place in places], clusters) for key in ("ngrams", "shorter")]
            rows.append([name, len(places), *cells])
        lines += [f"**{'All problems' if part == 'all' else 'The harder part alone'}:**"]
        lines += _table(["", "pairs", "`ngrams`", "`shorter`"], rows)
    return "\n\n".join(lines)


def _pairs(part: starter.Part) -> list[PreferencePair]:
    return make_pairs(starter.load(part), starter.variants(part)).pairs


def _interval(values: Sequence[float], clusters: Sequence[str]) -> str:
    found = mean_interval(values, clusters=clusters)
    return f"{100 * found.mean:.1f} % [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)]


if __name__ == "__main__":
    sys.exit(main())
