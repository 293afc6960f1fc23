"""Adapters become plain weights, in the model itself and where its weights were gathered from several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recode_rl import models
from recode_rl.adapters import adapted, merged
from recode_rl.config import LoraConfig
from recode_rl.errors import ModelError

torch = pytest.importorskip("torch", reason="needs the extra [train]")
pytest.importorskip("peft", reason="needs the extra [train]")


def trained(tiny: Path, task: str, **lora: Any) -> Any:
    """A model with adapters, all of whose trained weights are random."""
    if task == "SEQ_CLS":
        model = adapted(models.load_sequence_classifier(str(tiny), seed=0), LoraConfig(**lora), task, ("score",))
    else:
        model = adapted(models.load_causal(str(tiny)), LoraConfig(**lora), task)
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize("task", ["SEQ_CLS", "CAUSAL_LM"])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "up_proj")])
def test_weights_that_were_gathered_are_merged_as_those_of_the_model(tiny: Path, task: str, targets: Any) -> None:
    model = trained(tiny, task, rank=3, alpha=7.0, targets=targets)
    gathered = {name: value.clone() for name, value in model.state_dict().items()}
    same, state = merged(model, gathered)
    assert type(same).__name__ == ("LlamaForSequenceClassification" if task == "SEQ_CLS" else "LlamaForCausalLM")
    plain, nothing = merged(model)
    assert nothing is None and state is not None
    wanted = plain.state_dict()
    assert state.keys() == wanted.keys()
    assert all(torch.allclose(state[name], wanted[name], atol=1e-6) for name in wanted)
    base = models.load_causal(str(tiny)).state_dict()
    assert not torch.allclose(state["model.layers.0.mlp.up_proj.weight"], base["model.layers.0.mlp.up_proj.weight"])


def test_weights_that_were_gathered_and_merged_are_saved_as_a_plain_folder(tiny: Path, tmp_path: Path) -> None:
    model = trained(tiny, "SEQ_CLS", rank=3)
    shell, state = merged(model, dict(model.state_dict()))
    models.save_whole(shell, models.load_tokenizer(str(tiny)), tmp_path / "out", state=state)
    found = models.load_sequence_classifier(str(tmp_path / "out")).state_dict()
    wanted = merged(model)[0].state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-6) for name in wanted)


def test_a_process_that_gathered_nothing_has_nothing_to_merge(tiny: Path) -> None:
    assert merged(trained(tiny, "CAUSAL_LM"), {})[1] == {}


@pytest.mark.filterwarnings("ignore:.*tied layer:UserWarning")
def test_adapters_of_another_kind_are_one_sentence(tiny: Path) -> None:
    model = trained(tiny, "CAUSAL_LM", targets=("embed_tokens",))
    with pytest.raises(ModelError, match=r"model\.embed_tokens: adapters of this kind of layer cannot be merged"):
        merged(model, dict(model.state_dict()))
