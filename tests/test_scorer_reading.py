"""Scores read off the whole reasoning: the likelihood, the mean of its states, a fitted head."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

from recode_rl import jsonl
from recode_rl.config import LoraConfig, RewardModelConfig
from recode_rl.errors import ModelError
from recode_rl.reward_model import head
from recode_rl.reward_model.train import train
from recode_rl.scorer import Encoded, RewardModelScorer, encode, reading
from recode_rl.types import PreferencePair

torch = pytest.importorskip("torch", reason="needs the extra [train]")
transformers = pytest.importorskip("transformers", reason="needs the extra [train]")

PROBLEM = "Read n and print its square."
REASONINGS = ("Multiply n by itself.", "Multiply n by two, then print it.", "Print n.", "Read n. Print n * n.")
PAIRS = [
    PreferencePair(f"p{n}/opt_deg", f"p{n}", f"Add {n} to n.", f"The sum of n and {n}.", f"Loop {n} times.", "opt_deg")
    for n in range(6)
]


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal model whose output layer is its embedding."""
    torch.set_num_threads(1)
    folder = tiny_model(tmp_path_factory.mktemp("models") / "tied")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.3)
    model.save_pretrained(folder)
    return folder


def recipe(base: Path, out: Path, **changes: Any) -> RewardModelConfig:
    settings: dict[str, Any] = {
        "base": str(base), "out": out, "likelihood": 5.0, "fit_head": True, "epochs": 1, "learning_rate": 1e-4,
        "batch_size": 3, "micro_batch": 3, "max_length": 128, "validation_percent": 0, "precision": "fp32",
    }  # fmt: skip
    return RewardModelConfig(**(settings | changes))


def by_hand(causal: Any, row: Encoded) -> float:
    """The mean log-probability as a causal model's own logits give it."""
    with torch.no_grad():
        log = torch.log_softmax(causal(input_ids=torch.tensor([row.ids])).logits[0].float(), -1)
    values = [log[at - 1, row.ids[at]].item() for at in range(row.prompt, len(row.ids) - 1)]
    return sum(values) / len(values)


def test_the_mean_log_probability_is_that_of_the_causal_model(tied: Path) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tied)
    causal = transformers.AutoModelForCausalLM.from_pretrained(tied).eval()
    rows = [encode(tokenizer, PROBLEM, reasoning, 128) for reasoning in REASONINGS]
    width = max(len(row.ids) for row in rows)
    ids = torch.tensor([row.ids + [0] * (width - len(row.ids)) for row in rows])
    mask = torch.arange(width) < torch.tensor([[len(row.ids)] for row in rows])
    hidden = causal.model(input_ids=ids, attention_mask=mask)
    spans = [(row.prompt, len(row.ids) - 1) for row in rows]
    found = reading.mean_log_probability(causal, hidden.last_hidden_state, ids, spans)
    assert found.tolist() == pytest.approx([by_hand(causal, row) for row in rows], abs=1e-4)


def test_an_empty_reasoning_is_as_likely_as_a_guess(tied: Path) -> None:
    causal = transformers.AutoModelForCausalLM.from_pretrained(tied).eval()
    ids = torch.tensor([[1, 2, 3]])
    hidden = causal.model(input_ids=ids).last_hidden_state
    (found,) = reading.mean_log_probability(causal, hidden, ids, [(2, 2)]).tolist()
    assert found == pytest.approx(-math.log(len(causal.get_input_embeddings().weight)))


def test_copies_are_the_last_tokens_of_runs_that_stood_before() -> None:
    ids = [[1, 2, 3, 4, 5, 9, 2, 3, 4, 5, 7, 7, 7, 7, 0]]
    #       the prompt ------|  reasoning --------------- end
    assert reading.no_copies(ids, [(6, 14)], None, 3) == [[6, 7, 10, 11, 12]]
    assert reading.no_copies(ids, [(6, 14)], None, 2) == [[6, 10, 11]]
    assert reading.no_copies(ids, [(6, 14)], None, 1) == [[10]]
    assert reading.no_copies(ids, [(6, 14)], None, 9) == [[6, 7, 8, 9, 10, 11, 12, 13]]
    behind = [ids[0][4:]]
    assert reading.no_copies(behind, [(2, 10)], [ids[0][:4]], 3) == [[2, 3, 6, 7, 8]]


