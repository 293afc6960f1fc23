"""What every training stage shares: precision, checkpoints that are known to be whole, metrics files, progress."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from recode_rl import jsonl, models
from recode_rl.config import Precision
from recode_rl.errors import ConfigError, InfrastructureError
from recode_rl.extras import need, says_disk_full
from recode_rl.progress import Progress
from recode_rl.quick import quick_generation

_COMPLETE = "complete"
_locks: dict[Path, int] = {}  # open files, held until the process ends
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_TRIM_BYTES = 2**31 - 1
_VOCABULARY_SLICE = 4096
_MUCH_BYTES = 2**29


def common_arguments(folder: Path, *, precision: Precision, seed: int, track: tuple[str, ...]) -> dict[str, Any]:
    """Arguments that all of TRL's configs take in the same way.

    Checkpointing of activations is off (models that need it are trained through a launch recipe), and nothing is
    reported anywhere unless `track` asks for it.
    """
    torch = need("torch", "train")
    return {
        "output_dir": str(folder / "checkpoints"),
        "use_cpu": not torch.cuda.is_available(),
        "bf16": precision == "bf16-autocast",
        "activation_checkpointing": False,
        "report_to": list(track) or "none",
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": seed,
        "data_seed": seed,
        "dataloader_pin_memory": False,
        "save_total_limit": 2,
        "lr_scheduler_type": "constant",
    }


def processes() -> int:
    """How many processes train together; 1 unless a launcher (`accelerate launch`, `torchrun`) started several."""
    return int(_state().num_processes)


def is_first() -> bool:
    """Whether this process is the one that writes files and shows progress."""
    return bool(_state().is_main_process)


def once(action: Callable[[], object]) -> None:
    """Do something in the first process alone, while the others wait."""
    if is_first():
        action()
    _state().wait_for_everyone()


def gathered(part: Any) -> list[Any]:
    """What every process hands in, in their order; all of them have to call this."""
    _state()
    parts: list[Any] = need("accelerate.utils", "train").gather_object([part])
    return parts


def _state() -> Any:
    torch = need("torch", "train")
    return need("accelerate", "train").PartialState(cpu=not torch.cuda.is_available())


def model_dtype(precision: Precision) -> str:
    """The dtype a model is loaded in: with "bf16-master" it computes in bf16 and the optimizer holds fp32 weights."""
    return "bfloat16" if precision == "bf16-master" else "float32"


def optimizers(model: Any, precision: Precision, learning_rate: float, weight_decay: float) -> tuple[Any, None]:
    """What Trainer takes as `optimizers`: its own AdamW (None), or AdamW over fp32 master weights."""
    if precision != "bf16-master":
        return None, None
    return master_adamw(model.parameters(), lr=learning_rate, weight_decay=weight_decay), None


def master_adamw(parameters: Iterable[Any], *, lr: float, weight_decay: float) -> Any:
    """AdamW whose state is fp32 copies of bf16 parameters.

    A bf16 weight has 8 bits of precision, so an update of 1e-6 is rounded away; the copies keep it, and the parameters
    are their rounded image after every step. The copies are part of `state_dict`, so a resumed run is the same run.
    """
    torch = need("torch", "train")

    functional = need("torch.optim.adamw", "train")

    class MasterAdamW(torch.optim.AdamW):  # type: ignore[misc,name-defined]  # torch is imported when it is needed
        def step(self, closure: Callable[[], float] | None = None) -> Any:
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._update(parameter, self._state_of(parameter), group)

        def _update(self, parameter: Any, state: dict[str, Any], group: dict[str, Any]) -> None:
            """One AdamW update of the master copy, by torch's own fused implementation, and its rounded image.

            One parameter at a time: the fp32 copies of all gradients together would be as large as the model.
            """
            functional.adamw(
                [state["master"]],
                [parameter.grad.float()],
                [state["exp_avg"]],
                [state["exp_avg_sq"]],
                [],
                [state["step"]],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            parameter.data.copy_(state["master"])

        def _state_of(self, parameter: Any) -> dict[str, Any]:
            state: dict[str, Any] = self.state[parameter]
            if not state:
                state["master"] = parameter.detach().float().clone()
                state["exp_avg"] = torch.zeros_like(state["master"])
                state["exp_avg_sq"] = torch.zeros_like(state["master"])
                state["step"] = torch.tensor(0.0, device=parameter.device)
            return state

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            # Optimizer.load_state_dict casts state to the parameter's dtype, which would round the master weights.
            super().load_state_dict(state_dict)
            order = [parameter for group in self.param_groups for parameter in group["params"]]
            for index, saved in state_dict["state"].items():
                for name, value in saved.items():
                    self.state[order[index]][name] = value.to(order[index].device, copy=True)

    return MasterAdamW(list(parameters), lr=lr, weight_decay=weight_decay)


def masters_into(model: Any, optimizer: Any) -> Any:
    """The model in fp32 with the master weights in it, ready to be saved.

    The weights stay what they are where there are no masters, and where the masters belong to another step than the
    weights (the best checkpoint was loaded after the last step).
    """
    torch = need("torch", "train")
    masters = {id(p): s["master"] for p, s in optimizer.state.items() if "master" in s} if optimizer is not None else {}
    copies = {name: (p, masters[id(p)]) for name, p in model.named_parameters() if id(p) in masters}
    of_this_step = all(torch.equal(parameter, master.to(parameter.dtype)) for parameter, master in copies.values())
    model = model.float()
    for name, parameter in model.named_parameters():
        if name in copies and of_this_step:
            parameter.data.copy_(copies[name][1])
    return model


def is_done(out: Path, stage: str, config: dict[str, Any]) -> bool:
    """Whether `out` holds what `stage` makes with this very config, so that nothing is left to do.

    ConfigError where it holds something else: nothing is written over, and no old result passes for a new one. A key
    that the stored config lacks is younger than that result and does not count.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / "config.json").is_file() or not (out / "manifest.json").is_file():
        raise ConfigError(f"{out}: there already, and not made by {stage!r}; choose another out, or remove it")
    manifest = jsonl.read_json(out / "manifest.json")
    if manifest.get("stage") != stage:
        raise ConfigError(f"{out}: there already, made by {manifest.get('stage')!r}; choose another out, or remove it")
    _same_config(out, manifest["config"], config)
    return True


