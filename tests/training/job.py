"""What each rank runs: `python -m torch.distributed.run --nproc_per_node 2 -m tests.training.job DIRECTORY`."""

import json
import sys
from pathlib import Path

from tests.training.loop import Run

STEPS = 8

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    run = Run(folder / "negatives").train(STEPS)
    rank = run.accelerator.process_index
    (folder / f"rank-{rank}.json").write_text(json.dumps({"losses": run.losses, "seen": run.seen}))
    run.accelerator.end_training()
