"""Preference data of others as pairs: RewardBench, PRMBench, BIG-Bench-Mistake, and files with chosen and rejected.

Each reader's docstring says why its pairs are honest: both sides answer one problem, and one is known to be better.
What cannot be such a pair is left out and counted by its reason.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import ConfigError, DataError
from recode_rl.extras import need
from recode_rl.pairs import PairSet, make_pairs, write_pairs
from recode_rl.problems import starter
from recode_rl.problems.rows import column, digest_id, optional_text
from recode_rl.problems.splits import split_by_id
from recode_rl.types import PreferencePair

Row = dict[str, Any]

CODE_SUBSETS = ("hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust")
MATH_SUBSETS = ("math-prm",)
_PROMPTS = ("prompt", "problem", "question", "instruction", "input")
_CLOSING = {"(": ")", "[": "]", "{": "}", "<": ">"}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}


class _Unusable(Exception):
    """A row that is no pair, with the reason."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set lives: its usual file names in a folder, its repository and split on the hub, and its reader."""

    read: Callable[[Sequence[Row]], PairSet]
    files: tuple[str, ...] = ()
    hub: str | None = None
    split: str = "train"


def rewardbench(rows: Sequence[Row], subsets: Sequence[str]) -> PairSet:
    """RewardBench's rows of some subsets: one prompt with a chosen and a rejected completion.

    The code subsets (hep-*) are HumanEvalPack's right and buggy programs in six languages: one change apart, and tests
    know which is right. The math subset (math-prm) has right solutions by people against wrong ones by a model: known
    by their answers, but of two styles, so a model may tell the writers apart instead. All are programs and solutions
    rather than reasonings. The prompt is the problem; a HumanEval task in another language is another problem here. The
    method of a pair is its subset, so that `by_method` tells the subsets apart.
    """

    def pair(number: int, row: Row) -> PreferencePair:
        subset = column(row, "subset", str)
        if subset not in subsets:
            raise _Unusable("another subset")
        problem, chosen, rejected = _sides(row)
        return PreferencePair(
            id=f"rewardbench/{subset}/{_name(row, number)}",
            problem_id=digest_id("rewardbench", problem),
            problem=problem,
            chosen=chosen,
            rejected=rejected,
            kind="other",
            methods=(subset,),
            generator=optional_text(row, "chosen_model") or "",
        )

    return _each(rows, pair)


def prmbench(rows: Sequence[Row]) -> PairSet:
    """PRMBench: a solution of PRM800K (chosen) against the same with an error of a named class put into it (rejected).

    The error was written into a copy of the original process, so both sides share their style and most of their steps;
    the class is the pair's method, its steps stand one a line. Three kinds of rows are no pairs. Where the *question*
    was changed as well (mostly class missing_condition), the two sides answer different questions, and no statement
    makes the comparison fair. In class multi_solutions both sides are right. And some processes were not changed.
    Problems are told by `question`, PRM800K's own text: one problem has up to eight pairs, one for each class.
    """

    def pair(_: int, row: Row) -> PreferencePair:
        asked, changed = column(row, "original_question", str), column(row, "modified_question", str)
        error = column(row, "classification", str)
        if error == "multi_solutions":
            raise _Unusable("class multi_solutions: both sides are right")
        if not column(row, "error_steps", list):
            raise _Unusable("no step is said to be wrong")
        if _squeezed(asked) != _squeezed(changed):
            raise _Unusable("the question was changed as well")
        return PreferencePair(
            id=f"prmbench/{column(row, 'idx', str)}/{error}",
            problem_id=digest_id("prmbench", _squeezed(optional_text(row, "question") or asked)),
            problem=asked.strip(),
            chosen=_steps(row, "original_process"),
            rejected=_steps(row, "modified_process"),
            kind="other",
            methods=(error,),
        )

    return _each(rows, pair)


