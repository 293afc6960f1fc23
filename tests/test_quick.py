"""Quick generation: the same tokens and distribution, torch's refusals, and all as it was afterwards."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from recode_rl import models, quick
from recode_rl.quick import quick_generation

torch = pytest.importorskip("torch")
pytest.importorskip("transformers", reason="needs the extra [train]")


def test_draws_follow_the_distribution() -> None:
    """20,000 draws of 6 outcomes: Pearson's statistic stays below the 99.9 % point of χ² with 5 degrees of freedom."""
    weights = torch.tensor([0.3, 0.0, 0.02, 0.4, 0.08, 0.2, 0.0])
    torch.manual_seed(0)
    with quick_generation():
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
    with quick_generation():
        drawn = torch.multinomial(weights, num_samples=1)
    assert drawn[:, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_seed_decides() -> None:
    weights = torch.rand(8, 1000)
    with quick_generation():
        torch.manual_seed(3)
        first = torch.multinomial(weights, 1)
        torch.manual_seed(3)
        assert torch.multinomial(weights, 1).equal(first)
        assert not torch.multinomial(weights, 1).equal(first)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [float("nan"), 1.0], [-1.0, 2.0], [float("inf"), 1.0]])
def test_what_is_no_distribution_is_refused_as_by_torch(bad: list[float]) -> None:
    with quick_generation(), pytest.raises(RuntimeError, match=r"probability tensor|invalid multinomial"):
        torch.multinomial(torch.tensor([bad]), 1)


def test_other_calls_are_torchs() -> None:
    """Several draws, a vector, a generator: as without."""
    weights = torch.rand(10)
    torch.manual_seed(1)
    expected = torch.multinomial(weights, 4)
    torch.manual_seed(1)
    with quick_generation():
        assert torch.multinomial(weights, 4).equal(expected)
    given = torch.multinomial(weights[None], 1, generator=torch.Generator().manual_seed(5))
    with quick_generation():
        assert torch.multinomial(weights[None], 1, generator=torch.Generator().manual_seed(5)).equal(given)


def test_torch_is_as_before_when_the_last_one_closes() -> None:
    original = torch.multinomial
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quick_generation():
            inside.set()
            leave.wait(10)

    with pytest.raises(ZeroDivisionError), quick_generation():
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
    with quick_generation():
        quick, read = generated(model, ids, mask)
    assert read[0] == (len(set(rows)), 9)
    assert read[1:] == [(len(rows), 1)] * 159
    assert quick.equal(plain)


def test_equal_tokens_behind_other_padding_are_other_prompts(model: Any) -> None:
    ids, mask = prompts([0, 0, 0])
    mask[1, :4] = 0
    plain, _ = generated(model, ids, mask, 20)
    with quick_generation():
        quick, read = generated(model, ids, mask, 20)
    assert read[0] == (2, 9)
    assert quick.equal(plain)


def test_beams_and_a_cache_that_is_given_are_as_before(model: Any) -> None:
    """Beam search puts the rows of the cache in another order at each token."""
    ids, mask = prompts([0, 1])
    plain, _ = generated(model, ids, mask, 30, num_beams=3)
    with quick_generation():
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
    with quick_generation(), torch.no_grad():
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

    with quick_generation():
        layer = DynamicLayer()
        first, second = (torch.rand(1, 1, 2, 4, requires_grad=True) for _ in range(2))
        layer.update(first, first)
        layer.update(second, second)[0].sum().backward()
    assert first.grad is not None
    assert second.grad is not None


# -- rows that have ended ----------------------------------------------------------------------------------------------


def _sizes(model: Any, generate: Any) -> tuple[Any, list[int]]:
    """What `generate` returns, and how many rows the layers computed in each forward pass."""
    sizes: list[int] = []
    hook = model.model.register_forward_hook(lambda module, args, output: sizes.append(len(output[0])))
    try:
        return generate(), sizes
    finally:
        hook.remove()


@pytest.mark.parametrize("sampled", [False, True])
def test_rows_that_have_ended_are_left_out_and_the_tokens_stay(
    model: Any, monkeypatch: pytest.MonkeyPatch, sampled: bool
) -> None:
    ids, mask = prompts([0, 1, 2, 3, 4, 5, 6, 7, 0, 1])
    written = generated(model, ids, mask, 60)[0][:, 9:]  # each row repeats one token
    ends = list(range(100, 300, 2)) if sampled else written[:2, 0].tolist()

    def generate() -> Any:
        torch.manual_seed(4)
        more = {"do_sample": True, "temperature": 1.5, "top_k": 0} if sampled else {}
        return generated(model, ids, mask, 60, min_new_tokens=0, eos_token_id=ends, **more)[0]

    with quick_generation(), monkeypatch.context() as patch:
        patch.setattr("recode_rl.quick._WORTH_LEAVING", 0)
        whole, computed = _sizes(model, generate)
        assert set(computed[1:]) == {10}
    with quick_generation():
        quick, fewer = _sizes(model, generate)
    assert quick.equal(whole)
    assert len(fewer) == len(computed)
    assert fewer[1:] == sorted(fewer[1:], reverse=True)
    lengths = ((whole[:, 9:] != 0).sum(dim=1)).tolist()
    assert len(set(lengths)) > (3 if sampled else 1)  # they do end at different places
    going = [sum(length > step for length in lengths) for step in range(1, len(fewer))]
    # The rows that go on, or at most a tenth more of what was computed.
    assert all(alive <= found and alive > 0.9 * found - 1 for alive, found in zip(going, fewer[1:], strict=True))
    if not sampled:
        assert quick.equal(generate())
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_a_cache_is_freed_with_its_generation(model: Any) -> None:
    """The garbage collector may not run for a hundred generations, each of whose caches has hundreds of megabytes."""
    ids, mask = prompts([0, 1, 2, 3])
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            with quick_generation():
                generated(model, ids, mask, 20)
        left = [made for made in gc.get_objects() if type(made).__name__ in {"DynamicCache", "DynamicLayer", "_Rows"}]
    finally:
        gc.enable()
    assert left == []


