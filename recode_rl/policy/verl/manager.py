"""The reward manager that veRL's reward workers call, once for each completion.

It hands the completion to the same `Reward` as every other engine: parse, grade, ask the reward model's server only
where the rule gives weight, add up. Each sample's parts go into a file of this worker's, since veRL keeps totals alone.

A sample that our own infrastructure failed raises, which makes veRL drop this trajectory and keep its siblings. A
tally shared by all workers counts these; past the share that is allowed it leaves a sentence in a file, on which the
command that started the run ends it, and every sample after that is refused, so that veRL has nothing left to train on.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import EndpointError, InfrastructureError
from recode_rl.extras import need
from recode_rl.grading import open_grader
from recode_rl.policy.rewards import Row
from recode_rl.policy.verl.records import Place, to_record
from recode_rl.policy.verl.settings import RewardSettings
from recode_rl.problems.records import load_problems
from recode_rl.reward import Reward, Scored
from recode_rl.scorer import open_scorer

_THREADS_WAITING = 64  # for the reward model's server; programs wait for the grader's own workers
_TALLY = "recode_rl_tally"


class Tally:
    """How many samples of a run were seen and how many our infrastructure failed; one for all workers."""

    def __init__(self, max_share: float, min_samples: int, stop: str) -> None:
        self.seen = self.failed = 0
        self._max_share, self._min_samples, self._stop = max_share, min_samples, Path(stop)
        self._because: str | None = None

    def count(self, failure: str | None) -> str | None:
        """One more sample, and what failed it; returns why the run must stop, if it must."""
        self.seen += 1
        self.failed += failure is not None
        share = self.failed / self.seen
        if failure is not None and self.seen >= self._min_samples and share > self._max_share:
            self.halt(
                f"{self.failed} of {self.seen} samples ({share:.0%}) could not be graded or scored, more than "
                f"reward.max_infra_share = {self._max_share:.0%} allows; the last reason: {failure}"
            )
        return self._because

    def halt(self, because: str) -> None:
        """Stop the run; the first reason stays."""
        if self._because is None:
            self._because = because
            jsonl.write_json(self._stop, {"because": because})


class CGGRPORewardManager:
    """The class that veRL finds by `reward.reward_manager.name`; its constructor and methods are veRL's to call."""

    def __init__(
        self,
        config: Any,
        tokenizer: Any,
        compute_score: Any = None,
        reward_router_address: str | None = None,
        reward_model_tokenizer: Any = None,
    ) -> None:
        path = Path(config.reward.custom_reward_function.reward_kwargs["settings"])
        self.settings = RewardSettings.model_validate_json(path.read_text(encoding="utf-8"))
        self._tokenizer = tokenizer
        self._decoding = threading.Lock()  # tokenizers are not made for several threads
        self._problems = {problem.id: problem for problem in load_problems(self.settings.problems)}
        workers = self.settings.programs_at_a_time()
        grader_config = self.settings.grader.model_copy(update={"workers": workers})
        self._open = contextlib.ExitStack()  # until the worker ends
        self._grader = self._open.enter_context(open_grader(grader_config))
        model, length = self.settings.model, self.settings.max_length
        self._scorer = open_scorer(model, length, self.settings.patience()) if model else None
        self._pool = ThreadPoolExecutor(workers + _THREADS_WAITING, thread_name_prefix="reward")
        name = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns()}.jsonl"
        self._records = self._open.enter_context(jsonl.Appender(self.settings.samples / name))
        self._writing = threading.Lock()
        self._tally = self._shared_tally()
        self._because: str | None = None

    def _shared_tally(self) -> Any:
        ray, settings = need("ray", "verl"), self.settings
        name = f"{_TALLY}_{hashlib.sha256(str(settings.stop).encode()).hexdigest()[:16]}"  # of this run alone
        actor = ray.remote(Tally).options(name=name, get_if_exists=True, num_cpus=0)
        return actor.remote(settings.max_infra_share, settings.min_samples, str(settings.stop))

    async def run_single(self, data: Any) -> dict[str, Any]:
        """The reward of one completion, a DataProto with one row: `reward_score` and numbers that explain it.

        InfrastructureError, on which veRL drops the trajectory, where nothing was learnt about it.
        """
        if self._because is not None:
            raise InfrastructureError(f"the run is stopping: {self._because}")
        try:
            row = await asyncio.get_running_loop().run_in_executor(self._pool, self._score, data)
        except Exception as error:
            # A defect, or tests that cannot be run: it must not pass for a sample that failed by chance.
            await self._tell("halt", f"{type(error).__name__}: {error}")
            raise
        if isinstance(row.outcome, EndpointError):  # it was waited for already, and would be for every sample to come
            await self._tell("halt", f"the reward model cannot be asked: {row.outcome}")
        failure = str(row.outcome) if isinstance(row.outcome, InfrastructureError) else None
        self._because = await self._tell("count", failure)
        if isinstance(row.outcome, InfrastructureError):
            raise row.outcome
        return {"reward_score": row.outcome.reward.total, "reward_extra_info": explained(row.outcome)}

    async def _tell(self, method: str, word: str | None) -> str | None:
        """Call the tally; where it has died with the worker that made it, a new one begins to count."""
        ray = need("ray", "verl")
        try:
            answer: str | None = await getattr(self._tally, method).remote(word)
        except ray.exceptions.RayActorError:
            self._tally = self._shared_tally()
            answer = await getattr(self._tally, method).remote(word)
        return answer

    def _score(self, data: Any) -> Row:
        """Decode, grade, score and write down one completion; in a thread of ours."""
        item = data[-1:][0]
        extra = item.non_tensor_batch["extra_info"]
        problem = self._problems[extra["problem_id"]]
        text, tokens = self._text(item)
        reward = Reward(self.settings.rule, self._grader, self._scorer)
        truncated = tokens >= self.settings.max_completion_tokens
        row = Row(problem.id, text, tokens, reward.score([(problem, text)])[0], truncated)
        known = item.non_tensor_batch
        place = Place(int(known["global_steps"]), extra["split"], str(known["uid"]), int(known["session_id"]))
        with self._writing:
            self._records.append(to_record(place, row))
        return row

    def _text(self, item: Any) -> tuple[str, int]:
        """The completion as text without special tokens, and how many tokens it has."""
        responses = item.batch["responses"]
        tokens = int(item.batch["attention_mask"][-responses.shape[-1] :].sum())
        with self._decoding:
            return self._tokenizer.decode(responses[:tokens].tolist(), skip_special_tokens=True), tokens

    def close(self) -> None:
        """End the sandbox's cells and close the records; a worker that ends does without."""
        self._pool.shutdown()
        self._open.close()

    @classmethod
    def assemble_rm_scores(cls, data: Any, scores: list[float]) -> Any:
        """Rewards of a batch as veRL's token-level tensor: at the last token of each response, zero elsewhere."""
        base = need("verl.experimental.reward_loop.reward_manager.base", "verl")
        return base.RewardManagerBase.assemble_rm_scores(data, scores)


def explained(scored: Scored) -> dict[str, float]:
    """The numbers beside a reward: always the same keys, since veRL takes them from the first sample of a batch.

    `process` is 0.0 where it is absent; `gate` tells the two apart. `acc` is what veRL's validation reports.
    """
    reward = scored.reward
    return {
        "acc": float(reward.status == "passed"),
        "format": reward.format,
        "outcome": reward.outcome,
        "process": 0.0 if reward.process is None else reward.process,
        "gate": reward.process_weight if reward.process is not None else 0.0,
        "pass_rate": reward.pass_rate,
    }
