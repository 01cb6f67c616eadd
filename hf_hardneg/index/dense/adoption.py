"""Taking a user's own FAISS index apart, once, into what `index/dense/adopted.py` opens.

Transforms before the index (L2norm, PCA, OPQ) are kept to be applied to queries; its labels become rows of the corpus;
what is left, the core, keeps the search settings the user gave it. A flat core is copied in the order of the corpus and
searched exactly, as an index of ours.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.corpus.documents import Corpus
from hf_hardneg.errors import ConfigError, DataError, warn
from hf_hardneg.index.dense import dense_index
from hf_hardneg.index.dense.adopted import BLOCK, FACTS, LABELS, AdoptedIndex, Core, measure, transform_file
from hf_hardneg.index.dense.approximate import Measured
from hf_hardneg.index.dense.dense_index import FILE, DenseIndex, Similarity, load_faiss, mapped_file, write_index
from hf_hardneg.store import directories, kinds
from hf_hardneg.store.disk import save_array, written

LAYOUT = 3
UNIT = 1e-3
"""How far lengths may be from 1 for inner products to count as cosines."""
FEW = 0.9
INTEGER = r"^(0|-?[1-9]\d{0,17})$"
GIVE = (
    "Give an index of vectors over inner product or L2 that keeps or reconstructs them, such as 'Flat', 'HNSW32', "
    "'IVF100,Flat' or 'SQ8' (docs/own_index.md lists them), or drop index= and pass encoder= or "
    "columns={'vector': ...}."
)


def adopt_faiss(corpus: Corpus, index: Any, *, similarity: Similarity | None = None) -> DenseIndex:
    """A user's own FAISS index, copied once into the cache so that workers can map it.

    Args:
        corpus (`Corpus`): the documents.
        index (`faiss.Index` or `str`): the index, or the path of a saved one. Its labels are row numbers of the corpus
            in any order, or integers that are the corpus' ids.
        similarity (`str`, *optional*): `"cosine"` or `"dot"` for an inner product index; by default cosine where all
            its vectors have unit length. An L2 index is recognised by itself.

    Raises:
        StoreError: the file cannot be read.
        ConfigError: an index of that type, metric or similarity cannot be used.
        DataError: its labels are not the corpus' documents, or it holds NaN or infinite values.
    """
    faiss = load_faiss("a FAISS index")
    if isinstance(index, (str, Path)):
        _refuse_binary(Path(index))
        digest, index = directories.file_digest(Path(index)), mapped_file(Path(index))
    elif isinstance(index, faiss.Index):
        digest = directories.bytes_digest(_serialized(index))
    else:
        raise _refused(type(index).__name__, "it is no faiss.Index")
    parameters = {"corpus": corpus.digest, "index": digest, "similarity": similarity, "layout": LAYOUT}
    directory = directories.obtain(
        corpus.cache, kinds.FAISS, parameters, lambda folder: _adopt(corpus, index, similarity, folder), corpus.about
    )
    facts = directories.read_object(directory, FACTS)
    for note in facts["notes"]:
        warn(note)
    return AdoptedIndex(directory=directory, similarity=facts["similarity"])


def _refuse_binary(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(2) == b"IB":
            raise _refused(str(path), "it is a binary index, of bits")


def _serialized(index: Any) -> Any:
    try:
        return load_faiss("a FAISS index").serialize_index(index)
    except RuntimeError as error:
        raise _refused(type(index).__name__, f"FAISS cannot save it: {str(error).rpartition(': ')[2]}") from error


def _refused(what: str, why: str) -> ConfigError:
    return ConfigError(f"index= got {what}, which cannot be used: {why}. {GIVE}")


@dataclass(frozen=True)
class IndexParts:
    """A FAISS index taken apart.

    Args:
        owner (`Any`): the index itself, which keeps the parts alive.
        core (`Any`): what holds the vectors.
        transforms (`tuple`): what the vectors went through before, in order.
        labels (`np.ndarray`): (n,) int64, what the core calls its vectors.
        shown (`np.ndarray`): (n,) int64, what the index calls them.
        named (`bool`): whether the user chose those names.
    """

    owner: Any
    core: Any
    transforms: tuple[Any, ...]
    labels: np.ndarray
    shown: np.ndarray
    named: bool

    @classmethod
    def of(cls, index: Any) -> IndexParts:
        """The parts of an index.

        Raises:
            ConfigError: it cannot give back what it holds.
        """
        faiss = load_faiss("a FAISS index")
        core, transforms, names = faiss.downcast_index(index), list[Any](), None
        while True:
            if isinstance(core, faiss.IndexPreTransform):
                chain = (core.chain.at(place) for place in range(core.chain.size()))
                transforms += map(faiss.downcast_VectorTransform, chain)
            elif isinstance(core, faiss.IndexIDMap):
                inner = faiss.vector_to_array(core.id_map)
                names = inner if names is None else names[inner]
            else:
                break
            core = faiss.downcast_index(core.index)
        _check_core(core)
        labels = _list_labels(core) if isinstance(core, faiss.IndexIVF) else np.arange(core.ntotal)
        if names is not None and len(labels) and not 0 <= labels.min() <= labels.max() < len(names):
            raise _refused(type(index).__name__, "its table of ids and its vectors do not belong together")
        shown = labels if names is None else names[labels]
        return cls(index, core, tuple(transforms), labels, shown, names is not None)


def _check_core(core: Any) -> None:
    """Raise for what does not give its vectors back, without asking those for them that would end the process."""
    faiss = load_faiss("a FAISS index")
    name = type(core).__name__
    if core.metric_type not in (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2):
        known = {value: metric for metric, value in vars(faiss).items() if metric.startswith("METRIC_")}
        metric = known.get(core.metric_type, core.metric_type)
        raise _refused(name, f"its metric is {metric}, and scores are inner products or L2 distances")
    if isinstance(core, faiss.IndexLSH):
        raise _refused(name, "LSH keeps signs alone, so its distances are no scores of the vectors")
    if isinstance(core, faiss.Index2Layer):
        raise _refused(name, "FAISS does not search it by itself")
    if isinstance(core, faiss.IndexIVFFastScan):
        raise _refused(name, "FAISS cannot reconstruct vectors of an IVF index of the 'fs' kind; without 'fs' it can")
    if isinstance(core, faiss.IndexIVF):
        lists = faiss.downcast_InvertedLists(core.invlists)
        if isinstance(lists, getattr(faiss, "OnDiskInvertedLists", ())):
            raise _refused(name, "its lists lie in another file; read it without IO_FLAG_MMAP, or merge its lists")


def _check_gives_back(core: Any, label: int) -> None:
    """Raise for an index that does not give back the vector of a label."""
    try:
        core.reconstruct(label)
    except RuntimeError as error:
        why = str(error).rpartition(": ")[2]
        raise _refused(type(core).__name__, f"FAISS cannot reconstruct its vectors: {why}") from error


def _list_labels(core: Any) -> np.ndarray:
    """The ids in the lists of an IVF index, (n,) int64, ascending."""
    faiss = load_faiss("a FAISS index")
    lists, parts = core.invlists, [np.zeros(0, np.int64)]
    for number in range(core.nlist):
        size = lists.list_size(number)
        if size:
            ids = lists.get_ids(number)
            parts.append(faiss.rev_swig_ptr(ids, size).astype(np.int64))
            lists.release_ids(number, ids)
    return np.sort(np.concatenate(parts))


def _rows(corpus: Corpus, parts: IndexParts) -> tuple[np.ndarray, str | None]:
    """The corpus row of each vector, (n,) int64, and what should be said of it.

    Raises:
        DataError: vectors and documents are not one to one.
    """
    shown, documents = parts.shown, len(corpus)
    ordered = np.sort(shown)
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeated):
        raise DataError(
            f"The index holds label {repeated[0]} more than once. Build it with one vector for each document."
        )
    missing = ", ".join(map(str, np.setdiff1d(np.arange(documents), ordered)[:3]))
    fewer = len(shown) < documents
    dense_index.check_length(len(shown), documents, f" (it has none for rows {missing}, ...)" if fewer else "")
    ids = _integer_ids(corpus)
    are_rows = np.array_equal(ordered, np.arange(documents))
    if ids is not None and np.array_equal(np.sort(ids), ordered):
        order = np.argsort(ids)
        by_id = order[np.searchsorted(ids[order], shown)]
        if not are_rows or np.array_equal(by_id, shown):
            return by_id, None
        rows, read, instead = (by_id, "ids", "row numbers") if parts.named else (shown, "row numbers", "ids")
        return rows, (
            f"The labels of your index may be row numbers or ids of the corpus, which are the same numbers in another "
            f"order; they are read as {read}. If they are {instead}, build it with the rows or ids of this corpus."
        )
    if are_rows:
        return shown, None
    known = np.arange(documents) if ids is None else np.sort(ids)
    foreign = ", ".join(str(label) for label in ordered[~np.isin(ordered, known)][:3])
    raise DataError(
        f"The index has labels that are no documents of the corpus, such as {foreign}; labels must be the row numbers "
        f"0 to {documents - 1:,} in any order, or integers that are its ids. Build it with those, or name the column "
        "of its labels with columns={'id': ...}."
    )


def _integer_ids(corpus: Corpus) -> np.ndarray | None:
    """The corpus' ids as integers, (n,) int64, or `None` where not all are."""
    if corpus.id_column is None:
        return None
    parts = []
    for start in range(0, len(corpus), BLOCK):
        ids = corpus.ids(np.arange(start, min(start + BLOCK, len(corpus)))).cast(pa.string())
        if not pc.all(pc.match_substring_regex(ids, INTEGER)).as_py():
            return None
        parts.append(ids.cast(pa.int64()).to_numpy(zero_copy_only=False))
    return np.concatenate(parts)


