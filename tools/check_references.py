"""Grade programs whose verdict is known: references must pass, programs with a planted bug must not.

    python tools/check_references.py --data ../shared/data --work /tmp/references
    python tools/check_references.py --data ../shared/data --work /tmp/references --only livecodebench --json

What is graded: the reference program of every problem that has one, the program with a bug where the data set has one,
and, for LiveCodeBench, programs of models with the verdict of its own grader (what passed there must pass here; what
failed there may pass here, where this data has fewer tests, and is listed). Verdicts are kept in the folder `--work`,
and a further run grades the rest; after a change of the grader, choose a new folder. The exit status is 1 where a
program did not do what it must, or was not graded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl, problems
from recode_rl.errors import DataError, SandboxError
from recode_rl.evals import libraries
from recode_rl.grading import Grader, verdict_to_record
from recode_rl.problems import starter
from recode_rl.problems.records import problem_to_record
from recode_rl.progress import Progress
from recode_rl.types import Problem

MODELS = "lcb_until_2024_07_model_solutions.jsonl.gz"
PASS, FAIL, MAY_PASS = "pass", "fail", "may pass"
# Programs that the official tests let through and that are wrong: on [5, 3, 8, 3, 9, 1, 5, 3] with k = 2 the best sum
# is 37, not 29; [5, 3, 9, 7, 6] cannot be sorted; of twelve ones eleven can be used.
WRONG_BUT_OFFICIALLY_PASSED = {
    ("3265", "o1-preview-2024-09-12"),
    ("3291", "o1-preview-2024-09-12"),
    ("3299", "o1-preview-2024-09-12"),
}
_SHOWN_ISOLATIONS = ("proxied", "stdio", "shared", "none")


@dataclass(frozen=True, slots=True)
class Job:
    """One program, and what is known of it. `role` is reference, buggy or model."""

    dataset: str
    role: str
    problem: Problem
    sample_id: str
    program: str
    must: str

    @property
    def key(self) -> str:
        """What its verdict depends on: a verdict on other tests, limits or another program does not count."""
        record = problem_to_record(self.problem)
        about = [self.dataset, self.role, self.problem.id, self.sample_id, self.program]
        text = json.dumps([*about, record["tests"], record["limits"]], sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Plan:
    """The programs of one data set, and what cannot be graded here: ids by the package that is not installed."""

    dataset: str
    loaded: problems.Loaded
    jobs: list[Job]
    not_evaluated: dict[str, list[str]]


def plan(dataset: str, data: Path, limit: int | None) -> Plan | None:
    """What is to be graded of one data set, None where it is not there. `limit` takes the first problems alone."""
    if dataset == "starter":
        loaded = problems.read(dataset)
        known = {e.problem.id: {"reference": e.reference, "buggy": e.wrong} for e in starter.entries()}
    else:
        try:
            loaded = problems.read(dataset, data)
        except DataError as error:
            print(f"{dataset}: {error}", file=sys.stderr)
            return None
        known = {p.id: p.metadata for p in loaded.problems}
    chosen = loaded.problems[:limit]
    jobs, missing = [], {}
    for problem in chosen:
        if absent := packages_missing(problem) if problem.tests.kind == "unittest" else []:
            missing[problem.id] = absent
            continue
        for role, must in (("reference", PASS), ("buggy", FAIL)):
            if program := known[problem.id].get(role):
                jobs.append(Job(dataset, role, problem, role, program, must))
    if dataset == "livecodebench":
        jobs += model_jobs(data, {problem.id: problem for problem in chosen})
    packages: dict[str, list[str]] = {}
    for identifier, names in missing.items():
        packages.setdefault(names[0], []).append(identifier)
    return Plan(dataset, loaded, jobs, packages)


def packages_missing(problem: Problem) -> list[str]:
    """Packages that a problem names or that its reference program or tests import, and that are not installed here."""
    return sorted(libraries.missing(libraries.packages_used(problem)))


def model_jobs(data: Path, known: dict[str, Problem]) -> list[Job]:
    """The programs of models, with the verdict of LiveCodeBench's own grader on its full tests."""
    file = next((path for path in (data / MODELS, *data.glob(f"*/{MODELS}")) if path.is_file()), None)
    if file is None:
        return []
    jobs = []
    for _, row in jsonl.read(file):
        problem = known.get(f"LiveCodeBench/{row['question_id']}")
        if problem is not None:
            jobs.append(Job("livecodebench", "model", problem, row["model"], row["code"], _expected(row)))
    return jobs


def _expected(row: dict[str, Any]) -> str:
    if (row["question_id"], row["model"]) in WRONG_BUT_OFFICIALLY_PASSED:
        return FAIL
    return PASS if row["passed_all_lcb_tests"] else MAY_PASS