def begin(work: Path, config: dict[str, Any]) -> None:
    """Mark `work` as the folder of a training with this config, and of this process for as long as it lives.

    ConfigError where it was begun with another config, or where another process is at work in it: of a launcher that
    was killed the processes it has started live on.
    """
    jsonl.git_commit()  # of the code that is at work, for the manifest at the end
    _hold(work)
    started = work / "started.json"
    if started.exists():
        _same_config(work, jsonl.read_json(started), config)
    else:
        jsonl.write_json(started, config)


def _hold(work: Path) -> None:
    """Lock the folder; nothing where this process has locked it before, or where the file system has no locks."""
    work.mkdir(parents=True, exist_ok=True)
    path = (work / "lock").resolve()
    held = _locks.get(path)
    if held is not None and path.exists() and os.path.samestat(os.fstat(held), path.stat()):
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = os.read(descriptor, 20).decode().strip()
        os.close(descriptor)
        raise ConfigError(
            f"{work}: process {number} trains in this folder already; end it, or choose another out"
        ) from None
    except OSError:  # such as a network file system without locks
        pass
    os.truncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    if held is not None:
        os.close(held)  # of a folder that has been removed since
    _locks[path] = descriptor


def _same_config(place: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """ConfigError for the first setting that differs; where results go and who watches them makes no difference."""
    for key in sorted((set(found) & set(wanted)) - {"out", "track", "monitor"}):
        if _comparable(found[key]) != _comparable(wanted[key]):
            raise ConfigError(
                f"{place}: made with {key} = {found[key]!r}, not {wanted[key]!r}; choose another out, or remove it"
            )


def _comparable(value: Any) -> Any:
    """A setting in a form in which the same file or folder is the same, however its path was given."""
    if isinstance(value, dict):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, str) and value and Path(value).exists():
        return str(Path(value).resolve())
    return value


