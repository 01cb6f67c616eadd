"""Whether positives and negatives read alike. Where they do not, a model learns the difference in place of relevance.

Before mining, a sample of the pairs is compared with the documents that negatives will be; after it, what came out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.corpus.documents import BATCH, TEXT, TITLE, Corpus, joined, text_columns_of
from hf_hardneg.corpus.ids import named_columns
from hf_hardneg.corpus.queries import Reader, flat_strings, is_label
from hf_hardneg.errors import warn
from hf_hardneg.text.keys import text_keys

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLE = 1000
"""Rows that are looked at."""
FEW = 0.5
"""Share of positives in the corpus below which most of them read like something that negatives cannot be."""
DOCUMENTS, REVERSED = 0.5, 0.05
"""Shares of queries that are documents, and whose positives are queries too, from which it is no longer chance."""
MOST, HARDLY = 0.8, 0.05
"""A trait of most of one side and hardly any of the other tells them apart."""
ENOUGH = 20
"""Distinct texts of a side below which only marks such as `passage: ` count, since few texts share much by chance; and
rows below which none with a candidate may be chance too."""
FEWEST = 4
LONGER = 4
"""How many times longer one side is than the other, by the median."""
LEARNS = "Negatives are documents, so a model can tell both apart without reading what they say."
TRAITS: dict[str, Callable[[str], bool]] = {
    "have line breaks": lambda text: "\n" in text.strip(),
    "have no upper case": lambda text: text.lower() == text != text.upper(),
    "have no lower case": lambda text: text.upper() == text != text.lower(),
}


def warn_of_pairs(known: Sequence[Dataset], reader: Reader, documents: Dataset, *, symmetric: bool | None) -> None:
    """Warns of pairs whose positives are not read like the documents, and of such as may hold in both directions.

    Args:
        known (`Sequence[Dataset]`): the pairs; up to `SAMPLE` rows of each are looked at, evenly spread.
        reader (`Reader`): how they are read.
        documents (`Dataset`): the corpus as it was given, with all its columns.
        symmetric (`bool`, *optional*): what the user says of the pairs; `None` for nothing.
    """
    tables = [_sampled(rows, reader) for rows in known if len(rows)]
    texts, rows = _positives(tables, reader)
    message = _unlike(texts, rows, reader, documents) if texts else None
    if message is not None:
        warn(message)
    if symmetric is None and tables:
        both = [_may_be_reversed(table, reader) for table in tables]
        documents_too, linked = (np.concatenate(part) for part in zip(*both, strict=True))
        share = float(documents_too.mean())
        if (share >= DOCUMENTS and documents_too.sum() > 1) or linked.mean() >= REVERSED:
            warn(
                f"{share:.0%} of the queries are documents of the corpus too. Where the pairs hold in both directions, "
                "as those of duplicate questions do, known pairs come out reversed as negatives: pass symmetric=True, "
                "or symmetric=False where they do not."
            )


def warn_of_negatives(splits: Collection[Dataset], positive_column: str) -> None:
    """Warns where no document was retrieved, or where negatives differ from the positives in shape.

    Up to `SAMPLE` rows of each split are looked at.

    Args:
        splits (`Collection[Dataset]`): mined rows.
        positive_column (`str`): texts, or lists of them.
    """
    mining = [rows.with_format("arrow")[_spread(len(rows))].column("mining") for rows in splits if len(rows)]
    retrieved = [count for column in mining for count in pc.struct_field(column, "retrieved").to_pylist()]
    if len(retrieved) >= ENOUGH and not any(retrieved):
        warn(
            "No document was retrieved for any query, so no row has a negative. Look at columns=, whose "
            "roles query and text name what is compared, and at the tokenizer or the model, which must read both."
        )
    sides: dict[str, list[str]] = {positive_column: [], "negatives": []}
    for rows in splits:
        if len(rows) and set(sides) <= set(rows.column_names):
            table = rows.with_format("arrow", columns=list(sides))[_spread(len(rows))]
            if is_label(table.column(positive_column).type):
                continue
            for name, texts in sides.items():
                texts += flat_strings(table.column(name), name)[1]
    told = difference(sides[positive_column], sides["negatives"])
    if told is not None:
        warn(
            f"Positives and negatives do not read alike: {told}. A model can learn that in place of relevance. Read "
            "both from the same columns, or clean the texts before mining."
        )


def difference(
    first: Sequence[str], second: Sequence[str], names: tuple[str, str] = ("positives", "negatives")
) -> str | None:
    """Says in words by what shape two sides can be told apart; `None` where they cannot.

    Args:
        first, second (`Sequence[str]`): texts; each counts once, and with fewer than 4 of a side nothing is said.
        names (`tuple[str, str]`, defaults to `("positives", "negatives")`): what to call them.
    """
    sides = {name: sorted(set(texts)) for name, texts in zip(names, (first, second), strict=True)}
    if min(map(len, sides.values())) < FEWEST:
        return None
    many = min(map(len, sides.values())) >= ENOUGH
    marks = [(side, *mark) for side in names for mark in _marks(sides[side], many)]
    for side, trait, has in [*marks, *((side, *trait) for side in names if many for trait in TRAITS.items())]:
        other = names[1 - names.index(side)]
        shares = [sum(map(has, sides[name])) / len(sides[name]) for name in (side, other)]
        if shares[0] >= MOST and shares[1] <= HARDLY:
            return f"{shares[0]:.0%} of the {side} {trait}, and {shares[1]:.0%} of the {other}"
    sizes = {name: median(map(len, texts)) for name, texts in sides.items()}
    shorter, longer = sorted(sizes, key=lambda name: sizes[name])
    if many and sizes[longer] >= LONGER * sizes[shorter]:
        return (
            f"half of the {longer} have {sizes[longer]:.0f} characters or more, and half of the {shorter} at most "
            f"{sizes[shorter]:.0f}"
        )
    return None


def _marks(texts: Sequence[str], many: bool) -> Iterator[tuple[str, Callable[[str], bool]]]:
    """Yields what most of some sorted texts begin and end with."""
    start, end = _shared(texts), _shared(sorted(text[::-1] for text in texts))[::-1]
    if _is_mark(start, many):
        yield f"begin with {start!r}", lambda text: text.startswith(start)
    if _is_mark(end, many):
        yield f"end with {end!r}", lambda text: text.endswith(end)


def _is_mark(shared: str, many: bool) -> bool:
    signs = any(not (character.isalnum() or character.isspace()) for character in shared)
    return len(shared.strip()) >= 3 and (signs or many)


def _shared(texts: Sequence[str]) -> str:
    """The longest string that at least `MOST` of some sorted texts begin with."""
    size = math.ceil(MOST * len(texts))
    blocks = zip(texts, texts[size - 1 :], strict=False)
    return max((first[: _alike(first, last)] for first, last in blocks), key=len)


def _alike(first: str, second: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (left, right) in enumerate(pairs) if left != right), min(len(first), len(second)))


def _spread(total: int) -> np.ndarray:
    return np.unique(np.linspace(0, total - 1, min(total, SAMPLE)).astype(np.int64))


def _sampled(rows: Dataset, reader: Reader) -> dict[str, pa.ChunkedArray]:
    names = reader.columns.digested(rows)
    table: Any = rows.with_format("arrow", columns=names)[_spread(len(rows))]
    return named_columns(table)


def _positives(tables: Sequence[dict[str, pa.ChunkedArray]], reader: Reader) -> tuple[list[str], np.ndarray]:
    """The texts of listed positives, and the row of the document that each is, by its id or its text; -1 for none."""
    columns, texts, rows = reader.columns, list[str](), [np.zeros(0, np.int64)]
    for table in tables:
        if columns.positive in table:
            owner, listed = flat_strings(table[columns.positive], columns.positive)
            texts += listed
            rows.append(reader.keys.row_of_keys(text_keys(listed, reader.keys.dedupe)))
            if columns.positive_ids in table:
                of_ids, by_id = reader.rows_of(table[columns.positive_ids], columns.positive_ids)
                rows[-1] = by_id if np.array_equal(owner, of_ids) else rows[-1]
    return texts, np.concatenate(rows)


def _unlike(texts: list[str], rows: np.ndarray, reader: Reader, documents: Dataset) -> str | None:
    """Says that positives are not read like the documents of the corpus; `None` where they are."""
    inside = rows >= 0
    as_documents = iter(reader.corpus.texts(rows[inside]).to_pylist())
    alike = np.array([known and text == next(as_documents) for text, known in zip(texts, inside, strict=True)])
    others = [text for text, same in zip(texts, alike, strict=True) if not same]
    if len(others) <= HARDLY * len(texts):
        return None
    few = inside.mean() < FEW or alike.mean() <= 1 - MOST
    columns = _columns_of(others, documents, reader.corpus, every=few)
    if columns is None and not few:
        return None
    return (
        f"{alike.mean():.0%} of {len(texts):,} positives in the column {reader.columns.positive!r} stand in the corpus "
        f"as they are. {LEARNS} {_advice(others, columns, reader.corpus)}"
    )


def _advice(texts: Sequence[str], columns: tuple[str, ...] | None, corpus: Corpus) -> str:
    if columns is not None:
        named = repr(columns[0]) if len(columns) == 1 else list(columns)
        what = f"column {columns[0]!r} alone" if len(columns) == 1 else f"columns {' and '.join(map(repr, columns))}"
        return f"Others are the {what}: pass columns={{'text': {named}}}."
    told = difference(texts, corpus.texts(_spread(len(corpus))).to_pylist(), ("others", "documents"))
    shown = f"{told[0].upper()}{told[1:]}. " if told is not None else ""
    return (
        f"{shown}Give the corpus that they are from, name its text with columns=, or give positive_ids instead of "
        "texts. Where they are meant to be from elsewhere, ignore this."
    )


def _columns_of(texts: Sequence[str], documents: Dataset, corpus: Corpus, *, every: bool) -> tuple[str, ...] | None:
    """Other columns of the documents that most of some texts are, alone or as they are joined by default."""
    names = documents.column_names if every else {*corpus.text_columns, TITLE, TEXT}
    kinds = {name: getattr(documents.features.get(name), "dtype", None) for name in names}
    forms = [
        text_columns_of(documents),
        *((name,) for name, kind in kinds.items() if kind in ("string", "large_string")),
    ]
    for form in dict.fromkeys(forms):
        if form != corpus.text_columns and set(form) <= set(documents.column_names):
            standing = _standing(texts, documents, form)
            if sum(text in standing for text in texts) >= MOST * len(texts):
                return form
    return None


def _standing(texts: Sequence[str], documents: Dataset, columns: tuple[str, ...]) -> set[str]:
    """Finds the texts that stand in columns of the documents, character by character."""
    wanted, standing = pa.array(dict.fromkeys(texts), pa.string()), set[str]()
    for table in documents.with_format("arrow", columns=list(columns)).iter(BATCH):
        values = joined([table.column(name).combine_chunks() for name in columns])
        standing.update(values.filter(pc.is_in(values, value_set=wanted)).to_pylist())
        if len(standing) == len(wanted):
            break
    return standing


def _may_be_reversed(table: dict[str, pa.ChunkedArray], reader: Reader) -> tuple[np.ndarray, np.ndarray]:
    """Masks (n,) of the distinct queries that are documents, not of their positives; and linked to a query."""
    texts = reader.names(table).texts
    keys, query = np.unique(text_keys(texts, reader.keys.dedupe), return_inverse=True)
    listed = reader.listed_positives(table)
    owner = query[listed.query]
    inside, linked = reader.keys.row_of_keys(keys) >= 0, np.zeros(len(keys), bool)
    inside[owner[listed.key == keys[owner]]] = False
    if reader.known is not None:
        linked[owner[reader.known.has(listed.key)]] = True
    return inside, inside & linked
