"""Digests and outputs of code as it stands in folders, each folder imported by a process of its own.

Reads a list of folders from stdin; prints a list of [digest, output] of `embed` in `parts.py` of each. The processes
are forks of this one, which has imported none of them.
"""

import json
import os
import sys
import warnings

import numpy as np  # noqa: F401

from hf_hardneg.identity import identify

TEXT = "Dark rock lava, 12 Lava rocks"


def looked_at(folder):
    sys.path.insert(0, folder)
    import parts

    warnings.simplefilter("error")
    before = identify(parts.embed, what="encoder")
    output = repr(parts.embed(TEXT))
    sys.stdout.write(json.dumps([before, output]))
    sys.stdout.flush()


def main():
    answers = []
    for folder in json.load(sys.stdin):
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            os.dup2(writer, 1)
            os.close(reader)
            looked_at(folder)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as stream:
            answers.append(json.loads(stream.read() or '["failed", "failed"]'))
        os.waitpid(child, 0)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