def test_copies_do_not_make_a_reasoning_likely(tied: Path) -> None:
    """What is no copy counts alone, and where there is too little of it the rest is guessed."""
    causal = transformers.AutoModelForCausalLM.from_pretrained(tied).eval()
    torch.manual_seed(0)
    ids = torch.randint(1, 200, (1, 30))
    ids[0, 20:28] = ids[0, 2:10]
    hidden = causal.model(input_ids=ids).last_hidden_state
    log = torch.log_softmax(causal(input_ids=ids).logits[0].float(), -1)
    each = [log[at - 1, ids[0, at]].item() for at in range(30)]
    chosen = reading.Reading(pooling="mean", likelihood=1.0, copy_length=4)
    states = type("States", (), {"last_hidden_state": hidden})
    (_, found) = chosen.features(causal, states, ids, [(10, 29)])
    own = [*range(10, 23), 28]
    assert found.item() == pytest.approx(sum(each[at] for at in own) / len(own), abs=1e-4)
    (_, copied) = chosen.features(causal, states, ids, [(20, 28)])
    guess = -math.log(len(causal.get_input_embeddings().weight))
    assert copied.item() == pytest.approx((sum(each[20:23]) + 5 * guess) / 8, abs=1e-4)


def test_the_gradient_is_that_of_the_same_sum_in_one_piece(tied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    causal = transformers.AutoModelForCausalLM.from_pretrained(tied).eval()
    ids, spans = torch.arange(24).reshape(2, 12) + 1, [(3, 11), (5, 9)]
    gradients = []
    for positions in (1000, 3):
        monkeypatch.setattr(reading, "_POSITIONS", positions)
        causal.zero_grad()
        hidden = causal.model(input_ids=ids).last_hidden_state
        reading.mean_log_probability(causal, hidden, ids, spans).sum().backward()
        gradients.append([parameter.grad.clone() for parameter in causal.parameters() if parameter.grad is not None])
    assert gradients[0] and any(gradient.abs().max() > 0 for gradient in gradients[0])
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(*gradients, strict=True))


def test_a_trained_model_carries_the_likelihood_and_scores_with_it(tied: Path, tmp_path: Path) -> None:
    out = train(recipe(tied, tmp_path / "rm", learning_rate=1e-12), PAIRS)
    config = json.loads((out / "config.json").read_text())
    assert config["recode_reading"]["likelihood"] == 5.0
    scorer = RewardModelScorer(str(out), 128)
    causal = transformers.AutoModelForCausalLM.from_pretrained(tied).eval()
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    items = [(PROBLEM, reasoning) for reasoning in REASONINGS]
    for (_, reasoning), score in zip(items, scorer.logits(items), strict=True):
        row = encode(scorer._tokenizer, PROBLEM, reasoning, 128)
        with torch.no_grad():
            plain = classifier(input_ids=torch.tensor([row.ids])).logits.item()
        assert score == pytest.approx(plain + 5 * by_hand(causal, row) - config["recode_reading"]["offset"], abs=1e-3)


@pytest.mark.parametrize("copy_length", [0, 3])
def test_shared_prompts_and_company_do_not_change_the_score(copy_length: int, tied: Path, tmp_path: Path) -> None:
    scorer = RewardModelScorer(str(train(recipe(tied, tmp_path / "rm", copy_length=copy_length), PAIRS)), 128)
    reasonings = (*REASONINGS, f"{PROBLEM} {PROBLEM}")
    items = [(problem, reasoning) for problem in (PROBLEM, "Add a and b.") for reasoning in reasonings]
    together = scorer.logits(items)
    assert scorer.plain_because is None
    assert together == pytest.approx([scorer.logits([item])[0] for item in items], abs=1e-4)
    assert len(set(together)) == len(items)


def test_training_reads_the_same_scores_as_scoring(tied: Path, tmp_path: Path) -> None:
    """The first loss is that of the scores which the untrained model gives: log 2 by no means."""
    config = recipe(tied, tmp_path / "rm", learning_rate=1e-12, batch_size=6, micro_batch=6, center=0.0)
    out = train(config, PAIRS)
    scorer = RewardModelScorer(str(out), 128)
    chosen = scorer.logits([(pair.problem, pair.chosen) for pair in PAIRS])
    rejected = scorer.logits([(pair.problem, pair.rejected) for pair in PAIRS])
    expected = [math.log1p(math.exp(worse - better)) for better, worse in zip(chosen, rejected, strict=True)]
    first = next(record for _, record in jsonl.read(out / "metrics.jsonl"))
    assert first["loss"] == pytest.approx(sum(expected) / len(expected), abs=1e-3)


