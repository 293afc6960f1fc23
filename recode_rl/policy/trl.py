"""CG-GRPO through TRL's GRPOTrainer: what is trained on what, with which arguments, and what is left of it."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recode_rl import adapters, jsonl, models, problems, prompts, training
from recode_rl.config import TrainConfig
from recode_rl.errors import DataError, InfrastructureError, ModelError
from recode_rl.extras import need, quiet_transformers
from recode_rl.grading import open_grader
from recode_rl.policy import checks, packing, rewards, watching
from recode_rl.policy.journal import Journal, Selected
from recode_rl.problems.overlap import leave_out
from recode_rl.problems.records import write_problems
from recode_rl.problems.splits import select
from recode_rl.progress import say
from recode_rl.reward import Reward
from recode_rl.sampling import chat_ids
from recode_rl.scorer import Patience, open_scorer
from recode_rl.types import Problem

__all__ = ["Journal", "Selected", "select_problems", "train"]

_LOGGED = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "clip_ratio/low_mean": "clip/low_share",
    "clip_ratio/high_mean": "clip/high_share",
    "kl": "kl",
    "frac_reward_zero_std": "groups/zero_std_share",
}
_LONGEST_WAIT_S = 10.0  # between two attempts to reach a reward model's server


def select_problems(config: TrainConfig, tokenizer: Any) -> Selected:
    """Load, split, shuffle by seed, filter by prompt length, overlap and limit; DataError where nothing is left."""
    data = config.data
    loaded = problems.load(data.dataset, data.path)
    overlap: dict[str, Any] = {}
    fitting = [p for p in loaded if len(chat_ids(tokenizer, prompts.policy(p))) <= data.max_prompt_tokens]
    shuffler = random.Random(config.seed)
    chosen: list[list[Problem]] = []
    for split, limit in ((data.split, data.limit), (data.eval_split, data.eval_limit)):
        part = select(fitting, split)
        if data.decontaminate and not chosen:  # what is trained on, not what is judged on
            part, overlap = leave_out(part, data.decontaminate, data.decontaminate_path)
        shuffler.shuffle(part)
        chosen.append(part[:limit])
    too_long = len(loaded) - len(fitting)
    if len(chosen[0]) < config.grpo.prompts_per_step:
        raise DataError(
            f"data: {len(chosen[0])} training problems in split {data.split!r} of {data.dataset!r} ({len(loaded)} "
            f"problems, {too_long} of them left out for a prompt of more than {data.max_prompt_tokens} tokens), but "
            f"grpo.prompts_per_step is {config.grpo.prompts_per_step}; add problems, raise data.max_prompt_tokens, or "
            "lower grpo.prompts_per_step"
        )
    return Selected(chosen[0], chosen[1], too_long, overlap)


def prompt_order(problems: int, per_step: int, steps: int, seed: int) -> list[int]:
    """Which problem is asked when: `per_step` different ones in each step, each problem as often as any other.

    The whole run is drawn at once. TRL's own sampler draws pass after pass over the problems from one generator, which
    a continued run would begin anew.
    """
    draw = random.Random(seed)
    order: list[int] = []
    waiting: list[int] = []
    for _ in range(steps):
        step: list[int] = []
        while len(step) < per_step:
            place = next((place for place, problem in enumerate(waiting) if problem not in step), None)
            if place is None:
                waiting += draw.sample(range(problems), problems)
            else:
                step.append(waiting.pop(place))
        order += step
    return order


def train(config: TrainConfig, title: str = "CG-GRPO") -> Path:
    """Run CG-GRPO into the run folder `config.out` and return the folder of the trained policy in it.

    Leaves policy/, metrics.jsonl, completions.jsonl, problems.jsonl and manifest.json. A run that is complete is left
    alone; one that was stopped continues at its last whole checkpoint, with the records after it dropped. Run by a
    launcher in several processes, all of them call this: each generates, grades and scores its share, the numbers are
    of all together, and the first process writes.

    InfrastructureError where the run cannot go on for a reason outside of it; the same command continues it.
    """
    out = config.out
    if training.is_done(out / "policy", "train", config.model_dump(mode="json")):
        training.once(lambda: shutil.rmtree(_work(config), ignore_errors=True))  # a kill behind the last step leaves it
        return out / "policy"
    checks.check_vllm(config)
    checks.check_sharding(config)
    checks.accumulation(config)
    quiet_transformers()
    # TRL prints each sample without a reward in full; ours are counted, and named in completions.jsonl.
    logging.getLogger("trl.trainer.grpo_trainer").setLevel(logging.ERROR)
    tokenizer = models.load_tokenizer(config.model)
    if not tokenizer.chat_template:
        raise ModelError(f"model {config.model!r} has no chat template; take its instruction-tuned version")
    selected = select_problems(config, tokenizer)
    _tell(f"{title}: {_in_words(config, selected)}")
    asked, patience = config.reward.model, Patience(total_s=config.reward.wait_s, longest_wait_s=_LONGEST_WAIT_S)
    scorer = open_scorer(asked, config.reward.max_length, patience) if asked else None
    counts = selected.counts()
    with open_grader(checks.share_of_workers(config.grader)) as grader:
        facts = {"problems": counts, "processes": training.processes(), "grader": grader.describe()}
        reward = Reward(config.reward.rule, grader, scorer)
        trained, state = _run(config, tokenizer, selected, reward, title, facts)
    facts["reasonings_cut"] = sum(training.gathered(scorer.cut if scorer else 0))
    training.once(lambda: _note(config, facts))
    # Last, because it marks the run as complete.
    result = training.Result("train", config, _work(config), facts)
    training.save_result(trained, tokenizer, out / "policy", result, state)
    return out / "policy"


def _tell(text: str) -> None:
    if training.is_first():
        say(text)


def _in_words(config: TrainConfig, selected: Selected) -> str:
    """The first line of a run."""
    text = f"{len(selected.train)} problems to train on, {len(selected.held_out)} held out"
    if selected.too_long:
        text += f"; {selected.too_long} left out, as their prompt has more than {config.data.max_prompt_tokens} tokens"
    if config.evaluation.every and not selected.held_out:
        text += "; so there is no evaluation on the way"
    return text


def _work(config: TrainConfig) -> Path:
    return config.out / ".training"


def _note(config: TrainConfig, facts: dict[str, Any]) -> None:
    """The run's manifest, anew; a folder that belongs to something larger has one already, which stays."""
    path = config.out / "manifest.json"
    if path.exists() and jsonl.read_json(path).get("stage") != "train":
        return
    jsonl.write_json(path, jsonl.manifest("train", config.model_dump(mode="json"), seed=config.seed, **facts))


