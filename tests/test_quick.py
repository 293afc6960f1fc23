"""A quick CPU: the same tokens, distribution and gradients, torch's refusals, and all as it was afterwards."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from recode_rl import models
from recode_rl.quick import quick_cpu

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="needs the extra [train]")


def test_draws_follow_the_distribution() -> None:
    """20,000 draws of 6 outcomes: Pearson's statistic stays below the 99.9 % point of χ² with 5 degrees of freedom."""
    weights = torch.tensor([0.3, 0.0, 0.02, 0.4, 0.08, 0.2, 0.0])
    torch.manual_seed(0)
    with quick_cpu():
        drawn = torch.multinomial(weights.expand(20_000, -1).contiguous(), 1)
    assert drawn.shape == (20_000, 1)
    assert drawn.dtype == torch.int64
    counts = torch.bincount(drawn[:, 0], minlength=7).double()
    expected = weights.double() / weights.double().sum() * 20_000
    assert counts[expected == 0].sum() == 0
    seen = expected > 0
    assert float(((counts - expected)[seen] ** 2 / expected[seen]).sum()) < 20.5


def test_each_row_has_its_own_distribution_and_weights_need_not_sum_to_one() -> None:
    weights = torch.eye(5) * 7
    with quick_cpu():
        drawn = torch.multinomial(weights, num_samples=1)
    assert drawn[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_seed_decides() -> None:
    weights = torch.rand(8, 1000)
    with quick_cpu():
        torch.manual_seed(3)
        first = torch.multinomial(weights, 1)
        torch.manual_seed(3)
        assert torch.multinomial(weights, 1).equal(first)
        assert not torch.multinomial(weights, 1).equal(first)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [float("nan"), 1.0], [-1.0, 2.0], [float("inf"), 1.0]])
def test_what_is_no_distribution_is_refused_as_by_torch(bad: list[float]) -> None:
    with quick_cpu(), pytest.raises(RuntimeError, match=r"probability tensor|invalid multinomial"):
        torch.multinomial(torch.tensor([bad]), 1)


def test_other_calls_are_torchs() -> None:
    """Several draws, a vector, a generator: as without."""
    weights = torch.rand(10)
    torch.manual_seed(1)
    expected = torch.multinomial(weights, 4)
    torch.manual_seed(1)
    with quick_cpu():
        assert torch.multinomial(weights, 4).equal(expected)
    given = torch.multinomial(weights[None], 1, generator=torch.Generator().manual_seed(5))
    with quick_cpu():
        assert torch.multinomial(weights[None], 1, generator=torch.Generator().manual_seed(5)).equal(given)


def test_torch_is_as_before_when_the_last_one_closes() -> None:
    original = torch.multinomial
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quick_cpu():
            inside.set()
            leave.wait(10)

    with pytest.raises(ZeroDivisionError), quick_cpu():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
        raise ZeroDivisionError
    assert torch.multinomial is not original
    leave.set()
    thread.join()
    assert torch.multinomial is original


# -- prompts and the cache ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny: Path) -> Any:
    return models.load_causal(str(tiny)).eval()


class Watched:
    """How many rows and tokens each forward pass of a model reads."""

    def __init__(self, model: Any) -> None:
        self.read: list[tuple[int, ...]] = []
        self._hook = model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: Any, args: Any, kwargs: Any) -> None:
        self.read.append(tuple(kwargs["input_ids"].shape))

    def close(self) -> None:
        self._hook.remove()


def generated(model: Any, ids: Any, mask: Any, tokens: int = 160, **more: Any) -> tuple[Any, list[tuple[int, ...]]]:
    watched = Watched(model)
    settings = {"max_new_tokens": tokens, "min_new_tokens": tokens, "do_sample": False, "pad_token_id": 0, **more}
    try:
        return model.generate(input_ids=ids, attention_mask=mask, **settings), watched.read
    finally:
        watched.close()


