"""The process reward: token ids, independence of the batch, and what is refused."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny import EOS, SENTENCES, tiny_config, tiny_reward_model, tiny_tokenizer

from recode_rl import models
from recode_rl.errors import ConfigError, ModelError
from recode_rl.scorer import (
    TOKENS_PER_BATCH,
    Encoded,
    Loaded,
    RewardModelScorer,
    distinct_pad_token,
    encode,
    open_scorer,
)
from recode_rl.scorer.groups import Group, common_length, shared_groups

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


def test_process_rewards_are_the_sigmoid_of_the_scores(scorer: RewardModelScorer) -> None:
    told = [item for item in ITEMS if item[1]]
    values = scorer(told)
    assert values == pytest.approx([1 / (1 + math.exp(-score)) for score in scorer.logits(told)], abs=1e-9)
    assert all(0.0 <= value <= 1.0 for value in values)


def test_a_blank_reasoning_has_process_reward_zero_and_the_model_is_not_asked(scorer: RewardModelScorer) -> None:
    with forwards(scorer) as seen:
        assert scorer([("Add two numbers.", ""), ("Square n.", " \n\t")]) == [0.0, 0.0]
    assert seen == []
    mixed = scorer([("Square n.", " "), ITEMS[0], ("Square n.", "")])
    assert mixed == [0.0, pytest.approx(scorer([ITEMS[0]])[0], abs=1e-5), 0.0]


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

    def watched(rows: Sequence[Encoded]) -> list[float]:
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


# -- groups: one prefix for the reasonings of a problem ----------------------------------------------------------------

PROMPTS = ("Add two numbers.", "Read n and print its square.\n" * 12, "Reverse the list.\nIt may be empty. " * 4)
WORDS = (
    "the",
    "sum",
    "of",
    "a",
    "and",
    "b",
    "is",
    "n",
    "times",
    "so",
    "read",
    "one",
    "integer",
    "then",
    "print",
    "zero",
)


def said(draw: random.Random, words: int) -> str:
    return " ".join(draw.choices(WORDS, k=words))


def groups_of_eight(seed: int = 0) -> list[tuple[str, str]]:
    """Eight reasonings of three problems; one repeats another, two begin alike, one is longer than the model takes."""
    draw = random.Random(seed)
    items = [(prompt, said(draw, draw.randrange(3, 60))) for prompt in PROMPTS for _ in range(8)]
    items[3] = items[1]
    items[9] = (items[8][0], items[8][1] + " " + said(draw, 5))
    items[20] = (items[20][0], said(draw, 2000))
    draw.shuffle(items)
    return items


def tiny_classifier(kind: str, tokenizer: Any, **changes: Any) -> Any:
    """A random sequence classifier of that architecture whose head tells reasonings apart."""
    import torch
    import transformers

    torch.manual_seed(1)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4} if kind == "GPT2" else {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 2048,
    }  # fmt: skip
    if kind == "Bert":
        del sizes["num_key_value_heads"]
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "num_labels": 1, **ids, **sizes}
    config = getattr(transformers, f"{kind}Config")(**settings, **changes)
    model = getattr(transformers, f"{kind}ForSequenceClassification")(config).eval()
    for name, parameter in model.named_parameters():  # far from the small start of training, where all is alike
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=1.0 if name.startswith("score") else 0.3)
    return model


def scorer_of(kind: str, tokenizer: Any, max_length: int = 512, **changes: Any) -> RewardModelScorer:
    return RewardModelScorer(Loaded(tiny_classifier(kind, tokenizer, **changes), tokenizer, kind), max_length)


def plainly(scorer: RewardModelScorer, items: Sequence[tuple[str, str]]) -> list[float]:
    """The model's own forward, one row at a time: nothing shared, nothing padded."""
    import torch

    scores = []
    for problem, reasoning in items:
        ids = encode(scorer._tokenizer, problem, reasoning, scorer.max_length).ids
        with torch.no_grad():
            scores.append(scorer._classifier._model(input_ids=torch.tensor([ids])).logits.item())
    return scores