def grade(jobs: Sequence[Job], work: Path, workers: int | None) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Verdicts of all jobs by key, those of earlier runs with them, and why there is none of some."""
    file = work / "verdicts.jsonl"
    jsonl.repair(file)
    done = {row["key"]: row for _, row in jsonl.read(file)} if file.exists() else {}
    rest = [job for job in jobs if job.key not in done]
    failed: dict[str, str] = {}
    with (
        Grader(workers=workers) as grader,
        jsonl.Appender(file) as out,
        Progress("grading", len(jobs), len(jobs) - len(rest)) as progress,
        ThreadPoolExecutor(grader.workers) as pool,
    ):
        futures = {pool.submit(grader.grade, job.problem, job.program): job for job in rest}
        try:
            for future in as_completed(futures):
                job = futures[future]
                try:
                    verdict = verdict_to_record(future.result(), job.problem.id, job.sample_id, None)
                except (SandboxError, DataError) as error:
                    failed[job.key] = str(error)
                else:
                    done[job.key] = {"key": job.key, "dataset": job.dataset, "role": job.role, **verdict}
                    out.append(done[job.key])
                progress.advance(note=f"{job.dataset} {job.problem.id}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done, failed


def summary(made: Plan, verdicts: dict[str, dict[str, Any]], failed: dict[str, str]) -> dict[str, Any]:
    """The counts of one data set, by role, with every program that did not do what it must."""
    roles = {}
    not_evaluated = {name: list(ids) for name, ids in made.not_evaluated.items()}
    wanting = {job.key: name for job in made.jobs if (name := _wanting(job, verdicts.get(job.key)))}
    for role in dict.fromkeys(job.role for job in made.jobs):
        jobs = [job for job in made.jobs if job.role == role and job.key not in wanting]
        graded = [(job, verdicts[job.key]) for job in jobs if job.key in verdicts]
        passed = [job for job, verdict in graded if verdict["passed"]]
        isolations = Counter(verdict["isolation"] for _, verdict in graded)
        roles[role] = {
            "programs": len(jobs),
            "passed": len(passed),
            "isolation": {name: isolations[name] for name in _SHOWN_ISOLATIONS if isolations[name]},
            "wrong": [_shown(job, verdict) for job, verdict in graded if not _as_it_must(job, verdict)],
            "passed_here_alone": [job.problem.id for job in passed if job.must == MAY_PASS],
            "not_graded": {f"{job.problem.id} {job.sample_id}": failed[job.key] for job in jobs if job.key in failed},
        }
    for job in made.jobs:
        if job.key in wanting:
            not_evaluated.setdefault(wanting[job.key], []).append(job.problem.id)
    return {
        "problems": len(made.loaded.problems),
        "skipped_rows": made.loaded.counts(),
        "not_evaluated": not_evaluated,
        "roles": roles,
    }


def _wanting(job: Job, verdict: dict[str, Any] | None) -> str | None:
    """The package that a reference program missed at last: one that no code names, as pandas needs for some files."""
    if job.must != PASS or job.problem.tests.kind != "unittest" or verdict is None or verdict["passed"]:
        return None
    found = re.search(r"No module named '([\w.]+)'", verdict["detail"] or "")
    return found[1] if found else None


def _as_it_must(job: Job, verdict: dict[str, Any]) -> bool:
    return job.must == MAY_PASS or bool(verdict["passed"]) == (job.must == PASS)


def _shown(job: Job, verdict: dict[str, Any]) -> dict[str, Any]:
    names = ("status", "isolation", "tests_passed", "tests_total", "time_s", "detail")
    return {"problem_id": job.problem.id, "sample_id": job.sample_id, **{name: verdict[name] for name in names}}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results for a person: a line for each data set and role, then every program that did not do as it must."""
    head = f"{'data set':<18} {'programs of':<10} {'n':>5} {'passed':>6} {'wrong':>5}  isolation"
    lines, faults = [head], []
    for dataset, found in results.items():
        for role, row in found["roles"].items():
            shares = ", ".join(f"{name} {count}" for name, count in row["isolation"].items())
            lines.append(
                f"{dataset:<18} {role:<10} {row['programs']:>5} {row['passed']:>6} {len(row['wrong']):>5}  {shares}"
            )
            faults += [f"{dataset} {role}: {_line(fault)}" for fault in row["wrong"]]
            if alone := row["passed_here_alone"]:
                faults.append(f"{dataset} {role}: {len(alone)} failed officially and pass here: {', '.join(alone)}")
            faults += [f"{dataset} {role}: not graded: {name}: {why}" for name, why in row["not_graded"].items()]
        if found["not_evaluated"]:
            counts = ", ".join(f"{name} {len(ids)}" for name, ids in sorted(found["not_evaluated"].items()))
            lines.append(f"{'':<18} not evaluated, for want of packages: {counts}")
    return "\n".join([*lines, "", *faults])


def _line(fault: dict[str, Any]) -> str:
    counts = f"{fault['tests_passed']}/{fault['tests_total']}"
    about = f"{fault['status']} {counts} {fault['isolation']} {fault['time_s']:.1f} s"
    return f"{fault['problem_id']} ({fault['sample_id']}): {about}: {' '.join((fault['detail'] or '').split())}"


def main() -> int:
    """The command line."""
    names = [name for name in problems.DATASETS if name != "file"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for verdicts; what is there is kept")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help="these data sets alone")
    parser.add_argument("--limit", type=int, help="the first problems of each data set alone")
    parser.add_argument("--workers", type=int, help="programs at a time; default: one per core")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    options = parser.parse_args()
    plans = [made for name in options.only if (made := plan(name, options.data, options.limit)) is not None]
    jobs = [job for made in plans for job in made.jobs]
    verdicts, failed = grade(jobs, options.work, options.workers)
    results = {made.dataset: summary(made, verdicts, failed) for made in plans}
    config = {name: str(value) for name, value in vars(options).items()}
    jsonl.write_json(options.work / "results.json", {**jsonl.manifest("check_references", config), "results": results})
    print(json.dumps(results, ensure_ascii=False) if options.json else table(results))
    wrong = sum(
        len(row["wrong"]) + len(row["not_graded"]) for found in results.values() for row in found["roles"].values()
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
