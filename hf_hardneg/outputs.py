"""Where the command line writes datasets: checked before the work, replaced whole after it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hf_hardneg.errors import ConfigError
from hf_hardneg.inputs import is_saved

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def check_folder(out: str, *, overwrite: bool) -> None:
    """Raise where a dataset could not be saved.

    Args:
        out (`str`): the folder, which an empty one may be already.
        overwrite (`bool`): whether a saved dataset may be replaced.

    Raises:
        ConfigError: it holds something, or nothing can be written there.
    """
    target = Path(out)
    is_used = target.is_file() or (target.is_dir() and any(target.iterdir()))
    if is_used and not overwrite:
        raise ConfigError(f"--out {out} exists; give a new folder, or --overwrite to replace the dataset in it.")
    if is_used and not is_saved(target):
        raise ConfigError(
            f"--out {out} holds something else than a saved dataset, and --overwrite replaces nothing but those. "
            "Give another folder."
        )
    check_parent(out, "--out")


def check_parent(out: str, option: str) -> None:
    """Raise where nothing can be written beside a path.

    Raises:
        ConfigError: the nearest folder that exists is none, or is closed to this user.
    """
    above = Path(out).absolute().parent
    while not above.exists():
        above = above.parent
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise ConfigError(
            f"{option} {out} cannot be written: {above} is no folder that you may write to. Give another."
        )


def save(dataset: Dataset | DatasetDict, out: str) -> None:
    """Save a dataset; what was in the folder stays until all of it is written."""
    target = Path(out).absolute()
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    dataset.save_to_disk(str(partial))
    if target.exists():
        shutil.rmtree(target)
    partial.rename(target)
