"""Master weights that keep small updates, checkpoints that are whole, records that agree with them."""

from __future__ import annotations

import copy
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tiny import tiny_model

from recode_rl import jsonl, models, training
from recode_rl.errors import ConfigError, InfrastructureError

torch = pytest.importorskip("torch", reason="needs the extra [train]")


def parameter(value: Any) -> Any:
    return torch.nn.Parameter(value)


def steps(optimizer: Any, parameters: list[Any], gradients: list[list[Any]]) -> None:
    for row in gradients:
        for one, gradient in zip(parameters, row, strict=True):
            one.grad = gradient.to(one.dtype)
        optimizer.step()
        optimizer.zero_grad()


def random_gradients(count: int, shapes: list[tuple[int, ...]], seed: int = 0) -> list[list[Any]]:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator).bfloat16().float() for shape in shapes] for _ in range(count)]


# -- AdamW over master weights -----------------------------------------------------------------------------------------


def test_small_updates_are_kept_by_the_masters_and_lost_without_them() -> None:
    with_masters, plain = (parameter(torch.ones(16, dtype=torch.bfloat16)) for _ in range(2))
    ours = training.master_adamw([with_masters], lr=1e-6, weight_decay=0.0)
    torchs = torch.optim.AdamW([plain], lr=1e-6, weight_decay=0.0)
    gradients = [[torch.ones(16)]] * 100
    steps(ours, [with_masters], gradients)
    steps(torchs, [plain], gradients)
    assert torch.all(plain == 1.0), "a bf16 weight of 1.0 cannot hold an update of 1e-6"
    assert torch.allclose(ours.state[with_masters]["master"], torch.full((16,), 1 - 1e-4), atol=2e-6)


def test_kept_updates_reach_the_bf16_weights_once_they_add_up() -> None:
    weight = parameter(torch.ones(4, dtype=torch.bfloat16))
    optimizer = training.master_adamw([weight], lr=1e-4, weight_decay=0.0)
    steps(optimizer, [weight], [[torch.ones(4)]] * 100)
    assert torch.equal(weight.detach(), torch.full((4,), 0.99).bfloat16())


def test_updates_are_those_of_torchs_adamw_in_fp32() -> None:
    shapes = [(8, 4), (5,)]
    start = [torch.randn(shape, generator=torch.Generator().manual_seed(1)).bfloat16() for shape in shapes]
    half = [parameter(value.clone()) for value in start]
    full = [parameter(value.float()) for value in start]
    ours = training.master_adamw(half, lr=1e-3, weight_decay=0.1)
    torchs = torch.optim.AdamW(full, lr=1e-3, weight_decay=0.1)
    gradients = random_gradients(50, shapes)
    steps(ours, half, gradients)
    steps(torchs, full, gradients)
    for mine, theirs in zip(half, full, strict=True):
        assert torch.allclose(ours.state[mine]["master"], theirs.detach(), atol=1e-6)
        assert torch.equal(mine.detach(), ours.state[mine]["master"].bfloat16())


