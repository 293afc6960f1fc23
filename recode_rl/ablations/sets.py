"""The pairs that every arm of a study is judged on, written down once with what the blind baselines make of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recode_rl import jsonl
from recode_rl.ablations.config import StudyConfig
from recode_rl.ablations.pairs import Wanted, draw_pairs
from recode_rl.errors import ConfigError
from recode_rl.pairs import load_pairs, make_pairs, refuse_overlap
from recode_rl.problems import starter
from recode_rl.problems.splits import split_by_id
from recode_rl.reward_model.baselines import run_baselines
from recode_rl.reward_model.stage import digest
from recode_rl.types import PreferencePair

HELD_OUT = "held-out"
_DRAW = 0  # the seed of what is judged: the same for every arm and every seed of the study
_TOGETHER = 3  # pairs of a problem that are judged together: the three kinds of one set of variants


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """Pairs to judge, under a name, and the name of their texts."""

    name: str
    pairs: list[PreferencePair]
    digest: str


def study_pairs(study: StudyConfig) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """All pairs of a study, by the project's split of problems: to train on, and held out."""
    file = study.pairs.file
    pairs = load_pairs(file) if file is not None else make_pairs(starter.load("all"), starter.variants()).pairs
    train = [pair for pair in pairs if split_by_id(pair.problem_id) == "train"]
    held_out = [pair for pair in pairs if split_by_id(pair.problem_id) == "held_out"]
    if not train or not held_out:
        raise ConfigError(
            f"pairs.file {file}: {len(train)} pairs of problems to train on and {len(held_out)} of held-out problems; "
            "a study needs both, so give pairs of more problems"
        )
    refuse_overlap(train, held_out, file, file)
    return train, held_out


def judged_sets(
    study: StudyConfig, train: Sequence[PreferencePair], held_out: Sequence[PreferencePair]
) -> list[JudgedSet]:
    """The held-out pairs, then the transfer sets, each drawn evenly by problem."""
    found = [_drawn(HELD_OUT, held_out, study.pairs.held_out)]
    for name, path in study.pairs.transfer.items():
        if name == HELD_OUT or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"pairs.transfer.{name}: choose another name, of letters, digits and hyphens")
        others = load_pairs(path)
        refuse_overlap(train, others, study.pairs.file, path)
        found.append(_drawn(name, others, study.pairs.transfer_limit))
    return found


def _drawn(name: str, pairs: Sequence[PreferencePair], limit: int | None) -> JudgedSet:
    wanted = Wanted(limit or len(pairs), tuple(dict.fromkeys(pair.kind for pair in pairs)), per_problem=_TOGETHER)
    chosen = list(pairs) if limit is None or limit >= len(pairs) else draw_pairs(pairs, wanted, _DRAW)
    return JudgedSet(name, chosen, digest(chosen))


def write_set(out: Path, judged: JudgedSet) -> None:
    """Leave `out`/sets/NAME.json: what each pair is, and each baseline's verdicts. ConfigError where it has others."""
    path = out / "sets" / f"{judged.name}.json"
    if path.is_file():
        if jsonl.read_json(path).get("digest") != judged.digest:
            raise ConfigError(f"{path}: the pairs of an earlier run are others; choose another out, or remove it")
        return
    about = [
        {"id": p.id, "problem_id": p.problem_id, "kind": p.kind, "methods": p.methods, "generator": p.generator}
        for p in judged.pairs
    ]
    value = {"digest": judged.digest, "pairs": about, "baselines": run_baselines(judged.pairs)}
    jsonl.write_text(path, jsonl.dumps(value) + "\n")
