"""Attaching indexes to the corpus dataset, so that `datasets`' own search verbs work on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hf_hardneg.corpus.batches import matrix
from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.documents import Corpus, open_corpus, rows_digest
from hf_hardneg.errors import ConfigError
from hf_hardneg.index.bm25.bm25_index import BM25Index, build_bm25
from hf_hardneg.index.bm25.weights import BM25Config
from hf_hardneg.index.dense.dense_index import DenseIndex, Similarity, build_dense, dense_parameters
from hf_hardneg.index.dense.partitioned import PartitionedDense
from hf_hardneg.index.hits import shares
from hf_hardneg.retrievers.base import Takes
from hf_hardneg.runtime.arguments import Folder, Name, checked
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.mapped_memory import release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datasets import Dataset

    from hf_hardneg.models.encoder import Encoder

ENCODE_BLOCK = 1024


@checked
def attach_bm25(
    dataset: Dataset,
    *,
    index_name: Name = "bm25",
    config: BM25Config | None = None,
    columns: Columns | None = None,
    cache_dir: Folder | None = None,
) -> Dataset:
    """The corpus with a BM25 index attached, built once and reused from the cache.

    Args:
        dataset (`Dataset`): the corpus.
        index_name (`str`, defaults to `"bm25"`): its name in `dataset.search_batch(name, texts, k)`.
        config (`BM25Config`, *optional*): weights and text analysis.
        columns (`Columns`, *optional*), cache_dir (`str`, *optional*): as for `HardNegatives`.

    Example:
        >>> corpus = attach_bm25(corpus)
        >>> scores, rows = corpus.search("bm25", "red light", k=2)
        >>> corpus[rows]["_id"]
        ['sea', 'sunset']
    """
    from hf_hardneg.retrievers.bm25_search import BM25Search

    config = config or BM25Config()
    corpus = open_corpus(dataset, columns=columns, cache_dir=cache_dir)
    index = BM25Index(directory=build_bm25(corpus, config), config=config)
    attached = dataset.with_format(**dataset.format)
    attached._indexes[index_name] = BM25Search(index)
    return attached


@checked
def attach_dense(
    dataset: Dataset,
    *,
    encoder: Any = None,
    index_name: Name = "dense",
    similarity: Literal["cosine", "dot"] = "cosine",
    columns: Columns | None = None,
    cache_dir: Folder | None = None,
) -> Dataset:
    """The corpus with a memory-mapped exact FAISS index attached, built once and reused from the cache.

    Args:
        dataset (`Dataset`): the corpus.
        encoder (`str`, `SentenceTransformer` or callable, *optional*): what encodes the texts.
        index_name (`str`, defaults to `"dense"`): its name in `dataset.search_batch(name, vectors, k)`.
        similarity (`str`, defaults to `"cosine"`): `"cosine"` or `"dot"`.
        columns (`Columns`, *optional*), cache_dir (`str`, *optional*): as for `HardNegatives`; the role `vector` names
            a column of vectors, instead of an encoder.
    """
    corpus = open_corpus(dataset, columns=columns, cache_dir=cache_dir)
    vector_column = (columns or Columns()).get("vector")
    index = index_corpus(dataset, corpus, load(encoder, corpus), vector_column, similarity)
    attached = dataset.with_format(**dataset.format)
    attached.add_faiss_index_from_external_arrays(
        np.empty((0, index.width), np.float32), index_name, custom_index=index.faiss_index()
    )
    return attached


def load(encoder: Any, corpus: Corpus, takes: Takes = "dense") -> Any:
    """The encoder behind a Hub id, path, model or callable; `None` for none.

    Args:
        encoder, corpus: the model, and the documents in whose cache a live one is saved.
        takes (`str`, defaults to `"dense"`): which vectors it is to give, see `Retriever`.
    """
    if encoder is None:
        return None
    from hf_hardneg.models.vector_models import VECTOR_MODELS

    return VECTOR_MODELS[takes].load(encoder, cache_dir=corpus.cache)


def index_corpus(
    dataset: Dataset,
    corpus: Corpus,
    encoder: Encoder | None,
    vector_column: str | None,
    similarity: Similarity,
    half_above: int | None = None,
) -> DenseIndex:
    """The exact index of a corpus' vectors, from a column or an encoder.

    Args:
        dataset, corpus: the documents, as the user has them and opened.
        encoder, vector_column: what gives vectors.
        similarity: as for `Dense`.
        half_above (`int`, *optional*): see `CorpusVectors`.

    Raises:
        ConfigError: neither an encoder nor a column of vectors is given, or both.
        ColumnError: the column is missing.
    """
    if vector_column is not None:
        if vector_column not in dataset.column_names:
            raise missing_column(vector_column, dataset.column_names, "corpus", "vector")
        blocks, digest = _column(dataset, vector_column), rows_digest(dataset, [vector_column])
        return build_dense(
            corpus, blocks, vectors_digest=digest, similarity=similarity, vectors_from=f"column {vector_column}"
        )
    if encoder is None:
        raise missing_vectors("A dense strategy")
    from hf_hardneg.models.embeddings import CorpusVectors
    from hf_hardneg.models.model_names import model_name

    name, digest = model_name(encoder).name, encoder.digest
    with CorpusVectors(corpus, encoder, half_above) as vectors:
        return build_dense(corpus, vectors, vectors_digest=digest, similarity=similarity, vectors_from=name)


def index_parts_of(
    dataset: Dataset,
    corpus: Corpus,
    encoder: Encoder | None,
    vector_column: str | None,
    similarity: Similarity,
    *,
    of: int,
) -> PartitionedDense:
    """The exact index of a corpus' vectors in so many parts of consecutive documents; see `index_corpus`.

    What one index rounds, as the vectors of an encoder from a size on, is rounded in parts too.
    """
    from hf_hardneg.models.embeddings import HALF_ABOVE

    rows = shares(len(corpus), min(of, len(corpus)))
    indexes = [
        index_corpus(
            dataset.select(part),
            corpus.part(part),
            encoder,
            vector_column,
            similarity,
            HALF_ABOVE * len(part) // len(corpus),
        )
        for part in rows
    ]
    digest = rows_digest(dataset, [vector_column]) if vector_column is not None else getattr(encoder, "digest", "")
    parameters = dense_parameters(corpus, digest, similarity)
    return PartitionedDense(
        directory=indexes[0].directory,
        similarity=similarity,
        index_parts=tuple(indexes),
        bounds=(*(part.start for part in rows), len(corpus)),
        called=directories.place(corpus.cache, kinds.DENSE, parameters).name,
    )


def missing_vectors(what: str) -> ConfigError:
    """The error for what needs vectors where nothing gives any."""
    return ConfigError(
        f"{what} needs vectors and got none. Pass encoder= (Hub id, path, SentenceTransformer, callable), or "
        "columns={'vector': ..., 'query_vector': ...}."
    )


def _column(dataset: Dataset, name: str) -> Iterator[np.ndarray]:
    for table in dataset.with_format("arrow", columns=[name]).iter(ENCODE_BLOCK):
        yield matrix(table[name])
        release(table.columns)
