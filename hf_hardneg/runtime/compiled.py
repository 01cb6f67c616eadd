"""Where numba keeps our compiled kernels, also where neither the package nor a home can be written.

Without such a place numba refuses to compile what is to be cached, so nothing of this library could be imported.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

VARIABLE = "NUMBA_CACHE_DIR"


def keep_compiled_code() -> None:
    """Name a folder of this user's among the temporary files, where numba would find none that it may write.

    A place that others may write is never taken, since numba executes what it finds there. `NUMBA_CACHE_DIR`, where it
    is set, is left alone.
    """
    package = Path(__file__).parents[1] / "index" / "__pycache__"
    if os.environ.get(VARIABLE) or _is_open(package) or _is_open(_users_cache()):
        return
    try:
        place = str(_users_folder())
    except OSError as error:
        logger.warning("compiled code can be kept nowhere (%s): name a folder with the variable %s", error, VARIABLE)
        return
    logger.info("compiled code is kept in %s; the variable %s names another place", place, VARIABLE)
    os.environ[VARIABLE] = place
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = place


def _users_cache() -> Path:
    """Return the folder that numba takes where it cannot write beside the code."""
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches/numba"))
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "numba")


def _is_open(folder: Path) -> bool:
    """Say whether files can be written in a folder, which is made where it does not exist."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _users_folder() -> Path:
    """Return a folder that only this user can write: the same in every process, or a new one where that is taken."""
    user = os.geteuid() if hasattr(os, "geteuid") else ""
    folder = Path(tempfile.gettempdir(), f"hf_hardneg-compiled-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    state = folder.lstat()
    is_ours = stat.S_ISDIR(state.st_mode) and (user == "" or (state.st_uid == user and not state.st_mode & 0o022))
    return folder if is_ours else Path(tempfile.mkdtemp(prefix="hf_hardneg-compiled-"))