def test_a_changed_learning_rate_is_followed_and_a_missing_gradient_leaves_a_weight_alone() -> None:
    first, second = (parameter(torch.ones(3, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = training.master_adamw([first, second], lr=1e-2, weight_decay=0.5)
    first.grad = torch.ones(3, dtype=torch.bfloat16)
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert torch.allclose(optimizer.state[first]["master"], torch.full((3,), 1 - 0.1 * 0.5 - 0.1))
    assert torch.all(second == 1.0)


def test_a_saved_optimizer_continues_as_if_it_had_never_stopped() -> None:
    shapes = [(6, 3), (7,)]
    gradients = random_gradients(20, shapes)

    def fresh() -> tuple[list[Any], Any]:
        weights = [parameter(torch.full(shape, 1.5, dtype=torch.bfloat16)) for shape in shapes]
        return weights, training.master_adamw(weights, lr=1e-5, weight_decay=0.01)

    through, one = fresh()
    steps(one, through, gradients)
    before, two = fresh()
    steps(two, before, gradients[:9])
    file = io.BytesIO()
    torch.save(two.state_dict(), file)
    file.seek(0)
    after, three = fresh()
    for weight, old in zip(after, before, strict=True):
        weight.data.copy_(old)
    three.load_state_dict(torch.load(file, weights_only=True))
    for weight, old in zip(after, before, strict=True):
        assert three.state[weight]["master"].dtype == torch.float32
        assert torch.equal(three.state[weight]["master"], two.state[old]["master"])
        assert not torch.equal(three.state[weight]["master"], old.float()), (
            "the masters must know more than the weights"
        )
    steps(three, after, gradients[9:])
    for ended, straight in zip(after, through, strict=True):
        for name in ("master", "exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(three.state[ended][name], one.state[straight][name])


def test_a_loaded_state_is_a_copy() -> None:
    weight = parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = training.master_adamw([weight], lr=0.1, weight_decay=0.0)
    steps(optimizer, [weight], [[torch.ones(2)]])
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    steps(optimizer, [weight], [[torch.ones(2)]])
    assert torch.allclose(saved["state"][0]["master"], torch.full((2,), 0.9))


# -- masters into the saved model --------------------------------------------------------------------------------------


@pytest.fixture
def half_model(tmp_path: Path) -> Any:
    return models.load_causal(str(tiny_model(tmp_path / "tiny")), "bfloat16")


def train_a_little(model: Any, optimizer: Any, count: int = 5) -> None:
    ids = torch.arange(5, 25).unsqueeze(0)
    for _ in range(count):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_the_saved_model_has_the_masters_in_fp32(half_model: Any, tmp_path: Path) -> None:
    optimizer, _ = training.optimizers(half_model, "bf16-master", 1e-5, 0.0)
    train_a_little(half_model, optimizer)
    masters = {name: optimizer.state[p]["master"].clone() for name, p in half_model.named_parameters()}
    saved = training.masters_into(half_model, optimizer)
    saved.save_pretrained(tmp_path / "out")
    loaded = models.load_causal(str(tmp_path / "out"))
    for name, value in loaded.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(value, masters[name])
    assert any(not torch.equal(value, value.bfloat16().float()) for value in masters.values())


def test_the_best_checkpoint_is_not_overwritten_by_the_masters_of_the_last_step(half_model: Any) -> None:
    best = {name: value.clone() for name, value in half_model.state_dict().items()}
    optimizer, _ = training.optimizers(half_model, "bf16-master", 1e-2, 0.0)
    train_a_little(half_model, optimizer)
    assert not torch.equal(half_model.state_dict()["model.norm.weight"], best["model.norm.weight"])
    half_model.load_state_dict(best)  # what load_best_model_at_end does
    for name, value in training.masters_into(half_model, optimizer).state_dict().items():
        assert torch.equal(value, best[name].float())


@pytest.mark.parametrize("precision", ["fp32", "bf16-autocast"])
def test_without_masters_the_weights_stay(half_model: Any, precision: Any) -> None:
    assert training.optimizers(half_model, precision, 1e-5, 0.0) == (None, None)
    before = {name: value.float().clone() for name, value in half_model.state_dict().items()}
    optimizer = torch.optim.AdamW(half_model.parameters(), lr=0.0, weight_decay=0.0)
    for chosen in (None, optimizer):
        for name, value in training.masters_into(half_model, chosen).state_dict().items():
            assert torch.equal(value, before[name])


# -- checkpoints -------------------------------------------------------------------------------------------------------


def checkpoint(folder: Path, step: int, whole: bool = True) -> Path:
    path = folder / "checkpoints" / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(f'{{"global_step": {step}}}')
    if whole:
        (path / "complete").touch()
    return path


def test_the_last_checkpoint_is_the_newest_whole_one_by_number(tmp_path: Path) -> None:
    for step in (8, 9, 10):
        checkpoint(tmp_path, step)
    assert training.last_checkpoint(tmp_path) == tmp_path / "checkpoints" / "checkpoint-10"
    assert training.resumed_step(tmp_path) == 10


def test_unfinished_checkpoints_are_ignored_and_removed(tmp_path: Path) -> None:
    whole, unfinished = checkpoint(tmp_path, 4), checkpoint(tmp_path, 6, whole=False)
    (unfinished / "model.safetensors").write_bytes(b"half")
    assert training.last_checkpoint(tmp_path) == whole
    assert not unfinished.exists()
    assert whole.exists()


def test_without_a_whole_checkpoint_training_starts_afresh(tmp_path: Path) -> None:
    assert training.last_checkpoint(tmp_path) is None
    checkpoint(tmp_path, 2, whole=False)
    assert training.resumed_step(tmp_path) == 0


# -- records -----------------------------------------------------------------------------------------------------------


def test_metrics_after_the_checkpoint_are_dropped_with_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with jsonl.Appender(path) as file:
        for step in (1, 2, 2, 3, 4):
            file.append({"step": step, "loss": step / 10})
    with path.open("a") as raw:
        raw.write('{"step": 5, "lo')
    training.truncate_metrics(path, 2)
    assert [record["step"] for _, record in jsonl.read(path)] == [1, 2, 2]
    training.truncate_metrics(path, 0)
    assert path.read_text() == ""


def test_metrics_that_are_not_there_stay_away(tmp_path: Path) -> None:
    training.truncate_metrics(tmp_path / "metrics.jsonl", 3)
    assert list(tmp_path.iterdir()) == []


def test_a_step_of_ours_is_a_generation_batch_and_other_names_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = training.recorder(path, "t", 2, 0, {"loss": "loss", "kl": "kl"}, lambda step: {"ours": step}, 2)
    args = SimpleNamespace(output_dir=str(tmp_path / "checkpoints"))
    recorder.on_train_begin(args, SimpleNamespace(global_step=0, is_world_process_zero=True), None)
    for update in (1, 2, 3, 4):
        state = SimpleNamespace(global_step=update, is_world_process_zero=True)
        recorder.on_step_end(args, state, None)
        if update % 2 == 0:
            recorder.on_log(args, state, None, logs={"loss": 0.5, "kl": float("nan"), "epoch": 1.0})
    recorder.on_log(args, SimpleNamespace(global_step=4, is_world_process_zero=True), None, logs={"train_runtime": 3.0})
    recorder.on_train_end(args, SimpleNamespace(global_step=4, is_world_process_zero=True), None)
    records = [record for _, record in jsonl.read(path)]
    assert [{key: record[key] for key in ("step", "loss", "kl", "ours")} for record in records] == [
        {"step": 1, "loss": 0.5, "kl": None, "ours": 1},
        {"step": 2, "loss": 0.5, "kl": None, "ours": 2},
    ]
    assert all(set(record) == {"step", "time_s", "loss", "kl", "ours"} for record in records)


def test_a_checkpoint_is_whole_once_the_engine_says_it_is_saved(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 4, whole=False)
    args = SimpleNamespace(output_dir=str(tmp_path / "checkpoints"))
    recorder = training.recorder(tmp_path / "metrics.jsonl", "t", 4, 0, {})
    recorder.on_save(args, SimpleNamespace(global_step=4, is_world_process_zero=True), None)
    assert training.last_checkpoint(tmp_path) == path


# -- the engine --------------------------------------------------------------------------------------------------------


class FakeTrainer:
    def __init__(self, error: Exception | None = None, max_steps: int = 10) -> None:
        self.error = error
        self.args = SimpleNamespace(max_steps=max_steps)
        self.resumed: Any = "not called"
        self.epochs = 0

    def remove_callback(self, kind: Any) -> None:
        assert kind.__name__ == "PrinterCallback"

    def train(self, resume_from_checkpoint: str | None) -> None:
        self.resumed = resume_from_checkpoint
        if self.error:
            raise self.error
        self._run_epoch(epoch=0)

    def _run_epoch(self, epoch: int) -> None:
        self.epochs += 1


def test_a_folder_is_trained_in_by_one_process_at_a_time(tmp_path: Path) -> None:
    work = tmp_path / "work"
    hold = "import sys, pathlib; from recode_rl import training; training.begin(pathlib.Path(sys.argv[1]), {'a': 1}); "
    command = [sys.executable, "-c", hold + "print('mine', flush=True); sys.stdin.read()", str(work)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "mine\n"
        with pytest.raises(ConfigError, match=rf"work: process {other.pid} trains in this folder already; end it"):
            training.begin(work, {"a": 1})
        other.kill()
    training.begin(work, {"a": 1})
    training.begin(work, {"a": 1})  # its own
    shutil.rmtree(work)
    training.begin(work, {"a": 2})
    assert (work / "lock").read_text() == f"{os.getpid()}\n"


def test_training_continues_at_the_last_whole_checkpoint(tmp_path: Path) -> None:
    trainer = FakeTrainer()
    training.run_trainer(trainer, tmp_path)
    assert trainer.resumed is None
    path = checkpoint(tmp_path, 4)
    checkpoint(tmp_path, 6, whole=False)
    training.run_trainer(trainer, tmp_path)
    assert trainer.resumed == str(path)
    assert trainer.epochs == 2


def test_training_that_was_at_its_end_is_loaded_and_goes_no_further(tmp_path: Path) -> None:
    path = checkpoint(tmp_path, 10)
    trainer = FakeTrainer(max_steps=10)
    training.run_trainer(trainer, tmp_path)
    assert (trainer.resumed, trainer.epochs) == (str(path), 0)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 72384 vs 72336"),
        Exception("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(InfrastructureError, match="the disk is full; make room and run the same command again"):
        training.run_trainer(FakeTrainer(error), tmp_path)


@pytest.mark.parametrize("error", [OSError(5, "I/O error"), RuntimeError("shape mismatch"), ValueError("x")])
def test_other_errors_of_the_engine_stay_what_they_are(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as found:
        training.run_trainer(FakeTrainer(error), tmp_path)
    assert found.value is error


def test_nothing_is_reported_anywhere_unless_asked(tmp_path: Path) -> None:
    arguments = training.common_arguments(tmp_path, precision="bf16-master", seed=3, track=())
    assert arguments["report_to"] == "none"
    assert arguments["bf16"] is False
    assert (arguments["seed"], arguments["data_seed"]) == (3, 3)
    tracked = training.common_arguments(tmp_path, precision="bf16-autocast", seed=3, track=("tensorboard",))
    assert tracked["report_to"] == ["tensorboard"]
    assert tracked["bf16"] is True


@pytest.mark.skipif(torch.cuda.is_available(), reason="on GPUs the engine does this by itself")
def test_a_lean_head_scores_the_labelled_positions_alone_and_alike(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import trl.kernels.chunked_logprob as kernel
    import trl.trainer.utils as head

    monkeypatch.setattr(head, "_use_triton", kernel._use_triton)  # an earlier training may have made it lean
    for name in ("_CHUNKED_LOGPROB_CHUNK_SIZE", "_ChunkedLogProbFunction"):
        monkeypatch.setattr(head, name, getattr(head, name))  # put back afterwards
    scored: list[int] = []

    class Counting(head._ChunkedLogProbFunction):  # type: ignore[name-defined,misc]
        @staticmethod
        def forward(ctx: Any, hidden: Any, *args: Any) -> Any:
            scored.append(len(hidden))
            return head_forward(ctx, hidden, *args)

    head_forward = head._ChunkedLogProbFunction.forward
    head._ChunkedLogProbFunction = Counting
    ids = torch.arange(2 * 40).reshape(2, 40) % 300 + 10
    labels = ids.masked_fill(torch.arange(40) < 30, -100)
    labels[1, 35:] = -100

    def run() -> tuple[Any, Any]:
        model = models.load_causal(str(tiny))
        head.add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        found = model(input_ids=ids, labels=labels, fused_lm_head=True)
        found.loss.backward()
        return found, {name: value.grad for name, value in model.named_parameters()}

    whole, gradients = run()
    training.lean_head()
    head._CHUNKED_LOGPROB_CHUNK_SIZE = 256  # several slices of so small a vocabulary
    lean, lean_gradients = run()
    assert scored == [2 * 39, 10 + 5]
    assert torch.allclose(whole.log_probs, lean.log_probs, atol=1e-5)
    assert torch.allclose(whole.entropy * whole.label_mask, lean.entropy, atol=1e-5)
    assert all(torch.allclose(gradients[name], lean_gradients[name], atol=1e-5) for name in gradients)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_free_memory_goes_back_where_it_has_become_much() -> None:
    code = """
import ctypes
from recode_rl import training
training.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
def grow(blocks):
    held = [libc.malloc(2**20) for _ in range(blocks)]
    for block in held:
        ctypes.memset(block, 1, 2**20)
    for block in held[:-1]:
        libc.free(block)
before = resident()
grow(200)
training.give_back()
assert resident() - before > 150 * 2**20, "little is kept for the next step"
grow(700)
training.give_back()
assert resident() - before < 250 * 2**20, "much goes back"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
