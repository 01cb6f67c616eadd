"""Every kind of directory that is cached: what it holds, what it depends on, and which changes have it built again.

The store takes no other kind, a refresh keeps what does not depend on the encoder here, and the page
`docs/what_is_cached_when.md` is written from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from hf_hardneg.errors import unknown_name

CHANGES = {
    "threshold": "a margin, or another threshold of a filter that asks for no more candidates",
    "sampler": "the sampler, `seed`, `on_shortage`",
    "num_negatives": "`num_negatives`, as long as the strategy searches that deep anyway",
    "threshold_judged": "a margin or another threshold, where a cross-encoder judges",
    "num_negatives_judged": "`num_negatives`, where a cross-encoder judges until there are enough",
    "depth": "how deep is searched, such as `BM25(50)` for `BM25(20)` or `RankWindow(last=40)` for 20",
    "bm25": "a setting of BM25, such as `k1` or the tokenizer",
    "encoder": "the encoder: another model, other weights, another prompt or maximal length",
    "cross_encoder": "the cross-encoder that judges",
    "dedupe": "`dedupe`",
    "text": "the text of one document",
    "document": "one document more",
    "id": "the id of one document, and no text",
    "query": "one row of the pairs: another query, a row more",
    "column": "a column of the pairs that mining does not read",
    "processes": "`num_proc`, `batch_size`",
    "generator": "the generator of negatives, or a setting of it",
}
"""What a user may change, in words."""

CORPUS_CHANGES = ("text", "document", "id")
CHOICE_CHANGES = ("threshold", "sampler", "num_negatives")
JUDGED_CHANGES = ("threshold_judged", "num_negatives_judged")
SEARCH_CHANGES = (*CORPUS_CHANGES, "dedupe", "query", "bm25", "encoder", "depth")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of cached directory; `str()` is its name.

    Args:
        name (`str`): the first part of the directory's name, letters and digits.
        holds (`str`): what it holds, in words.
        depends_on (`str`): what it depends on, in words.
        renewed_by (`tuple[str, ...]`): the `CHANGES` after which another directory of this kind is built.
        extended_by (`tuple[str, ...]`): the `CHANGES` after which only what is missing is added to the same directory.
        sharded (`bool`, defaults to `False`): whether its files name their digests, and its manifest lists none.
    """

    name: str
    holds: str
    depends_on: str
    renewed_by: tuple[str, ...]
    extended_by: tuple[str, ...] = ()
    sharded: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def lasts(self) -> bool:
        """Return whether a refresh keeps it, since it does not depend on the weights that are trained."""
        return "encoder" not in self.renewed_by


