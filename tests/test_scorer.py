"""The process reward: token ids, independence of the batch, and what is refused."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tiny import EOS, SENTENCES, tiny_config, tiny_reward_model, tiny_tokenizer

from recode_rl import models
from recode_rl.errors import ConfigError, ModelError
from recode_rl.scorer import TOKENS_PER_BATCH, RewardModelScorer, distinct_pad_token, encode

pytest.importorskip("transformers", reason="needs the extra [train]")

ITEMS = [
    ("Add two numbers.", "The sum is a + b."),
    ("Add two numbers.", ""),
    ("Square n.", "Multiply n by itself. " * 12),
    ("Reverse the list.\nIt may be empty.", "Walk from the end to the front; an empty list gives an empty list. " * 40),
    ("Ünïcode ✓", "héllo — 漢字"),
    ("Add two numbers.", "The sum is a + b."),
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def scorer(tiny_reward: Path) -> RewardModelScorer:
    return RewardModelScorer(str(tiny_reward), 512)


# -- encode ------------------------------------------------------------------------------------------------------------


def test_ids_are_the_template_and_end_in_eos(tokenizer: Any) -> None:
    found = encode(tokenizer, " Add two numbers.\n", "\nThe sum is a + b. ", 512)
    assert not found.cut
    assert found.ids[-1] == tokenizer.eos_token_id
    assert found.ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(found.ids) == f"Problem:\nAdd two numbers.\n\nReasoning:\nThe sum is a + b.{EOS}"


def test_a_reasoning_that_fits_to_the_token_is_left_whole_and_one_more_is_cut(tokenizer: Any) -> None:
    reasoning = "the sum of a and b is a + b " * 4
    whole = encode(tokenizer, "Add.", reasoning, 512)
    assert encode(tokenizer, "Add.", reasoning, len(whole.ids)) == whole
    short = encode(tokenizer, "Add.", reasoning, len(whole.ids) - 1)
    assert (whole.cut, short.cut) == (False, True)
    assert len(short.ids) == len(whole.ids) - 1


def test_a_long_reasoning_keeps_its_head_and_its_tail(tokenizer: Any) -> None:
    words = [f"w{n}" for n in range(400)]
    found = encode(tokenizer, "Add two numbers.", " ".join(words), 200)
    text = tokenizer.decode(found.ids)
    assert found.cut
    assert len(found.ids) == 200
    assert text.startswith("Problem:\nAdd two numbers.\n\nReasoning:\nw0 w1 w2 ")
    assert text.endswith(f"w398 w399{EOS}")
    assert "w200" not in text


def test_a_problem_longer_than_everything_leaves_half_for_the_reasoning(tokenizer: Any) -> None:
    reasoning = " ".join(f"r{n}" for n in range(300))
    found = encode(tokenizer, " ".join(f"p{n}" for n in range(1000)), reasoning, 100)
    text = tokenizer.decode(found.ids)
    assert len(found.ids) == 100
    assert text.startswith("Problem:\np0 p1 ")
    assert "p999\n\nReasoning:\nr0 r1 " in text
    assert text.endswith(f"r299{EOS}")
    head = tokenizer("Reasoning:\n", add_special_tokens=False)["input_ids"]
    start = next(i for i in range(100) if found.ids[i : i + len(head)] == head) + len(head)
    assert start == 50


def test_a_short_reasoning_is_not_cut_for_the_sake_of_a_long_problem(tokenizer: Any) -> None:
    found = encode(tokenizer, "p " * 1000, "the sum of a and b", 100)
    assert not found.cut
    assert len(found.ids) == 100
    assert tokenizer.decode(found.ids).endswith(f"Reasoning:\nthe sum of a and b{EOS}")


@pytest.mark.parametrize("max_length", [1, 2, 3, 16, 17, 64, 301])
def test_no_length_is_ever_exceeded(tokenizer: Any, max_length: int) -> None:
    draw = random.Random(max_length)
    for _ in range(40):
        problem = " ".join(draw.choices(SENTENCES, k=draw.randrange(6)))
        reasoning = " ".join(draw.choices(SENTENCES, k=draw.randrange(12)))
        found = encode(tokenizer, problem, reasoning, max_length)
        assert len(found.ids) <= max_length
        assert found.ids[-1] == tokenizer.eos_token_id
        fits = len(encode(tokenizer, problem, reasoning, 10**6).ids) <= max_length
        assert not (fits and found.cut)


def test_text_that_spells_a_special_token_stays_text(tokenizer: Any) -> None:
    found = encode(tokenizer, f"Print {EOS}", f"It prints {EOS} and <|pad|>.", 512)
    special = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    assert not special & set(found.ids[:-1])
    assert tokenizer.decode(found.ids).count(EOS) == 3


# -- the pad token -----------------------------------------------------------------------------------------------------


def test_a_tokenizer_that_pads_with_eos_gets_another_pad_token() -> None:
    tokenizer = tiny_tokenizer(pad_is_eos=True)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    distinct_pad_token(tokenizer)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.pad_token_id < len(tiny_tokenizer())  # one that the model has an embedding for


def test_a_pad_token_that_is_distinct_is_left_alone(tokenizer: Any) -> None:
    before = tokenizer.pad_token_id
    distinct_pad_token(tokenizer)
    assert tokenizer.pad_token_id == before


def test_a_tokenizer_with_eos_as_its_only_special_token_is_refused() -> None:
    class Bare:
        eos_token_id = pad_token_id = 0
        unk_token = bos_token = None

        def __init__(self) -> None:
            self.added_tokens_decoder: dict[int, Any] = {}

    with pytest.raises(ModelError, match="no special token besides EOS"):
        distinct_pad_token(Bare())


def test_a_tokenizer_without_eos_is_refused() -> None:
    class Endless:
        eos_token_id = None

    with pytest.raises(ModelError, match="no end-of-sequence token"):
        distinct_pad_token(Endless())


def test_a_reward_model_whose_tokenizer_pads_with_eos_scores_the_eos_position(tmp_path: Path) -> None:
    folder = tiny_reward_model(tmp_path / "rm")
    expected = RewardModelScorer(str(folder)).logits(ITEMS)
    tiny_tokenizer(pad_is_eos=True).save_pretrained(folder)
    found = RewardModelScorer(str(folder)).logits(ITEMS)
    assert found == pytest.approx(expected, abs=1e-5)


# -- scores ------------------------------------------------------------------------------------------------------------


def test_a_score_does_not_depend_on_its_batch(scorer: RewardModelScorer) -> None:
    alone = [scorer.logits([item])[0] for item in ITEMS]
    assert max(alone) - min(alone) > 0.1, "the random model must tell the items apart, or this test says nothing"
    together = scorer.logits(ITEMS)
    assert together == pytest.approx(alone, abs=1e-5)
    assert scorer.logits(ITEMS[::-1]) == pytest.approx(alone[::-1], abs=1e-5)
    many = scorer.logits(ITEMS * 30)  # more than one batch
    assert many == pytest.approx(alone * 30, abs=1e-5)


def test_the_score_is_read_at_eos_of_the_ids_that_encode_makes(tiny_reward: Path, scorer: RewardModelScorer) -> None:
    import torch

    model = models.load_sequence_classifier(str(tiny_reward)).eval()
    tokenizer = models.load_tokenizer(str(tiny_reward))
    for item, found in zip(ITEMS, scorer.logits(ITEMS), strict=True):
        with torch.no_grad():
            states = model.model(torch.tensor([encode(tokenizer, *item, 512).ids])).last_hidden_state
            expected = model.score(states[0, -1]).item()
        assert found == pytest.approx(expected, abs=1e-5)


def test_batches_stay_within_the_budget_of_tokens(scorer: RewardModelScorer, monkeypatch: pytest.MonkeyPatch) -> None:
    widths: list[tuple[int, int]] = []
    forward = scorer._forward

    def watched(rows: list[list[int]]) -> list[float]:
        widths.append((len(rows), max(map(len, rows))))
        return forward(rows)

    monkeypatch.setattr(scorer, "_forward", watched)
    scorer(ITEMS * 20)
    assert sum(rows for rows, _ in widths) == len(ITEMS) * 20
    assert len(widths) > 1
    assert all(rows * width <= TOKENS_PER_BATCH for rows, width in widths)


def test_process_rewards_are_the_sigmoid_of_the_scores(scorer: RewardModelScorer) -> None:
    import math

    values = scorer(ITEMS)
    assert values == pytest.approx([1 / (1 + math.exp(-score)) for score in scorer.logits(ITEMS)], abs=1e-9)
    assert all(0.0 <= value <= 1.0 for value in values)


def test_process_rewards_stay_in_their_range_at_extreme_scores(tmp_path: Path) -> None:
    scorer = RewardModelScorer(str(tiny_reward_model(tmp_path / "rm", spread=1000.0)))
    assert max(abs(score) for score in scorer.logits(ITEMS)) > 500
    assert all(0.0 <= value <= 1.0 for value in scorer(ITEMS))


def test_no_items_give_no_scores(scorer: RewardModelScorer) -> None:
    assert scorer([]) == []


def test_reasonings_that_were_cut_are_counted(tiny_reward: Path) -> None:
    scorer = RewardModelScorer(str(tiny_reward), 64)
    scorer([("Add.", "short"), ("Add.", "long " * 500)])
    assert scorer.cut == 1
    scorer([("Add.", "long " * 500), ("Add.", "longer " * 500)])
    assert scorer.cut == 3


def test_many_threads_get_the_scores_that_one_gets(tiny_reward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = RewardModelScorer(str(tiny_reward), 256)
    jobs = [[ITEMS[(start + n) % len(ITEMS)] for n in range(1 + start % 4)] for start in range(24)]
    expected = [scorer(job) for job in jobs]
    cut, scorer.cut = scorer.cut, 0
    assert cut > 0
    forward, inside, most = scorer._forward, [0], [0]

    def watched(rows: list[list[int]]) -> list[float]:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.002)  # leaves room for another thread to come in, if it could
        scores = forward(rows)
        inside[0] -= 1
        return scores

    monkeypatch.setattr(scorer, "_forward", watched)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(scorer, jobs))
    assert most == [1]
    for got, wanted in zip(found, expected, strict=True):
        assert got == pytest.approx(wanted, abs=1e-5)
    assert scorer.cut == cut


# -- what is no reward model -------------------------------------------------------------------------------------------


def test_a_language_model_without_a_score_head_is_refused(tiny: Path) -> None:
    with pytest.raises(ModelError, match="no trained score head; make one with train-rm"):
        RewardModelScorer(str(tiny))


def test_a_classifier_with_two_outputs_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    from transformers import LlamaForSequenceClassification

    config = tiny_config(tokenizer, 128)
    config.num_labels = 2
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="its head has not one output"):
        RewardModelScorer(str(tmp_path), 64)


def test_a_length_beyond_the_positions_of_the_model_is_refused(tiny_reward: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_length 5000: .* takes at most 2048 tokens"):
        RewardModelScorer(str(tiny_reward), 5000)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in it"):
        RewardModelScorer(str(tmp_path))
