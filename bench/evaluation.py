"""How long it takes to grade ten samples of all HumanEval+ problems, against EvalPlus's own `evaluate` in one run.

    python bench/evaluation.py --setup       # once: EvalPlus and what it imports, into .venv-bench
    python bench/evaluation.py --json
    python bench/evaluation.py --limit 20 --samples 2 --workers 2 --json

Samples are as a model writes them at a moderate temperature: of each problem's ten, seven are its canonical program
and three are broken ones (one change of the syntax tree, each another; tools/agreement.py makes them). Both sides
start as commands, read problems and samples from files, and write results. EvalPlus has its ground truth computed
beforehand and its data given by HUMANEVAL_OVERRIDE_PATH. Both have the same number of workers.

This project runs programs that are the same once, EvalPlus runs all of them. How much of the gain that is, the second
measurement says (`ratio_distinct`): the same samples, each made another text by a comment.

`ratio` is EvalPlus's wall seconds over ours. Verdicts have to be equal; those that differ are listed. HumanEval/32 is
apart always, since EvalPlus 0.3.1 fails every program there (docs/results/agreement.md): it is not counted as a fault.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading import say, set_up

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "tools"))
GOAL = 2.0
FAULTY = "HumanEval/32 "
FILE, ORIGINAL = "HumanEvalPlus.jsonl.gz", "HumanEvalPlus-OriginFmt.jsonl.gz"
_EVALUATE = """
import sys
sys.path.insert(0, {parts!r})
import evalplus_checker
evalplus_checker.without_peers_of_its_own()
from evalplus.evaluate import evaluate
evaluate("humaneval", samples={samples!r}, parallel={workers})
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """One side: wall and CPU seconds, and which samples passed, by problem and number."""

    wall_s: float
    cpu_s: float
    passed: dict[tuple[str, int], bool]


def read_rows(data: Path, limit: int | None) -> list[dict[str, Any]]:
    """HumanEval+ as EvalPlus publishes it."""
    from recode_rl import jsonl

    return [row for _, row in jsonl.read(_find(data, FILE))][:limit]


def _find(data: Path, name: str) -> Path:
    for place in (data / name, *data.glob(f"*/{name}")):
        if place.is_file():
            return place
    raise SystemExit(f"{data}: no {name} in it or its folders; give the folder of the data sets with --data")


def make_samples(rows: list[dict[str, Any]], count: int, distinct: bool) -> list[tuple[str, int, str]]:
    """(problem, number, program): three of ten broken, the others canonical."""
    from agreement import broken

    made = []
    for row in rows:
        right = row["prompt"] + row["canonical_solution"]
        wrong = broken(right, 3 * count // 10, row["task_id"])
        programs = [*wrong, *[right] * (count - len(wrong))]
        for number, program in enumerate(programs):
            made.append((row["task_id"], number, f"{program}# {number}\n" if distinct else program))
    return sorted(made, key=lambda sample: sample[1])  # as evaluations draw them, one round after another


def timed(command: list[str], environment: dict[str, str] | None, folder: Path) -> tuple[float, float]:
    """Wall and CPU seconds of a command with all it started. CalledProcessError where it fails."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with (folder / "output.txt").open("wb") as output:
        subprocess.run(command, env=environment, cwd=folder, stdout=output, stderr=output, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def evalplus(rows: list[dict[str, Any]], samples: list[tuple[str, int, str]], options: Any, folder: Path) -> Measured:
    """EvalPlus's evaluate; the ground truth is computed before, by a run on one sample of each problem."""
    from recode_rl import jsonl

    jsonl.write(folder / "data.jsonl", rows)
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HUMANEVAL_OVERRIDE_PATH": str(folder / "data.jsonl"),
    }

    def run(name: str, given: list[tuple[str, int, str]]) -> tuple[float, float]:
        file = folder / f"{name}.jsonl"
        jsonl.write(file, ({"task_id": problem, "solution": program} for problem, _, program in given))
        script = _EVALUATE.format(parts=str(HERE / "grading_parts"), samples=str(file), workers=options.workers)
        return timed([str(options.python), "-c", script], environment, folder)

    if not (folder / "cache").exists():
        say("EvalPlus computes its ground truth")
        run("warm", [(row["task_id"], 0, "pass\n") for row in rows])
    (folder / "samples_eval_results.json").unlink(missing_ok=True)
    wall, cpu = run("samples", samples)
    found = jsonl.read_json(folder / "samples_eval_results.json")["eval"]
    passed = {}
    for problem, results in found.items():
        for number, result in enumerate(results):
            passed[problem, number] = result["base_status"] == result["plus_status"] == "pass"
    return Measured(wall, cpu, passed)


