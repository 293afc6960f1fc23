"""What `stats` and `correlation` say on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def stats_lines(values: Mapping[str, Any]) -> list[str]:
    """Lines of `lcb-rb stats`."""
    final = ", ".join(f"{count} {name}" for name, count in values["final"].items())
    lines = [f"{values['samples']} samples, {values['decisions']} decisions; in the end: {final}"]
    for found in values["between_annotators"]:
        first, second = found["annotators"]
        lines.append(f"{first} (rows) and {second} (columns), question {found['question']}: {_kappa(found)}")
        lines += _table(found["labels"], found["confusion"])
    if not values["between_annotators"]:
        lines.append("no sample has decisions of two annotators: no κ")
    if judge := values["judge"]:
        lines += judge_lines(judge)
    return lines


def judge_lines(judge: Mapping[str, Any]) -> list[str]:
    """How the judge does beside people."""
    low, high = judge["overruled_interval"]
    lines = [
        f"judge {judge['judge']} (rows) against people (columns): {_kappa(judge)}; overruled in "
        f"{judge['overruled']:.3f} [{low:.3f}, {high:.3f}]"
    ]
    lines += _table(judge["labels"], judge["confusion"])
    for name in ("sensitivity", "specificity", "precision"):
        if rate := judge["soundness"][name]:
            low, high = rate["interval"]
            lines.append(f"  {name} for flaws: {rate['mean']:.3f} [{low:.3f}, {high:.3f}] of {rate['n']}")
    return lines


def _kappa(found: Mapping[str, Any]) -> str:
    if found["kappa"] is None:
        return f"κ has no value (one answer alone), the same in {found['agreement']:.3f} of {found['n']}"
    low, high = found["interval"]
    return f"κ {found['kappa']:.3f} [{low:.3f}, {high:.3f}], the same in {found['agreement']:.3f} of {found['n']}"


def _table(labels: Sequence[Any], counts: Sequence[Sequence[int]]) -> list[str]:
    words = [{True: "yes", False: "no"}.get(label, str(label)) for label in labels]
    lines = ["  " + " " * 12 + "".join(f"{word:>12}" for word in words)]
    lines += [f"  {word:<12}" + "".join(f"{n:>12}" for n in row) for word, row in zip(words, counts, strict=True)]
    return lines


def correlation_lines(values: Mapping[str, Any]) -> list[str]:
    """Lines of `lcb-rb correlation`."""
    table, rates = values["table"], values["pass_rate"]
    lines = [f"{'':<10}{'passed':>10}{'failed':>10}{'pass rate':>12}"]
    for name in ("sound", "flawed"):
        row, rate = table[name], rates[name]
        ends = "[{:.3f}, {:.3f}]".format(*rate["interval"])
        lines.append(f"{name:<10}{row['passed']:>10}{row['failed']:>10}{rate['mean']:>12.3f} {ends}")
    odds = "[{:.3f}, {:.3f}]".format(*values["odds_ratio_interval"])
    cramer = "[{:.3f}, {:.3f}]".format(*values["cramers_v_interval"])
    lines += [
        f"Pearson χ² {values['chi2']:.2f}, p {values['p']:.2g} (with continuity correction "
        f"{values['chi2_corrected']:.2f}, p {values['p_corrected']:.2g})",
        f"odds ratio {values['odds_ratio']:.3f} {odds}; Cramér's V {values['cramers_v']:.4f} {cramer}",
    ]
    if values["smallest_expected"] < 5:
        lines.append("an expected count is below 5: the p of a χ² is not to be trusted here")
    if within := values.get("within_problems"):
        ratio = ""
        if "odds_ratio" in within:
            ratio = ", odds ratio {:.3f} [{:.3f}, {:.3f}]".format(within["odds_ratio"], *within["interval"])
        lines.append(
            f"within {within['problems']} problems that have both (Cochran–Mantel–Haenszel): χ² {within['chi2']:.2f}, "
            f"p {within['p']:.2g}{ratio}"
        )
    elif "problems" in values:
        lines.append("no problem has both qualities and both outcomes: nothing can be said within problems")
    if paper := values.get("paper"):
        lines.append(f"these are the counts of the paper, which prints p = {paper['p_printed']:.1e}: {paper['note']}")
    if left_out := values.get("left_out"):
        lines.append("left out: " + ", ".join(f"{count} {name}" for name, count in left_out.items()))
    if judge := values.get("judge"):
        lines += judge_lines(judge)
    return lines
