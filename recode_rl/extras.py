"""Optional dependencies: a missing one is a sentence with the command that installs it."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from recode_rl.errors import MissingExtraError


def need(module: str, extra: str) -> ModuleType:
    """Import a module of an extra, or say how to install the extra."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.split(".")[0]):
            raise
        raise MissingExtraError(f'{error.name} is not installed; run: pip install "recode-rl[{extra}]"') from None


def quiet_transformers() -> None:
    """Silence the progress bars and load reports of transformers and datasets; our own progress is shown instead."""
    transformers = need("transformers", "train")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets = need("datasets", "train")
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
