"""veRL in a process of its own: its configuration composed and validated before, its end understood behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recode_rl import jsonl
from recode_rl.errors import ConfigError, InfrastructureError
from recode_rl.extras import need
from recode_rl.policy.verl.settings import quoted

POLL_S = 2.0
_GRACE_S = 30.0
_TAIL_LINES = 15
_PR_SET_PDEATHSIG = 1
# Nothing phones home: neither Ray, which a run starts, nor the engine that generates.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def compose(overrides: Sequence[str]) -> Any:
    """veRL's whole configuration with these overrides, composed and validated by veRL itself.

    ConfigError where veRL refuses it, with veRL's reason.
    """
    os.environ |= QUIET  # before Ray is imported
    hydra = need("hydra", "verl")
    trouble = (
        need("hydra.errors", "verl").HydraException,
        need("omegaconf.errors", "verl").OmegaConfBaseException,
        AssertionError,
        ValueError,
        TypeError,
        KeyError,
    )
    utils, checks = need("verl.trainer.ppo.utils", "verl"), need("verl.utils.config", "verl")
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for our summary alone
        try:
            with hydra.initialize_config_module(config_module="verl.trainer.config", version_base=None):
                config = hydra.compose(config_name="ppo_trainer", overrides=list(overrides))
            for part in (config.actor_rollout_ref.rollout, config.algorithm):
                checks.omega_conf_to_dataclass(part)  # veRL does so later, when GPUs are taken
            checks.validate_config(
                config=config,
                use_reference_policy=utils.need_reference_policy(config),
                use_critic=config.algorithm.adv_estimator == "gae",
            )
        except trouble as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(f"veRL refuses the configuration: {reason}; see [verl] of the recipe") from error
    return config


def command(overrides: Sequence[str], work: Path) -> list[str]:
    """The command that trains; Hydra's own folder goes to `work`."""
    hydra = [f"hydra.run.dir={quoted(work / 'hydra')}", "hydra.output_subdir=null"]
    return [sys.executable, "-m", "verl.trainer.main_ppo", *overrides, *hydra]


def run(arguments: Sequence[str], console: Path, stop: Path, tick: Callable[[], object]) -> None:
    """Run a command to its end, with all that it prints appended to `console`; `tick` is called now and then.

    InfrastructureError where it fails, with the last lines it printed, or where the file `stop` appears. The command
    ends with this process, whatever ends it.
    """
    console.parent.mkdir(parents=True, exist_ok=True)
    with console.open("ab") as log:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **QUIET},
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        while _runs(process):
            tick()
            if stop.exists():
                break
        if stop.exists():
            raise InfrastructureError(str(jsonl.read_json(stop)["because"]))
        if process.returncode:
            raise InfrastructureError(
                f"veRL ended with status {process.returncode}; {console} has all it said, last:\n{tail(console)}"
            )
    finally:
        _end(process)


def _runs(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process still runs after another moment."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(POLL_S)
    return process.returncode is None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started, gently first: Ray ends its own when its driver is asked to."""
    for word in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, word)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)


def _die_with_parent() -> None:
    """In the child, before it becomes the command: it is told to end when this process ends without a word."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def tail(console: Path) -> str:
    """The last lines of a log."""
    with console.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - 8192))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
