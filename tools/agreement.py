"""Do our verdicts agree with the field's? EvalPlus's own checker, and LiveCodeBench's official verdicts.

    python bench/evaluation.py --setup                     # once: EvalPlus, into .venv-bench
    python tools/agreement.py --data ../shared/data --work /tmp/agreement
    python tools/agreement.py --data ../shared/data --work /tmp/agreement --share 0.05 --json

Of HumanEval+ and MBPP+ the canonical program of every problem is graded, and programs broken by one change of its
syntax tree (`--broken` a problem): once by EvalPlus's `untrusted_check` on its base and plus inputs, in a process of
its own, with expected outputs computed from the canonical programs, and once here. Of LiveCodeBench, 1,202 programs
of models are graded whose official verdicts are known. Verdicts of ours are kept in `--work`. Every disagreement is
listed; those that are explained below are marked. The exit status is 1 where one is not.

EvalPlus runs programs without walls, which is why only canonical programs and our changes of them are given to it.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import check_references

from recode_rl import jsonl, problems
from recode_rl.errors import SandboxError
from recode_rl.types import Problem

HERE = Path(__file__).resolve().parents[1]
CHECKER = HERE / "bench" / "grading_parts" / "evalplus_checker.py"
SETS = {
    "humaneval+": ("humaneval", "HumanEvalPlus.jsonl.gz", "humanevalplus"),
    "mbpp+": ("mbpp", "MbppPlus.jsonl.gz", "mbppplus"),
}
# Problems on which verdicts may differ, and why.
KNOWN = {
    "HumanEval/32": "EvalPlus 0.3.1 fails every program here: the special case for find_zero goes on to the next input "
    "without counting the one that passed, and inputs that were not counted are failures",
}


@dataclass(frozen=True, slots=True)
class Case:
    """One program, with both verdicts: `theirs` is EvalPlus's word for base and plus tests, or the official verdict."""

    dataset: str
    problem_id: str
    kind: str
    program: str
    theirs: str
    ours: str
    detail: str | None

    @property
    def agrees(self) -> bool:
        """Whether both let the program through, or neither does."""
        return (self.theirs == "pass") == (self.ours == "passed")


def broken(program: str, count: int, seed: str) -> list[str]:
    """Programs that differ from this one by one change of its syntax tree, drawn by `seed`."""
    tree = ast.parse(program)
    places = sum(1 for node in ast.walk(tree) if _changes(node))
    chosen = random.Random(seed).sample(range(places), min(count, places))
    made = []
    for wanted in chosen:
        copy = ast.parse(program)
        node = [node for node in ast.walk(copy) if _changes(node)][wanted]
        _change(node)
        made.append(ast.unparse(ast.fix_missing_locations(copy)) + "\n")
    return made


def _changes(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return type(node.value) in (int, bool) and abs(node.value) < 1000
    if isinstance(node, ast.Compare):
        return type(node.ops[0]) in _SWAPPED
    return isinstance(node, ast.BinOp) and type(node.op) in _SWAPPED


_SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Mod: ast.FloorDiv,
    ast.FloorDiv: ast.Mod,
}


def _change(node: Any) -> None:
    if isinstance(node, ast.Constant):
        node.value = (not node.value) if isinstance(node.value, bool) else node.value + 1
    elif isinstance(node, ast.Compare):
        node.ops[0] = _SWAPPED[type(node.ops[0])]()
    else:
        node.op = _SWAPPED[type(node.op)]()


