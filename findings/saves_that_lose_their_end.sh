#!/usr/bin/env bash
# One would guess that np.save(path, array) and faiss.write_index(index, path) raise an error where a file finds no more
# room, since each checks how much was written.
# What happens: what is checked is what went into the buffer of the C library. The last 4,096 bytes or fewer leave it
# when the file is closed, and that failure is dropped: np.save returns as if all were well, faiss prints a line and
# returns. An array of less than a buffer may be lost whole. The file is truncated, which the next reader finds out.
# A limit of the size of files stands for the full disk here; a full tmpfs does the same. What Python writes itself,
# as in file.write(array.tobytes()), raises.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check faiss-cpu==1.15.1 numpy==2.4.6
cd "$folder"
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import io
import os
import resource
import signal
import sys

import faiss
import numpy as np

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
print("numpy", np.__version__, "faiss", faiss.__version__)


def limited(write, path, size):
    """What a write says where a file may have `size` bytes, and how many the file then has."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        write(path)
        said = "no error"
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return said, os.path.getsize(path)


array = np.arange(100, dtype=np.int64)
index = faiss.IndexFlatIP(16)
index.add(np.ones((10, 16), np.float32))
buffer = io.BytesIO()
np.save(buffer, array)


def by_python(path):
    with open(path, "wb") as stream:
        stream.write(buffer.getvalue())


whole = {"np.save": len(buffer.getvalue()), "faiss.write_index": faiss.serialize_index(index).size}
writes = {"np.save": lambda path: np.save(path, array), "faiss.write_index": lambda path: faiss.write_index(index, path)}
silent = True
for name, write in writes.items():
    said, size = limited(write, name + ".npy", whole[name] - 400)
    print(f"{name}: {said}, {size} of {whole[name]} bytes in the file")
    silent &= said == "no error" and size == whole[name] - 400
said, size = limited(by_python, "python.npy", whole["np.save"] - 400)
print(f"file.write: {said}, {size} of {whole['np.save']} bytes in the file")
sys.exit(0 if silent and said != "no error" else 1)
PYTHON
