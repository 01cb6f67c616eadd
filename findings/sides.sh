#!/usr/bin/env bash
# One would guess that Arrow's binary_join_element_wise(null_handling="skip") gives one string for each row, as every
# element-wise function does, and "" (or null) where all parts of a row are null.
# What happens: rows whose parts are all null are left out, so the result is shorter than its arguments, and every row
# after the first such one is another's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pyarrow==26.0.1
"$folder/venv/bin/python" - <<'PYTHON'
import pyarrow as pa
import pyarrow.compute as pc

titles = pa.array(["Lava", None, None, "Chalk"])
texts = pa.array(["dark", "pale", None, "soft"])
joined = pc.binary_join_element_wise(titles, texts, " ", null_handling="skip")
print("pyarrow", pa.__version__)
print("4 rows joined:", joined.to_pylist())
assert joined.to_pylist() == ["Lava dark", "pale", "Chalk soft"], "every row has its string now"
PYTHON
