"""A review in a process of its own, as a person starts it, and rows to be reviewed there."""

import contextlib
import http.client
import json
import signal
import subprocess
import sys
from urllib.parse import urlsplit

from datasets import Dataset

SCRIPT = """
import sys
from datasets import load_from_disk
from hf_hardneg import review
review(load_from_disk(sys.argv[1]), sys.argv[2], browser=False, opened=lambda url: print(url, flush=True))
"""


@contextlib.contextmanager
def running(mined, verdicts):
    """Start a review of a saved dataset, and kill it at the end: the address of its page."""
    started = subprocess.Popen([sys.executable, "-c", SCRIPT, str(mined), str(verdicts)], stdout=subprocess.PIPE)
    try:
        yield started.stdout.readline().decode().strip()
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
        started.stdout.close()


def asked(url, path="", *, method="GET", body=None, headers=None, token=None):
    """Send a request as it is told: the status, the headers and the text of the answer."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    prefix = parts.path if token is None else f"/{token}/"
    sent = {"Content-Type": "application/json"} if body is not None else {}
    content = json.dumps(body) if isinstance(body, dict) else body
    try:
        connection.request(method, prefix + path, content, {**sent, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        connection.close()


def rows_of(texts):
    """Mined rows in which every text stands in every place that a page shows."""
    return Dataset.from_dict(
        {
            "query": [f"{text} " for text in texts],
            "positive": [[f"{text} positive"] for text in texts],
            "negatives": [[f"{text} negative", f"other {text}"] for text in texts],
            "negative_ids": [[text, "b"] for text in texts],
            "negative_scores": [[1.0, 0.5] for _ in texts],
            "negative_ranks": [[0, 3] for _ in texts],
            "negative_sources": [[text, "bm25"] for text in texts],
            "positive_scores": [[2.0] for _ in texts],
            "mining": [{"retrieved": 5, "known_positive": 1, "not_chosen": 2, "kept": 2, "short": 0} for _ in texts],
        }
    )
