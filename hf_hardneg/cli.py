"""The command line, `hf-hardneg`: mining, its plan and its index, audits, pushes to the Hub and what is mined again."""

from __future__ import annotations

import argparse
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, cast

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.errors import ConfigError, HardNegError, shown
from hf_hardneg.runtime.arguments import fit
from hf_hardneg.runtime.units import data_size, duration

if TYPE_CHECKING:
    from pathlib import Path

    from datasets import Dataset

    from hf_hardneg.corpus.queries import PairColumns

SHOWN_ROWS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, 1 where a check found something, 2 after an error."""
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options) or 0
    except HardNegError as error:
        _say(f"error: {error}", to=sys.stderr)
        return 2


def _say(text: object = "", *, to: TextIO | None = None) -> None:
    """Prints text, which may quote others, so that a terminal shows it and obeys none of it."""
    stream = to or sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(shown(str(text)).encode(encoding, "backslashreplace").decode(encoding), file=stream)


class _Parser(argparse.ArgumentParser):
    """A parser whose errors quote arguments, such as names of files that a shell put there, as `_say` does."""

    def error(self, message: str) -> NoReturn:
        super().error(shown(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="hf-hardneg", description="Hard-negative mining inside Hugging Face datasets.")
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
        command.add_argument(
            "--format", default="list", help="a layout of to_format(), such as triplet (default: list)"
        )
        command.add_argument(
            "--scores", help="scores that the layout carries: of a filter, such as denoised, or retriever"
        )
        command.add_argument("--overwrite", action="store_true", help="replace the dataset that --out holds")
    mine.add_argument("--confirm-cost", action="store_true", help="run a job whose plan is above an hour")
    index.add_argument("--kind", choices=("bm25", "dense"), default="bm25")
    _cache_parser(commands.add_parser("cache", help="what lies in the cache"))
    _push_parser(commands.add_parser("push", help="push a mined dataset to the Hub, with its card"))
    _reproduce_parser(commands.add_parser("reproduce", help="mine a pushed dataset again from its card, and compare"))
    _audit_parser(commands.add_parser("audit", help="what is wrong with mined negatives, whoever mined them"))
    return parser


def _pairs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--pairs", required=True, help="rows of query with positive and / or positive_ids: file or Hub id"
    )
    command.add_argument(
        "--symmetric",
        action=argparse.BooleanOptionalAction,
        help="whether pairs hold in both directions, as duplicates do; --no-symmetric says that they do not",
    )


def _corpus(command: argparse.ArgumentParser) -> None:
    command.add_argument("--corpus", required=True, help="rows of id and text: file or Hub id")
    command.add_argument("--split", default="train", help="split of what is read (default: train)")
    command.add_argument("--encoder", help="Hub id or path of the model of dense strategies")
    _columns(command)
    command.add_argument("--cache-dir", help="where indexes lie (default: under the datasets cache)")


def _columns(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--columns",
        nargs="+",
        action="extend",
        metavar="ROLE=NAME",
        help="columns that are called otherwise, such as query=question positive=answer id=docid; text=title text=body "
        f"joins two; roles are {', '.join(Columns.__annotations__)}",
    )


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
    listing.add_argument("--verbose", action="store_true", help="with names of directories and what they depend on")
    pruning = actions.add_parser("prune", help="remove what dead builds left, and what you name")
    pruning.add_argument("--older-than", type=float, metavar="DAYS", help="not used for so many days")
    pruning.add_argument("--kind", nargs="+", default=[], help="such as bm25, dense or vectors")
    pruning.add_argument("--all", action="store_true", help="everything")
    pruning.add_argument("--dry-run", action="store_true", help="only say what would go")
    verifying = actions.add_parser("verify", help="read everything, and compare it with its checksums")
    for action in (listing, pruning, verifying):
        action.add_argument("--cache-dir", help="where indexes lie (default: under the datasets cache)")


def _push_parser(push: argparse.ArgumentParser) -> None:
    push.description = "Needs a token that may write: log in with `hf auth login`, or set HF_TOKEN."
    push.add_argument("--mined", required=True, help="folder that mine wrote, in the list layout")
    push.add_argument("--repo", required=True, help="such as user/name; made where there is none")
    push.add_argument("--config", nargs="+", default=["list", "triplet"], help="such as list, triplet-5 or scores")
    push.add_argument(
        "--corpus", help="documents, to be the config corpus: file or Hub id (default: the card refers to them)"
    )
    push.add_argument("--split", default="train", help="split of the corpus that is read (default: train)")
    _columns(push)
    push.add_argument("--index", help="folder of an index to go along, as hf-hardneg index prints it")
    push.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    push.add_argument("--revision", help="branch (default: main)")
    push.add_argument("--create-pr", action="store_true", help="open a pull request instead")
    push.add_argument("--message", help="of the commit")
    push.add_argument("--license", help="such as mit")
    push.add_argument("--language", nargs="+", help="such as en")
    push.add_argument("--pretty-name", help="title of the card")


def _reproduce_parser(again: argparse.ArgumentParser) -> None:
    again.add_argument("repo", help="such as user/name")
    again.add_argument("--revision", help="branch or commit (default: main)")
    again.add_argument("--corpus", help="the documents, where the card cannot say where they are: file or Hub id")
    again.add_argument("--pairs", help="what was mined, where mining dropped rows: file or Hub id")
    again.add_argument("--split", default="train", help="split of what is read (default: train)")
    for model in ("--encoder", "--cross-encoder"):
        again.add_argument(model, help="path of a model that is not on the Hub")
    again.add_argument("--num-proc", type=int, help="worker processes")
    again.add_argument("--cache-dir", help="where indexes lie (default: under the datasets cache)")
    again.add_argument("--confirm-cost", action="store_true", help="run a job whose plan is above an hour")


def _audit_parser(audit: argparse.ArgumentParser) -> None:
    audit.add_argument("dataset", help="file or folder in a trainer's layout, or Hub id")
    audit.add_argument("--layout", help="of from_format() (default: what the columns say)")
    audit.add_argument("--split", default="train", help="split of what is read (default: train)")
    audit.add_argument("--corpus", help="the documents that were mined: file or Hub id")
    audit.add_argument("--queries", help="ids and texts of the queries, for rows without one of them")
    audit.add_argument(
        "--qrels", help="judgements: query-id, corpus-id, score as BEIR's .tsv, another file or a Hub id"
    )
    audit.add_argument("--test", help="queries of a test set, to be absent from the rows: file or Hub id")
    _columns(audit)
    audit.add_argument("--judge", help="Hub id or path of a cross-encoder that estimates false negatives")
    audit.add_argument("--sample", type=int, default=500, help="pairs that the judge is asked (default: 500)")
    audit.add_argument("--threshold", type=float, default=0.5, help="probability from which it says relevant")
    audit.add_argument("--html", help="page to write")


def _mine(options: argparse.Namespace) -> None:
    _check(options)
    pairs, corpus = _tables(options)
    _run(pairs, corpus, options, confirm_cost=options.confirm_cost, **_options(options))


def _audit(options: argparse.Namespace) -> int:
    from pathlib import Path

    from hf_hardneg.audits import Judge, audit
    from hf_hardneg.formats.files import read_format
    from hf_hardneg.formats.inputs import is_saved, load_splits, load_table
    from hf_hardneg.store.disk import check_writable

    if options.html:
        check_writable(options.html, "--html")

    def table(source: str | None) -> Dataset | None:
        return None if source is None else load_table(source)

    path = Path(options.dataset)
    in_files = path.exists() and not is_saved(path)
    judge = None if options.judge is None else Judge(options.judge, options.sample, options.threshold)
    result = audit(
        read_format(path, options.layout) if in_files else load_splits(options.dataset, split=options.split),
        corpus=table(options.corpus),
        qrels=table(options.qrels),
        judge=judge,
        queries=table(options.queries),
        test_queries=table(options.test),
        columns=_roles(options),
        layout=options.layout,
        split=options.split,
    )
    _say(result)
    if options.html:
        _say(f"\nWritten to {result.html(options.html)}")
    return 0 if result.ok else 1


def _plan(options: argparse.Namespace) -> None:
    from hf_hardneg.planning.plans import plan

    pairs, corpus = _tables(options)
    _say(plan(pairs, corpus, options.strategy, **_shared(options), **_options(options)))
    _say(f"  {_ids_of(corpus, options)}")


def _tables(options: argparse.Namespace) -> tuple[Dataset, Dataset]:
    from hf_hardneg.formats.inputs import load_table

    return load_table(options.pairs, split=options.split), load_table(options.corpus, split=options.split)


def _ids_of(corpus: Dataset, options: argparse.Namespace) -> str:
    """Where the ids of documents come from, in words."""
    from hf_hardneg.corpus.documents import id_column_of

    column = id_column_of(corpus, (_roles(options) or {}).get("id"))
    return f"ids of documents: {column or 'none is given, so they are called row-0, row-1, …'}"


def _shared(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("num_negatives", "num_proc", "seed", "safeguards")}


def _options(options: argparse.Namespace) -> dict[str, Any]:
    models = ("encoder", "cross_encoder") if "cross_encoder" in options else ("encoder",)
    chosen = {name: getattr(options, name) for name in (*models, "symmetric", "cache_dir")}
    return chosen | {"columns": _roles(options)}


def _roles(options: argparse.Namespace) -> Columns | None:
    """What `--columns` says; a role that stands twice has a list of columns."""
    roles: dict[str, list[str]] = {}
    for text in getattr(options, "columns", None) or ():
        role, equals, name = text.partition("=")
        if not equals:
            raise ConfigError(f"--columns got {text!r}; give a role and a column, such as query=question.")
        roles.setdefault(role, []).append(name)
    columns = {role: names[0] if len(names) == 1 else names for role, names in roles.items()}
    return cast("Columns | None", fit("hf-hardneg", "columns", columns or None, Columns | None))


def _train(options: argparse.Namespace) -> None:
    from hf_hardneg.training.denoiser import FIRST_PASS, Training, train_denoiser

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
        **_options(options),
    )
    _say(f"Written to {folder}: mine with --cross-encoder {folder}")


def _index(options: argparse.Namespace) -> None:
    from hf_hardneg.corpus.documents import open_corpus
    from hf_hardneg.formats.inputs import load_table
    from hf_hardneg.index.bm25.bm25_index import build_bm25
    from hf_hardneg.index.bm25.weights import BM25Config
    from hf_hardneg.retrievers.attach import index_corpus, load
    from hf_hardneg.store import directories
    from hf_hardneg.store.inventory import entry_of

    dataset = load_table(options.corpus, split=options.split)
    roles = _roles(options) or Columns()
    corpus = open_corpus(dataset, columns=roles, cache_dir=options.cache_dir)

    def obtain() -> Path:
        if options.kind == "bm25":
            return build_bm25(corpus, BM25Config())
        return index_corpus(dataset, corpus, encoder, roles.get("vector"), "cosine").directory

    encoder = load(options.encoder, corpus) if options.kind == "dense" else None
    start = time.perf_counter()
    try:
        with directories.without_building():
            directory, how = obtain(), "reused"
    except directories.NotPublished:
        directory = obtain()
        how = f"built in {duration(time.perf_counter() - start)}"
    _say(f"{options.kind} index of {len(corpus):,} documents, {how}\n{directory}")
    _say(entry_of(directory))


def _cache(options: argparse.Namespace) -> int | None:
    from hf_hardneg.store.directories import cache_root
    from hf_hardneg.store.inventory import inventory, prune

    root = cache_root(options.cache_dir)
    if options.action == "verify":
        return _verify(root)
    if options.action == "prune":
        conditions = {"older_than": options.older_than, "kinds": options.kind, "everything": options.all}
        _say(prune(root, **conditions, dry_run=options.dry_run))
        return None
    entries = inventory(root)
    for entry in entries:
        _say(entry.verbose if options.verbose else entry)
    _say(f"{data_size(sum(entry.size for entry in entries))} in {len(entries)} directories under {root}")
    return None


def _verify(root: Path) -> int:
    from hf_hardneg.store.verification import verify_cache

    verified = verify_cache(root)
    for directory in verified:
        _say(directory)
    damaged = sum(bool(directory.damage) for directory in verified)
    _say(f"{damaged} of {len(verified)} directories under {root} are damaged")
    return int(damaged > 0)


def _push(options: argparse.Namespace) -> None:
    from hf_hardneg.formats.inputs import load_saved, load_table
    from hf_hardneg.hub import push_mined_dataset

    names = ("index", "private", "revision", "create_pr", "license", "language", "pretty_name")
    done = push_mined_dataset(
        load_saved(options.mined),
        options.repo,
        configs=options.config,
        corpus=load_table(options.corpus, split=options.split) if options.corpus else None,
        commit_message=options.message,
        columns=_roles(options),
        **{name: getattr(options, name) for name in names},
    )
    _say(f"{', '.join(options.config)} of {options.repo}: {done.pr_url or done.commit_url}")


def _reproduce(options: argparse.Namespace) -> int:
    from hf_hardneg.formats.inputs import load_table
    from hf_hardneg.hub import reproduce

    tables = {name: getattr(options, name) for name in ("corpus", "pairs")}
    names = ("revision", "encoder", "cross_encoder", "num_proc", "cache_dir", "confirm_cost")
    result = reproduce(
        options.repo,
        **{name: load_table(source, split=options.split) for name, source in tables.items() if source},
        **{name: getattr(options, name) for name in names},
    )
    _say(result)
    return 0 if result.identical else 1


def _demo(options: argparse.Namespace) -> None:
    from hf_hardneg.demo import standard_library

    _check(options)
    pairs, corpus = standard_library()
    _say(f"Python {sys.version.split()[0]}: {len(pairs):,} queries over {len(corpus):,} documented objects\n")
    _run(pairs, corpus, options)
    _say(
        "\nNext, deeper negatives from the same index:\n"
        f"  hf-hardneg demo --strategy bm25+rank_zone --out {options.out}-zone\n"
        "or your own data with a model:\n"
        "  hf-hardneg mine --pairs pairs.parquet --corpus corpus.parquet --strategy positive_aware \\\n"
        "    --encoder sentence-transformers/all-MiniLM-L6-v2 --out mined-dense"
    )


def _check(options: argparse.Namespace) -> None:
    """Raise for arguments that would fail once the work is done."""
    from hf_hardneg.formats.layouts import check_layout
    from hf_hardneg.formats.outputs import check_folder
    from hf_hardneg.formats.scores import chosen_scores
    from hf_hardneg.pipeline.selection import written
    from hf_hardneg.strategies import resolve

    judge = getattr(options, "cross_encoder", None)
    recipe = resolve(options.strategy, safeguards=options.safeguards, cross_encoder=judge)
    check_layout(options.format)
    if options.format != "list":
        chosen_scores(options.scores, options.format, written(recipe.filters))
    check_folder(options.out, overwrite=options.overwrite)


def _run(pairs: Dataset, corpus: Dataset, options: argparse.Namespace, **chosen: Any) -> None:
    from hf_hardneg.corpus.queries import PairColumns
    from hf_hardneg.formats import to_format
    from hf_hardneg.formats.outputs import save
    from hf_hardneg.mining import mine
    from hf_hardneg.reports.report import report
    from hf_hardneg.strategies import resolve

    recipe = resolve(options.strategy, safeguards=options.safeguards, cross_encoder=chosen.get("cross_encoder"))
    _say(f"{options.strategy} is {recipe}\n{_ids_of(corpus, options)}\n")
    mined = mine(pairs, corpus, options.strategy, **_shared(options), **chosen)
    columns = _roles(options)
    written = to_format(mined, options.format, scores=options.scores, columns=columns)
    save(written, options.out)
    for row in mined.select(range(min(SHOWN_ROWS, len(mined)))):
        _show(row, PairColumns.of(columns))
    _say(report(mined))
    rows = sum(map(len, written.values())) if isinstance(written, dict) else len(written)
    _say(f"\nWritten to {options.out}: datasets.load_from_disk({options.out!r}) has {rows:,} rows")


def _show(row: dict[str, Any], names: PairColumns) -> None:
    positives = [row[names.positive]] if isinstance(row[names.positive], str) else row[names.positive]
    _say(f"query      {_line(row[names.query])}")
    for text, score in zip(positives, row["positive_scores"], strict=True):
        _say(f"positive   {_line(text)}  ({_score(score)})")
    for text, score in zip(row["negatives"], row["negative_scores"], strict=True):
        _say(f"negative   {_line(text)}  ({_score(score)})")
    _say()


def _score(score: float | None) -> str:
    return "no score" if score is None else f"{score:.2f}"


def _line(text: str) -> str:
    return textwrap.shorten(text, 88, placeholder=" …")


_COMMANDS: dict[str, Callable[[argparse.Namespace], int | None]] = {
    "mine": _mine,
    "audit": _audit,
    "plan": _plan,
    "train-denoiser": _train,
    "index": _index,
    "cache": _cache,
    "demo": _demo,
    "push": _push,
    "reproduce": _reproduce,
}


if __name__ == "__main__":
    sys.exit(main())
