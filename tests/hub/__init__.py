"""A Hub of the tests' own, on loopback. Imported before `huggingface_hub`, which reads the environment once, so that no
test reaches the real one. Nobody answers until `tests/hub/conftest.py` starts the server.
"""

import atexit
import os
import shutil
import socket
import tempfile

LISTENER = socket.socket()
LISTENER.bind(("127.0.0.1", 0))
CACHE = tempfile.mkdtemp(prefix="hub-")
atexit.register(LISTENER.close)
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

os.environ |= {
    "HF_ENDPOINT": f"http://127.0.0.1:{LISTENER.getsockname()[1]}",
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_CACHE": CACHE,
    "HF_TOKEN_PATH": f"{CACHE}/token",
}
os.environ.pop("HF_TOKEN", None)
