#!/usr/bin/env bash
# One would guess that a dataset in memory which gets more columns from files, by concatenate_datasets(axis=1), pickles
# as its rows and the paths of the files: the columns beside it weigh nothing.
# What happens: the rows in memory are cut where each file ends, and Arrow pickles a slice of a table as all of the
# table. Columns of 40 files make the pickle 40 times as large, which is what Dataset.map(num_proc=) sends to workers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
HF_DATASETS_CACHE="$folder/cache" HF_DATASETS_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - <<'PYTHON'
import datasets
import dill
import pyarrow
from datasets import Dataset, concatenate_datasets
from datasets.arrow_writer import ArrowWriter

FILES, ROWS = 40, 1000
parts = []
for number in range(FILES):
    with ArrowWriter(path=f"{number}.arrow") as writer:
        writer.write_table(pyarrow.table({"score": [float(row) for row in range(ROWS)]}))
        writer.finalize()
    parts.append(Dataset.from_file(f"{number}.arrow"))
texts = Dataset.from_dict({"text": [f"{row:0100d}" for row in range(FILES * ROWS)]})
scores = concatenate_datasets(parts)
both = concatenate_datasets([texts, scores], axis=1)
sizes = {name: len(dill.dumps(rows)) for name, rows in {"texts": texts, "scores": scores, "both": both}.items()}
print("datasets", datasets.__version__, "pyarrow", pyarrow.__version__, "dill", dill.__version__)
print("bytes pickled:", sizes, "ratio:", round(sizes["both"] / sizes["texts"], 1))
assert sizes["scores"] < 100_000, "columns in files are pickled by value now"
assert sizes["both"] > 30 * sizes["texts"], "slices are pickled without the rest of their table now"
PYTHON
