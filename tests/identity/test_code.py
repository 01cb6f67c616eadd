"""The identity of a function changes with all that changes its output, and with nothing else."""

import json
import os
import subprocess
import sys

import pytest

from tests.identity import fresh
from tests.identity.sources import CHANGES, NO_CHANGES, write


def looked_at(folders, **environment):
    command = [sys.executable, fresh.__file__]
    given = json.dumps([str(folder) for folder in folders])
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """[digest, output] of the function as it is, and after each edit."""
    root = tmp_path_factory.mktemp("sources")
    edits = {"as it is": NO_CHANGES["nothing"], **CHANGES, **NO_CHANGES}
    folders = [write(root / str(number), edit) for number, edit in enumerate(edits.values())]
    return dict(zip(edits, looked_at(folders), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("edit", CHANGES)
def test_what_changes_the_output_changes_the_identity(seen, edit):
    (digest, output), (edited_digest, edited_output) = seen["as it is"], seen[edit]
    assert edited_output != output
    assert edited_digest != digest
    assert "failed" not in (output, edited_output)


@pytest.mark.parametrize("edit", NO_CHANGES)
def test_what_changes_no_output_changes_no_identity(seen, edit):
    assert seen[edit] == seen["as it is"]


def test_no_two_edits_have_one_identity(seen):
    assert len({seen[edit][0] for edit in CHANGES}) == len(CHANGES)


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_neither_hash_seed_nor_folder_nor_bytecode_change_the_identity(seen, tmp_path, seed):
    folder = write(tmp_path / "some" / "other" / "place")
    for _ in range(2):  # the second time from __pycache__
        assert looked_at([folder], PYTHONHASHSEED=seed) == [seen["as it is"]]
