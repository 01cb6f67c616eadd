"""`index` and `cache`: what is built beforehand, and what lies in the cache."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from hf_hardneg.cli.commands import command, words_of_shards
from hf_hardneg.cli.named_sources import corpus_of
from hf_hardneg.cli.option_groups import CorpusSource, Placed
from hf_hardneg.cli.terminal import answer, plain_of
from hf_hardneg.errors import ConfigError

if TYPE_CHECKING:
    from hf_hardneg.store.inventory import Entry


@dataclass(frozen=True, kw_only=True)
class IndexKind:
    """The kind of an index."""

    kind: Annotated[Literal["bm25", "dense"], Option(help="what searches it")] = "bm25"


@dataclass(frozen=True, kw_only=True)
class IndexShards:
    """Which share of the work is done, or whose shares are joined."""

    shard: Annotated[
        str | None,
        Option(metavar="K/N", help="count terms or encode texts of the K-th of N shares alone, as a part in --out"),
    ] = None
    out: Annotated[str, Option(help="folder of the parts of --shard")] = ""
    overwrite: Annotated[bool, Option("--overwrite", help="replace the part of another job")] = False
    parts: Annotated[list[str] | None, Option(help="folders of parts: build the index from what shards computed")] = (
        None
    )

    def check(self, documents: CorpusSource, wanted: IndexKind) -> None:
        """Raise for options that do not go together.

        Raises:
            ConfigError: naming them.
        """
        if self.shard is not None and self.parts:
            raise ConfigError(
                "--shard and --parts were both given; a shard computes a part, and --parts joins them. Give one."
            )
        if (self.shard is not None) != bool(self.out):
            raise ConfigError("--out is the folder for the part of a --shard, and one of both is missing. Give both.")
        encodes = documents.encoder is not None and "vector" not in (documents.roles or ())
        if (self.shard is not None or self.parts) and wanted.kind == "dense" and not encodes:
            raise ConfigError(
                "Shards of a dense index encode texts, and vectors of a column need no encoding. Give --encoder and no "
                "--columns vector=, or build the index in one process."
            )


@command("index")
def index(documents: CorpusSource, wanted: IndexKind, sharing: IndexShards) -> None:
    """Build the index of a corpus.

    Where it is built already, say where it lies. Several machines may share the work: each computes a part with
    --shard, and --parts builds the index from all.
    """
    sharing.check(documents, wanted)
    if sharing.shard is not None:
        _index_part(documents, wanted, sharing)
        return
    from hf_hardneg.corpus.documents import open_corpus
    from hf_hardneg.index.bm25.bm25_index import build_bm25
    from hf_hardneg.index.bm25.weights import BM25Config
    from hf_hardneg.retrievers.attach import index_corpus, load
    from hf_hardneg.runtime.units import duration
    from hf_hardneg.store import directories
    from hf_hardneg.store.inventory import entry_of

    loaded = corpus_of(documents)
    dataset, roles = loaded.rows, loaded.columns
    corpus = open_corpus(dataset, columns=roles, cache_dir=documents.cache_dir)

    def obtain() -> Path:
        if sharing.parts:
            from hf_hardneg.engines.index_parts import IndexJob

            return IndexJob(dataset=dataset, corpus=corpus, encoder=encoder).joined(list(map(Path, sharing.parts)))
        if wanted.kind == "bm25":
            return build_bm25(corpus, BM25Config())
        return index_corpus(dataset, corpus, encoder, roles.get("vector"), "cosine").directory

    encoder = load(documents.encoder, corpus) if wanted.kind == "dense" else None
    start, reused = time.perf_counter(), True
    try:
        with directories.without_building():
            directory, how = obtain(), "reused"
    except directories.NotPublished:
        directory, reused = obtain(), False
        how = f"built in {duration(time.perf_counter() - start)}"
    said = f"{wanted.kind} index of {len(corpus):,} documents, {how}\n{directory}\n{entry_of(directory)}"
    value = {"kind": wanted.kind, "documents": len(corpus), "directory": directory, "reused": reused}
    answer(value, said)


def _index_part(documents: CorpusSource, wanted: IndexKind, sharing: IndexShards) -> None:
    from hf_hardneg.corpus.documents import open_corpus
    from hf_hardneg.engines.index_parts import IndexJob
    from hf_hardneg.engines.parts import IN_PLACE, Shard, noted
    from hf_hardneg.retrievers.attach import load

    folder, shard, again = Path(sharing.out).absolute(), Shard.of_words(sharing.shard), words_of_shards(IN_PLACE)
    with noted(folder, shard, again):
        loaded = corpus_of(documents)
        corpus = open_corpus(loaded.rows, columns=loaded.columns, cache_dir=documents.cache_dir)
        encoder = load(documents.encoder, corpus) if wanted.kind == "dense" else None
        job = IndexJob(dataset=loaded.rows, corpus=corpus, encoder=encoder)
        directory = job.part(folder, shard, again, overwrite=sharing.overwrite)
    said = f"Shard {shard} of the {wanted.kind} index is in {directory}; the same command with --parts {sharing.out} "
    answer({"shard": str(shard), "part": directory}, f"{said}in the place of --shard and --out joins all.")


@dataclass(frozen=True, kw_only=True)
class Listed(Placed):
    """What is listed."""

    verbose: Annotated[bool, Option("--verbose", help="with names of directories and what they depend on")] = False


@command("cache ls", kept="Nothing was changed.")
def list_cache(listed: Listed) -> None:
    """List every index and table.

    The one used longest ago comes first.
    """
    from hf_hardneg.runtime.units import data_size
    from hf_hardneg.store.directories import cache_root
    from hf_hardneg.store.inventory import inventory

    root = cache_root(listed.cache_dir)
    entries = inventory(root)
    lines = [entry.verbose if listed.verbose else str(entry) for entry in entries]
    total = f"{data_size(sum(entry.size for entry in entries))} in {len(entries)} directories under {root}"
    answer({"root": root, "entries": entries}, "\n".join([*lines, total]))


@dataclass(frozen=True, kw_only=True)
class Pruning(Placed):
    """What is removed."""

    older_than: Annotated[float | None, Option(metavar="DAYS", help="not used for so many days")] = None
    kind: Annotated[list[str] | None, Option(metavar="KIND ...", help="such as bm25, dense or vectors")] = None
    all: Annotated[bool, Option("--all", help="everything")] = False
    dry_run: Annotated[bool, Option("--dry-run", help="only say what would go")] = False


@command("cache prune", kept="What was removed is gone; the same command goes on.")
def prune_cache(pruning: Pruning) -> None:
    """Remove what dead builds left, and what you name."""
    from hf_hardneg.store.directories import cache_root
    from hf_hardneg.store.inventory import prune

    conditions: Any = {"older_than": pruning.older_than, "kinds": pruning.kind or (), "everything": pruning.all}
    pruned = prune(cache_root(pruning.cache_dir), **conditions, dry_run=pruning.dry_run)
    answer(pruned, pruned)


@command("cache verify", kept="Nothing was changed.")
def verify_cache(cached: Placed) -> int:
    """Read everything, and compare checksums.

    The exit status is 1 where something is damaged.
    """
    from hf_hardneg.store.directories import cache_root
    from hf_hardneg.store.verification import verify_cache

    root = cache_root(cached.cache_dir)
    verified = verify_cache(root)
    damaged = sum(bool(directory.damage) for directory in verified)
    total = f"{damaged} of {len(verified)} directories under {root} are damaged"
    value = {"root": root, "directories": [_verified(each.entry, each.damage) for each in verified]}
    answer(value, "\n".join([*map(str, verified), total]))
    return int(damaged > 0)


def _verified(entry: Entry, damage: str) -> dict[str, Any]:
    return {**plain_of(entry), "damage": damage}
