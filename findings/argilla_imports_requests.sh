#!/usr/bin/env bash
# One would guess that a package imports after `pip install`, in an environment of its own.
# What happens: argilla 2.8.0 imports requests, which it does not require; what it requires brought that along until
# huggingface_hub and datasets moved to httpx. So it imports only where something else asked for requests.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet argilla==2.8.0 datasets==5.2.0 huggingface_hub==2.4.0
"$folder/venv/bin/pip" show argilla | grep -E '^(Version|Requires)'
error=$("$folder/venv/bin/python" -c 'import argilla' 2>&1 || true)
echo "import argilla: ${error##*$'\n'}"
test "${error##*$'\n'}" = "ModuleNotFoundError: No module named 'requests'"
"$folder/venv/bin/pip" install --quiet requests
"$folder/venv/bin/python" -c 'import argilla; print("with requests it imports")'