def _adopt(corpus: Corpus, index: Any, similarity: Similarity | None, directory: Path) -> None:
    """Write the parts of an index, and what is known of it, into a directory."""
    parts = IndexParts.of(index)
    rows, note = _rows(corpus, parts)
    labels = np.empty_like(parts.labels)
    labels[rows] = parts.labels
    path = directory / FILE
    write_index(parts.core, path)
    core = Core.of(_with_direct_map(path, labels), labels)
    _check_gives_back(core.index, int(labels[0]))
    resolved, measured = _similarity_of(core, similarity), None
    if _is_flat(core):
        blocks = map(dense_index.normalized, core.blocks()) if similarity == "cosine" else core.blocks()
        with written(path) as partial:
            dense_index.write_flat(partial, blocks, resolved)
        dense_index.save_flat_codes(directory)
    else:
        measured = measure(core, resolved)
        save_array(directory / LABELS, labels)
    for number, transform in enumerate(parts.transforms):
        write_index(transform, transform_file(directory, number))
    facts = {
        "similarity": resolved,
        "transforms": len(parts.transforms),
        "settings": core.settings,
        "measured": measured and asdict(measured),
        "notes": [line for line in (note, _few(measured, core.settings)) if line],
    }
    (directory / FACTS).write_text(json.dumps(facts, indent=1))