def test_what_else_is_returned_or_given_keeps_all_rows(model: Any) -> None:
    """Scores for each row, and a cache of the caller's that is used again."""
    ids, mask = prompts([0, 1, 2, 3])
    more = {"min_new_tokens": 0, "eos_token_id": list(range(100, 300, 9))}
    with quick_generation():
        wanted, _ = generated(model, ids, mask, 30, **more)
        told, sizes = _sizes(
            model,
            lambda: generated(model, ids, mask, 30, return_dict_in_generate=True, output_scores=True, **more)[0],
        )
        assert told.sequences.equal(wanted)
        assert set(sizes) == {4}
        cache = need_cache(model, ids, mask)
        found, sizes = _sizes(model, lambda: generated(model, ids, mask, 30, past_key_values=cache, **more)[0])
        assert found.equal(wanted)
        assert set(sizes) == {4}
        assert len(cache.layers[0].keys) == 4


# -- weights laid out --------------------------------------------------------------------------------------------------

SHAPE = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
}
needs_bf16 = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()),
    reason="oneDNN does not compute in bfloat16 on this processor",
)


def half(kind: str = "Qwen2") -> Any:
    import transformers

    torch.manual_seed(5)
    made = getattr(transformers, f"{kind}ForCausalLM")(getattr(transformers, f"{kind}Config")(**SHAPE))
    for parameter in made.parameters():  # biases of a fresh model are 0
        torch.nn.init.normal_(parameter, std=0.3)
    return made.bfloat16().eval()


def replaced(model: Any) -> set[str]:
    return {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if "forward" in vars(module)}


def watch(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The layers that are computed in another way, at each forward pass."""
    seen: list[set[str]] = []
    forward = model.model.forward

    def noting(*args: Any, **kwargs: Any) -> Any:
        seen.append(replaced(model) - {"model"})
        return forward(*args, **kwargs)

    monkeypatch.setattr(model.model, "forward", noting)
    return seen


@needs_bf16
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3"])
def test_in_a_generation_weights_are_laid_out_and_afterwards_they_are_as_before(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = half(kind)
    ids, mask = prompts([0, 1, 2])
    with torch.no_grad():
        plain = model(input_ids=ids, attention_mask=mask).logits
    seen = watch(model, monkeypatch)
    with quick_generation():
        generated(model, ids, mask, 20)
        told = generated(model, ids, mask, 20, return_dict_in_generate=True, output_logits=True)[0]
    everything = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"}
    assert seen == [everything] * 40
    assert ((told.logits[0] - plain[:, -1]).norm() / plain[:, -1].norm()).item() < 0.02
    assert not replaced(model) - {"model"}
    with torch.no_grad():
        assert model(input_ids=ids, attention_mask=mask).logits.equal(plain)


@needs_bf16
def test_layers_as_one_are_the_layers_also_where_each_is_given_another_input() -> None:
    attention = half().model.layers[0].self_attn
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    first, second = (torch.randn(3, 5, 32).bfloat16() for _ in range(2))
    calls = [(0, first), (1, first), (2, second), (0, second), (2, first), (1, first)]
    with torch.no_grad():
        wanted = [layers[number](given) for number, given in calls]
        with quick._laid_out(torch, layers):
            found = [layers[number](given) for number, given in calls]
    for our, their in zip(found, wanted, strict=True):
        torch.testing.assert_close(our, their, atol=0.02, rtol=0.02)


@needs_bf16
def test_weights_are_those_of_each_generation() -> None:
    """A step of training lies between two of them."""
    model = half()
    ids, mask = prompts([0, 1])
    more = {"return_dict_in_generate": True, "output_logits": True}
    with quick_generation():
        before = generated(model, ids, mask, 20, **more)[0].logits[0]
        with torch.no_grad():
            model.lm_head.weight.neg_()
        torch.testing.assert_close(generated(model, ids, mask, 20, **more)[0].logits[0], -before)


@needs_bf16
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_other_models_and_short_generations_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    peft = pytest.importorskip("peft")
    ids, mask = prompts([0, 1])

    def laid_out(model: Any, tokens: int = 20, watched: Any = None) -> set[str]:
        with monkeypatch.context() as patch, quick_generation():
            seen = watch(watched or model, patch)
            generated(model, ids, mask, tokens)
        return set().union(*seen)

    assert laid_out(half())
    assert not laid_out(half().float())
    assert not laid_out(half(), tokens=15)
    inner = half()
    adapted = peft.get_peft_model(inner, peft.LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"))
    found = laid_out(adapted, watched=inner)
    assert "o_proj" in found
    assert not found & {"q_proj", "k_proj", "v_proj", "base_layer", "lora_A"}
    monkeypatch.setattr(quick, "_LARGEST_LAID_OUT", 10)
    assert not laid_out(half())
