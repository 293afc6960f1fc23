"""The expected score of a language model: exact, whatever is in the batch, and within the length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recode_rl import models
from recode_rl.errors import ConfigError, DataError, ModelError
from recode_rl.reward_model import generative
from recode_rl.reward_model.generative import (
    IGNORED,
    SCORES,
    GenerativeScorer,
    encode_example,
    encode_prompt,
    score_choices,
    score_text,
)

torch = pytest.importorskip("torch", reason="needs the extra [train]")

ITEMS = [
    ("Add a and b.", "Return the sum."),
    ("Add a and b.", "Loop over all numbers, " * 12),
    ("Read n.", "x"),
    ("Read n and print its square, or nothing where n is negative.", "Multiply n by itself; " * 5),
]


@pytest.fixture(scope="module")
def scorer(tiny: Path) -> GenerativeScorer:
    torch.set_num_threads(1)
    return GenerativeScorer(str(tiny), 256)


def test_scores_are_written_in_tenths() -> None:
    assert [score_text(score) for score in SCORES] == [f" {n / 10:.1f}" for n in range(11)]
    assert score_text(0.449) == " 0.4"
    with pytest.raises(DataError, match=r"score 1\.2: expected a number from 0 to 1"):
        score_text(1.2)


def test_probabilities_are_those_of_the_whole_continuations(tiny: Path, scorer: GenerativeScorer) -> None:
    """Eleven plain forward passes, one for each prompt with a score behind it, say the same."""
    model, tokenizer = models.load_causal(str(tiny)), models.load_tokenizer(str(tiny))
    for item, found in zip(ITEMS, scorer.log_probabilities(ITEMS), strict=True):
        prompt = encode_prompt(tokenizer, *item, 256).ids
        for choice, value in zip(score_choices(tokenizer), found, strict=True):
            with torch.no_grad():
                logs = model(torch.tensor([prompt + choice])).logits[0].log_softmax(-1)
            plain = sum(float(logs[len(prompt) - 1 + place, token]) for place, token in enumerate(choice))
            assert value == pytest.approx(plain, abs=1e-4)


def test_the_score_is_the_expected_value(scorer: GenerativeScorer) -> None:
    seen = len(scorer.mass)
    for table, score in zip(scorer.log_probabilities(ITEMS), scorer(ITEMS), strict=True):
        chances = torch.tensor(table, dtype=torch.float64).exp()
        wanted = float(chances @ torch.tensor(SCORES, dtype=torch.float64) / chances.sum())
        assert score == pytest.approx(wanted, abs=1e-9)
        assert 0 < score < 1
    assert len(scorer.mass) == seen + len(ITEMS)
    assert all(0 < mass < 1 for mass in scorer.mass)


def test_a_score_does_not_depend_on_its_batch(scorer: GenerativeScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = [scorer([item])[0] for item in ITEMS]
    assert scorer(ITEMS) == pytest.approx(alone, abs=1e-5)
    assert scorer(ITEMS[::-1]) == pytest.approx(alone[::-1], abs=1e-5)
    monkeypatch.setattr(generative, "TOKENS_PER_BATCH", 1)
    assert scorer(ITEMS) == pytest.approx(alone, abs=1e-5)
    assert scorer([]) == []


def group(count: int, problem: str = "Read n and print the sum of its digits, " * 3) -> list[tuple[str, str]]:
    return [(problem, f"{n}: " + "take a digit, add it; " * (1 + n % 5)) for n in range(count)]


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "GPT2"])
@pytest.mark.parametrize("budget", [64, 400, 4096])
def test_shared_prompts_give_the_scores_of_the_plain_way(
    kind: str, budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = GenerativeScorer(str(language_model(kind, tmp_path)), 256)
    monkeypatch.setattr(generative, "TOKENS_PER_BATCH", budget)
    items = [*group(6), *ITEMS, *group(3, "Sort."), group(6)[0]]
    tables = found.log_probabilities(items)
    assert found.plain_because is None
    monkeypatch.setattr(found, "_shares", False)
    plain = found.log_probabilities(items)
    assert max(max(row) - min(row) for row in plain) > 0.5, "the random model must tell scores apart"
    for ours, theirs in zip(tables, plain, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-4)


def language_model(kind: str, folder: Path) -> Path:
    """A random language model of that architecture whose tokens differ in their probability."""
    import transformers
    from tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    torch.manual_seed(1)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4} if kind == "GPT2" else {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }  # fmt: skip
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(tokenizer), **ids, **sizes)
    model = getattr(transformers, f"{kind}{'LMHeadModel' if kind == 'GPT2' else 'ForCausalLM'}")(config)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    models.save_whole(model, tokenizer, folder / kind)
    return folder / kind


def test_a_problem_is_run_once_and_a_reasoning_once(scorer: GenerativeScorer) -> None:
    items = group(5)
    scorer(items)  # whether the model can share is found out here
    seen: list[tuple[int, int]] = []

    def note(module: object, args: object, kwargs: dict[str, Any]) -> None:
        seen.append(tuple(kwargs["input_ids"].shape))

    hook = scorer._model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        scorer([*items, items[0]])
    finally:
        hook.remove()
    prompts = [encode_prompt(scorer._tokenizer, *item, 256) for item in items]
    (prefix, rows, *behind) = seen
    assert prefix[0] == 1 and prefix[1] >= prompts[0].prompt > 20
    assert rows == (5, max(len(prompt.ids) for prompt in prompts) - prefix[1])
    assert behind == [(5, len(context)) for context in scorer._plan.contexts]


def test_a_model_that_cannot_share_is_read_plainly_and_says_so(
    tiny: Path, scorer: GenerativeScorer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = GenerativeScorer(str(tiny), 256)
    monkeypatch.setattr(generative, "_SAME", -1.0)
    assert other(group(3)) == pytest.approx(scorer(group(3)), abs=1e-4)
    assert other.plain_because is not None
    assert "where the prompt is shared" in other.plain_because


def test_choices_of_different_lengths_are_read_whole(scorer: GenerativeScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where " 0.5" is one token and " 1.0" two and others share nothing, each is still its own probability."""
    choices = [[100 + n] for n in range(5)] + [[120, n] for n in range(5)] + [[121, 7, 9]]
    monkeypatch.setattr(scorer, "_plan", generative._plan(choices))
    assert scorer._plan.contexts == [(120,), (121, 7)]
    (found,) = scorer.log_probabilities(ITEMS[:1])
    prompt = encode_prompt(scorer._tokenizer, *ITEMS[0], 256).ids
    for choice, value in zip(choices, found, strict=True):
        with torch.no_grad():
            logs = scorer._model(torch.tensor([prompt + choice])).logits[0].log_softmax(-1)
        assert value == pytest.approx(sum(float(logs[len(prompt) - 1 + i, t]) for i, t in enumerate(choice)), abs=1e-4)


