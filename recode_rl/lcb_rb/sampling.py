"""Many completions of every problem, from a model in this process or behind an endpoint; resumable."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recode_rl import jsonl
from recode_rl.errors import ConfigError
from recode_rl.sampling import SamplingSettings, load_samples, open_model, sample, write_samples
from recode_rl.types import Problem, Sample

# Fifty samples of each problem at temperature 1.0, as in the paper.
PAPER = SamplingSettings(samples=50, temperature=1.0, max_tokens=2048, batch=16)


@dataclass(frozen=True, slots=True)
class Drawing:
    """A model (its name at `endpoint`, or one that runs here), and how it is sampled."""

    model: str
    endpoint: str | None = None
    settings: SamplingSettings = PAPER


def draw(problems: Sequence[Problem], drawing: Drawing, out: Path) -> list[Sample]:
    """samples.jsonl in the order of the problems, and its manifest; what is there is kept.

    ConfigError where the file is of another model. What `sampling.sample` raises, with what came in the file.
    """
    jsonl.repair(out)
    there = load_samples(out) if out.exists() else []
    if other := {found.model for found in there} - {drawing.model}:
        raise ConfigError(f"{out} holds samples of {', '.join(map(str, other))}; choose another --out or remove it")
    settings = drawing.settings
    wanted = {(problem.id, str(index)) for problem in problems for index in range(settings.samples)}
    if {(found.problem_id, found.sample_id) for found in there} == wanted:
        places = {problem.id: place for place, problem in enumerate(problems)}
        return sorted(there, key=lambda one: (places[one.problem_id], int(one.sample_id)))  # no model to load
    made = sample(open_model(drawing.model, drawing.endpoint, settings), problems, settings, out, "sampling")
    # They come in another order than that of the problems; the file is put in order once it is whole.
    write_samples(out, made)
    config = {"model": drawing.model, "endpoint": drawing.endpoint, **dataclasses.asdict(settings)}
    jsonl.write_json(jsonl.manifest_path(out), jsonl.manifest("lcb-rb sample", config))
    return made
