"""Bradley–Terry training on a random two-layer model: what it is trained on, that it learns, and resuming."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from recode_rl import jsonl, models
from recode_rl.config import LoraConfig, RewardModelConfig
from recode_rl.errors import ConfigError, DataError
from recode_rl.problems.splits import fold_of
from recode_rl.reward_model import train as stage
from recode_rl.reward_model.evaluate import score_pairs
from recode_rl.reward_model.stage import train_from_config, training_pairs
from recode_rl.reward_model.train import collate, encode_pairs, subsample, train
from recode_rl.scorer import RewardModelScorer
from recode_rl.types import PreferencePair

torch = pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("trl", reason="needs the extra [train]")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """A model this small is slower on two threads than on one."""
    torch.set_num_threads(1)


def pair(number: int, chosen: str, rejected: str, kind: str = "opt_deg") -> PreferencePair:
    name = f"problem-{number}"
    return PreferencePair(f"{name}/{kind}", name, f"Add {number} to n.", chosen, rejected, kind)  # type: ignore[arg-type]


def separable(count: int) -> list[PreferencePair]:
    """The better side speaks of sums, the worse of loops."""
    kinds = ("opt_deg", "opt_ori", "ori_deg")
    return [
        pair(n, f"The sum of a and b is {n}, a sum.", f"The loop runs {n} times, a loop.", kinds[n % 3])
        for n in range(count)
    ]


@pytest.fixture
def config(tiny: Path, tmp_path: Path) -> RewardModelConfig:
    return RewardModelConfig(
        base=str(tiny),
        out=tmp_path / "rm",
        epochs=2,
        learning_rate=3e-3,
        batch_size=4,
        micro_batch=2,
        max_length=128,
        validation_percent=0,
        precision="fp32",
    )


def changed(config: RewardModelConfig, **changes: Any) -> RewardModelConfig:
    return config.model_copy(update=changes)


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [record for _, record in jsonl.read(folder / "metrics.jsonl")]


def accuracy(folder: Path, pairs: Sequence[PreferencePair]) -> float:
    scores = score_pairs(RewardModelScorer(str(folder), 128), pairs)
    return sum(score.correct for score in scores) / len(scores)


def weights(folder: Path) -> Any:
    return models.load_sequence_classifier(str(folder)).state_dict()


def same(a: Any, b: Any) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_pairs_that_cutting_makes_equal_are_refused_and_counted_by_kind(tiny: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny))
    long = "the loop runs n times. " * 40
    pairs = [
        pair(1, f"{long}yes {long}", f"{long}no {long}"),
        pair(2, f"{long}yes {long}", f"{long}no {long}", "ori_deg"),
        pair(3, f"{long}or {long}", f"{long}and {long}", "ori_deg"),
        pair(4, f"yes {long}", f"no {long}"),
        pair(5, "yes", "no"),
    ]
    encoded = encode_pairs(tokenizer, pairs, 64)
    assert encoded.refused == Counter(opt_deg=1, ori_deg=2)
    assert len(encoded.rows) == 2
    assert encoded.cut == 2  # both sides of the fourth
    for row in encoded.rows:
        assert row["chosen_ids"] != row["rejected_ids"]
        for ids in row.values():
            assert len(ids) <= 64
            assert ids[-1] == tokenizer.eos_token_id


def test_a_subsample_is_even_over_the_kinds_and_reproducible() -> None:
    pairs = [pair(n, "a", "b", kind) for n in range(30) for kind in ("opt_deg", "opt_ori", "ori_deg")]
    drawn = subsample(pairs, 9, seed=0)
    assert Counter(p.kind for p in drawn) == {"opt_deg": 3, "opt_ori": 3, "ori_deg": 3}
    assert subsample(pairs, 9, seed=0) == drawn
    assert {p.id for p in subsample(pairs, 9, seed=1)} != {p.id for p in drawn}
    assert len({p.id for p in drawn}) == 9


def test_a_subsample_takes_more_of_other_kinds_where_one_runs_out() -> None:
    pairs = [pair(n, "a", "b", "opt_deg") for n in range(20)] + [pair(n, "a", "b", "ori_deg") for n in range(2)]
    assert Counter(p.kind for p in subsample(pairs, 10, seed=0)) == {"opt_deg": 8, "ori_deg": 2}
    assert sorted(p.id for p in subsample(pairs, None, seed=0)) == sorted(p.id for p in pairs)
    assert len(subsample(pairs, 99, seed=0)) == 22


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast", "bf16-master"])
def test_what_can_be_separated_is_learnt(config: RewardModelConfig, precision: str) -> None:
    pairs = separable(24)
    config = changed(config, precision=precision, epochs=6)
    assert train(config, pairs) == config.out
    assert accuracy(config.out, pairs) >= 0.95
    unseen = separable(40)[24:]
    assert accuracy(config.out, unseen) >= 0.9
    lines = metrics(config.out)
    assert [line["step"] for line in lines] == list(range(1, 37))
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {value.dtype for value in weights(config.out).values()} == {torch.float32}


def test_the_folder_says_what_was_trained_on(config: RewardModelConfig) -> None:
    long = "the loop runs n times. " * 40
    pairs = [*separable(6), pair(50, f"{long}yes {long}", f"{long}no {long}", "ori_deg")]
    train(changed(config, epochs=1), pairs)
    manifest = jsonl.read_json(config.out / "manifest.json")
    assert manifest["pairs"] == {"trained": 6, "validation": 0, "given": 7}
    assert manifest["refused"] == {"ori_deg": 1}
    assert manifest["reasonings_cut"] == 0
    assert [path.name for path in config.out.parent.iterdir()] == ["rm"]


def test_the_split_between_training_and_validation_is_by_problem(
    config: RewardModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [pair(n, f"yes {n}", f"no {n}", kind) for n in range(40) for kind in ("opt_deg", "opt_ori", "ori_deg")]
    seen: list[set[str]] = []

    class Enough(Exception):
        pass

    def trainer(
        config: object, train: Sequence[PreferencePair], validation: Sequence[PreferencePair], *_: object
    ) -> None:
        seen.extend({p.problem_id for p in part} for part in (train, validation))
        assert len(train) + len(validation) == 120
        raise Enough

    monkeypatch.setattr(stage, "_trainer", trainer)
    with pytest.raises(Enough):
        train(changed(config, validation_percent=20), pairs)
    training, validation = seen
    assert training.isdisjoint(validation)
    assert validation == {p.problem_id for p in pairs if fold_of(p.problem_id, 100) < 20}
    assert len(validation) >= 3


def test_training_pairs_of_the_corpus_are_of_training_problems(config: RewardModelConfig) -> None:
    from recode_rl.problems import starter
    from recode_rl.problems.splits import split_by_id

    pairs = training_pairs(config)
    assert {split_by_id(p.problem_id) for p in pairs} == {"train"}
    assert len(training_pairs(changed(config, split="all"))) > len(pairs) > 200
    assert {p.problem_id for p in training_pairs(changed(config, split="all"))} == {p.id for p in starter.load("all")}


def test_kinds_that_are_not_wanted_are_left_out_and_none_left_is_one_sentence(config: RewardModelConfig) -> None:
    train(changed(config, kinds=("opt_deg",), epochs=1), separable(9))
    assert jsonl.read_json(config.out / "manifest.json")["pairs"]["given"] == 3
    with pytest.raises(DataError, match="no pairs of the kinds lcb_rb to train on"):
        train(changed(config, kinds=("lcb_rb",), out=config.out.with_name("other")), separable(9))


def test_the_same_seed_makes_the_same_model_and_another_seed_another(config: RewardModelConfig, tmp_path: Path) -> None:
    runs = {
        name: changed(config, out=tmp_path / name, seed=seed, epochs=1) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    }
    for run in runs.values():
        train(run, separable(8))
    a, b, c = (weights(run.out) for run in runs.values())
    assert same(a, b)
    assert not torch.equal(a["score.weight"], c["score.weight"])


def test_only_the_first_layers_are_kept_where_asked(config: RewardModelConfig) -> None:
    train(changed(config, layers=1, epochs=1), separable(4))
    assert models.load_sequence_classifier(str(config.out)).config.num_hidden_layers == 1


class Stop(Exception):
    """What ends a run in the middle."""


@pytest.mark.parametrize("precision", ["fp32", "bf16-master"])
def test_a_stopped_training_continues_and_is_the_same(
    config: RewardModelConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    import transformers

    config = changed(config, precision=precision)
    steps = 0
    train_step = transformers.Trainer.training_step

    def stopping(self: object, *args: object, **kwargs: object) -> Any:
        nonlocal steps
        steps += 1
        if steps > 2 * 3 + 2:  # two forward passes a step: in the second epoch, one step behind the checkpoint
            raise Stop
        return train_step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(transformers.Trainer, "training_step", stopping)
        with pytest.raises(Stop):
            train(config, separable(12))
    assert not config.out.exists()
    train(config, separable(12))
    whole = changed(config, out=tmp_path / "whole")
    train(whole, separable(12))
    assert [line["step"] for line in metrics(config.out)] == [1, 2, 3, 4, 5, 6]
    assert same(weights(config.out), weights(whole.out))


@pytest.mark.parametrize("where", ["recode_rl.models.save_whole", "shutil.copyfile", "recode_rl.jsonl.manifest"])
@pytest.mark.parametrize("epochs", [1.0, 1.5])
def test_a_training_stopped_behind_its_last_step_takes_no_step_more(
    config: RewardModelConfig, monkeypatch: pytest.MonkeyPatch, where: str, epochs: float
) -> None:
    def stop(*args: object, **kwargs: object) -> None:
        raise Stop

    config = changed(config, epochs=epochs)
    with monkeypatch.context() as patch:
        patch.setattr(where, stop)
        with pytest.raises(Stop):
            train(config, separable(8))
    train(config, separable(8))
    assert [line["step"] for line in metrics(config.out)] == list(range(1, round(2 * epochs) + 1))
    assert jsonl.read_json(config.out / "manifest.json")["pairs"]["trained"] == 8
    assert [path.name for path in config.out.parent.iterdir()] == ["rm"]


@pytest.mark.parametrize("precision", ["fp32", "bf16-master"])
def test_the_model_with_the_best_held_out_loss_is_kept(
    config: RewardModelConfig, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Held-out pairs that say the opposite: every epoch makes them worse, so the first is the best."""
    pairs = [
        p if fold_of(p.problem_id, 100) >= 30 else pair(int(p.problem_id[8:]), p.rejected, p.chosen)
        for p in separable(24)
    ]
    config = changed(config, precision=precision, validation_percent=30, epochs=8, patience=2)
    train(config, pairs)
    lines = metrics(config.out)
    losses = [line["eval_loss"] for line in lines if "eval_loss" in line]
    assert losses == sorted(losses)
    assert len(losses) == 3  # patience 2 behind the first
    held_out = [p for p in pairs if fold_of(p.problem_id, 100) < 30]
    logits = RewardModelScorer(str(config.out), 128).logits(
        [(p.problem, side) for p in held_out for side in (p.chosen, p.rejected)]
    )
    margins = torch.tensor(logits[::2]) - torch.tensor(logits[1::2])
    found = -torch.nn.functional.logsigmoid(margins).mean().item()
    assert abs(found - losses[0]) < abs(found - losses[1])
    assert jsonl.read_json(config.out / "manifest.json")["pairs"]["validation"] == len(held_out)


