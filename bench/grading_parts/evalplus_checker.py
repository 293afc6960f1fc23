"""EvalPlus's own checker on programs from a file, for tools/agreement.py; runs where EvalPlus is installed.

    python evalplus_checker.py humaneval|mbpp FOLDER WORKERS

FOLDER has tasks.jsonl (rows as EvalPlus publishes them) and jobs.jsonl (`task`, `program`); answers.json is written
there: "pass", or what the base and the plus tests came to. Expected outputs are computed from the canonical programs,
as EvalPlus does; limits are its defaults. Programs run without walls: give it only programs that are trusted.
"""

from __future__ import annotations

import json
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def without_peers_of_its_own() -> None:
    """Stand in for what EvalPlus imports and none of this needs: the hub's client, and the generation of programs."""
    for name, attribute in (("datasets", "load_dataset"), ("evalplus.codegen", "run_codegen")):
        module = types.ModuleType(name)
        setattr(module, attribute, None)
        sys.modules[name] = module


def main() -> None:
    """The command line."""
    without_peers_of_its_own()
    from evalplus.data.mbpp import mbpp_deserialize_inputs  # type: ignore[import-not-found]
    from evalplus.eval import untrusted_check  # type: ignore[import-not-found]
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS  # type: ignore[import-not-found]
    from evalplus.gen.util import trusted_exec  # type: ignore[import-not-found]

    name, folder, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    tasks = {}
    for line in (folder / "tasks.jsonl").read_text().splitlines():
        row = json.loads(line)
        if name == "mbpp":
            for part in ("base_input", "plus_input"):
                row[part] = mbpp_deserialize_inputs(row["task_id"], row[part])
        not_none = name == "mbpp" and row["entry_point"] in MBPP_OUTPUT_NOT_NONE_TASKS
        code = row["prompt"] + row["canonical_solution"]
        for part in ("base", "plus"):
            inputs, entry = row[f"{part}_input"], row["entry_point"]
            row[part] = trusted_exec(code, inputs, entry, record_time=True, output_not_none=not_none)
        tasks[row["task_id"]] = row

    def check(job: dict[str, Any]) -> str:
        row, said = tasks[job["task"]], {}
        for part in ("base", "plus"):
            expected, times = row[part]
            inputs, entry = row[f"{part}_input"], row["entry_point"]
            said[part] = untrusted_check(
                name, job["program"], inputs, entry, expected, row["atol"], times, fast_check=True
            )[0]
        return "pass" if set(said.values()) == {"pass"} else f"base {said['base']}, plus {said['plus']}"

    jobs = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    with ThreadPoolExecutor(workers) as pool:
        (folder / "answers.json").write_text(json.dumps(list(pool.map(check, jobs))))


if __name__ == "__main__":
    main()
