#!/usr/bin/env bash
# Mines in shards on one machine, as many at a time as there are cores: examples/shards.sh PAIRS CORPUS OUT [SHARDS]
# What was stopped goes on when it is started again. `hf-hardneg merge` names what is missing.
set -euo pipefail
pairs=$1 corpus=$2 out=$3 shards=${4:-$(nproc)}

hf-hardneg index --corpus "$corpus"
seq "$shards" | xargs -P "$(nproc)" -I{} \
  hf-hardneg mine --pairs "$pairs" --corpus "$corpus" --strategy bm25 --shard "{}/$shards" --out "$out.parts" -q
hf-hardneg merge "$out.parts" --out "$out"
