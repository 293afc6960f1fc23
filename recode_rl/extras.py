"""Optional dependencies: a missing one is a sentence with the command that installs it."""

from __future__ import annotations

import errno
import importlib
import os
import warnings
from types import ModuleType

from recode_rl.errors import MissingExtraError

# Nothing phones home: TRL reports which trainer runs through the hub's client, unless this is set before its import.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def need(module: str, extra: str) -> ModuleType:
    """Import a module of an extra, or say how to install the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.split(".")[0]):
            raise
        raise MissingExtraError(f'{error.name} is not installed; run: pip install "recode-rl[{extra}]"') from None


def says_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk is full; safetensors and torch have errors of their own for that."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOSPC
    return "No space left on device" in str(error) or "inline_container.cc" in str(error)


def quiet_transformers() -> None:
    """Silence the progress bars and load reports of transformers and datasets; our own progress is shown instead."""
    transformers = need("transformers", "train")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets = need("datasets", "train")
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    # TRL 1.16 asks transformers 5.23 by the old name; nothing that a user could change.
    warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
