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
PROMPTS = [[5, 6, 7, 8, 9, 10, 11], [12, 13], [5, 6, 7, 8, 9, 10, 11], [5, 6, 7, 8, 9, 10, 11], [14]]
COMPLETIONS = [[20, 21, 22], [23], [24, 25, 26, 27, 28], [], [29, 30]]  # one is masked, as a truncated one may be


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
def test_values_and_gradients_are_those_of_the_padded_batch(kind: str, size: int | None) -> None:
    model = model_of(kind)
    ids, mask, behind = batch_of(PROMPTS, COMPLETIONS)
    ours = trainer(model)._get_per_token_logps_and_entropies(model, ids, mask, behind, size, compute_entropy=True)
    plain = trl.GRPOTrainer._get_per_token_logps_and_entropies
    theirs = plain(trainer(model), model, ids, mask, behind, size, compute_entropy=True)
    there = mask[:, -behind:].bool()
    for our, their in zip(ours[:2], theirs[:2], strict=True):
        assert our.shape == their.shape == (5, behind)
        torch.testing.assert_close(our[there], their[there], atol=1e-5, rtol=1e-5)
        assert not our[~there].any()
    assert ours[2] is None
    weights = torch.linspace(-1, 1, int(there.sum()))
    our_gradients = gradients(model, (ours[0][there] * weights).sum())
    their_gradients = gradients(model, (theirs[0][there] * weights).sum())
    for name, found in our_gradients.items():
        torch.testing.assert_close(found, their_gradients[name], atol=1e-4, rtol=1e-4, msg=name)


def test_rows_without_an_advantage_are_read_and_have_no_gradient() -> None:
    model = model_of("Llama")
    ids, mask, behind = batch_of(PROMPTS, COMPLETIONS)
    made = trainer(model)
    whole = made._get_per_token_logps_and_entropies(model, ids, mask, behind, compute_entropy=True)
    made._learning = torch.tensor([False, True, True, False, False])
    parts = made._get_per_token_logps_and_entropies(model, ids, mask, behind, compute_entropy=True)
    for part, all_of_it in zip(parts[:2], whole[:2], strict=True):
        torch.testing.assert_close(part, all_of_it, atol=1e-5, rtol=1e-5)
    advantages = made._learning[:, None] * torch.linspace(-1, 1, behind)
    wanted = gradients(model, (whole[0] * advantages).sum())
    for name, found in gradients(model, (parts[0] * advantages).sum()).items():
        torch.testing.assert_close(found, wanted[name], atol=1e-4, rtol=1e-4, msg=name)


def test_without_any_advantage_every_gradient_is_there_and_zero() -> None:
    model = model_of("Llama")
    ids, mask, behind = batch_of(PROMPTS, COMPLETIONS)
    made = trainer(model)
    made._learning = torch.zeros(5, dtype=torch.bool)
    logps, _, _ = made._get_per_token_logps_and_entropies(model, ids, mask, behind)
    assert all(not found.any() for found in gradients(model, logps.sum()).values())


def test_a_pack_has_each_prompt_once_and_no_padding() -> None:
    pack = packing.packed(*batch_of(PROMPTS, COMPLETIONS))
    inputs = pack.inputs()
    ids = inputs["input_ids"][0].tolist()
    assert ids == [5, 6, 7, 8, 9, 10, 11, 20, 21, 22, 11, 24, 25, 26, 27, 28, 11, 12, 13, 23, 14, 29, 30]
    positions = inputs["position_ids"][0].tolist()
    assert positions == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 6, 7, 8, 9, 10, 11, 6, 0, 1, 2, 0, 1, 2]
    assert [ids[place] for place in pack.places.tolist()] == [20, 21, 22, 24, 25, 26, 27, 28, 23, 29, 30]
    assert inputs["labels"][0].tolist() == [token if token >= 20 else -100 for token in ids]
    assert inputs["packed_lengths"] == ((6, 4, 6, 1), (1, 2), (0, 3))


