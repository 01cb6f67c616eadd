"""Pairs, documents and jobs as mining reads them, with the roles of their columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.retrievers.stores.document_store import DocumentStore
from hf_hardneg.strategies import Strategy, resolve


@dataclass(frozen=True, kw_only=True)
class LoadedPairs:
    """Pairs as mining reads them.

    Args:
        rows (`Dataset` or `DatasetDict`): the pairs; splits where the source has several.
        columns (`Columns`): what the user said, and the roles that were recognised.
        words (`str`): what was recognised, in words; empty where the columns are called as by default.
        documents (`Dataset`, *optional*): the corpus, where the source holds it too.
        ids (`str`, *optional*): a column that may hold ids of positives whose texts the rows have too.
        symmetric (`bool`, defaults to `False`): whether the layout says that pairs hold in both directions.
    """

    rows: Any
    columns: Columns
    words: str = ""
    documents: Any = None
    ids: str | None = None
    symmetric: bool = False

    @property
    def splits(self) -> list[Any]:
        """The tables, one or several."""
        return list(self.rows.values()) if isinstance(self.rows, Mapping) else [self.rows]

    def mapped(self, change: Any) -> LoadedPairs:
        """Return the pairs with each table changed by a function."""
        if not isinstance(self.rows, Mapping):
            return replace(self, rows=change(self.rows))
        splits: Any = type(self.rows)
        return replace(self, rows=splits({name: change(rows) for name, rows in self.rows.items()}))


@dataclass(frozen=True, kw_only=True)
class LoadedCorpus:
    """A corpus as mining reads it.

    Args:
        rows (`Dataset`): the documents.
        columns (`Columns`): what the user said, and the roles that were recognised.
        words (`str`): what was recognised, in words; empty where the columns are called as by default.
        store (`DocumentStore`, *optional*): what the documents come from, and searches them.
    """

    rows: Any
    columns: Columns
    words: str = ""
    store: DocumentStore | None = None


@dataclass(frozen=True, kw_only=True)
class JobInputs:
    """What a job of mining works on.

    Args:
        pairs (`Dataset` or `DatasetDict`), corpus (`Dataset`): the data.
        strategy (`str` or `Strategy`): what to mine with.
        columns (`Columns`, *optional*): roles of columns of both; `None` where all are called as by default.
        symmetric (`bool`, *optional*): whether pairs hold in both directions, where the user or the layout says it.
        words (`str`): what was recognised, on one line; empty where nothing had to be.
        store (`DocumentStore`, *optional*): what the corpus comes from, where it is to search its vectors.
    """

    pairs: Any
    corpus: Any
    strategy: str | Strategy
    columns: Columns | None = None
    symmetric: bool | None = None
    words: str = ""
    store: DocumentStore | None = None

    @property
    def splits(self) -> list[Any]:
        """The tables of pairs, one or several."""
        return list(self.pairs.values()) if isinstance(self.pairs, Mapping) else [self.pairs]

    @property
    def options(self) -> Any:
        """The options of `HardNegatives` that the data decide, where they do."""
        searched = self.store if self.strategy and resolve(self.strategy).uses_vectors else None
        options = {"columns": self.columns, "symmetric": self.symmetric, "index": searched}
        return {name: value for name, value in options.items() if value is not None}
