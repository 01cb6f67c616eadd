"""The command line: `hf-hardneg mine` and `hf-hardneg demo`."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_hardneg.errors import HardNegError

if TYPE_CHECKING:
    from datasets import Dataset

SHOWN_ROWS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, or 2 after an error in what was given."""
    options = _parser().parse_args(arguments)
    try:
        _COMMANDS[options.command](options)
    except HardNegError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hf-hardneg", description="Hard-negative mining inside Hugging Face datasets."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    mine = commands.add_parser("mine", help="mine hard negatives for pairs against a corpus")
    mine.add_argument(
        "--pairs", required=True, help="rows of query with positive and / or positive_ids: file or Hub id"
    )
    mine.add_argument("--corpus", required=True, help="rows of _id and text: file or Hub id")
    mine.add_argument("--split", default="train", help="split of both (default: train)")
    mine.add_argument("--encoder", help="Hub id or path of the model of dense strategies")
    mine.add_argument("--text-column", nargs="+", default=["text"], help="corpus columns, joined by a space")
    mine.add_argument("--id-column", default="_id", help="corpus column (default: _id)")
    mine.add_argument("--query-column", default="query")
    mine.add_argument("--positive-column", default="positive")
    mine.add_argument("--positive-ids-column", default="positive_ids")
    demo = commands.add_parser("demo", help="mine the documentation of Python's standard library, offline")
    for command, strategy in ((mine, None), (demo, "bm25")):
        command.add_argument("--strategy", default=strategy, required=strategy is None, help="such as bm25 or margin")
        command.add_argument("--num-negatives", type=int, default=4)
        command.add_argument("--num-proc", type=int, help="worker processes")
        command.add_argument("--seed", type=int, default=42)
        command.add_argument("--out", required=True, help="folder for the mined dataset; load_from_disk() reads it")
        command.add_argument("--format", default="list", help="list, triplet, n-tuple, labeled-pair or labeled-list")
    return parser


def _mine(options: argparse.Namespace) -> None:
    from hf_hardneg.inputs import load_table

    pairs, corpus = (load_table(source, split=options.split) for source in (options.pairs, options.corpus))
    _run(
        pairs,
        corpus,
        options,
        encoder=options.encoder,
        text_column=options.text_column,
        id_column=options.id_column,
        query_column=options.query_column,
        positive_column=options.positive_column,
        positive_ids_column=options.positive_ids_column,
    )


def _demo(options: argparse.Namespace) -> None:
    from hf_hardneg.demo import standard_library

    pairs, corpus = standard_library()
    print(f"Python {sys.version.split()[0]}: {len(pairs):,} queries over {len(corpus):,} documented objects\n")
    _run(pairs, corpus, options)
    print(
        "\nNext, deeper negatives from the same index:\n"
        f"  hf-hardneg demo --strategy bm25+rank_zone --out {options.out}-zone\n"
        "or your own data with a model:\n"
        "  hf-hardneg mine --pairs pairs.parquet --corpus corpus.parquet --strategy positive_aware \\\n"
        "    --encoder sentence-transformers/all-MiniLM-L6-v2 --out mined-dense"
    )


def _run(pairs: Dataset, corpus: Dataset, options: argparse.Namespace, **columns: Any) -> None:
    from hf_hardneg.formats import to_format
    from hf_hardneg.mining import mine
    from hf_hardneg.reports import report

    mined = mine(
        pairs,
        corpus,
        options.strategy,
        num_negatives=options.num_negatives,
        num_proc=options.num_proc,
        seed=options.seed,
        **columns,
    )
    names = {name: columns[name] for name in ("query_column", "positive_column") if name in columns}
    written = to_format(mined, options.format, **names)
    written.save_to_disk(options.out)
    for row in mined.select(range(min(SHOWN_ROWS, len(mined)))):
        _show(row, names.get("query_column", "query"), names.get("positive_column", "positive"))
    print(report(mined))
    print(f"\nWritten to {options.out}: datasets.load_from_disk({options.out!r}) has {len(written):,} rows")


def _show(row: dict[str, Any], query: str, positive: str) -> None:
    positives = [row[positive]] if isinstance(row[positive], str) else row[positive]
    print(f"query      {_line(row[query])}")
    for text, score in zip(positives, row["positive_scores"], strict=True):
        print(f"positive   {_line(text)}  ({_score(score)})")
    for text, score in zip(row["negatives"], row["negative_scores"], strict=True):
        print(f"negative   {_line(text)}  ({_score(score)})")
    print()


def _score(score: float | None) -> str:
    return "no score" if score is None else f"{score:.2f}"


def _line(text: str) -> str:
    return textwrap.shorten(text, 88, placeholder=" …")


_COMMANDS = {"mine": _mine, "demo": _demo}


if __name__ == "__main__":
    sys.exit(main())