def test_a_token_sees_its_own_prompt_and_completion_alone() -> None:
    torch.manual_seed(2)
    query, key, value = torch.randn(1, 4, 10, 8), torch.randn(1, 2, 10, 8), torch.randn(1, 2, 10, 8)
    mine = [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 4], [0, 1, 4, 5], [6], [6, 7], [6, 7, 8], [6, 7, 8, 9]]
    sees = torch.zeros(10, 10, dtype=torch.bool)
    for row, places in enumerate(mine):
        sees[row, places] = True
    wanted = torch.nn.functional.scaled_dot_product_attention(
        query, *(tensor.repeat_interleave(2, dim=1) for tensor in (key, value)), attn_mask=sees, scale=0.3
    )
    found = packing._of_pieces(query, key, value, ((2, 2, 2), (1, 3)), 0.3, 0.0)
    torch.testing.assert_close(found, wanted.transpose(1, 2))


@pytest.mark.parametrize(("asked", "seen"), [(7, 7), (3, 9), (1, 4)])
def test_attention_by_products_is_the_fused_one(asked: int, seen: int) -> None:
    torch.manual_seed(3)
    given = [torch.randn(1, heads, size, 8, requires_grad=True) for heads, size in ((6, asked), (2, seen), (2, seen))]
    found, wanted = (attend(*given, 0.3, 0.0) for attend in (packing._by_products, packing._fused))
    torch.testing.assert_close(found, wanted)
    weights = torch.randn_like(wanted)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), given) for out in (found, wanted))
    for our, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our, their)


def test_in_bfloat16_the_gradient_comes_from_products_and_is_as_near_as_the_fused_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(4)
    exact = [torch.randn(1, heads, 60, 16, requires_grad=True) for heads in (4, 2, 2)]
    weights = torch.randn(1, 60, 4, 16)

    def found(given: list[Any]) -> list[Any]:
        out = packing._of_pieces(*given, ((20, 25), (15,)), 0.25, 0.0)
        return [out, *torch.autograd.grad((out * weights.to(out.dtype)).sum(), given)]

    wanted = found(exact)

    def distance(values: list[Any]) -> Any:
        pairs = zip(values, wanted, strict=True)
        return torch.stack([(value.float() - true).norm() / true.norm() for value, true in pairs])

    half = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    with monkeypatch.context() as patch:
        patch.setattr(packing, "_fused", None)  # is not called
        products = distance(found(half))
    monkeypatch.setattr(packing, "_by_products", packing._fused)
    fused = distance(found(half))
    assert (products < 0.015).all()
    assert (products < 1.6 * fused).all()


def test_other_models_are_left_to_the_engine() -> None:
    import transformers

    config = transformers.Qwen2Config(**SMALL, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    assert not packing._suits(SimpleNamespace(config=config, device=torch.device("cpu")))
    assert not packing._suits(SimpleNamespace(config=transformers.GPT2Config(), device=torch.device("cpu")))
    suited = model_of("Llama")
    assert packing._suits(suited)
    suited.config._attn_implementation = "eager"
    assert not packing._suits(suited)


def test_rows_of_one_prompt_come_next_to_each_other_and_those_without_an_advantage_last() -> None:
    prompts = torch.tensor([[3, 1], [2, 2], [3, 1], [4, 4], [2, 2], [1, 1]])
    columns = {"prompt_ids": prompts, "advantages": torch.tensor([1.0, 2, 3, 4, 5, 0]), "names": list("abcdef")}
    batches = [
        {name: values[part] for name, values in columns.items()} | {"count": torch.tensor(9)}
        for part in (slice(0, 3), slice(3, 6))
    ]
    found = packing.arranged(batches)
    assert [batch["prompt_ids"].tolist() for batch in found] == [[[2, 2], [2, 2], [3, 1]], [[3, 1], [4, 4], [1, 1]]]
    assert [batch["advantages"].tolist() for batch in found] == [[2.0, 5.0, 1.0], [3.0, 4.0, 0.0]]
    assert [batch["names"] for batch in found] == [["b", "e", "a"], ["c", "d", "f"]]
    assert [batch["count"].item() for batch in found] == [9, 9]