def ours(samples: list[tuple[str, int, str]], options: Any, folder: Path) -> Measured:
    """`recode-rl grade` on the same samples."""
    from recode_rl import jsonl, problems

    wanted = {problem for problem, _, _ in samples}
    known = [problem for problem in problems.load("humaneval+", _find(options.data, ORIGINAL)) if problem.id in wanted]
    problems.records.write_problems(folder / "problems.jsonl", known)
    records = ({"problem_id": p, "sample_id": str(n), "program": text} for p, n, text in samples)
    jsonl.write(folder / "samples.jsonl", records)
    out = folder / "verdicts.jsonl"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "recode_rl", "grade", "--problems", str(folder / "problems.jsonl")]
    command += ["--samples", str(folder / "samples.jsonl"), "--out", str(out), "--workers", str(options.workers)]
    wall, cpu = timed(command, None, folder)
    verdicts = [record for _, record in jsonl.read(out)]
    return Measured(wall, cpu, {(v["problem_id"], int(v["sample_id"])): v["passed"] for v in verdicts})


def measure(rows: list[dict[str, Any]], options: Any, distinct: bool, folders: tuple[Path, Path]) -> dict[str, Any]:
    """Both sides on the same samples."""
    samples = make_samples(rows, options.samples, distinct)
    say(f"{len(samples)} samples{', all of them different' if distinct else ''}: EvalPlus")
    theirs = evalplus(rows, samples, options, folders[0])
    say(f"EvalPlus {theirs.wall_s:.1f} s (CPU {theirs.cpu_s:.1f} s); now this project")
    mine = ours(samples, options, folders[1])
    say(f"this project {mine.wall_s:.1f} s (CPU {mine.cpu_s:.1f} s)")
    apart = [f"{p} sample {n}" for p, n, _ in samples if theirs.passed.get((p, n)) != mine.passed.get((p, n))]
    return {
        "samples": len(samples),
        "passed": sum(mine.passed.values()),
        "evalplus_s": round(theirs.wall_s, 2),
        "evalplus_cpu_s": round(theirs.cpu_s, 2),
        "ours_s": round(mine.wall_s, 2),
        "ours_cpu_s": round(mine.cpu_s, 2),
        "ratio": round(theirs.wall_s / mine.wall_s, 2),
        "cpu_ratio": round(theirs.cpu_s / mine.cpu_s, 2),
        "verdicts_apart": apart,
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--setup", action="store_true", help="make the environment with EvalPlus, and end")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-bench/bin/python", help="a Python with EvalPlus")
    parser.add_argument("--samples", type=int, default=10, help="samples a problem")
    parser.add_argument("--limit", type=int, help="the first problems alone")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-distinct", action="store_true", help="leave the second measurement out")
    parser.add_argument("--json", action="store_true", help="print the results as one JSON object")
    options = parser.parse_args()
    if options.setup:
        set_up(options.python.parents[1])
        return 0
    if not options.python.is_file():
        say(f"{options.python}: not there; run python bench/evaluation.py --setup")
        return 0
    rows = read_rows(options.data, options.limit)
    with tempfile.TemporaryDirectory() as scratch:
        folders = Path(scratch) / "evalplus", Path(scratch) / "ours"
        for folder in folders:
            folder.mkdir()
        results = measure(rows, options, distinct=False, folders=folders)
        if not options.no_distinct:
            second = measure(rows, options, distinct=True, folders=folders)
            results = {**results, "ratio_distinct": second["ratio"], "distinct": second}
    results |= {
        "problems": len(rows),
        "workers": options.workers,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "goal": GOAL,
        "met": results["ratio"] >= GOAL and all(name.startswith(FAULTY) for name in results["verdicts_apart"]),
    }
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name}: {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
