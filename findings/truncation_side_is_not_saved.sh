#!/usr/bin/env bash
# One would guess that a transformers tokenizer saves the truncation_side that was set on it, whether as an argument or,
# as many scripts do, as an attribute.
# What happens: only the argument is saved. The attribute works until save_pretrained, and the tokenizer that is loaded
# again cuts long texts at the other end: other tokens, and other vectors of a model above it, for the same text.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet transformers==5.24.0 tokenizers==0.23.3
FOLDER="$folder/saved" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import os

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

words = Tokenizer(models.WordLevel({word: place for place, word in enumerate("? a b c d".split())}, unk_token="?"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
print("transformers", transformers.__version__)
seen = {}
for way in ("argument", "attribute"):
    given = {"truncation_side": "left"} if way == "argument" else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?", **given)
    tokenizer.truncation_side = "left"
    tokenizer.save_pretrained(os.environ["FOLDER"] + way)
    again = AutoTokenizer.from_pretrained(os.environ["FOLDER"] + way)
    seen[way] = [each.decode(each("a b c d", truncation=True, max_length=2)["input_ids"]) for each in (tokenizer, again)]
    print(f"{way:9} truncation_side left -> {again.truncation_side}; 'a b c d' cut to two:", " -> ".join(seen[way]))
assert seen == {"argument": ["c d", "c d"], "attribute": ["c d", "a b"]}, "the attribute is saved now"
PYTHON
