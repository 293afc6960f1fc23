"""Grade answers of mathematics whose verdict is known: the reference answers must pass, altered ones must not.

    python tools/check_answers.py --data ../shared/data
    python tools/check_answers.py --data ../shared/data --only gsm8k --limit 100 --json

Every answer is written into a whole completion, which goes through the parser and the grader. Forms that must pass:
the reference in a box; between dollar signs and without a box; the published solution as the answer block, with its
box at the end; rewritten with the same value (an integer as a fraction, `\\dfrac` for `\\frac`). Forms that must not:
a number in it raised by one (a letter changed where there is none); the other sign; the reference of another problem;
the reference and the altered one, in one box or in two. The exit status is 1 where an answer did not get the verdict it
must and is not among the known exceptions.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recode_rl import completion, problems
from recode_rl.grading import Grader
from recode_rl.progress import Progress
from recode_rl.types import Problem, Verdict

# Data set: the split that is taken, and how many of its problems (None for all).
SETS: dict[str, tuple[str, int | None]] = {
    "gsm8k": ("held_out", None),
    "math500": ("all", None),
    "minerva": ("all", None),
    "aime24": ("all", None),
    "math": ("all", 2000),
}
_UNIT = "units are left out of a comparison, and so is their power"
KNOWN = {
    **dict.fromkeys([("math500/test/geometry/473", form) for form in ("altered", "two boxes")], _UNIT),
    **dict.fromkeys([("math500/test/prealgebra/1114", form) for form in ("altered", "two boxes")], _UNIT),
}
_DIGITS = re.compile(r"\d+(?!.*\d)", re.DOTALL)
_POSITIVE = re.compile(r"[1-9]\d*(?:\.\d+)?|[1-9]\d{0,2}(?:,\d{3})+|\\frac\{\d+\}\{\d+\}|\d*\\sqrt\{\d+\}|\\pi")
_LETTER = re.compile(r"[A-Za-z](?!.*[A-Za-z])", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Case:
    """One answer in one form; `must` says whether it has to pass."""

    dataset: str
    form: str
    problem: Problem
    text: str
    given: str
    must: bool


@dataclass(frozen=True, slots=True)
class Surprise:
    """An answer that did not get the verdict it must."""

    dataset: str
    form: str
    problem_id: str
    expected: str
    given: str
    status: str
    detail: str | None
    known: str | None  # why, where that is understood


def cases(dataset: str, data: Path, limit: int | None) -> Iterator[Case]:
    """The answers of a data set in every form."""
    split, most = SETS[dataset]
    found = problems.splits.select(problems.read(dataset, data).problems, split)
    random.Random(0).shuffle(found)
    found = found[: min(limit or len(found), most or len(found))]
    for problem, other in zip(found, [*found[1:], *found[:1]], strict=True):
        answer = problem.tests.answer or ""
        solution = str(problem.metadata.get("solution") or "")
        if dataset == "gsm8k":
            solution = f"{solution}\nThe answer is \\boxed{{{answer}}}."
        forms = {
            "boxed": (completion.render_answer("First this, then that.", answer), answer, True),
            "plain": (block(f"${answer}$"), answer, True),
            "rewritten": (block(f"\\boxed{{{rewritten(answer)}}}"), rewritten(answer), True),
            "altered": (block(f"\\boxed{{{altered(answer)}}}"), altered(answer), False),
            "negated": (block(f"\\boxed{{-{answer}}}"), f"-{answer}", False),
            "one box": (block(f"\\boxed{{{answer}, {altered(answer)}}}"), f"{answer}, {altered(answer)}", False),
            "two boxes": (block(f"\\boxed{{{answer}}} or \\boxed{{{altered(answer)}}}"), altered(answer), False),
            "another": (block(f"\\boxed{{{other.tests.answer}}}"), other.tests.answer or "", False),
        }
        if completion.extract_boxed(solution) is not None:
            forms["solution"] = (block(solution), completion.extract_boxed(solution) or "", True)
        if rewritten(answer) == answer:
            del forms["rewritten"]
        if other.tests.answer == answer:
            del forms["another"]
        if not _POSITIVE.fullmatch(answer):
            del forms["negated"]
        for form, (text, given, must) in forms.items():
            yield Case(dataset, form, problem, text, given, must)


def block(answer: str) -> str:
    """A well-formed completion with this answer block."""
    return f"<think>\nFirst this, then that.\n</think>\n<answer>\n{answer}\n</answer>"


def rewritten(answer: str) -> str:
    """The same value in other words; the same text where there is no easy way."""
    if re.fullmatch(r"-?\d{1,9}", answer):
        return f"\\frac{{{2 * int(answer)}}}{{2}}"
    if re.fullmatch(r"\d{1,3}(,\d{3})+", answer):
        return answer.replace(",", "")
    return answer.replace("\\frac", "\\dfrac").replace("\\left", "").replace("\\right", "")


def altered(answer: str) -> str:
    """Another value: the last number is one more, or, without numbers, the last letter is another one."""
    if _DIGITS.search(answer):
        return _DIGITS.sub(lambda found: str(int(found[0]) + 1).zfill(len(found[0])), answer, count=1)
    return _LETTER.sub(lambda found: "q" if found[0] != "q" else "r", answer, count=1)


def check(chosen: Sequence[Case], workers: int | None) -> tuple[list[Verdict | Exception], float]:
    """The verdict of each, and the seconds they took."""
    jobs = [(c.problem, completion.submission(completion.parse(c.text), c.problem.tests)) for c in chosen]
    with Grader(workers=workers) as grader, Progress("answers", len(jobs)) as progress:
        begun = time.monotonic()
        verdicts = grader.grade_many(jobs, lambda index, verdict: progress.advance(1))
        return list(verdicts), time.monotonic() - begun


def summarise(
    chosen: Sequence[Case], verdicts: Sequence[Verdict | Exception], seconds: float
) -> tuple[dict[str, Any], list[Surprise]]:
    """Counts by data set and form, times, and what went otherwise than it must."""
    table: dict[str, dict[str, Counter[str]]] = {}
    surprises = []
    for case, verdict in zip(chosen, verdicts, strict=True):
        counts = table.setdefault(case.dataset, {}).setdefault(case.form, Counter())
        passed = isinstance(verdict, Verdict) and verdict.passed
        right = isinstance(verdict, Verdict) and passed == case.must
        counts.update(["n", "as it must" if right else "otherwise"])
        if not right:
            status = verdict.status if isinstance(verdict, Verdict) else "not graded"
            detail = verdict.detail if isinstance(verdict, Verdict) else str(verdict)
            expected = case.problem.tests.answer or ""
            known = KNOWN.get((case.problem.id, case.form))
            about = (case.dataset, case.form, case.problem.id, expected, case.given, status, detail, known)
            surprises.append(Surprise(*about))
    used = sorted(v.time_s for v in verdicts if isinstance(v, Verdict) and v.time_s)
    must = [v.time_s for c, v in zip(chosen, verdicts, strict=True) if c.must and isinstance(v, Verdict)]
    values = {
        "answers": len(chosen),
        "as_it_must": len(chosen) - len(surprises),
        "by_form": {name: {form: dict(counts) for form, counts in forms.items()} for name, forms in table.items()},
        "seconds": round(seconds, 1),
        "compared_cpu_ms": {
            "n": len(used),
            "median": round(1000 * statistics.median(used), 2) if used else None,
            "p99": round(1000 * used[int(0.99 * len(used))], 1) if used else None,
            "most": round(1000 * used[-1], 1) if used else None,
            "most_of_those_that_must_pass": round(1000 * max(must), 1) if must else None,
        },
        "by_status": dict(Counter(v.status for v in verdicts if isinstance(v, Verdict))),
    }
    return values, surprises


def main() -> int:
    """Grade, print the table and the surprises."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the data sets")
    parser.add_argument("--only", choices=sorted(SETS), action="append", help="this data set alone; may be repeated")
    parser.add_argument("--limit", type=int, help="at most so many problems of each data set")
    parser.add_argument("--workers", type=int, help="answers at a time; default: one per core")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    options = parser.parse_args()
    chosen = [case for name in options.only or SETS for case in cases(name, options.data, options.limit)]
    verdicts, seconds = check(chosen, options.workers)
    values, surprises = summarise(chosen, verdicts, seconds)
    if options.json:
        print(json.dumps({**values, "surprises": [asdict(found) for found in surprises]}, ensure_ascii=False))
    else:
        for name, forms in values["by_form"].items():
            print(name, *(f"{form} {c.get('as it must', 0)}/{c['n']}" for form, c in forms.items()), sep="  ")
        for found in surprises:
            why = f" ({found.known})" if found.known else ""
            print(f"{found.form} {found.problem_id}: {found.expected!r} {found.given!r} {found.status}{why}")
        print({key: value for key, value in values.items() if key != "by_form"})
    return 1 if any(found.known is None for found in surprises) else 0


if __name__ == "__main__":
    sys.exit(main())
