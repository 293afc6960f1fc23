"""The command `judge`: a model behind an endpoint scores reasonings in steps of 0.1, for the score-based baseline.

Every reply is kept as it comes (`scored.replies.jsonl`), so that a run that was stopped asks only for what is missing;
scored.jsonl is written at the end, in the order of the reasonings. A reply without a score that can be read leaves its
reasoning out, and is counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.chat import ChatClient, ChatSettings
from recode_rl.errors import ConfigError, InfrastructureError
from recode_rl.problems.records import load_problems
from recode_rl.reward_model.judges import JudgePrompt, Said, ask_judge, load_prompt, question
from recode_rl.reward_model.scored import Chosen, Reasoning, ScoredReasoning, Wanted, by_score, load_reasonings
from recode_rl.reward_model.stage import claim


@dataclass(frozen=True, slots=True)
class Judging:
    """Which reasonings are judged, and by whom.

    Without `problems` the statements are the records' own, or those of a problems.jsonl beside the reasonings.
    """

    reasonings: Path
    out: Path
    endpoint: str
    model: str
    problems: Path | None = None
    wanted: Wanted = "base"
    prompts: Path | None = None
    concurrency: int = 8
    timeout_s: float = 300
    """Longest wait for one reply."""
    max_tokens: int = 2048
    """Longest reply."""
    max_requests: int | None = None
    """The run stops after so many requests; the same command continues it."""


def judge_reasonings(job: Judging) -> dict[str, Any]:
    """Ask for every reasoning, write scored.jsonl with what came, and say how it went; `not_judged` names the rest.

    InfrastructureError where not one score came, ConfigError where `out` holds something else.
    """
    prompt = load_prompt("score", job.prompts)
    chosen = load_reasonings(job.reasonings, _statements(job), job.wanted)
    asked = {one.id: question(prompt, job.model, _places(one)) for one in chosen.reasonings}
    said = _ask(job, prompt, dict(asked.values()))
    values = {name: said.values[key] for name, (key, _) in asked.items() if key in said.values}
    scored = [
        _scored(one, score, job, prompt) for one in chosen.reasonings if (score := values.get(one.id)) is not None
    ]
    if not scored:
        reason = said.failures[0] if said.failures else said.stopped or "none of its replies has a score"
        raise InfrastructureError(f"the judge scored no reasoning: {reason}; see {_replies(job.out)}")
    summary = _summary(job, chosen, scored, values, said)
    jsonl.write(job.out, map(dataclasses.asdict, scored))
    jsonl.write_json(jsonl.manifest_path(job.out), _manifest(job, prompt, summary))
    return summary


def _statements(job: Judging) -> dict[str, str]:
    beside = job.reasonings.with_name("problems.jsonl")
    file = job.problems or (beside if beside.is_file() else None)
    return {} if file is None else {problem.id: problem.prompt for problem in load_problems(file)}


def _places(one: Reasoning) -> dict[str, str]:
    return {"{problem}": one.problem, "{reasoning}": one.reasoning}


def _ask(job: Judging, prompt: JudgePrompt, jobs: dict[str, list[dict[str, str]]]) -> Said:
    settings = ChatSettings(
        url=job.endpoint,
        model=job.model,
        concurrency=job.concurrency,
        timeout_s=job.timeout_s,
        temperature=0.0,
        max_tokens=job.max_tokens,
        max_requests=job.max_requests,
    )
    if job.out.exists() and not jsonl.manifest_path(job.out).is_file():
        raise ConfigError(f"{job.out}: there already, and not made by 'judge'; choose another --out")
    claim(job.out, "judge", _config(job, prompt))
    with ChatClient(settings) as client:
        return ask_judge(client, jobs, prompt, job.model, _replies(job.out))


def _replies(out: Path) -> Path:
    return out.with_name(f"{out.name.removesuffix('.jsonl')}.replies.jsonl")


def _config(job: Judging, prompt: JudgePrompt) -> dict[str, Any]:
    """What the scores are of; another address of the same model changes nothing."""
    return {"model": job.model, "prompt_version": prompt.version}


def _scored(one: Reasoning, score: float, job: Judging, prompt: JudgePrompt) -> ScoredReasoning:
    return ScoredReasoning(
        **dataclasses.asdict(one), score=round(score, 1), judge=job.model, prompt_version=prompt.version
    )


def _summary(
    job: Judging,
    chosen: Chosen,
    scored: Sequence[ScoredReasoning],
    values: dict[str, float | None],
    said: Said,
) -> dict[str, Any]:
    read = [value for value in values.values() if value is not None]
    return {
        "out": str(job.out),
        "scored": len(scored),
        "by_score": by_score(scored),
        "mean": sum(read) / len(read),
        "rounded": sum(value != round(value, 1) for value in read),
        "unreadable": [name for name, value in values.items() if value is None],
        "left_out": dict(chosen.left_out),
        "not_judged": [one.id for one in chosen.reasonings if one.id not in values],
        "failed_requests": len(said.failures),
        "stopped": said.stopped,
    }


def _manifest(job: Judging, prompt: JudgePrompt, summary: dict[str, Any]) -> dict[str, Any]:
    settings = dataclasses.asdict(job)
    return jsonl.manifest("judge", {**settings, **_config(job, prompt)}, results=summary)