def chosen(identifier: str, share: float, seed: int) -> bool:
    """Whether a problem is in the share that is graded: by its id, so that any share is part of a larger one."""
    digest = hashlib.sha256(f"{seed}/{identifier}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < share * 2**32


def evalplus_cases(dataset: str, options: argparse.Namespace) -> list[Case]:
    """All programs of one of EvalPlus's sets, with both verdicts."""
    name, file, folder = SETS[dataset]
    rows = list(_rows(options.data, folder, file))
    known = {problem.id: problem for problem in problems.read(dataset, options.data / folder).problems}
    programs = []
    for row in rows:
        if not chosen(row["task_id"], options.share, options.seed) or row["task_id"] not in known:
            continue
        whole = (row["prompt"] if name == "humaneval" else "") + row["canonical_solution"]
        programs.append((row, "canonical", whole))
        seed = f"{options.seed}/{row['task_id']}"
        programs += [(row, "broken", text) for text in broken(whole, options.broken, seed)]
    theirs = ask_evalplus(name, programs, options.python, options.workers)
    ours = grade([(known[row["task_id"]], text) for row, _, text in programs], dataset, options)
    return [
        Case(dataset, row["task_id"], kind, text, said, *found)
        for (row, kind, text), said, found in zip(programs, theirs, ours, strict=True)
    ]


def _rows(data: Path, folder: str, file: str) -> Iterator[dict[str, Any]]:
    for _, row in jsonl.read(data / folder / file):
        yield row


def ask_evalplus(
    name: str, programs: Sequence[tuple[dict[str, Any], str, str]], python: Path, workers: int
) -> list[str]:
    """EvalPlus's word on each program: "pass", or which of its two parts said what."""
    jobs = [{"task": row["task_id"], "program": text} for row, _, text in programs]
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        tasks = {row["task_id"]: row for row, _, _ in programs}
        (place / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in tasks.values()))
        (place / "jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
        command = [str(python), str(CHECKER), name, str(place), str(workers)]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": scratch, "XDG_CACHE_HOME": scratch}
        done = subprocess.run(command, env=environment, check=False, cwd=scratch)
        if done.returncode:
            raise SandboxError(f"EvalPlus ended with {done.returncode}; run python bench/evaluation.py --setup")
        return [str(value) for value in json.loads((place / "answers.json").read_text())]


def grade(jobs: Sequence[tuple[Problem, str]], dataset: str, options: argparse.Namespace) -> list[tuple[str, Any]]:
    """Our status and detail of each program; kept between runs."""
    made = [
        check_references.Job(dataset, "agreement", problem, str(number), text, check_references.MAY_PASS)
        for number, (problem, text) in enumerate(jobs)
    ]
    verdicts, failed = check_references.grade(made, options.work, options.workers)
    if failed:
        raise SandboxError(f"{len(failed)} programs were not graded: {next(iter(failed.values()))}; run it again")
    return [(verdicts[job.key]["status"], verdicts[job.key]["detail"]) for job in made]


def livecodebench_cases(options: argparse.Namespace) -> list[Case]:
    """The programs of models, with the official verdicts and ours."""
    folder = options.data / "livecodebench"
    known = {problem.id: problem for problem in problems.read("livecodebench", folder).problems}
    jobs = [
        job for job in check_references.model_jobs(folder, known) if chosen(job.problem.id, options.share, options.seed)
    ]
    verdicts, failed = check_references.grade(jobs, options.work, options.workers)
    if failed:
        raise SandboxError(f"{len(failed)} programs were not graded: {next(iter(failed.values()))}; run it again")
    official = {
        (f"LiveCodeBench/{row['question_id']}", row["model"]): "pass" if row["passed_all_lcb_tests"] else "fail"
        for row in _rows(options.data, "livecodebench", check_references.MODELS)
    }
    return [
        Case(
            "livecodebench",
            job.problem.id,
            job.sample_id,
            job.program,
            official[job.problem.id, job.sample_id],
            verdicts[job.key]["status"],
            verdicts[job.key]["detail"],
        )
        for job in jobs
    ]


def explained(case: Case) -> str | None:
    """Why verdicts differ, where it is known."""
    if case.dataset == "livecodebench":
        wrong = check_references.WRONG_BUT_OFFICIALLY_PASSED
        if (case.problem_id.partition("/")[2], case.kind) in wrong:
            return "wrong, though the official tests let it through (see tools/check_references.py)"
        return "only a part of the official hidden tests is in this data" if case.ours == "passed" else None
    if "timeout" in case.theirs and case.ours == "passed":
        return "EvalPlus's time limit (the larger of 1 s and 4 times the canonical program's time) ended it"
    if case.kind == "canonical" and case.ours == "passed" and case.problem_id not in KNOWN:
        return "EvalPlus fails its own reference program: an input took longer than its limit, as on a busy machine"
    return KNOWN.get(case.problem_id)


def summary(cases: Sequence[Case]) -> dict[str, Any]:
    """Counts, and every disagreement with its explanation."""
    apart = [case for case in cases if not case.agrees]
    return {
        "programs": len(cases),
        "agree": len(cases) - len(apart),
        "both_pass": sum(case.agrees and case.ours == "passed" for case in cases),
        "canonical_failed_by_evalplus": sorted(
            case.problem_id for case in cases if case.kind == "canonical" and case.theirs != "pass"
        ),
        "canonical_failed_here": sorted(
            case.problem_id for case in cases if case.kind == "canonical" and case.ours != "passed"
        ),
        "disagreements": [
            {
                "problem": case.problem_id,
                "kind": case.kind,
                "theirs": case.theirs,
                "ours": case.ours,
                "detail": case.detail,
                "explained": explained(case),
                "program_sha256": hashlib.sha256(case.program.encode()).hexdigest()[:12],
            }
            for case in apart
        ],
    }


def table(results: dict[str, Any]) -> str:
    """The results for a person."""
    lines = [f"{'data set':<14} {'programs':>8} {'agree':>6} {'both pass':>9} {'apart':>5} {'unexplained':>11}"]
    faults = []
    for dataset, found in results.items():
        apart = found["disagreements"]
        unexplained = sum(each["explained"] is None for each in apart)
        lines.append(
            f"{dataset:<14} {found['programs']:>8} {found['agree']:>6} {found['both_pass']:>9} {len(apart):>5} "
            f"{unexplained:>11}"
        )
        if names := found["canonical_failed_by_evalplus"]:
            faults.append(f"{dataset}: canonical programs that EvalPlus itself fails: {', '.join(names)}")
        for each in apart:
            why = each["explained"] or f"NOT EXPLAINED: {each['detail']}"
            said = f"theirs {each['theirs']}, ours {each['ours']}"
            faults.append(f"{dataset} {each['problem']} ({each['kind']}): {said}: {why}")
    return "\n".join([*lines, "", *faults])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work", type=Path, required=True, help="folder for our verdicts; what is there is kept")
    parser.add_argument("--python", type=Path, default=HERE / ".venv-bench/bin/python", help="a Python with EvalPlus")
    parser.add_argument("--only", nargs="+", choices=[*SETS, "livecodebench"], default=[*SETS, "livecodebench"])
    parser.add_argument("--share", type=float, default=1.0, help="share of the problems, drawn by --seed")
    parser.add_argument("--broken", type=int, default=3, help="broken programs a problem")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    options = parser.parse_args()
    results = {}
    for dataset in options.only:
        cases = livecodebench_cases(options) if dataset == "livecodebench" else evalplus_cases(dataset, options)
        results[dataset] = summary(cases)
    config = {name: str(value) for name, value in vars(options).items()}
    jsonl.write_json(options.work / "agreement.json", {**jsonl.manifest("agreement", config), "results": results})
    print(json.dumps(results, ensure_ascii=False) if options.json else table(results))
    return int(any(each["explained"] is None for found in results.values() for each in found["disagreements"]))


if __name__ == "__main__":
    sys.exit(main())