@dataclass(frozen=True, slots=True)
class Result:
    """What is kept beside a trained model: its stage, its config, and the counts for the manifest.

    `work` is the folder of the training; its metrics.jsonl comes along where there is one. `describe` may put more
    into the folder, such as a model card, once the manifest is there.
    """

    stage: str
    config: Any
    work: Path
    facts: dict[str, Any]
    describe: Callable[[Path], object] | None = None


def trained_model(trainer: Any) -> tuple[Any, dict[str, Any] | None]:
    """The model of a finished training with its master weights, and all of its weights where it holds but a share.

    Where the processes have the model sharded between them (FSDP, DeepSpeed), its weights are gathered, and every
    process has to call this. Otherwise each of them holds the whole model, and the second value is None.
    """
    model = masters_into(trainer.model, trainer.optimizer)
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return model, None
    accelerator = trainer.accelerator
    return accelerator.unwrap_model(trainer.model_wrapped), accelerator.get_state_dict(trainer.model_wrapped)


def save_result(model: Any, tokenizer: Any, out: Path, result: Result, state: dict[str, Any] | None = None) -> None:
    """Leave the model folder with its manifest and metrics in one rename, then remove the training's own files.

    `state` are the weights, where the model holds but a part of them.
    """

    def complete(folder: Path) -> None:
        metrics = result.work / "metrics.jsonl"
        if metrics.exists():
            shutil.copyfile(metrics, folder / "metrics.jsonl")
        config = result.config.model_dump(mode="json")
        facts = {"seed": result.config.seed, "processes": processes(), **result.facts}
        manifest = jsonl.manifest(result.stage, config, **facts)
        jsonl.write_json(folder / "manifest.json", manifest)
        if result.describe is not None:
            result.describe(folder)

    def save() -> None:
        models.save_whole(model, tokenizer, out, complete, state)
        shutil.rmtree(result.work, ignore_errors=True)

    once(save)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint under `folder` that was written to its end; unfinished ones are removed."""
    for path in (folder / "checkpoints").glob("checkpoint-*"):
        if is_first() and not (path / _COMPLETE).exists():
            shutil.rmtree(path)
    whole = [path for path in (folder / "checkpoints").glob("checkpoint-*") if (path / _COMPLETE).exists()]
    return max(whole, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def truncate_metrics(path: Path, step: int) -> None:
    """Drop the records after `step`: the steps after the checkpoint are run, and recorded, again."""
    jsonl.repair(path)
    if path.exists():
        jsonl.write(path, [record for _, record in jsonl.read(path) if record["step"] <= step])


class Watches(Protocol):
    """What looks at the lines of metrics.jsonl as they are written."""

    note: str
    """A few words about the last line, for the console."""
    values: dict[str, float]
    """What it adds to the last line."""

    @property
    def stop_reason(self) -> str | None:
        """Why training should stop; None where it should go on."""

    def close_step(self, row: Mapping[str, Any]) -> object:
        """Look at one line."""


def recorder(
    path: Path,
    title: str,
    steps: int,
    done: int,
    rename: dict[str, str],
    extra: Callable[[int], dict[str, Any]] | None = None,
    updates_per_step: int = 1,
    watch: Watches | None = None,
) -> Any:
    """A TrainerCallback that appends one line a step to metrics.jsonl, shows progress and marks whole checkpoints.

    `rename` maps the engine's names to ours; other names are left out. `extra(step)` adds our own values to a step.
    The engine counts optimizer updates; a step of ours is one generation batch, `updates_per_step` of them.
    `watch` sees every line in the first process, and may end the training of all behind a checkpoint.
    """
    transformers = need("transformers", "train")
    progress = Progress(title, steps, done)

    class Recorder(transformers.TrainerCallback):  # type: ignore[misc,name-defined]  # transformers is imported when it is needed
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.started = time.monotonic()
            if state.is_world_process_zero:
                progress.__enter__()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.is_world_process_zero:
                progress.__exit__(None, None, None)

        def on_log(
            self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
        ) -> None:
            known = {rename[key]: jsonl.finite(value) for key, value in (logs or {}).items() if key in rename}
            if known and state.is_world_process_zero:
                self.write(state.global_step // updates_per_step, known)
            # All processes hear of a line, and all have to end together.
            if known and watch is not None and any(gathered(watch.stop_reason is not None)):
                control.should_save = control.should_training_stop = True

        def write(self, step: int, known: dict[str, Any]) -> None:
            record = {"step": step, "time_s": round(time.monotonic() - self.started, 2), **known}
            if extra is not None and "loss" in known:
                record |= extra(step)
            if watch is not None and "loss" in known:
                watch.close_step(record)
                record |= watch.values
            with jsonl.Appender(path) as file:
                file.append(record)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            give_back()
            if state.global_step % updates_per_step == 0 and state.is_world_process_zero:
                progress.advance(1, watch.note if watch is not None else None)

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            _state().wait_for_everyone()  # each process writes a part of the checkpoint
            if state.is_world_process_zero:
                checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
                (checkpoint / _COMPLETE).write_text("", encoding="utf-8")
            _state().wait_for_everyone()  # none looks for the mark before it is there

    return Recorder()


def keep_freed_memory() -> None:
    """Tell glibc's malloc to keep freed blocks for the next tensors in place of returning them to the kernel.

    A training step on a CPU makes and frees hundreds of tensors of some megabytes. By default each of them is mapped
    anew or makes the heap grow and shrink, and every page faults in again: up to half of the time of a step was spent
    on that, and far more on virtual machines, where a fresh page may have to be found by the host. So blocks come from
    a heap that does not shrink, but for those of 32 MiB and more (glibc's largest threshold), which would tear holes
    into it; `lean_head` makes them few. Threads keep their own arenas: with one for all, torch's gradient of attention,
    whose threads ask for blocks all the time, took three times as long. Without glibc nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
    mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES)


