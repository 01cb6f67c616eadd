#!/usr/bin/env bash
# One would guess that Dataset.from_sql runs its query, so that a second call gives the rows that the database has now.
# What happens: rows are kept under the text of the query and the id() of the connection (under its URI, where it is a
# text), so the same call gives the old rows after the table has changed, without a word.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 pandas==3.1.1 pyarrow==26.0.1
cd "$folder"
HF_DATASETS_CACHE="$folder/cache" HF_DATASETS_DISABLE_PROGRESS_BARS=1 "$folder/venv/bin/python" - <<'PYTHON'
import sqlite3

import datasets
from datasets import Dataset

base = sqlite3.connect("base.db")
base.execute("create table docs (text text)")
base.execute("insert into docs values ('first')")
base.commit()
before = Dataset.from_sql("SELECT text FROM docs", base)["text"][:]
base.execute("insert into docs values ('second')")
base.commit()
after = Dataset.from_sql("SELECT text FROM docs", base)["text"][:]
rows = [text for (text,) in base.execute("SELECT text FROM docs")]
print("datasets", datasets.__version__)
print("before:", before, "after an insert:", after, "in the table:", rows)
assert rows == ["first", "second"]
assert before == after == ["first"], "from_sql runs its query anew now"
PYTHON
