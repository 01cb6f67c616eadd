"""Write the datasets of the command line: the folder is checked before the work, and replaced whole after it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from hf_hardneg.errors import ConfigError
from hf_hardneg.formats.inputs import is_saved
from hf_hardneg.store.disk import check_writable, written

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def check_folder(out: str, *, overwrite: bool, of_parts: bool = False) -> None:
    """Raise where a dataset could not be saved.

    Args:
        out (`str`): the folder, which an empty one may be already.
        overwrite (`bool`): whether a saved dataset may be replaced.
        of_parts (`bool`, defaults to `False`): whether parts are put into it, beside what it holds.

    Raises:
        ConfigError: there is no name; or the folder holds something, or cannot be written.
    """
    if not out:
        raise ConfigError("No --out was named. Give a new folder, in which the dataset is saved.")
    target = Path(out)
    is_used = target.is_file() or (target.is_dir() and any(target.iterdir()))
    if of_parts and is_used:
        if target.is_file() or is_saved(target):
            raise ConfigError(f"--out {out} is a file or a saved dataset; parts lie in a folder. Give another.")
        is_used = False
    if is_used and not overwrite:
        raise ConfigError(f"--out {out} exists; give a new folder, or --overwrite to replace the dataset in it.")
    if is_used and not is_saved(target):
        raise ConfigError(
            f"--out {out} holds something else than a saved dataset, and --overwrite replaces nothing but those. "
            "Give another folder."
        )
    check_writable(out, "--out")


def save(dataset: Dataset | DatasetDict, out: str) -> None:
    """Save a dataset; what was in the folder stays until all of it is written.

    Raises:
        StoreError: the disk refuses it.
    """
    target = Path(out).absolute()
    with written(target, other="--out") as partial:
        dataset.save_to_disk(str(partial))
        if target.exists():
            shutil.rmtree(target)
