"""The command line: `hf-hardneg mine`, `plan`, `train-denoiser`, `index`, `cache` and `demo`."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hf_hardneg.costs import data_size, duration
from hf_hardneg.errors import ConfigError, HardNegError

if TYPE_CHECKING:
    from pathlib import Path

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
    plan = commands.add_parser("plan", help="what mining will cost: time, memory, disk, and something cheaper")
    train = commands.add_parser("train-denoiser", help="train a denoiser on your own pairs, for --cross-encoder")
    index = commands.add_parser("index", help="build the index of a corpus, or say where it lies")
    demo = commands.add_parser("demo", help="mine the documentation of Python's standard library, offline")
    for command in (mine, plan, train):
        _pairs(command)
    for command in (mine, plan, train, index):
        _corpus(command)
    for command in (mine, plan):
        command.add_argument("--cross-encoder", help="Hub id or path of the model that judges candidates")
    _training(train)
    for command, strategy in ((mine, None), (plan, None), (demo, "bm25")):
        command.add_argument("--strategy", default=strategy, required=strategy is None, help="such as bm25 or margin")
        command.add_argument("--num-negatives", type=int, default=4)
        command.add_argument("--num-proc", type=int, help="worker processes")
        command.add_argument("--seed", type=int, default=42)
        command.add_argument(
            "--no-safeguards", dest="safeguards", action="store_false", help="keep what may be an unlabelled positive"
        )
    for command in (mine, demo):
        command.add_argument("--out", required=True, help="folder for the mined dataset; load_from_disk() reads it")
        command.add_argument("--format", default="list", help="list, triplet, n-tuple, labeled-pair or labeled-list")
    mine.add_argument("--confirm-cost", action="store_true", help="run a job whose plan is above an hour")
    index.add_argument("--kind", choices=("bm25", "dense"), default="bm25")
    index.add_argument("--vector-column", help="corpus column of vectors, instead of an encoder")
    _cache_parser(commands.add_parser("cache", help="what lies in the cache"))
    return parser


def _pairs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pairs", required=True, help="rows of query with positive and / or positive_ids: file or Hub id"
    )
    command.add_argument("--query-column", default="query")
    command.add_argument("--positive-column", default="positive")
    command.add_argument("--positive-ids-column", default="positive_ids")


def _corpus(command: argparse.ArgumentParser) -> None:
    command.add_argument("--corpus", required=True, help="rows of _id and text: file or Hub id")
    command.add_argument("--split", default="train", help="split of what is read (default: train)")
    command.add_argument("--encoder", help="Hub id or path of the model of dense strategies")
    command.add_argument("--text-column", nargs="+", default=["text"], help="corpus columns, joined by a space")
    command.add_argument("--id-column", default="_id", help="corpus column (default: _id)")
    command.add_argument("--cache-dir", help="where indexes lie (default: under the datasets cache)")


def _training(train: argparse.ArgumentParser) -> None:
    train.add_argument("--out", required=True, help="new folder for the model")
    train.add_argument(
        "--architecture",
        default="late-interaction",
        help="late-interaction, which learns from a hundred pairs, or cross-encoder, for tens of thousands",
    )
    train.add_argument("--first-pass", help="strategy that finds hard negatives (default: hybrid, ranks 10 to 100)")
    train.add_argument("--folds", type=int, default=1, help="models to cross-fit, so that none judges what it learnt")
    train.add_argument("--epochs", type=int, default=4)
    train.add_argument("--max-length", type=int, default=160, help="tokens after which pairs are cut")
    train.add_argument("--seed", type=int, default=42)


def _cache_parser(cache: argparse.ArgumentParser) -> None:
    actions = cache.add_subparsers(dest="action", required=True)
    listing = actions.add_parser("ls", help="every index and table, the one used longest ago first")
    pruning = actions.add_parser("prune", help="remove what dead builds left, and what you name")
    pruning.add_argument("--older-than", type=float, metavar="DAYS", help="not used for so many days")
    pruning.add_argument("--kind", nargs="+", default=[], help="such as bm25, dense or vectors")
    pruning.add_argument("--all", action="store_true", help="everything")
    pruning.add_argument("--dry-run", action="store_true", help="only say what would go")
    for action in (listing, pruning):
        action.add_argument("--cache-dir", help="where indexes lie (default: under the datasets cache)")


def _mine(options: argparse.Namespace) -> None:
    pairs, corpus = _tables(options)
    _run(pairs, corpus, options, confirm_cost=options.confirm_cost, **_columns(options))


def _plan(options: argparse.Namespace) -> None:
    from hf_hardneg.plans import plan

    pairs, corpus = _tables(options)
    print(plan(pairs, corpus, options.strategy, **_shared(options), **_columns(options)))


def _tables(options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    from hf_hardneg.inputs import load_table

    return load_table(options.pairs, split=options.split), load_table(options.corpus, split=options.split)


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("num_negatives", "num_proc", "seed", "safeguards")}


def _columns(options: argparse.Namespace) -> dict[str, Any]:
    names = ("query_column", "positive_column", "positive_ids_column", "text_column", "id_column")
    given = {"cross_encoder": options.cross_encoder} if "cross_encoder" in options else {}
    return {name: getattr(options, name) for name in (*names, "encoder", "cache_dir")} | given


def _train(options: argparse.Namespace) -> None:
    from hf_hardneg.score.training import FIRST_PASS, Training, train_denoiser

    if options.encoder is None:
        raise ConfigError("train-denoiser got no --encoder; give the Hub id or path of the model to start from.")
    pairs, corpus = _tables(options)
    training = Training(epochs=options.epochs, max_length=options.max_length, seed=options.seed)
    folder = train_denoiser(
        pairs,
        corpus,
        output_dir=options.out,
        architecture=options.architecture,
        training=training,
        first_pass=options.first_pass or FIRST_PASS,
        folds=options.folds,
        **_columns(options),
    )
    print(f"Written to {folder}: mine with --cross-encoder {folder}")


def _index(options: argparse.Namespace) -> None:
    from hf_hardneg.corpus import open_corpus
    from hf_hardneg.index import store
    from hf_hardneg.index.attach import index_corpus, load
    from hf_hardneg.index.bm25 import build_bm25
    from hf_hardneg.index.bm25_weights import BM25Config
    from hf_hardneg.index.inventory import entry_of
    from hf_hardneg.inputs import load_table

    dataset = load_table(options.corpus, split=options.split)
    corpus = open_corpus(
        dataset, text_column=options.text_column, id_column=options.id_column, cache_dir=options.cache_dir
    )

    def obtain() -> Path:
        if options.kind == "bm25":
            return build_bm25(corpus, BM25Config())
        return index_corpus(dataset, corpus, encoder, options.vector_column, "cosine").directory

    encoder = load(options.encoder, corpus) if options.kind == "dense" else None
    start = time.perf_counter()
    try:
        with store.without_building():
            directory, how = obtain(), "reused"
    except store.NotPublished:
        directory = obtain()
        how = f"built in {duration(time.perf_counter() - start)}"
    print(f"{options.kind} index of {len(corpus):,} documents, {how}\n{directory}")
    print(entry_of(directory))


def _cache(options: argparse.Namespace) -> None:
    from hf_hardneg.index.inventory import inventory, prune
    from hf_hardneg.index.store import cache_root

    root = cache_root(options.cache_dir)
    if options.action == "prune":
        conditions = {"older_than": options.older_than, "kinds": options.kind, "everything": options.all}
        print(prune(root, **conditions, dry_run=options.dry_run))
        return
    entries = inventory(root)
    for entry in entries:
        print(entry)
    print(f"{data_size(sum(entry.size for entry in entries))} in {len(entries)} directories under {root}")


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
    from hf_hardneg.strategies import resolve

    recipe = resolve(options.strategy, safeguards=options.safeguards, cross_encoder=columns.get("cross_encoder"))
    print(f"{options.strategy} is {recipe}\n")
    mined = mine(pairs, corpus, options.strategy, **_shared(options), **columns)
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


_COMMANDS = {"mine": _mine, "plan": _plan, "train-denoiser": _train, "index": _index, "cache": _cache, "demo": _demo}


if __name__ == "__main__":
    sys.exit(main())
