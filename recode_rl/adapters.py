"""Low-rank adapters around a model in training, and the plain weights that they make in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recode_rl.config import LoraConfig
from recode_rl.errors import ModelError
from recode_rl.extras import need

_OUTER = "base_model.model."  # what peft's names of weights begin with


def adapted(model: Any, lora: LoraConfig, task: str, trained_whole: Sequence[str] = ()) -> Any:
    """The model with adapters; `task` is one of peft's TaskType, `trained_whole` names layers that get none."""
    peft = need("peft", "train")
    targets = lora.targets
    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            task_type=peft.TaskType[task],
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=targets if isinstance(targets, str) else list(targets),
            modules_to_save=list(trained_whole) or None,
        ),
    )


def merged(model: Any, state: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any] | None]:
    """The plain model behind the adapters with them merged into its weights, as `training.trained_model` gives both.

    With `state`, the model holds a share of its weights only: they are merged in `state`, which is empty in processes
    that have gathered nothing, and the model names the architecture alone.
    """
    if state is None:
        return model.merge_and_unload(), None
    return model.get_base_model(), _merged_state(model, state) if state else state


def _merged_state(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    """W + scaling · B · A for layers with an adapter, the trained copy for those that were trained whole."""
    layers = need("peft.tuners.lora", "train")
    whole = need("peft.utils.other", "train").ModulesToSaveWrapper
    rest = dict(state)
    plain: dict[str, Any] = {}
    for name, module in model.named_modules():
        outer = name.removeprefix(_OUTER)
        if isinstance(module, layers.LoraLayer):
            if f"{name}.lora_A.default.weight" not in rest:
                raise ModelError(
                    f"{outer}: adapters of this kind of layer cannot be merged; leave it out of lora.targets"
                )
            down, up = (rest.pop(f"{name}.lora_{side}.default.weight").float() for side in "AB")
            change = up @ down if not getattr(module, "fan_in_fan_out", False) else (up @ down).T
            weight = rest.pop(f"{name}.base_layer.weight")
            plain[f"{outer}.weight"] = (weight.float() + module.scaling["default"] * change).to(weight.dtype)
            if f"{name}.base_layer.bias" in rest:
                plain[f"{outer}.bias"] = rest.pop(f"{name}.base_layer.bias")
        elif isinstance(module, whole):
            inside = f"{name}.modules_to_save.default."
            plain |= {f"{outer}.{key.removeprefix(inside)}": rest.pop(key) for key in list(rest) if inside in key}
            rest = {key: value for key, value in rest.items() if not key.startswith(f"{name}.original_module.")}
    return plain | {key.removeprefix(_OUTER): value for key, value in rest.items()}