CORPUS = Kind(
    name="corpus",
    holds="ids and texts of a corpus that was in memory, or a selection; the rows of a stream, a database or a "
    "document store",
    depends_on="ids and texts of the documents; the rows",
    renewed_by=CORPUS_CHANGES,
)
KEYS = Kind(
    name="keys",
    holds="keys of the texts and ids of a corpus, by which duplicates and known positives are found",
    depends_on="ids and texts of the documents, `dedupe`",
    renewed_by=(*CORPUS_CHANGES, "dedupe"),
)
POSITIVES = Kind(
    name="positives",
    holds="all known positives of every query",
    depends_on="queries and positives of all pairs, the corpus, `dedupe`, `symmetric`",
    renewed_by=(*CORPUS_CHANGES, "dedupe", "query"),
)
PARENTS = Kind(
    name="parents",
    holds="which documents are parts of one larger document",
    depends_on="the column of the corpus that names it",
    renewed_by=("document",),
)
BM25 = Kind(
    name="bm25",
    holds="the BM25 index of a corpus",
    depends_on="ids and texts of the documents, `k1`, `b`, variant, tokenizer",
    renewed_by=(*CORPUS_CHANGES, "bm25"),
)
BM25_PARTS = Kind(
    name="bm25parts",
    holds="the BM25 index of a corpus in parts, which are searched one after the other",
    depends_on="ids and texts of the documents, `k1`, `b`, variant, tokenizer, how many parts",
    renewed_by=(*CORPUS_CHANGES, "bm25"),
)
VECTORS = Kind(
    name="vectors",
    holds="vectors of the distinct texts of a corpus, in shards that survive a kill",
    depends_on="texts of the documents, the encoder",
    renewed_by=("text", "document", "encoder"),
    sharded=True,
)
DENSE = Kind(
    name="dense",
    holds="the exact dense index of a corpus",
    depends_on="ids and texts of the documents, their vectors, the similarity",
    renewed_by=(*CORPUS_CHANGES, "encoder"),
)
SPARSE_VECTORS = Kind(
    name="sparsevectors",
    holds="sparse vectors of the distinct texts of a corpus, in shards that survive a kill",
    depends_on="texts of the documents, the sparse encoder",
    renewed_by=("text", "document", "encoder"),
    sharded=True,
)
SPARSE = Kind(
    name="sparse",
    holds="the index of the sparse vectors of a corpus",
    depends_on="ids and texts of the documents, their sparse vectors",
    renewed_by=(*CORPUS_CHANGES, "encoder"),
)
TOKEN_VECTORS = Kind(
    name="tokenvectors",
    holds="token vectors of the distinct texts of a corpus, in shards that survive a kill",
    depends_on="texts of the documents, the late-interaction model, `pool_factor`",
    renewed_by=("text", "document", "encoder"),
    sharded=True,
)
TOKENS = Kind(
    name="tokens",
    holds="the index of the token vectors of a corpus",
    depends_on="ids and texts of the documents, their token vectors",
    renewed_by=(*CORPUS_CHANGES, "encoder"),
)
APPROXIMATE = Kind(
    name="approximate",
    holds="an approximate index over an exact one",
    depends_on="the exact index, `factory`",
    renewed_by=(*CORPUS_CHANGES, "encoder"),
)
RECALL = Kind(
    name="recall",
    holds="how much effort an approximate index needs for the recall that was asked for",
    depends_on="the approximate index or the state of a document store, `recall`, the sample of queries",
    renewed_by=(*CORPUS_CHANGES, "encoder"),
)
FAISS = Kind(
    name="faiss",
    holds="a FAISS index of your own, taken apart to be mapped",
    depends_on="the index, ids and texts of the documents",
    renewed_by=CORPUS_CHANGES,
)
TOPICS = Kind(
    name="topics",
    holds="topics of queries, and the nearest one of each document",
    depends_on="the dense index, a sample of the queries by their text keys, how many topics",
    renewed_by=(*CORPUS_CHANGES, "dedupe", "encoder", "query"),
)
UNCERTAINTY = Kind(
    name="uncertainty",
    holds="how unclear it is which query a document belongs to",
    depends_on="the dense index, a sample of the queries by their text keys, the temperature",
    renewed_by=(*CORPUS_CHANGES, "dedupe", "encoder", "query"),
)
SCORES = Kind(
    name="scores",
    holds="scores of (query, document) pairs by a cross-encoder, each pair scored once",
    depends_on="the cross-encoder; pairs are found by both texts",
    renewed_by=("cross_encoder",),
    extended_by=("text", "document", "dedupe", "query", "bm25", "encoder", *JUDGED_CHANGES),
    sharded=True,
)
CANDIDATES = Kind(
    name="candidates",
    holds="the candidates of every row of the pairs",
    depends_on="what mining reads of the pairs, the indexes searched, known positives, how deep is searched",
    renewed_by=SEARCH_CHANGES,
)
SIGNALS = Kind(
    name="signals",
    holds="what filters and samplers know of the candidates besides their scores",
    depends_on="the candidates, the signals; with a cross-encoder also that, the filters, and `num_negatives` where it "
    "stops early",
    renewed_by=(*SEARCH_CHANGES, "cross_encoder", *JUDGED_CHANGES),
)
NEGATIVES = Kind(
    name="negatives",
    holds="the negatives of every row of the pairs",
    depends_on="the candidates, their signals, filters, sampler, `num_negatives`, `seed`, `on_shortage`",
    renewed_by=(*SEARCH_CHANGES, "cross_encoder", *JUDGED_CHANGES, *CHOICE_CHANGES),
)
ENCODER = Kind(
    name="encoder",
    holds="an encoder that was given as an object, saved for other processes",
    depends_on="its weights and settings",
    renewed_by=("encoder",),
)
CROSS_ENCODER = Kind(
    name="crossencoder",
    holds="a cross-encoder that was given as an object, saved for other processes",
    depends_on="its weights and settings",
    renewed_by=("cross_encoder",),
)
ROWS = Kind(
    name="rows",
    holds="keys of the rows of the pairs, by which training finds the negatives of a row",
    depends_on="what mining reads of the pairs",
    renewed_by=("query",),
)
GENERATION = Kind(
    name="generation",
    holds="the negatives of every row, mined with the weights after one step of training",
    depends_on="weights, corpus, pairs, strategy and options; lies in the `directory=` of its `Refresher`",
    renewed_by=(*CORPUS_CHANGES, "query", "encoder", "dedupe", "depth", *CHOICE_CHANGES),
)
REPLIES = Kind(
    name="replies",
    holds="replies of a generator of negatives, each asked for once",
    depends_on="the generator and its settings; replies are found by what was asked",
    renewed_by=("generator",),
    extended_by=("query",),
)
POSITIVE_TEXTS = Kind(
    name="positivetexts",
    holds="keys of all positive texts, which no generated negative may repeat",
    depends_on="the positives of all pairs",
    renewed_by=("query",),
)
TRIAL = Kind(
    name="trial",
    holds="nDCG@10 of held-out queries after training with the negatives of a strategy, in a comparison of several",
    depends_on="all that the negatives depend on, the queries and documents that are ranked, the model, how is trained",
    renewed_by=(*SEARCH_CHANGES, "cross_encoder", *JUDGED_CHANGES, *CHOICE_CHANGES),
)
PART = Kind(
    name="shard",
    holds="the rows that one shard of a job mined, or what one shard computed of an index",
    depends_on="all that the job depends on, every column of the pairs; lies where the shards were told to put parts",
    renewed_by=(*SEARCH_CHANGES, "cross_encoder", *JUDGED_CHANGES, *CHOICE_CHANGES, "column"),
)

KINDS = {
    kind.name: kind
    for kind in (
        *(CORPUS, KEYS, POSITIVES, PARENTS),
        *(BM25, BM25_PARTS, VECTORS, DENSE, SPARSE_VECTORS, SPARSE, TOKEN_VECTORS, TOKENS, APPROXIMATE, RECALL, FAISS),
        *(TOPICS, UNCERTAINTY, SCORES),
        *(CANDIDATES, SIGNALS, NEGATIVES),
        *(ENCODER, CROSS_ENCODER, ROWS, GENERATION),
        *(REPLIES, POSITIVE_TEXTS),
        *(TRIAL, PART),
    )
}
"""By name."""


def check_kind(kind: Kind) -> None:
    """Raise for a kind that is not in the table.

    Raises:
        UnknownNameError: there is no such kind.
    """
    if not isinstance(kind, Kind) or KINDS.get(kind.name) != kind:
        raise unknown_name("kind of cached directory", str(kind), KINDS)
