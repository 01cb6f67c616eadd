"""Indexes whose costly half is computed in shards: BM25 counts terms, a dense index encodes texts. The rest joins them.

What a shard computes are the files that a build leaves when it is stopped, so a build goes on from the files of all
shards, and the index is the one of a single build, to the byte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.engines.parts import Shard, collected, differing, publish
from hf_hardneg.errors import ConfigError, DataError
from hf_hardneg.identity import UNIDENTIFIED
from hf_hardneg.index.bm25 import counting
from hf_hardneg.index.bm25.bm25_index import LAYOUT, build_bm25
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.models.embeddings import CorpusVectors
from hf_hardneg.retrievers.attach import index_corpus
from hf_hardneg.store.named_files import shards, take_over
from hf_hardneg.text.analysis import tokenizer_digest

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.models.encoder import Encoder


@dataclass(frozen=True, kw_only=True)
class IndexJob:
    """An index that shards compute together: of BM25 where there is no encoder.

    Args:
        dataset (`Dataset`), corpus (`Corpus`): the documents, as the user has them and opened.
        encoder (`Encoder`, *optional*): makes the vectors of a dense index.
    """

    dataset: Dataset
    corpus: Corpus
    encoder: Encoder | None = None

    @property
    def made_from(self) -> dict[str, Any]:
        """What parts depend on, under words for people.

        Raises:
            ConfigError: nothing identifies the encoder.
        """
        if self.encoder is None:
            sizes = [LAYOUT, counting.PARTS, counting.FEWEST, counting.MOST]
            terms = {"tokenizer": tokenizer_digest(BM25Config().tokenizer), "sizes": sizes}
            return {"corpus": self.corpus.digest, "index": {"kind": "bm25", **terms}}
        if self.encoder.digest.startswith(UNIDENTIFIED):
            raise ConfigError(
                "The encoder cannot be identified, and shards are told to be of one index by identities. Give it an "
                "attribute `digest`, the same string in all shards, or encode in one process."
            )
        content = CorpusVectors(self.corpus, self.encoder).content
        sources = {"corpus": content.pop("texts"), "encoder": content.pop("encoder")}
        return {**sources, "index": {"kind": "dense", **content}}

    def part(self, folder: Path, shard: Shard, again: Sequence[str], *, overwrite: bool) -> Path:
        """Compute the part of a shard; arguments are as for `parts.publish`.

        Raises:
            HardNegError: see `parts.publish`, and building an index.
        """

        def build(directory: Path) -> Mapping[str, Any]:
            if self.encoder is None:
                counting.count_share(directory, self.corpus, BM25Config().tokenizer, shard.share)
            else:
                take_over(directory, CorpusVectors(self.corpus, self.encoder).encode_share(shard.share))
            return {}

        return publish(folder, shard, lambda: self.made_from, build, again, overwrite=overwrite)

    def joined(self, folders: Sequence[Path]) -> Path:
        """Build the index from the parts of all shards, and return its directory.

        Raises:
            DataError: see `parts.collected`; or the parts are of another corpus or encoder.
        """
        parts = collected(folders)
        made_from = json.loads(json.dumps(self.made_from))
        if others := differing(parts[0].made_from, made_from):
            raise DataError(
                f"The parts in {', '.join(map(str, folders))} are of another {' and '.join(others)} than what was "
                "named. Name the corpus, the kind and the encoder that the shards were given, or other parts."
            )
        paths = [path for part in parts for path in shards(part.directory)]
        if self.encoder is None:
            return build_bm25(self.corpus, BM25Config(), paths)
        CorpusVectors(self.corpus, self.encoder).take_over(paths)
        return index_corpus(self.dataset, self.corpus, self.encoder, None, "cosine").directory