def prompts(rows: list[int], length: int = 9) -> tuple[Any, Any]:
    """Rows that are equal where their numbers are; odd ones have padding on the left."""
    torch.manual_seed(0)
    distinct, mask = torch.randint(5, 60, (8, length)), torch.ones(8, length, dtype=torch.long)
    mask[1::2, :3] = 0
    return distinct[rows], mask[rows]


# The mask of [0, 0, 2] is all ones, which transformers leaves out.
@pytest.mark.parametrize("rows", [[0, 0, 1, 1, 1, 2], [3, 1, 3, 0, 1, 3], [0, 1, 2], [5, 5], [0, 0, 2]])
def test_the_same_tokens_come_and_each_prompt_is_read_once(model: Any, rows: list[int]) -> None:
    """More tokens than the cache has room for at first."""
    ids, mask = prompts(rows)
    plain, read = generated(model, ids, mask)
    assert read[0] == (len(rows), 9)
    with quick_cpu():
        quick, read = generated(model, ids, mask)
    assert read[0] == (len(set(rows)), 9)
    assert read[1:] == [(len(rows), 1)] * 159
    assert quick.equal(plain)


def test_equal_tokens_behind_other_padding_are_other_prompts(model: Any) -> None:
    ids, mask = prompts([0, 0, 0])
    mask[1, :4] = 0
    plain, _ = generated(model, ids, mask, 20)
    with quick_cpu():
        quick, read = generated(model, ids, mask, 20)
    assert read[0] == (2, 9)
    assert quick.equal(plain)


def test_beams_and_a_cache_that_is_given_are_as_before(model: Any) -> None:
    """Beam search puts the rows of the cache in another order at each token."""
    ids, mask = prompts([0, 1])
    plain, _ = generated(model, ids, mask, 30, num_beams=3)
    with quick_cpu():
        assert generated(model, ids, mask, 30, num_beams=3)[0].equal(plain)
        cache = need_cache(model, ids, mask)
        assert generated(model, ids, mask, 30, past_key_values=cache)[0].equal(generated(model, ids, mask, 30)[0])


def need_cache(model: Any, ids: Any, mask: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], use_cache=True).past_key_values


def test_a_cache_that_was_cut_is_written_on_from_there(model: Any) -> None:
    from transformers.cache_utils import DynamicLayer

    torch.manual_seed(1)
    parts = [torch.rand(2, 3, size, 4) for size in (5, 1, 1, 2)]
    with quick_cpu(), torch.no_grad():
        layer = DynamicLayer()
        for part in parts:
            keys, values = layer.update(part, part + 1)
        assert keys.equal(torch.cat(parts, dim=-2))
        assert values.equal(torch.cat(parts, dim=-2) + 1)
        layer.crop(-3)
        assert layer.update(parts[1], parts[1])[0].equal(torch.cat([parts[0], parts[1], parts[1]], dim=-2))
        layer.batch_select_indices(torch.tensor([1]))
        assert layer.update(parts[1][1:], parts[1][1:])[0].shape == (1, 3, 8, 4)


def test_gradients_go_through_torchs_own_cache(model: Any) -> None:
    from transformers.cache_utils import DynamicLayer

    with quick_cpu():
        layer = DynamicLayer()
        first, second = (torch.rand(1, 1, 2, 4, requires_grad=True) for _ in range(2))
        layer.update(first, first)
        layer.update(second, second)[0].sum().backward()
    assert first.grad is not None
    assert second.grad is not None


def _attention_case(case: str) -> tuple[list[Any], Any, bool]:
    """Query, key and value in fp32 that bf16 holds exactly, what may be seen, and whether it is causal."""
    torch.manual_seed(5)
    heads = 2 if case == "shared keys" else 6
    query, key, value = (torch.randn(3, n, 50, 16).bfloat16().float() for n in (6, heads, heads))
    causal = torch.ones(50, 50, dtype=torch.bool).tril()
    padded = causal.expand(3, 1, 50, 50).clone()
    padded[1, :, :, :20] = False  # padding on the left: its own rows may see nothing
    padded[2, :, :, 35:] = False
    mask = {
        "padded": padded,
        "one for all": causal,
        "one row for all": padded[1:2],
        "each head": padded.expand(3, 6, 50, 50),
    }
    return [query, key, value], mask.get(case), case in ("causal", "shared keys")