def lean_head() -> None:
    """On a CPU, make TRL's fused head score the labelled positions alone, in narrow slices of the vocabulary.

    Where Triton is absent TRL 1.16 projects every position onto the vocabulary, prompts and padding as well, so that
    compilers of other accelerators see one shape, and its slices of 32,768 columns make temporary tensors of up to
    100 MB. With the positions chosen as on GPUs, and slices of 4,096, an SFT step of a 135M model with a vocabulary
    of 49k took 9.5 s in place of 40 s together with `keep_freed_memory`, and 0.6 GB less at its peak. The values are
    the same: the chosen positions go through the same functions.
    """
    if models.device() != "cpu":
        return
    head: Any = need("trl.trainer.utils", "train")
    head._use_triton = lambda device: True  # asked there only for which positions to score
    head._CHUNKED_LOGPROB_CHUNK_SIZE = _VOCABULARY_SLICE


def give_back() -> None:
    """Return what lies free in the heap to the kernel, where it has become much: tensors of many sizes leave holes.

    For the end of a step, of which the pages that fault in again are a small part.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallinfo2.restype = _MallInfo
        if libc.mallinfo2().fordblks > _MUCH_BYTES:
            libc.malloc_trim(0)


class _MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc's malloc.h."""

    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in _names.split()]


def release() -> None:
    """Give the memory of a finished trainer back: trainers are full of reference cycles, and hold two models' worth."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def run_trainer(trainer: Any, folder: Path) -> None:
    """Train from the last whole checkpoint, or from the start; a full disk becomes one sentence."""
    keep_freed_memory()
    lean_head()
    checkpoint = last_checkpoint(folder)
    trainer.remove_callback(need("transformers", "train").PrinterCallback)  # our recorder shows progress
    if checkpoint and resumed_step(folder) >= trainer.args.max_steps:
        # The engine looks for the end behind a step only: resumed in the middle of an epoch it would take one more.
        trainer._run_epoch = lambda **kwargs: None
    try:
        with quick_generation():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Exception as error:
        if not says_disk_full(error):
            raise
        last_checkpoint(folder)  # the unfinished one goes, and its room with it
        raise InfrastructureError(f"{folder}: the disk is full; make room and run the same command again") from error


def resumed_step(folder: Path) -> int:
    """The step that training in `folder` will continue from; 0 for a fresh start."""
    checkpoint = last_checkpoint(folder)
    if checkpoint is None:
        return 0
    return int(json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"])