def _begin(config: TrainConfig, selected: Selected, facts: dict[str, Any]) -> None:
    """What a run folder holds before the first step; in one that was stopped, the records that stay."""
    training.begin(_work(config), config.model_dump(mode="json"))
    _note(config, facts)
    if not (config.out / "problems.jsonl").exists():
        write_problems(config.out / "problems.jsonl", [*selected.train, *selected.held_out])
    for name in ("metrics.jsonl", "completions.jsonl", "alarms.jsonl"):
        training.truncate_metrics(config.out / name, _done(config))


def _done(config: TrainConfig) -> int:
    """Steps that are behind the run already."""
    return training.resumed_step(_work(config)) // config.grpo.updates_per_batch


def _run(
    config: TrainConfig, tokenizer: Any, selected: Selected, reward: Reward, title: str, facts: dict[str, Any]
) -> tuple[Any, dict[str, Any] | None]:
    """Train, and return the model in fp32, with its weights where it holds a share of them only."""
    model = models.load_causal(config.model, training.model_dtype(config.grpo.precision))
    checks.check_model(config, model)
    training.once(lambda: _begin(config, selected, facts))
    if config.lora is not None:
        need("transformers", "train").set_seed(config.seed)
        model = adapters.adapted(model, config.lora, "CAUSAL_LM")
    journal = Journal(config, reward, selected)
    done = _done(config)
    trainer = _trainer(config, model, tokenizer, journal, title)
    journal.attach(trainer)
    if done:
        _tell(f"{title}: continuing after step {done}")
    try:
        training.run_trainer(trainer, _work(config))
    except InfrastructureError as error:
        again = f"the same command continues after step {_done(config)}"
        raise InfrastructureError(f"{error} [stopped: {again}]") from error
    if _done(config) < config.grpo.steps:
        watching.stop_if_asked(journal.monitor)
    trained, state = training.trained_model(trainer)
    return (trained, state) if config.lora is None else adapters.merged(trained, state)


