#!/usr/bin/env bash
# One would guess that dask.dataframe.from_pandas keeps the cells of a frame, and that lists in them stay lists.
# What happens: a column of lists becomes a column of texts, the lists as Python prints them ("['a', 'b']"), without a
# word. dask.config.set({"dataframe.convert-string": False}) before it keeps them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'dask[dataframe]==2026.8.0' pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import dask
import pandas
from dask import dataframe

frame = pandas.DataFrame({"ids": [["a", "b"], ["c"]]})
by_default = list(dataframe.from_pandas(frame, npartitions=1).compute()["ids"])
with dask.config.set({"dataframe.convert-string": False}):
    kept = list(dataframe.from_pandas(frame, npartitions=1).compute()["ids"])
print("dask", dask.__version__, "pandas", pandas.__version__)
print("given:", list(frame["ids"]), "by default:", by_default, "with convert-string off:", kept)
assert kept == [["a", "b"], ["c"]]
assert by_default == ["['a', 'b']", "['c']"], "lists stay lists now"
PYTHON