def _few(measured: Measured | None, settings: str) -> str | None:
    if measured is None or measured.recall >= FEW:
        return None
    return (
        f"Your index ({settings}) finds {measured.recall:.0%} of the {measured.depth} documents nearest to a document; "
        "the others cannot come out. Raise its nprobe or efSearch before you pass it, or give a flat one."
    )


def _is_flat(core: Core) -> bool:
    """Whether a core is a plain list of vectors."""
    faiss = load_faiss("a FAISS index")
    return type(core.index) in (faiss.IndexFlat, faiss.IndexFlatIP, faiss.IndexFlatL2)


def _with_direct_map(path: Path, labels: np.ndarray) -> Any:
    """The core in a file, mapped; an IVF index that cannot tell where a vector is gets a table of it first."""
    faiss = load_faiss("a FAISS index")
    core = mapped_file(path)
    if not isinstance(core, faiss.IndexIVF) or core.direct_map.type != faiss.DirectMap.NoMap:
        return core
    in_order = np.array_equal(np.sort(labels), np.arange(len(labels)))
    core.set_direct_map_type(faiss.DirectMap.Array if in_order else faiss.DirectMap.Hashtable)
    with written(path) as partial:
        write_index(core, partial)
    return mapped_file(path)


def _similarity_of(core: Core, asked: Similarity | None) -> Similarity:
    """Tells what scores are; reads every vector once.

    Raises:
        ConfigError: another similarity was asked for than the index can give.
        DataError: vectors are not finite.
    """
    faiss = load_faiss("a FAISS index")
    metric: Similarity = "l2" if core.index.metric_type == faiss.METRIC_L2 else "dot"
    if asked is not None and (asked == "l2") != (metric == "l2"):
        raise ConfigError(f"similarity={asked!r} was given, but the index was built for {metric!r}. Drop similarity=.")
    lengths = np.concatenate([np.linalg.norm(block, axis=1) for block in core.blocks()])
    away = np.abs(lengths - 1) > UNIT
    if metric == "l2" or asked == "dot":
        return metric
    if asked is None:
        return "dot" if away[lengths > 0].any() or not lengths.any() else "cosine"
    if not _is_flat(core) and away[lengths > 0].any():
        row = int(np.flatnonzero(away & (lengths > 0))[0])
        raise ConfigError(
            f"similarity='cosine' needs vectors of unit length, and your index gives back one of length "
            f"{lengths[row]:.3g} for row {row}. Build it over normalised vectors, as 'L2norm,...' does, without "
            "compression that shortens them, or drop similarity= for inner products."
        )
    return "cosine"
