"""Samples from a model in this process: each exactly once, reproducible, and told apart by how they ended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import EOS, tiny_model, tiny_tokenizer, write_lines

from recode_rl import prompts, sampling
from recode_rl.errors import ConfigError, DataError
from recode_rl.sampling import Generated, LocalModel, SamplingSettings, load_samples, sample
from recode_rl.types import Problem
from recode_rl.types import Tests as ProblemTests

pytest.importorskip("transformers", reason="needs the extra [train]")

PROBLEMS = [
    Problem(f"p/{n}", "Add two numbers. " * (1 + n % 3), ProblemTests("asserts", entry_point="f")) for n in range(5)
]


@pytest.fixture(scope="module")
def model(tiny: Path) -> LocalModel:
    return LocalModel.load(str(tiny))


class Scripted(LocalModel):
    """Answers `text` and counts the rows it was asked for; stops like a kill after `limit` of them."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__(None, tiny_tokenizer(), "scripted")
        self.asked, self.limit = 0, limit

    def generate(self, rows: Sequence[list[int]], settings: SamplingSettings, seed: int) -> list[Generated]:
        if self.limit is not None and self.asked + len(rows) > self.limit:
            raise KeyboardInterrupt
        self.asked += len(rows)
        return [Generated(f"text {seed}", 3, "stop") for _ in rows]


def sampled(model: LocalModel, out: Path, **settings: Any) -> list[str | None]:
    made = sample(model, PROBLEMS, SamplingSettings(max_tokens=8, **settings), out, "sampling")
    return [one.completion for one in made]


# -- settings ----------------------------------------------------------------------------------------------------------


def test_several_samples_at_temperature_zero_are_an_error() -> None:
    with pytest.raises(ConfigError, match="4 samples at temperature 0 are all the same"):
        SamplingSettings(samples=4, temperature=0.0)
    assert SamplingSettings(samples=4, temperature=0.7).samples == 4


# -- what the model writes ---------------------------------------------------------------------------------------------


def test_greedy_is_deterministic(model: LocalModel, tmp_path: Path) -> None:
    first = sampled(model, tmp_path / "a.jsonl")
    assert all(first)
    assert sampled(model, tmp_path / "b.jsonl", seed=1) == first


def test_the_same_seed_gives_the_same_text_and_another_seed_another(model: LocalModel, tmp_path: Path) -> None:
    first = sampled(model, tmp_path / "a.jsonl", samples=3, temperature=1.0, seed=5)
    assert sampled(model, tmp_path / "b.jsonl", samples=3, temperature=1.0, seed=5) == first
    assert sampled(model, tmp_path / "c.jsonl", samples=3, temperature=1.0, seed=6) != first
    assert len(set(first)) == len(first), "samples of one problem, and of problems with one prompt, are drawn apart"


def test_a_temperature_near_zero_draws_what_greedy_chooses(model: LocalModel) -> None:
    rows = [model.prompt_ids(problem) for problem in PROBLEMS]
    greedy = model.generate(rows, SamplingSettings(max_tokens=8), 0)
    cold = model.generate(rows, SamplingSettings(max_tokens=8, temperature=1e-5), 0)
    assert [made.text for made in cold] == [made.text for made in greedy]


def test_what_the_generation_config_of_a_model_asks_for_is_not_done(tiny: Path, tmp_path: Path) -> None:
    plain = LocalModel.load(str(tiny))
    folder = tiny_model(tmp_path / "model")
    wishes = json.loads((folder / "generation_config.json").read_text())
    wishes |= {"repetition_penalty": 50.0, "do_sample": True, "temperature": 3.0, "top_k": 2}
    (folder / "generation_config.json").write_text(json.dumps(wishes))
    wishing = LocalModel.load(str(folder))
    rows = [plain.prompt_ids(problem) for problem in PROBLEMS]
    for settings in (SamplingSettings(max_tokens=12), SamplingSettings(max_tokens=12, temperature=0.5)):
        assert wishing.generate(rows, settings, 1) == plain.generate(rows, settings, 1)


def test_a_completion_that_was_cut_off_ends_for_its_length(model: LocalModel) -> None:
    (made,) = model.generate([model.prompt_ids(PROBLEMS[0])], SamplingSettings(max_tokens=5), 0)
    assert (made.tokens, made.finish_reason) == (5, "length")