def _trainer(config: TrainConfig, model: Any, tokenizer: Any, journal: Journal, title: str) -> Any:
    datasets = need("datasets", "train")
    grpo, train_problems = config.grpo, journal.selected.train
    metrics = config.out / "metrics.jsonl"
    recorder = training.recorder(
        metrics,
        title,
        grpo.steps,
        _done(config),
        _LOGGED,
        extra=journal.step_values,
        updates_per_step=grpo.updates_per_batch,
        watch=journal.monitor,
    )
    seen, failed = _counts(config.out / "completions.jsonl")
    columns = rewards.RewardColumns(
        journal.reward,
        {problem.id: problem for problem in train_problems},
        config.reward.max_infra_share,
        journal.on_batch,
        on_begin=lambda: journal.clock.enter("reward"),
        gather=training.gathered,
        ends=_end_tokens(model, tokenizer),
        overlapped=True,
        failed=failed,
        seen=seen,
    )
    rows = [{"prompt": prompts.policy(problem), "problem_id": problem.id} for problem in train_problems]
    order = prompt_order(len(rows), grpo.prompts_per_step, grpo.steps, config.seed)
    return packing.trainer_class()(
        model=model,
        args=_arguments(config),
        reward_funcs=columns.functions(),
        train_dataset=datasets.Dataset.from_list(rows).select(order),
        processing_class=tokenizer,
        callbacks=[journal.callback(), recorder],
        optimizers=training.optimizers(model, grpo.precision, grpo.learning_rate, grpo.weight_decay),
    )


def _arguments(config: TrainConfig) -> Any:
    """TRL's GRPOConfig."""
    grpo = config.grpo
    make: Callable[..., Any] = need("trl", "train").GRPOConfig
    common = training.common_arguments(_work(config), precision=grpo.precision, seed=config.seed, track=config.track)
    accumulate = checks.accumulation(config)
    return make(
        **{
            **common,
            "logging_steps": grpo.updates_per_batch,
            "activation_checkpointing": grpo.activation_checkpointing,
        },
        **checks.vllm_arguments(grpo.vllm, config.data.max_prompt_tokens + grpo.max_completion_tokens),
        max_steps=grpo.steps * grpo.updates_per_batch,
        learning_rate=grpo.learning_rate,
        weight_decay=grpo.weight_decay,
        max_grad_norm=grpo.max_grad_norm,
        loss_type="dapo",
        epsilon=grpo.clip_low,
        epsilon_high=grpo.clip_high,
        beta=grpo.beta,
        scale_rewards=grpo.scale_rewards,
        num_generations=grpo.group_size,
        temperature=grpo.temperature,
        top_p=grpo.top_p,
        top_k=0,
        max_completion_length=grpo.max_completion_tokens,
        mask_truncated_completions=grpo.mask_truncated,
        per_device_train_batch_size=grpo.micro_batch,
        gradient_accumulation_steps=accumulate,
        steps_per_generation=accumulate * grpo.updates_per_batch,
        remove_unused_columns=False,
        shuffle_dataset=False,  # prompt_order has done that
        save_strategy="steps",
        # A checkpoint inside a generation batch would resume with other prompts.
        save_steps=config.save_every * grpo.updates_per_batch,
    )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """What ends a completion, as TRL counts it: every end that the model or its tokenizer declares, and padding."""
    declared = model.generation_config.eos_token_id
    ends = declared if isinstance(declared, list) else [declared]
    return frozenset(token for token in (*ends, tokenizer.eos_token_id, tokenizer.pad_token_id) if token is not None)


def _counts(completions: Path) -> tuple[int, int]:
    """Samples of the run so far, and how many of them our own infrastructure failed."""
    if not completions.exists():
        return 0, 0
    failed = [("error" in record) for _, record in jsonl.read(completions)]
    return len(failed), sum(failed)
