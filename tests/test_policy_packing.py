"""Packed prompts and completions give TRL's own values and gradients, for the models that are said to suit."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from recode_rl.policy import packing

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")

SMALL = {
    "vocab_size": 90,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 9, 10, 11]]
COMPLETIONS = [[20, 21, 22], [23], [24, 25, 26, 27, 28], []]  # the last one is masked, as a truncated one may be


def model_of(kind: str) -> Any:
    import transformers
    from trl.trainer.utils import add_fused_lm_head

    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(**SMALL)
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    for parameter in model.parameters():  # a fresh model says of every token about the same
        torch.nn.init.normal_(parameter, std=0.3)
    add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    return model


def batch_of(prompts: list[list[int]], completions: list[list[int]]) -> tuple[Any, Any, int]:
    before, behind = max(map(len, prompts)), max(map(len, completions))
    ids = [[0] * (before - len(p)) + p + c + [0] * (behind - len(c)) for p, c in zip(prompts, completions, strict=True)]
    mask = [
        [0] * (before - len(p)) + [1] * (len(p) + len(c)) + [0] * (behind - len(c))
        for p, c in zip(prompts, completions, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask), behind


def trainer(model: Any) -> Any:
    """The trainer's methods without its set-up, which wants data and rewards."""
    made = object.__new__(packing.trainer_class())
    made.model, made.accelerator = model, SimpleNamespace(autocast=nullcontext, is_main_process=False)
    return made


def gradients(model: Any, of: Any) -> dict[str, Any]:
    model.zero_grad()
    of.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
@pytest.mark.parametrize("size", [None, 3])
def test_values_and_gradients_are_those_of_the_padded_batch(
    kind: str, size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_work", lambda config, rows, length: rows)  # one row is always less work
    model = model_of(kind)
    ids, mask, behind = batch_of(PROMPTS, COMPLETIONS)
    ours = trainer(model)._get_per_token_logps_and_entropies(model, ids, mask, behind, size, compute_entropy=True)
    plain = trl.GRPOTrainer._get_per_token_logps_and_entropies
    theirs = plain(trainer(model), model, ids, mask, behind, size, compute_entropy=True)
    there = mask[:, -behind:].bool()
    for our, their in zip(ours[:2], theirs[:2], strict=True):
        assert our.shape == their.shape == (4, behind)
        torch.testing.assert_close(our[there], their[there], atol=1e-5, rtol=1e-5)
        assert not our[~there].any()
    assert ours[2] is None
    weights = torch.linspace(-1, 1, int(there.sum()))
    our_gradients = gradients(model, (ours[0][there] * weights).sum())
    their_gradients = gradients(model, (theirs[0][there] * weights).sum())
    for name, found in our_gradients.items():
        torch.testing.assert_close(found, their_gradients[name], atol=1e-4, rtol=1e-4, msg=name)


def test_a_pack_has_each_prompt_once_and_no_padding() -> None:
    pack = packing.packed(*batch_of(PROMPTS, COMPLETIONS))
    inputs = pack.inputs()
    ids = inputs["input_ids"][0].tolist()
    assert ids == [5, 6, 7, 8, 9, 10, 11, 20, 21, 22, 11, 24, 25, 26, 27, 28, 11, 12, 13, 23]
    positions = inputs["position_ids"][0].tolist()
    assert positions == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 6, 7, 8, 9, 10, 11, 6, 0, 1, 2]
    assert [ids[place] for place in pack.places.tolist()] == [20, 21, 22, 24, 25, 26, 27, 28, 23]
    assert inputs["labels"][0].tolist() == [token if token >= 20 else -100 for token in ids]
    sees = inputs["attention_mask"][0, 0]
    assert sees[8].nonzero()[:, 0].tolist() == list(range(9))
    assert sees[11].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 10, 11]
    assert sees[19].nonzero()[:, 0].tolist() == [17, 18, 19]


def test_where_it_is_more_work_the_batch_stays_as_it_is() -> None:
    model = model_of("Llama")
    ids, mask, behind = batch_of([[number, 7] for number in range(8, 72)], [[9] * 20] * 64)
    found = trainer(model)
    found._of_pack = lambda *args: pytest.fail("64 rows of their own packed into one")
    with torch.no_grad():
        logps, entropies, _ = found._get_per_token_logps_and_entropies(model, ids, mask, behind)
    assert logps.shape == (64, behind)
    assert entropies is None


def test_other_models_are_left_to_the_engine() -> None:
    import transformers

    config = transformers.Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert not packing._suits(SimpleNamespace(config=config, device=torch.device("cpu")))
    assert not packing._suits(SimpleNamespace(config=transformers.GPT2Config(), device=torch.device("cpu")))
    suited = model_of("Llama")
    assert packing._suits(suited)
    suited.config._attn_implementation = "eager"
    assert not packing._suits(suited)


def test_rows_of_one_prompt_come_next_to_each_other() -> None:
    prompts = torch.tensor([[3, 1], [2, 2], [3, 1], [2, 2]])
    columns = {"prompt_ids": prompts, "advantages": torch.arange(4.0), "names": ["a", "b", "c", "d"]}
    batches = [
        {name: values[part] for name, values in columns.items()} | {"count": torch.tensor(9)}
        for part in (slice(0, 2), slice(2, 4))
    ]
    arranged = packing.by_prompt(batches)
    assert [batch["prompt_ids"].tolist() for batch in arranged] == [[[2, 2], [2, 2]], [[3, 1], [3, 1]]]
    assert [batch["advantages"].tolist() for batch in arranged] == [[1.0, 3.0], [0.0, 2.0]]
    assert [batch["names"] for batch in arranged] == [["b", "d"], ["a", "c"]]
    assert [batch["count"].item() for batch in arranged] == [9, 9]
