"""Compiled kernels without a home and in a package that is read-only."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from hf_hardneg.runtime import compiled

IMPORTED = (
    "import os, sys; closed = sys.argv[1]; from pathlib import Path; import tempfile\n"
    "real = tempfile.TemporaryFile\n"
    "def refuse(*args, dir=None, **more):\n"
    "    if dir is not None and closed in str(dir): raise PermissionError(13, 'Permission denied', str(dir))\n"
    "    return real(*args, dir=dir, **more)\n"
    "tempfile.TemporaryFile = refuse\n"
    "import hf_hardneg; from hf_hardneg import BM25Config; from hf_hardneg.index.bm25 import building\n"
    "import numba; print(numba.config.CACHE_DIR)"
)


@pytest.fixture
def closed(monkeypatch, tmp_path):
    """Neither the package nor a home can be written."""
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    monkeypatch.setattr(compiled, "_is_open", lambda folder: False)
    monkeypatch.setattr(compiled.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    yield tmp_path
    os.environ.pop(compiled.VARIABLE, None)


def test_the_package_is_imported_where_nothing_of_it_can_be_written(tmp_path):
    file = tmp_path / "home"
    file.write_text("no folder")
    environment = {**os.environ, "HOME": str(file), "TMPDIR": str(tmp_path)}
    for name in (compiled.VARIABLE, "XDG_CACHE_HOME"):
        environment.pop(name, None)
    asked = [sys.executable, "-c", IMPORTED, str(Path(compiled.__file__).parents[1])]
    said = subprocess.run(asked, env=environment, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip() == str(compiled_folder(tmp_path))


def compiled_folder(parent):
    return parent / f"hf_hardneg-compiled-{os.geteuid()}"


def test_the_place_is_the_users_own_and_the_same_each_time(closed):
    for _ in range(2):
        os.environ.pop(compiled.VARIABLE, None)
        compiled.keep_compiled_code()
        assert os.environ[compiled.VARIABLE] == str(compiled_folder(closed))
    assert compiled_folder(closed).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("how", ["others may write it", "a link"])
def test_a_place_of_others_is_not_taken(closed, how):
    """What numba finds in its cache, it executes."""
    folder = compiled_folder(closed)
    if how == "a link":
        (closed / "elsewhere").mkdir()
        folder.symlink_to(closed / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    compiled.keep_compiled_code()
    place = Path(os.environ[compiled.VARIABLE])
    assert place != folder and place.parent == closed and place.stat().st_mode & 0o777 == 0o700


def test_what_the_user_named_is_left_alone(closed, monkeypatch):
    monkeypatch.setenv(compiled.VARIABLE, "/named/by/the/user")
    compiled.keep_compiled_code()
    assert os.environ[compiled.VARIABLE] == "/named/by/the/user" and list(closed.iterdir()) == []