def test_a_model_that_learnt_a_score_is_read_as_saying_it(tiny: Path, tmp_path: Path) -> None:
    model, tokenizer = models.load_causal(str(tiny)), models.load_tokenizer(str(tiny))
    wanted = {"sums are sums": 0.9, "loops are loops": 0.2}
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        for reasoning, score in wanted.items():
            example = encode_example(tokenizer, "Add.", reasoning, score, 128)
            model(input_ids=torch.tensor([example.input_ids]), labels=torch.tensor([example.labels])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    models.save_whole(model, tokenizer, tmp_path / "trained")
    scorer = GenerativeScorer(str(tmp_path / "trained"), 128)
    assert scorer([("Add.", reasoning) for reasoning in wanted]) == pytest.approx(list(wanted.values()), abs=0.05)
    assert min(scorer.mass) > 0.9


def test_an_example_has_the_prompt_of_reading_and_a_loss_on_the_score_alone(tiny: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny))
    example = encode_example(tokenizer, "Add.", "Return the sum.", 0.7, 256)
    prompt = encode_prompt(tokenizer, "Add.", "Return the sum.", 256)
    said = [label for label in example.labels if label != IGNORED]
    assert example.input_ids == prompt.ids + said
    assert example.labels == [IGNORED] * len(prompt.ids) + said
    assert tokenizer.decode(said) == " 0.7"
    assert tokenizer.decode(example.input_ids).endswith("sum.\n\nScore of the reasoning from 0.0 to 1.0: 0.7")


def test_what_is_too_long_loses_its_middle_and_keeps_the_question(tiny: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny))
    longest = max(len(choice) for choice in score_choices(tokenizer))
    long = "begin " + "word " * 300 + "end"
    for problem, reasoning in (("Add.", long), (long, "sum"), (long, long)):
        prompt = encode_prompt(tokenizer, problem, reasoning, 160)
        assert len(prompt.ids) + longest == 160
        assert prompt.cut == (reasoning == long)
        text = tokenizer.decode(prompt.ids)
        assert text.startswith("Problem:\n" + problem[:4])
        assert text.endswith(reasoning[-3:] + "\n\nScore of the reasoning from 0.0 to 1.0:")
    with pytest.raises(ConfigError, match="max_length 10: the text around the reasoning alone takes that much"):
        encode_prompt(tokenizer, "Add.", "sum", 10 + longest)
    scorer = GenerativeScorer(str(tiny), 160)
    scorer([("Add.", long), ("Add.", "sum")])
    assert scorer.cut == 1


def test_a_spelled_special_token_stays_text(tiny: Path) -> None:
    tokenizer = models.load_tokenizer(str(tiny))
    ids = encode_prompt(tokenizer, "Add.<|end|>", "sum<|start|>", 256).ids
    assert tokenizer.convert_tokens_to_ids("<|end|>") not in ids
    assert tokenizer.convert_tokens_to_ids("<|start|>") not in ids


def test_a_model_that_takes_less_says_so(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_length 4096: model .* takes at most 2048 tokens"):
        GenerativeScorer(str(tiny), 4096)
    assert GenerativeScorer(str(tiny))._max_length == 1024


def test_a_tokenizer_that_cannot_tell_scores_apart_is_refused() -> None:
    class Deaf:
        def __call__(self, text: str, **_: object) -> dict[str, list[int]]:
            return {"input_ids": [3] * len(text)}

    with pytest.raises(ModelError, match=r"does not tell the scores 0\.0 to 1\.0 apart"):
        score_choices(Deaf())
