"""`demo`: mining without any data of one's own."""

from __future__ import annotations

import sys

from hf_hardneg.cli.choices import Choice
from hf_hardneg.cli.commands import command
from hf_hardneg.cli.mine_commands import checked_choice, run
from hf_hardneg.cli.option_groups import Saving
from hf_hardneg.cli.terminal import note


@command("demo")
def demo(choice: Choice, saving: Saving) -> None:
    """Mine the documentation of Python, offline.

    What is documented in the standard library that you have is the corpus.
    """
    from hf_hardneg.demo import standard_library

    chosen = checked_choice(choice, saving)
    pairs, corpus = standard_library()
    note(f"Python {sys.version.split()[0]}: {len(pairs):,} queries over {len(corpus):,} documented objects\n")
    run(pairs, corpus, chosen, saving, num_proc=choice.num_proc)
    note(
        "\nNext, deeper negatives from the same index:\n"
        f"  hf-hardneg demo --strategy bm25+rank_zone --out {saving.out}-zone\n"
        "or your own data with a model:\n"
        "  hf-hardneg mine --pairs pairs.parquet --corpus corpus.parquet --strategy positive_aware \\\n"
        "    --encoder sentence-transformers/all-MiniLM-L6-v2 --out mined-dense"
    )