@pytest.mark.parametrize("pad_is_eos", [False, True])
def test_a_completion_ends_at_the_first_eos_which_is_counted_and_not_shown(pad_is_eos: bool) -> None:
    tokenizer = tiny_tokenizer(pad_is_eos=pad_is_eos)
    local = LocalModel(None, tokenizer, "m")
    text = tokenizer("return a + b")["input_ids"]
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    assert local._generated([*text, eos, pad, pad], ()) == Generated("return a + b", len(text) + 1, "stop")
    assert local._generated([*text, eos], ()) == Generated("return a + b", len(text) + 1, "stop")
    assert local._generated(text, ()) == Generated("return a + b", len(text), "length")
    assert local._generated([eos, pad], ()) == Generated("", 1, "stop")


def test_rows_of_different_lengths_do_not_change_each_other(tiny: Path) -> None:
    from recode_rl import models

    full = LocalModel(models.load_causal(str(tiny)).eval(), models.load_tokenizer(str(tiny)), "fp32")
    rows = [full.prompt_ids(problem) for problem in PROBLEMS[:3]]
    assert len({len(row) for row in rows}) == 3
    together = full.generate(rows, SamplingSettings(max_tokens=8), 0)
    assert together == [full.generate([row], SamplingSettings(max_tokens=8), 0)[0] for row in rows]


def test_the_prompt_is_the_chat_with_the_opening_of_an_answer(model: LocalModel) -> None:
    text = model.tokenizer.decode(model.prompt_ids(PROBLEMS[0]))
    assert text.startswith("<|start|>user\n")
    assert PROBLEMS[0].prompt.strip() in text
    assert text.endswith(f"{EOS}\n<|start|>assistant\n")


@pytest.mark.parametrize("template", [True, False])
def test_a_begun_answer_stands_behind_the_opening(template: bool) -> None:
    tokenizer = tiny_tokenizer()
    if not template:
        tokenizer.chat_template = None
    asked = prompts.policy(PROBLEMS[0])
    begun = tokenizer.decode(sampling.chat_ids(tokenizer, [*asked, {"role": "assistant", "content": "Below:\n"}]))
    assert begun == tokenizer.decode(sampling.chat_ids(tokenizer, asked)) + "Below:\n"


def test_a_tokenizer_without_chat_template_gets_plain_text() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    messages = prompts.policy(PROBLEMS[0])
    assert tokenizer.decode(sampling.chat_ids(tokenizer, messages)) == messages[0]["content"] + "\n\n"


# -- files and resuming ------------------------------------------------------------------------------------------------


