#!/usr/bin/env bash
# One would guess that importing Lightning leaves torch.compile as it is, and that compiling leaves the module that is
# compiled as it is: its documentation says that the wrapper around it is what is returned.
# What happens: the import replaces torch.compile for the whole process, with one that keeps its arguments in
# _compile_kwargs "on the returned compiled module". That module hands assignments on, so the attribute lands in the
# uncompiled one, and stays there. Whatever compares or hashes a module's attributes sees a change or not, depending on
# what another file imported earlier.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 lightning==2.6.6 numpy
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import torch

before = torch.compile
plain = torch.nn.Linear(2, 2)
torch.compile(plain)
import lightning  # noqa: E402

marked = torch.nn.Linear(2, 2)
torch.compile(marked, dynamic=True)
print("torch", torch.__version__, "lightning", lightning.__version__)
print("torch.compile replaced by the import:", torch.compile is not before, f"({torch.compile.__code__.co_name})")
print("added to the uncompiled module:", {key: vars(marked)[key] for key in vars(marked).keys() - vars(plain).keys()})
assert torch.compile is not before, "the import leaves torch.compile alone now"
assert "_compile_kwargs" not in vars(plain), "torch itself writes the attribute now"
assert vars(marked)["_compile_kwargs"] == {"dynamic": True}, "the uncompiled module stays as it was now"
PYTHON