def bigbench_mistake(rows: Sequence[Row]) -> PairSet:
    """BIG-Bench-Mistake: traces of PaLM 2 on five tasks, each with a human label of its first wrong step.

    Traces of different inputs are answers to different problems, so no two of them are a pair. Two things are:

    1. A right trace (no wrong step, the right answer) and a wrong trace of the same input, where a file has both. The
       published files have one trace for each input.
    2. dyck_languages: a step there is a symbol with the stack behind it, which the input alone decides. Such a trace is
       cut behind its first wrong step, and the chosen side has the right step in its place: all but one line is shared,
       and that line has the same form. The rule is used only for a trace that it agrees with in every step before the
       labelled one (on the published file: in all of them, and in every trace that is labelled right). A mistake mostly
       loses brackets, so the right line tends to be longer: judge a model beside the longer-side baseline.

    The other tasks' steps are free text, and a right step written by a program would differ in style as well.
    """
    made = PairSet([], Counter())
    by_input: dict[tuple[str, str], list[Row]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            by_input.setdefault((column(row, "task", str), column(row, "input", str)), []).append(row)
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
    for (task, asked), traces in by_input.items():
        _pairs_of_input(made, task, asked, traces)
    return made


def _pairs_of_input(made: PairSet, task: str, asked: str, traces: Sequence[Row]) -> None:
    right = [row for row in traces if row.get("mistake_index") is None and _answers(row)]
    wrong = [row for row in traces if row.get("mistake_index") is not None]
    made.refused["no step is labelled wrong, but the answer is"] += len(traces) - len(right) - len(wrong)
    identifier = digest_id(f"bigbench-mistake/{task}", asked)
    if right and wrong:
        for number, row in enumerate(wrong):
            sides = (_steps(right[min(number, len(right) - 1)], "steps"), _steps(row, "steps"))
            _add(made, _mistake_pair(f"{identifier}/{number}", identifier, task, asked, sides))
        return
    made.refused["a right trace, and no wrong one of the same input"] += len(right)
    for number, row in enumerate(wrong):
        stack = _stack_step(asked, row) if task == "dyck_languages" else None
        if stack is None:
            made.refused["a wrong trace, and no right one of the same input"] += 1
            continue
        _add(made, _mistake_pair(f"{identifier}/{number}", identifier, task, asked, stack))


def _mistake_pair(identifier: str, problem_id: str, task: str, asked: str, sides: tuple[str, str]) -> PreferencePair:
    problem = f"{_TASKS[task]}\n\n{asked.strip()}" if task in _TASKS else asked.strip()
    return PreferencePair(identifier, problem_id, problem, *sides, kind="other", methods=(task,), generator="PaLM 2")


# What the inputs of these tasks leave to the few-shot examples that they were shown with.
_TASKS = {
    "dyck_languages": "Complete the rest of the sequence, making sure that the brackets are closed properly.",
    "word_sorting": "Sort these words alphabetically.",
    "multistep_arithmetic": "Work out this expression.",
}


def _answers(row: Row) -> bool:
    return str(row.get("answer", "")).strip() == str(row.get("target", "")).strip()


def _stack_step(asked: str, row: Row) -> tuple[str, str] | None:
    """A dyck trace up to its first wrong step, with the right step and as it is; None where the rule does not fit."""
    steps, mistake = column(row, "steps", list), row["mistake_index"]
    lines = steps[:2]
    stack: list[str] = []
    for symbol in asked.split():
        if symbol in _CLOSING:
            stack.append(symbol)
        elif not stack or stack.pop() != _OPENING.get(symbol):
            return None
        lines = [*lines, f"{symbol} ; stack: {' '.join(stack) or 'empty'}"]
    if not isinstance(mistake, int) or not 2 <= mistake < min(len(lines), len(steps)):
        return None
    if steps[:mistake] != lines[:mistake] or steps[mistake] == lines[mistake]:
        return None
    return "\n".join(lines[: mistake + 1]), "\n".join(steps[: mistake + 1])


def preferences(rows: Sequence[Row]) -> PairSet:
    """Any file with `chosen` and `rejected`, each a text or a list of messages that ends with the assistant's.

    The problem is the user's message, or a column `prompt`, `problem`, `question`, `instruction` or `input` (a text or
    messages). Conversations of several turns are left out: a pair has one problem and one reasoning. Which side is
    better is the file's word; nothing here checks it.
    """

    def pair(number: int, row: Row) -> PreferencePair:
        problem, chosen, rejected = _sides(row)
        return PreferencePair(
            id=_name(row, number),
            problem_id=optional_text(row, "problem_id") or digest_id("preferences", problem),
            problem=problem,
            chosen=chosen,
            rejected=rejected,
            kind="other",
            generator=optional_text(row, "generator") or optional_text(row, "chosen_model") or "",
            difficulty=optional_text(row, "difficulty"),
        )

    return _each(rows, pair)


def _sides(row: Row) -> tuple[str, str, str]:
    """Problem, chosen and rejected of a row, whose sides are texts or messages."""
    (context, chosen), (other, rejected) = _answer(row, "chosen"), _answer(row, "rejected")
    if context != other:
        raise _Unusable("its sides answer different prompts")
    if context is None:
        asked = next((row[name] for name in _PROMPTS if row.get(name)), None)
        if asked is None:
            raise DataError(f"no problem: expected a column {', '.join(_PROMPTS)} (the row has {', '.join(row)})")
        context = _asked(asked) if isinstance(asked, list) else str(asked).strip()
    return context, chosen, rejected


def _answer(row: Row, side: str) -> tuple[str | None, str]:
    """What a side answers to (None where it does not say) and what it says."""
    value = row.get(side)
    if isinstance(value, str):
        return None, value
    if not isinstance(value, list) or not value or not all(_is_message(item) for item in value):
        raise DataError(f"column {side!r}: {str(value)[:60]!r}; expected text or a list of messages (role, content)")
    if value[-1]["role"] != "assistant":
        raise _Unusable("a side does not end with the assistant's message")
    return (_asked(value[:-1]) if len(value) > 1 else None), value[-1]["content"]


def _asked(messages: Sequence[Row]) -> str:
    """The problem in messages: the user's, behind the system's where there is one."""
    roles = [message["role"] if _is_message(message) else None for message in messages]
    if roles not in (["user"], ["system", "user"]):
        raise _Unusable("a conversation of several turns")
    return "\n\n".join(message["content"].strip() for message in messages if message["content"].strip())


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _steps(row: Row, name: str) -> str:
    return "\n".join(str(step) for step in column(row, name, list))


def _name(row: Row, number: int) -> str:
    """The id of a row, its number where it has none."""
    name = row.get("id")
    return str(name) if isinstance(name, (str, int)) and str(name).strip() else str(number)


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _each(rows: Iterable[Row], pair: Callable[[int, Row], PreferencePair]) -> PairSet:
    """A pair from each row; where ids repeat, as those of prompts do, the later ones get a number behind them."""
    made = PairSet([], Counter())
    seen: Counter[str] = Counter()
    for number, row in enumerate(rows, start=1):
        try:
            found = pair(number, row)
        except _Unusable as reason:
            made.refused[str(reason)] += 1
            continue
        except DataError as error:
            raise DataError(f"row {number}: {error}") from None
        seen[found.id] += 1
        _add(made, found if seen[found.id] == 1 else replace(found, id=f"{found.id}#{seen[found.id]}"))
    return made


def _add(made: PairSet, pair: PreferencePair) -> None:
    """Keep a pair, or count why it is none."""
    if not pair.problem.strip():
        made.refused["empty problem"] += 1
    elif not pair.chosen.strip() or not pair.rejected.strip():
        made.refused["empty side"] += 1
    elif pair.chosen.strip() == pair.rejected.strip():
        made.refused["equal sides"] += 1
    else:
        made.pairs.append(pair)


_REWARDBENCH_FILES = ("rewardbench.jsonl", "filtered.jsonl")


STARTER = "starter"


def _rewardbench(*subsets: str) -> Source:
    return Source(lambda rows: rewardbench(rows, subsets), _REWARDBENCH_FILES, "allenai/reward-bench", "filtered")


SOURCES = {
    "rewardbench": _rewardbench(*CODE_SUBSETS, *MATH_SUBSETS),
    "rewardbench-code": _rewardbench(*CODE_SUBSETS),
    "rewardbench-math": _rewardbench(*MATH_SUBSETS),
    "prmbench": Source(prmbench, ("prmbench.jsonl.gz", "prmbench.jsonl"), "hitsmy/PRMBench_Preview"),
    "bigbench-mistake": Source(bigbench_mistake, ("bigbench_mistake.jsonl.gz", "bigbench_mistake.jsonl")),
    "preferences": Source(preferences),
}


def write(
    name: str, source: str | None, out: Path, split: str | None = None, limit: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write a preference data set as pairs.jsonl, and what was left out, by reason, into the manifest beside it.

    `source` is a file (.jsonl, .jsonl.gz, .json, .parquet), a folder of them or a hub id; None takes the usual hub id.
    "starter" is the corpus of this package, whose `split` is train, held_out or all. With `limit`, so many pairs are
    drawn by `seed`. ConfigError where the name is unknown or there is no source, DataError where nothing can be read or
    no pair is left.
    """
    if name == STARTER:
        made, rows, where = _starter(source, split)
    else:
        made, rows, where = _read(name, source, split)
    refused = {reason: count for reason, count in made.refused.items() if count}
    if not made.pairs:
        raise DataError(f"{where}: no pairs of {name!r} in its {rows} rows ({refused})")
    found = made.pairs if limit is None else random.Random(seed).sample(made.pairs, min(limit, len(made.pairs)))
    write_pairs(out, found)
    counts = {
        "dataset": name,
        "rows": rows,
        "pairs": len(found),
        "pairs_found": len(made.pairs),
        "problems": len({pair.problem_id for pair in found}),
        "refused": refused,
    }
    config = {"dataset": name, "from": where, "split": split, "limit": limit, "seed": seed, "out": str(out)}
    jsonl.write_json(jsonl.manifest_path(out), jsonl.manifest("pairs", config, counts=counts))
    return counts


def _read(name: str, source: str | None, split: str | None) -> tuple[PairSet, int, str]:
    """The pairs of a data set, how many rows they are from, and where those are."""
    if name not in SOURCES:
        raise ConfigError(f"data set {name!r}: expected one of {STARTER}, {', '.join(SOURCES)}")
    where = source or SOURCES[name].hub
    if where is None:
        raise ConfigError(f"data set {name!r} has no usual place; give a file, a folder or a hub id with --from")
    try:
        rows = _rows(SOURCES[name], where, split)
        return SOURCES[name].read(rows), len(rows), where
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _starter(source: str | None, split: str | None) -> tuple[PairSet, int, str]:
    """The pairs of the package's own corpus, all or those of a split by problem."""
    if source is not None:
        raise ConfigError(f"--from {source}: the starter corpus comes with the package; leave it out")
    if split not in (None, "all", "train", "held_out"):
        raise ConfigError(f"split {split!r}: the starter corpus has train, held_out and all")
    variants = starter.variants()
    made = make_pairs(starter.load("all"), variants)
    wanted = [pair for pair in made.pairs if split in (None, "all") or split_by_id(pair.problem_id) == split]
    return PairSet(wanted, made.refused), len(variants), "the package"


def _rows(source: Source, where: str, split: str | None) -> list[Row]:
    path = Path(where)
    if path.is_file():
        return _file_rows(path)
    if path.is_dir():
        usual = next((path / name for name in source.files if (path / name).is_file()), None)
        files = [usual] if usual else _data_files(path, split or source.split)
        if not files:
            raise DataError("no .jsonl, .json or .parquet file in this folder; give another one")
        return [row for file in files for row in _file_rows(file)]
    if path.is_absolute() or where.startswith(".") or where.count("/") != 1:
        raise DataError("no such file or folder; give one, or a hub id (owner/name)")
    return _hub_rows(where, split or source.split)


def _data_files(folder: Path, split: str) -> list[Path]:
    """The files of one split, in a copy of a hub repository; else the data files of a folder or of its `data`."""
    kinds = (".jsonl", ".jsonl.gz", ".json", ".parquet")
    places = [sorted(place.iterdir()) for place in (folder, folder / "data") if place.is_dir()]
    found = [
        [file for file in files if file.name.endswith(kinds) and not file.name.endswith(".manifest.json")]
        for files in places
    ]
    of_split = [file for files in found for file in files if file.name.startswith((f"{split}-", f"{split}."))]
    return of_split or next((files for files in found if files), [])


def _file_rows(file: Path) -> list[Row]:
    """Rows of one file. Where a row does not say its task, it is the file's name, as BIG-Bench-Mistake has it."""
    if file.suffix == ".parquet":
        rows = need("pyarrow.parquet", "train").read_table(file).to_pylist()
    elif file.suffix == ".json":
        rows = jsonl.read_json(file)
    else:
        rows = [row for _, row in jsonl.read(file)]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file.name}: expected a list of objects with columns")
    task = file.name.split(".")[0]
    return [{"task": task, **row} if "mistake_index" in row else row for row in rows]


def _hub_rows(repository: str, split: str) -> list[Row]:
    datasets = need("datasets", "train")
    try:
        return [dict(row) for row in datasets.load_dataset(repository, split=split)]
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"not to be had from the hub ({reason}); give its files with --from FILE|DIR") from None