@pytest.mark.parametrize(
    "case", ["causal", "shared keys", "whole", "padded", "one for all", "one row for all", "each head"]
)
def test_gradients_of_attention_are_those_of_fp32_to_the_rounding_of_bf16(case: str) -> None:
    tensors, mask, causal = _attention_case(case)
    seen = torch.ones(3, 1, 50, 1) if mask is None else mask.any(-1, keepdim=True).float()
    upstream = torch.randn(3, 6, 50, 16).bfloat16() * seen.bfloat16()
    functional = torch.nn.functional

    def run(dtype: Any) -> list[Any]:
        inputs = [tensor.clone().to(dtype).detach().requires_grad_() for tensor in tensors]
        given = {"attn_mask": mask, "is_causal": causal, "enable_gqa": case == "shared keys"}
        found = functional.scaled_dot_product_attention(*inputs, **given)
        found.backward(upstream.to(dtype))
        return [found, *(tensor.grad for tensor in inputs)]

    exact = run(torch.float32)
    theirs = run(torch.bfloat16)
    with quick_cpu():
        ours = run(torch.bfloat16)
    assert ours[0].equal(theirs[0])
    for name, wanted, quick, plain in zip(("query", "key", "value"), exact[1:], ours[1:], theirs[1:], strict=True):
        error, allowed = (float((found.float() - wanted).norm() / wanted.norm()) for found in (quick, plain))
        assert quick.dtype == torch.bfloat16
        assert error < max(2.5 * allowed, 0.006), name


def test_attention_in_other_forms_is_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32, autocast, dropout, a bias, and what needs no gradient go where they went, with all that was given."""
    functional = torch.nn.functional
    original, asked = functional.scaled_dot_product_attention, []

    def counting(*args: Any, **kwargs: Any) -> Any:
        asked.append((args[4] if len(args) > 4 else 0.0, kwargs))
        return original(*args, **kwargs)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", counting)
    exact = [torch.randn(1, 2, 5, 8, requires_grad=True) for _ in range(3)]
    short = [tensor.detach().bfloat16().requires_grad_() for tensor in exact]
    with quick_cpu():
        attend = functional.scaled_dot_product_attention
        assert attend(*exact).grad_fn.name() != "AttentionBackward"
        assert attend(*short, attn_mask=torch.zeros(5, 5).bfloat16()).grad_fn.name() != "AttentionBackward"
        assert attend(*short, dropout_p=0.5).grad_fn.name() != "AttentionBackward"
        with torch.autocast("cpu", dtype=torch.bfloat16):
            attend(*short)
        with torch.no_grad():
            attend(*short, enable_gqa=True)
        assert [dropout for dropout, _ in asked] == [0.0, 0.0, 0.5, 0.0, 0.0]
        assert asked[-1][1]["enable_gqa"] is True
        assert attend(*short).grad_fn.name() == "AttentionBackward"


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_model_learns_alike(tiny: Path, side: str) -> None:
    """All gradients of a padded batch, against those without quick attention: as near as bf16 is to fp32."""
    ids = torch.arange(2 * 30).reshape(2, 30) % 200 + 10
    mask = torch.ones_like(ids)
    mask[1, slice(0, 12) if side == "left" else slice(18, 30)] = 0
    labels = ids.masked_fill(mask == 0, -100)

    def run(dtype: str) -> Any:
        model = models.load_causal(str(tiny), dtype).train()
        model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
        return torch.cat([weight.grad.float().flatten() for weight in model.parameters()])

    exact, plain = run("float32"), run("bfloat16")
    with quick_cpu():
        quick = run("bfloat16")
    assert not quick.equal(plain)  # else it was not used
    assert float((quick - exact).norm()) < 1.2 * float((plain - exact).norm())