def test_a_base_with_an_output_layer_of_its_own_is_refused(tmp_path: Path) -> None:
    apart = tiny_model(tmp_path / "apart")
    config = json.loads((apart / "config.json").read_text())
    (apart / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with pytest.raises(ModelError, match=r"its output layer is not its embedding.*likelihood = 0"):
        train(recipe(apart, tmp_path / "rm"), PAIRS)


@pytest.mark.parametrize("likelihood", [0.0, 3.0])
def test_a_head_on_the_mean_state_of_a_middle_layer(likelihood: float, tied: Path, tmp_path: Path) -> None:
    """Without likelihood the base is cut behind the layer; with it the whole base is kept and the layer read."""
    out = train(recipe(tied, tmp_path / "rm", pooling="mean", layers=1, likelihood=likelihood, epochs=0), PAIRS)
    config = json.loads((out / "config.json").read_text())
    assert config["num_hidden_layers"] == (2 if likelihood else 1)
    scorer = RewardModelScorer(str(out), 128)
    classifier = transformers.AutoModelForSequenceClassification.from_pretrained(out).eval()
    causal = transformers.AutoModelForCausalLM.from_pretrained(tied).eval()
    for reasoning, score in zip(REASONINGS, scorer.logits([(PROBLEM, text) for text in REASONINGS]), strict=True):
        row = encode(scorer._tokenizer, PROBLEM, reasoning, 128)
        with torch.no_grad():
            states = classifier.model(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states[1][0]
            expected = classifier.score(states[row.prompt : len(row.ids) - 1].mean(0)).item()
        expected += likelihood * by_hand(causal, row) - config["recode_reading"]["offset"]
        assert score == pytest.approx(expected, abs=1e-3)


def test_scores_are_centred_and_a_blank_reasoning_scores_zero(tied: Path, tmp_path: Path) -> None:
    scorer = RewardModelScorer(str(train(recipe(tied, tmp_path / "rm", pooling="mean", epochs=0), PAIRS)), 128)
    items = [(pair.problem, side) for pair in PAIRS for side in (pair.chosen, pair.rejected)]
    scores = scorer.logits(items)
    assert sum(scores) / len(scores) == pytest.approx(0, abs=0.05)
    assert scorer([(PROBLEM, "  ")]) == [0.0]
    assert math.isfinite(scorer.logits([(PROBLEM, "")])[0])


def test_a_fitted_head_tells_pairs_apart_that_it_was_fitted_on(tied: Path, tmp_path: Path) -> None:
    out = train(recipe(tied, tmp_path / "rm", pooling="mean", likelihood=0.0, epochs=0), PAIRS)
    scorer = RewardModelScorer(str(out), 128)
    chosen, rejected = ([(pair.problem, getattr(pair, side)) for pair in PAIRS] for side in ("chosen", "rejected"))
    assert all(better > worse for better, worse in zip(scorer.logits(chosen), scorer.logits(rejected), strict=True))
    found = jsonl.read_json(out / "manifest.json")["head"]
    assert found["cross_validated_accuracy"] == 1.0 and found["cross_validated_loss"] < math.log(2)
    assert not list(out.parent.glob(".rm-training*"))


def test_training_goes_on_from_the_fitted_head(tied: Path, tmp_path: Path) -> None:
    fitted = train(recipe(tied, tmp_path / "fitted", pooling="mean", epochs=0), PAIRS)
    trained = train(recipe(tied, tmp_path / "trained", pooling="mean", learning_rate=1e-12), PAIRS)
    heads = [transformers.AutoModelForSequenceClassification.from_pretrained(path).score for path in (fitted, trained)]
    assert torch.allclose(heads[0].weight, heads[1].weight, atol=1e-6)
    adapted = recipe(tied, tmp_path / "lora", pooling="mean", lora=LoraConfig(rank=2), learning_rate=1e-12)
    items = [(PROBLEM, reasoning) for reasoning in REASONINGS]
    ours, theirs = (RewardModelScorer(str(path), 128).logits(items) for path in (fitted, train(adapted, PAIRS)))
    assert ours == pytest.approx(theirs, abs=1e-3)


def test_the_fit_is_the_minimum_and_undoes_the_standardisation() -> None:
    np = pytest.importorskip("numpy")
    draw = np.random.default_rng(0)
    states = draw.normal(size=(60, 5)) * [1, 10, 0.1, 3, 0] + [0, 5, 0, -2, 7]
    sides = head.Sides(list(range(0, 60, 2)), list(range(1, 60, 2)), [f"p{n}" for n in range(30)])
    states[::2, 0] += 1.0
    found = head.fit(states, sides)
    margins = (states[::2] - states[1::2]) @ found.weights
    scale = states.std(0) * np.sqrt(5)
    scale[4] = 1

    def loss(weights: Any) -> float:
        moved = (states[::2] - states[1::2]) @ weights
        return float(np.logaddexp(0, -moved).mean() + found.penalty / 2 * ((weights * scale) ** 2).sum())

    nearby = [loss(found.weights + step * unit / scale) for unit in np.eye(5)[:4] for step in (-0.05, 0.05)]
    assert loss(found.weights) < min(nearby)
    assert found.offset == pytest.approx(float((states @ found.weights).mean()))
    assert (margins > 0).mean() > 0.6 and 0.4 < found.accuracy < 1


def test_a_training_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="epochs 0 trains nothing"):
        recipe(Path("base"), Path("out"), epochs=0, fit_head=False, likelihood=0.0)
    with pytest.raises(ValueError, match="copy_length 4 is for the likelihood"):
        recipe(Path("base"), Path("out"), likelihood=0.0, copy_length=4)
    with pytest.raises(ValueError, match=r"likelihood 5\.0 needs fit_head"):
        recipe(Path("base"), Path("out"), fit_head=False)