@contextmanager
def forwards(scorer: RewardModelScorer) -> Iterator[list[tuple[int, int, int]]]:
    """Rows, tokens of a row and tokens behind them in the cache, of each call of the model's backbone."""
    seen: list[tuple[int, int, int]] = []

    def note(module: Any, args: Any, kwargs: Any) -> None:
        ids = args[0] if args else kwargs["input_ids"]
        seen.append((*ids.shape, kwargs["attention_mask"].shape[1] - ids.shape[1]))

    hook = scorer._classifier._model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        hook.remove()


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Mistral", "GPT2"])
def test_shared_prompts_give_the_scores_of_the_plain_way(kind: str, tokenizer: Any) -> None:
    scorer = scorer_of(kind, tokenizer)
    items = groups_of_eight()
    expected = plainly(scorer, items)
    assert max(expected) - min(expected) > 0.5, "the random model must tell the items apart, or this test says nothing"
    assert scorer.logits(items) == pytest.approx(expected, abs=1e-4)
    assert scorer.plain_because is None


@pytest.mark.parametrize("kind", ["Llama", "Qwen2"])
@pytest.mark.parametrize("seed", range(4))
def test_no_score_depends_on_the_company_it_is_in(kind: str, seed: int, tokenizer: Any) -> None:
    draw = random.Random(seed)
    scorer = scorer_of(kind, tokenizer)
    items = groups_of_eight(seed)
    expected = dict(zip(items, plainly(scorer, items), strict=True))
    for _ in range(4):
        some = draw.choices(items, k=draw.randrange(1, 40))
        scorer._budget = draw.choice([64, 300, 1000, 4096])
        assert scorer.logits(some) == pytest.approx([expected[item] for item in some], abs=1e-4)


def test_the_prompt_of_a_group_is_run_once(tokenizer: Any) -> None:
    scorer = scorer_of("Qwen2", tokenizer)
    items = [(PROMPTS[1], f"{word} {said(random.Random(n), 20)}") for n, word in enumerate(["the", "a", "it", "print"])]
    scorer(items)  # whether the model can share is found out here
    encoded = [encode(tokenizer, *item, 512) for item in items]
    prompt, rest = encoded[0].prompt, [len(row.ids) - row.prompt for row in encoded]
    assert prompt > 100
    with forwards(scorer) as seen:
        scorer(items)
    assert seen == [(1, prompt, 0), (4, max(rest), prompt)]


def test_equal_reasonings_are_run_once(tokenizer: Any) -> None:
    scorer = scorer_of("Llama", tokenizer)
    item = ("Square n.", "Multiply n by itself.")
    with forwards(scorer) as seen:
        values = scorer([item, ("Square n.\n", "  Multiply n by itself. "), item])
    assert [rows for rows, _, _ in seen] == [1]
    assert values[0] == values[1] == values[2]


def test_batches_stay_within_the_budget_of_tokens(tokenizer: Any) -> None:
    scorer = scorer_of("Llama", tokenizer)
    items = [(f"Problem {n}: {PROMPTS[n % 3]}", said(random.Random(n * k), 5 + k)) for n in range(12) for k in range(9)]
    items += [(f"Alone {n}.", said(random.Random(n), n)) for n in range(5, 90)]
    scorer(items)
    with forwards(scorer) as seen:
        scorer(items)
    assert len(seen) > 4
    assert all(rows * (width + held) <= TOKENS_PER_BATCH for rows, width, held in seen)
    assert sum(rows for rows, _, held in seen if held) == 12 * 9
    assert sum(rows for rows, _, held in seen if not held) == 12 + 85


def test_reasonings_that_begin_alike_share_that_too() -> None:
    rows = [Encoded([1, 2, 3, 4, 9], False, 2), Encoded([1, 2, 3, 5, 9], False, 2), Encoded([1, 7, 9], False, 2)]
    assert shared_groups(rows) == [Group([1, 2, 3], [0, 1])]


def test_a_prompt_that_was_cut_for_a_long_reasoning_is_another_prompt(tokenizer: Any) -> None:
    problem = " ".join(f"p{n}" for n in range(60))
    reasonings = ["short", "short as well", "long " * 900, "longer " * 900]
    rows = [encode(tokenizer, problem, reasoning, 256) for reasoning in reasonings]
    assert rows[0].ids[: rows[0].prompt] != rows[2].ids[: rows[2].prompt]
    assert [group.rows for group in shared_groups(rows)] == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("rows", "length"),
    [
        ([[1, 2, 3], [1, 2, 4]], 2),
        ([[1, 2], [1, 2, 4]], 1),  # the last token of the shortest is left to be scored
        ([[5], [5, 6]], 0),
        ([[1, 2, 3, 9], [1, 2, 9], [1, 2, 3, 4, 9]], 2),
        ([[3, 1], [4, 1]], 0),
    ],
)
def test_the_common_beginning_of_rows(rows: list[list[int]], length: int) -> None:
    assert common_length(rows) == length