def test_a_reward_model_that_is_done_is_left_alone(config: RewardModelConfig) -> None:
    config = changed(config, epochs=1)
    train(config, separable(4))
    before = (config.out / "model.safetensors").stat().st_mtime_ns
    assert train(config, separable(8)) == config.out
    with pytest.raises(ConfigError, match=r"made with learning_rate = 0\.003, not 0\.1"):
        train(changed(config, learning_rate=0.1), separable(4))
    assert (config.out / "model.safetensors").stat().st_mtime_ns == before


def test_the_command_says_what_it_trained_on(config: RewardModelConfig, tmp_path: Path) -> None:
    from recode_rl.pairs import write_pairs

    write_pairs(tmp_path / "pairs.jsonl", separable(6))
    values = train_from_config(changed(config, pairs=tmp_path / "pairs.jsonl", split="all", epochs=1))
    assert values == {
        "folder": str(config.out),
        "trained": 6,
        "validation": 0,
        "refused": {},
        "reasonings_cut": 0,
    }
    assert train_from_config(changed(config, pairs=tmp_path / "pairs.jsonl", split="all", epochs=1)) == values


def test_a_base_that_pads_with_its_end_token_is_given_another(config: RewardModelConfig, tmp_path: Path) -> None:
    from tiny import tiny_model

    base = tiny_model(tmp_path / "base", pad_is_eos=True)
    train(changed(config, base=str(base), epochs=6), separable(12))
    tokenizer = models.load_tokenizer(str(config.out))
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert models.load_sequence_classifier(str(config.out)).config.pad_token_id == tokenizer.pad_token_id
    assert accuracy(config.out, separable(12)) >= 0.9


