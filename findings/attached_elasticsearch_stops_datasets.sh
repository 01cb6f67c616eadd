#!/usr/bin/env bash
# One would guess that a dataset to which an index of Elasticsearch is attached (add_elasticsearch_index,
# load_elasticsearch_index) still does all that it did before, as one with a FAISS index does.
# What happens: with_format copies the dataset and its indexes, and clients of Elasticsearch 9 cannot be copied, so
# it fails with a TypeError that names a "_thread._local" object. No server is needed to see it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datasets==5.2.0 elasticsearch==9.5.1
cd "$folder"
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import datasets
import elasticsearch
from datasets import Dataset

dataset = Dataset.from_dict({"text": ["a document"]})
dataset.with_format("numpy")
dataset.load_elasticsearch_index("text", es_index_name="docs", es_client=elasticsearch.Elasticsearch("http://localhost:9200"))
print("datasets", datasets.__version__, "elasticsearch", elasticsearch.__versionstr__, "attached:", dataset.list_indexes())
try:
    dataset.with_format("numpy")
except TypeError as error:
    print("with_format:", error)
else:
    raise SystemExit("a dataset with an index of Elasticsearch can be formatted now")
PYTHON
