"""The rows of `mine_hard_negatives`: pairs, grouped by query, and the documents."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.ids import is_text
from hf_hardneg.errors import ColumnError, DataError
from hf_hardneg.text.keys import text_keys

if TYPE_CHECKING:
    from datasets import Dataset

ADDED = {
    "triplet": re.compile("negative|scores"),
    "n-tuple": re.compile(r"negative_\d+|scores"),
    "labeled-pair": re.compile("label|score"),
    "labeled-list": re.compile("labels|scores"),
}
"""What the columns are called that each layout adds."""


@dataclass(frozen=True, kw_only=True)
class GroupedRows:
    """The queries, each once, with their positives; and the documents, each once.

    Args:
        anchor, positive (`str`): what the columns are called by the user.
        positives (`dict[str, list[str]]`): of each query, each once, in the order of the rows.
        documents (`list[str]`): the corpus, and the positives that are not in it.
        most (`int`): rows of the query that has most.
        rows (`int`): all.
    """

    anchor: str
    positive: str
    positives: dict[str, list[str]]
    documents: list[str]
    most: int
    rows: int

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        anchor: str | None,
        positive: str | None,
        corpus: Any,
        layout: str,
    ) -> GroupedRows:
        """Read the pairs.

        Raises:
            ColumnError: a column is missing, is no text, or would be written over.
            DataError: there are no rows, or a text is missing.
        """
        if not len(dataset):
            raise DataError("The dataset has 0 rows; at least one pair is needed. Look at how it was filtered.")
        anchor, positive = _named(dataset, anchor, positive, layout)
        queries, texts = (_texts(dataset, name) for name in (anchor, positive))
        grouped: dict[str, dict[str, None]] = {}
        for query, text in zip(queries, texts, strict=True):
            grouped.setdefault(query, {})[text] = None
        return cls(
            anchor=anchor,
            positive=positive,
            positives={query: list(positives) for query, positives in grouped.items()},
            documents=list(dict.fromkeys([*_listed(corpus), *texts])),
            most=max(Counter(queries).values()),
            rows=len(queries),
        )

    def pairs(self, *, with_positives: bool = True) -> Dataset:
        """The queries with the lists of their positives, or with empty lists."""
        from datasets import Dataset, Features, List, Value

        lists = [positives if with_positives else [] for positives in self.positives.values()]
        features = Features({"query": Value("string"), "positive": List(Value("string"))})
        return Dataset.from_dict({"query": list(self.positives), "positive": lists}, features=features)

    def corpus(self) -> Dataset:
        """The documents, called by digests of their texts, so that draws do not depend on their order."""
        from datasets import Dataset, Features, Value

        ids = [key.hex() for key in text_keys(self.documents, "exact").tolist()]
        features = Features({"_id": Value("string"), "text": Value("string")})
        return Dataset.from_dict({"_id": ids, "text": self.documents}, features=features)


def _named(dataset: Dataset, anchor: str | None, positive: str | None, layout: str) -> tuple[str, str]:
    present = dataset.column_names
    if len(present) < 2:
        raise ColumnError(
            f"The dataset has {', '.join(map(repr, present)) or 'no column'}; a column of queries and one of positives "
            "are needed. Add what is missing."
        )
    anchor, positive = anchor or present[0], positive or present[1]
    for argument, name in (("anchor_column_name", anchor), ("positive_column_name", positive)):
        if name not in present:
            raise ColumnError(
                f"{argument}={name!r} is no column of the dataset, which has {', '.join(map(repr, present))}. Name one "
                "of these."
            )
        if ADDED[layout].fullmatch(name):
            raise ColumnError(
                f"{argument}={name!r} is called as a column that {layout!r} adds, whose names are "
                f"{ADDED[layout].pattern}. Rename yours with rename_column()."
            )
    if anchor == positive:
        raise ColumnError(
            f"The column {anchor!r} would be both the query and its positive; they are two columns, by default the "
            "first and the second. Name both, with anchor_column_name= and positive_column_name=."
        )
    return anchor, positive


def _texts(dataset: Dataset, name: str) -> list[str]:
    column = dataset.with_format("arrow", columns=[name])[:].column(name)
    if not is_text(column.type):
        raise ColumnError(
            f"The column {name!r} holds {column.type}; strings are needed, one text a row. Cast it, or make one row "
            "for each text of a list."
        )
    if column.null_count:
        row = column.is_null().to_pylist().index(True)
        raise DataError(
            f"{column.null_count} values of {name!r} are missing, the first in row {row}; each row needs a text. Drop "
            "these rows, with filter()."
        )
    texts: list[str] = column.to_pylist()
    return texts


def _listed(corpus: Any) -> Sequence[str]:
    if corpus is None:
        return ()
    texts = None if isinstance(corpus, (str, bytes)) or not isinstance(corpus, Iterable) else list(corpus)
    strange = [] if texts is None else [row for row, text in enumerate(texts) if not isinstance(text, str)]
    if texts is None or strange:
        where = f"a {type(texts[strange[0]]).__name__} in place {strange[0]}" if texts else f"a {type(corpus).__name__}"
        raise DataError(
            f"corpus= got {where}; texts of documents are needed. Give a list of strings, such as documents['text'][:]."
        )
    return texts
