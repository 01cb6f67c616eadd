#!/usr/bin/env bash
# A process that runs `Dataset.map(num_proc=2)` is killed (by the kernel's out-of-memory killer, by a scheduler, by hand).
# One would guess that its workers end with it: they are its children, work only for it, and `multiprocess` marks pool
# workers as daemons. In datasets 5.2.0 they do not: two workers and the process of the pool's manager finish the work
# that nobody collects, then wait for more with all their memory, until somebody ends them by hand. A job that is
# restarted after each kill leaves three more processes each time.
set -euo pipefail
folder=$(mktemp -d)
left=()
trap 'for each in "${left[@]}"; do kill -9 "$each" 2>/dev/null || true; done; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check datasets==5.2.0 multiprocess==0.70.19
export HF_HUB_OFFLINE=1 HF_HOME="$folder/home"
cat > job.py <<'PYTHON'
import time

from datasets import Dataset


def slow(row):
    time.sleep(0.01)
    return row


if __name__ == "__main__":
    Dataset.from_dict({"number": list(range(1000))}).map(slow, num_proc=2)
PYTHON
venv/bin/python -c 'import datasets, multiprocess; print("datasets", datasets.__version__, "multiprocess", multiprocess.__version__)'
venv/bin/python job.py 2>/dev/null &
parent=$!
for _ in $(seq 100); do
  mapfile -t left < <(pgrep -P "$parent" || true)
  [ "${#left[@]}" -ge 3 ] && break
  sleep 0.2
done
echo "processes below the one that maps: ${#left[@]}"
sleep 1
kill -9 "$parent"
wait "$parent" 2>/dev/null || true
sleep 30
alive=0
for each in "${left[@]}"; do kill -0 "$each" 2>/dev/null && alive=$((alive + 1)); done
echo "of them alive 30 s after it was killed, with 5 s of work left at most: $alive"
[ "${#left[@]}" -eq 3 ] && [ "$alive" -eq 3 ]