def test_samples_come_back_in_the_order_of_the_problems_with_their_facts(model: LocalModel, tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    settings = SamplingSettings(samples=2, temperature=1.0, max_tokens=6, batch=3)
    made = sample(model, PROBLEMS, settings, out, "sampling")
    assert [(s.problem_id, s.sample_id) for s in made] == [(p.id, str(n)) for p in PROBLEMS for n in range(2)]
    assert all(s.model == model.name and s.tokens == 6 and s.finish_reason == "length" for s in made)
    assert sorted(made, key=repr) == sorted(load_samples(out), key=repr)


def test_a_half_written_file_is_completed_with_each_sample_once(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    settings = SamplingSettings(samples=2, temperature=1.0, batch=4)
    with pytest.raises(KeyboardInterrupt):
        sample(Scripted(limit=6), PROBLEMS, settings, out, "sampling")
    assert len(load_samples(out)) == 4
    kept = {(s.problem_id, s.sample_id): s for s in load_samples(out)[:3]}
    text = out.read_text()
    out.write_text(text[: text.rindex('"completion"') + 20])  # the fourth line ends in the middle, as after a kill
    model = Scripted()
    made = sample(model, PROBLEMS, settings, out, "sampling")
    assert model.asked == 7
    in_file = Counter((s.problem_id, s.sample_id) for s in load_samples(out))
    assert in_file == {(p.id, str(n)): 1 for p in PROBLEMS for n in range(2)}
    assert {key: s for s in made if (key := (s.problem_id, s.sample_id)) in kept} == kept


def test_a_complete_file_asks_the_model_nothing(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    first = sample(Scripted(), PROBLEMS, SamplingSettings(), out, "sampling")
    before = out.read_bytes()
    again = Scripted()
    assert sample(again, PROBLEMS, SamplingSettings(), out, "sampling") == first
    assert again.asked == 0
    assert out.read_bytes() == before


def drawn(out: Path, model: LocalModel, name: str | None = "scripted", **settings: Any) -> list[sampling.Sample]:
    return sampling.draw(lambda: model, PROBLEMS, SamplingSettings(**settings), out, "sampling", name)


def test_a_whole_file_loads_no_model(tmp_path: Path) -> None:
    def load() -> LocalModel:
        raise AssertionError("loaded")

    out = tmp_path / "s.jsonl"
    made = drawn(out, Scripted(), batch=2)
    assert made == load_samples(out)
    assert [one.problem_id for one in made] == [problem.id for problem in PROBLEMS]
    made_again = json.loads((tmp_path / "s.manifest.json").read_text())
    assert sampling.draw(load, PROBLEMS, SamplingSettings(), out, "sampling", "scripted") == made
    assert json.loads((tmp_path / "s.manifest.json").read_text()) == made_again


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": 0.5}, "temperature 1.0"),
        ({"temperature": 1.0, "prompt": "instruct", "seed": 1}, "seed 0, prompt 'think_answer'"),
        ({"temperature": 1.0, "name": "other"}, "model 'scripted'"),
    ],
)
def test_a_file_belongs_to_one_way_of_drawing(tmp_path: Path, settings: dict[str, Any], said: str) -> None:
    out = tmp_path / "s.jsonl"
    with pytest.raises(KeyboardInterrupt):
        drawn(out, Scripted(limit=3), temperature=1.0, batch=1)
    before = out.read_bytes()
    with pytest.raises(ConfigError, match=f"holds samples drawn with {said}; choose another --out"):
        drawn(out, Scripted(), **settings)
    assert out.read_bytes() == before


def test_samples_of_a_larger_number_are_not_lost(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    drawn(out, Scripted(), temperature=1.0, samples=3)
    kept = [one for one in load_samples(out) if one.problem_id != PROBLEMS[0].id]
    sampling.write_samples(out, kept)
    assert len(drawn(out, Scripted(), temperature=1.0, samples=2)) == 10
    assert len(load_samples(out)) == 10 + 4


def test_more_samples_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    out = tmp_path / "s.jsonl"
    first = sample(Scripted(), PROBLEMS, SamplingSettings(samples=1, temperature=1.0), out, "sampling")
    model = Scripted()
    made = sample(model, PROBLEMS, SamplingSettings(samples=3, temperature=1.0), out, "sampling")
    assert model.asked == 10
    assert [s for s in made if s.sample_id == "0"] == first


# -- reading samples ---------------------------------------------------------------------------------------------------


def test_a_completion_or_a_program_is_read(tmp_path: Path) -> None:
    path = write_lines(
        tmp_path / "s.jsonl",
        [
            {"problem_id": "p", "sample_id": 0, "completion": "", "extra": 1},
            {"problem_id": "p", "sample_id": "1", "program": "x = 1", "tokens": 4},
        ],
    )
    first, second = load_samples(path)
    assert (first.sample_id, first.completion, first.program) == ("0", "", None)
    assert (second.completion, second.program, second.tokens) == (None, "x = 1", 4)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"sample_id": "0", "completion": "x"}, "line 1: key 'problem_id': None; expected text"),
        ({"problem_id": "p", "completion": "x"}, "line 1: key 'sample_id': None; expected text"),
        ({"problem_id": "p", "sample_id": "0"}, "line 1: sample '0': needs 'completion' or 'program' with text"),
        ({"problem_id": "p", "sample_id": "0", "completion": 5}, "needs 'completion' or 'program' with text"),
    ],
)
def test_a_sample_that_says_too_little_names_file_and_line(tmp_path: Path, record: Any, message: str) -> None:
    path = write_lines(tmp_path / "s.jsonl", [record])
    with pytest.raises(DataError) as found:
        load_samples(path)
    assert str(path) in str(found.value)
    assert message in str(found.value)


def test_a_sample_that_occurs_twice_is_named(tmp_path: Path) -> None:
    record = {"problem_id": "p/1", "sample_id": "0", "completion": "x"}
    path = write_lines(tmp_path / "s.jsonl", [record, {**record, "sample_id": 0}])
    with pytest.raises(DataError, match="sample '0' of problem 'p/1' occurs twice"):
        load_samples(path)
