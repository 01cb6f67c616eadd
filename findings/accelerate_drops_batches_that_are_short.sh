#!/usr/bin/env bash
# A batch sampler of one's own may yield batches of different sizes: of one language each, say, whose last batch is short.
# One would guess that Accelerate, which deals batches to processes in turn, deals these too: each row to some process once.
# What happens: where the sampler has a batch_size, a short batch stands for the end of the epoch. Any other short batch is
# dropped, and with it the batches of the other processes in that turn, without a word: of 22 rows, 6 reach no process.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" - <<'PYTHON'
import accelerate
import torch
from accelerate.data_loader import prepare_data_loader
from torch.utils.data import DataLoader, Sampler


class ByLanguage(Sampler):
    """Batches of four rows of one language; the last of each language is short."""

    batch_size, drop_last = 4, False
    batches = [[0, 1, 2, 3], [4, 5], [6, 7, 8, 9], [10, 11, 12, 13], [14, 15, 16, 17], [18, 19, 20, 21]]

    def __iter__(self):
        yield from map(list, self.batches)

    def __len__(self):
        return len(self.batches)


print(f"accelerate {accelerate.__version__}, torch {torch.__version__}")
seen = []
for process in range(2):
    loader = DataLoader(range(22), batch_sampler=ByLanguage(), collate_fn=list)
    dealt = prepare_data_loader(loader, num_processes=2, process_index=process, put_on_device=False)
    rows = [row for batch in dealt for row in batch]
    print("process", process, "has rows", rows)
    seen += rows
lost = sorted(set(range(22)) - set(seen))
print("rows of no process:", lost)
assert lost, "every row reaches a process now"
PYTHON