def test_a_model_with_a_short_window_is_scored_the_plain_way(tokenizer: Any, capsys: Any) -> None:
    scorer = scorer_of("Mistral", tokenizer, sliding_window=24)
    items = groups_of_eight()
    assert scorer.logits(items) == pytest.approx(plainly(scorer, items), abs=1e-4)
    assert scorer.plain_because == "a layer sees 24 tokens only, which is less than twice max_length"
    assert scorer.logits(items[:4]) == pytest.approx(plainly(scorer, items[:4]), abs=1e-4)
    assert capsys.readouterr().err.count("prompts are not shared between reasonings: a layer sees 24 tokens only") == 1


def test_a_window_that_nothing_reaches_is_no_hindrance(tokenizer: Any) -> None:
    scorer = scorer_of("Mistral", tokenizer, sliding_window=1024)
    items = groups_of_eight()
    assert scorer.logits(items) == pytest.approx(plainly(scorer, items), abs=1e-4)
    assert scorer.plain_because is None


def far_apart(max_length: int) -> list[tuple[str, str]]:
    """A long problem with short reasonings and a short one with long ones: batched, they have much padding between."""
    long = " ".join(WORDS[n % len(WORDS)] for n in range(int(max_length * 0.5)))
    return [(long, "the sum"), (long, "print it"), ("n", f"zero {long}"), ("n", f"one {long}")]


def test_a_window_that_padding_would_reach_beyond_is_not_shared(tokenizer: Any) -> None:
    scorer = scorer_of("Mistral", tokenizer, sliding_window=600)
    items = far_apart(512)
    assert scorer.logits(items) == pytest.approx(plainly(scorer, items), abs=1e-4)
    assert scorer.plain_because is not None


def test_padding_does_not_run_out_of_the_positions_of_a_model(tokenizer: Any) -> None:
    scorer = scorer_of("GPT2", tokenizer, 256, n_positions=256)
    items = far_apart(256)
    with forwards(scorer) as seen:
        found = scorer.logits(items)
    assert any(held + width > 256 for _, width, held in seen), "this batch must reach beyond, or the test says nothing"
    assert found == pytest.approx(plainly(scorer, items), abs=1e-4)
    assert scorer.plain_because is None


def test_an_encoder_is_scored_the_plain_way(tokenizer: Any) -> None:
    scorer = scorer_of("Bert", tokenizer)
    items = groups_of_eight()
    assert scorer.logits(items) == pytest.approx(plainly(scorer, items), abs=1e-4)
    assert scorer.plain_because == "it is not a backbone with a head named 'score'"


def test_a_model_that_does_more_than_its_head_is_scored_the_plain_way(tokenizer: Any) -> None:
    model = tiny_classifier("Llama", tokenizer)
    forward = model.forward

    def shifted(**inputs: Any) -> Any:
        out = forward(**inputs)
        out.logits = out.logits + 1.0
        return out

    model.forward = shifted
    scorer = RewardModelScorer(Loaded(model, tokenizer), 512)
    items = groups_of_eight()
    assert scorer.logits(items) == pytest.approx(plainly(scorer, items), abs=1e-4)
    assert scorer.plain_because is not None
    assert "behind a shared prompt" in scorer.plain_because


def test_single_reasonings_do_not_ask_whether_the_model_can_share(tokenizer: Any) -> None:
    scorer = scorer_of("Bert", tokenizer)
    scorer([("Add two numbers.", "The sum is a + b."), ("Square n.", "Multiply n by itself.")])
    assert scorer.plain_because is None


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


# -- in process or remote ----------------------------------------------------------------------------------------------


def test_a_folder_is_opened_in_this_process(tiny_reward: Path) -> None:
    scorer = open_scorer(str(tiny_reward), 256)
    assert isinstance(scorer, RewardModelScorer)
    assert scorer.max_length == 256