def test_where_every_pair_is_refused_there_is_one_sentence(config: RewardModelConfig) -> None:
    long = "the loop runs n times. " * 80
    pairs = [pair(n, f"{long}yes {long}", f"{long}no {long}") for n in range(3)]
    with pytest.raises(DataError, match="max_length"):
        train(config, pairs)


def test_a_folder_of_something_else_is_not_written_over(config: RewardModelConfig, tiny: Path) -> None:
    with pytest.raises(ConfigError, match="there already, and not made by 'train-rm'"):
        train(changed(config, out=tiny), separable(4))
    assert models.load_causal(str(tiny)) is not None


# -- the pairs of one problem, trained together ------------------------------------------------------------------------


def triples(count: int) -> list[PreferencePair]:
    """Three pairs a problem, over three reasonings."""
    made = []
    for n in range(count):
        best, base, worst = (f"The {word} of a and b is {n}, a {word}." for word in ("sum", "total", "loop"))
        sides = {"opt_deg": (best, worst), "opt_ori": (best, base), "ori_deg": (base, worst)}
        made += [pair(n, *texts, kind) for kind, texts in sides.items()]
    return made


def test_a_reasoning_in_several_pairs_of_a_batch_is_one_row() -> None:
    rows = [
        {"chosen_ids": [[1, 2, 9], [1, 2, 9], [3, 9]], "rejected_ids": [[4, 4, 4, 9], [3, 9], [4, 4, 4, 9]]},
        {"chosen_ids": [[5, 9]], "rejected_ids": [[3, 9]]},
    ]
    prompts = {(1, 2, 9): 2, (3, 9): 1, (5, 9): 1, (4, 4, 4, 9): 3}
    batch = collate(0, prompts, rows)
    assert batch["input_ids"].tolist() == [[1, 2, 9, 0], [3, 9, 0, 0], [5, 9, 0, 0], [4, 4, 4, 9]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["prompts"].tolist() == [2, 1, 1, 3]
    chosen, rejected = batch["sides"].chunk(2)
    assert (chosen.tolist(), rejected.tolist()) == ([0, 0, 1, 2], [3, 1, 3, 1])


def test_pairs_trained_together_learn_what_they_learn_apart(config: RewardModelConfig) -> None:
    seen: list[int] = []
    together = changed(config, batch_size=9, micro_batch=9, epochs=3, learning_rate=1e-3)
    apart = changed(together, micro_batch=1, out=config.out.with_name("apart"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "collate", lambda pad, ids, rows: seen.append(len(rows)) or collate(pad, ids, rows))
        for each in (together, apart):
            train(each, triples(3))
    assert seen[:3] == [3, 3, 3] and set(seen[3:]) == {1}
    for one, other in zip(metrics(together.out), metrics(apart.out), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
    ours, theirs = weights(together.out), weights(apart.out)
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)


# -- adapters, a held-out file, several processes ----------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16-master"])
def test_adapters_learn_and_are_merged_into_a_plain_folder(
    config: RewardModelConfig, tiny: Path, precision: str
) -> None:
    config = changed(config, lora=LoraConfig(rank=4), epochs=8, learning_rate=1e-2, precision=precision)
    train(config, separable(24))
    assert accuracy(config.out, separable(40)[24:]) >= 0.9
    assert not (config.out / "adapter_config.json").exists()
    held = torch.bfloat16 if precision == "bf16-master" else torch.float32  # what the frozen weights are held in
    base = {name: value.to(held).float() for name, value in models.load_causal(str(tiny)).state_dict().items()}
    found = weights(config.out)
    assert torch.equal(base["model.embed_tokens.weight"], found["model.embed_tokens.weight"])
    name = "model.layers.0.mlp.up_proj.weight"
    changes = torch.linalg.matrix_rank(found[name] - base[name], rtol=1e-3)
    assert 1 <= changes <= 4


def test_held_out_pairs_of_a_file_of_their_own_choose_the_checkpoint(config: RewardModelConfig) -> None:
    config = changed(config, epochs=2, evaluate_every=2)
    held_out = [pair(100 + n, "A sum.", "A loop.") for n in range(3)]
    train(config, separable(12), validation=held_out)
    manifest = jsonl.read_json(config.out / "manifest.json")
    assert manifest["pairs"] == {"given": 12, "trained": 12, "validation": 3}
    assert [line["step"] for line in metrics(config.out) if "eval_loss" in line] == [2, 4, 6]


def test_the_folder_carries_a_model_card(config: RewardModelConfig, tiny: Path) -> None:
    train(changed(config, epochs=2, evaluate_every=1), separable(9), validation=[pair(99, "A sum.", "A loop.")])
    text = (config.out / "README.md").read_text()
    assert "| pairs | 9 for training (opt_deg 3, opt_ori 3, ori_deg 3), 1 held out, 0 refused |" in text
    best = min((line for line in metrics(config.out) if "eval_loss" in line), key=lambda line: line["eval_loss"])
    assert f"checkpoint of step {best['step']}" in text and f"{best['eval_loss']:.4f}" in text
    assert str(tiny.parent) not in text


def launch(*words: object) -> None:
    """Run words of a `python` command line in two processes on the CPU."""
    import os
    import subprocess
    import sys

    # On a CPU `accelerate launch` starts one process only.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]


def test_two_processes_train_one_model(config: RewardModelConfig, tiny: Path, tmp_path: Path) -> None:
    from recode_rl.pairs import write_pairs

    write_pairs(tmp_path / "pairs.jsonl", separable(12))
    options = ["--base", str(tiny), "--pairs", str(tmp_path / "pairs.jsonl"), "--out", str(config.out)]
    keys = ["epochs=2", "learning_rate=3e-3", "batch_size=4", "micro_batch=2", "max_length=128", 'precision="fp32"']
    (tmp_path / "recipe.toml").write_text("validation_percent = 0\n")
    launch("-m", "recode_rl", "train-rm", tmp_path / "recipe.toml", *keys, *options)
    assert [line["step"] for line in metrics(config.out)] == [1, 2, 3, 4, 5, 6]
    manifest = jsonl.read_json(config.out / "manifest.json")
    assert (manifest["pairs"]["trained"], manifest["processes"]) == (12, 2)
    alone = changed(config, out=tmp_path / "alone", batch_size=4, micro_batch=4)
    train(alone, separable(12))
    assert metrics(config.out)[0]["loss"] == pytest.approx(metrics(alone.out)[0]["loss"], abs=0.05)
    assert sorted(path.name for path in config.out.parent.iterdir() if path.name.startswith(".")) == []


_BOTH = """
import sys
from recode_rl.config import RewardModelConfig
from recode_rl.reward_model.stage import train_from_config
for line in open(sys.argv[1]):
    train_from_config(RewardModelConfig.model_validate_json(line))
"""


def test_adapters_trained_in_two_processes_are_merged_as_those_of_one(
    config: RewardModelConfig, tmp_path: Path
) -> None:
    """By both objectives: plain folders whose weights are, but for rounding, those that one process makes."""
    from recode_rl.pairs import write_pairs

    write_pairs(tmp_path / "pairs.jsonl", separable(12))
    worth = {"chosen": 0.9, "rejected": 0.2}
    sides = [(p, side, score) for p in separable(6) for side, score in worth.items()]
    jsonl.write(
        tmp_path / "scored.jsonl",
        (
            {"id": f"{p.id}/{side}", "problem_id": p.problem_id, "problem": p.problem, "score": score}
            | {"reasoning": getattr(p, side)}
            for p, side, score in sides
        ),
    )
    lora = {"lora": LoraConfig(rank=4), "learning_rate": 1e-3}
    by_pairs = changed(config, pairs=tmp_path / "pairs.jsonl", **lora)
    by_score = changed(config, objective="score", scored=tmp_path / "scored.jsonl", **lora)
    together = [changed(c, out=tmp_path / f"two-{c.objective}") for c in (by_pairs, by_score)]
    (tmp_path / "both.py").write_text(_BOTH)
    (tmp_path / "configs.jsonl").write_text("".join(f"{c.model_dump_json()}\n" for c in together))
    launch(tmp_path / "both.py", tmp_path / "configs.jsonl")
    for two in together:
        one = changed(two, out=tmp_path / f"one-{two.objective}")
        train_from_config(one)
        assert jsonl.read_json(two.out / "manifest.json")["processes"] == 2
        assert not (two.out / "adapter_config.json").exists()
        assert [line["step"] for line in metrics(two.out)] == [1, 2, 3, 4, 5, 6]
        load = models.load_causal if two.objective == "score" else models.load_sequence_classifier
        ours, theirs = (load(str(each.out)).state_dict() for each in (two, one))
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[name], theirs[name], atol=1e-3) for name in ours)
        name = "model.layers.0.mlp.up_proj.weight"
        assert not torch.allclose(ours[name], models.load_causal(two.base).state_dict()[name], atol=3e-3)
