"""What a document store is: where documents of the user's lie, and who searches them; a retriever of its own."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar, Literal

from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.index.dense.approximate import SAMPLE
from hf_hardneg.retrievers.attach import load
from hf_hardneg.retrievers.base import Retriever, Searcher, Sources
from hf_hardneg.retrievers.stores.addresses import Address, address_of
from hf_hardneg.retrievers.stores.collection import FOUND, ID, TEXT, TIMEOUT, VECTOR, Collection, Description
from hf_hardneg.retrievers.stores.job_queries import job_queries
from hf_hardneg.retrievers.stores.store_opening import opened_store
from hf_hardneg.retrievers.stores.store_searchers import StoreSearcher, WordStoreSearcher
from hf_hardneg.runtime.arguments import AtLeastOne, ShareAboveZero, check_fields

__all__ = ["FOUND", "ID", "TEXT", "TIMEOUT", "VECTOR", "Description", "DocumentStore"]

NOT_OPTIONS = ("address", "depth", "recall")
"""Fields that no address sets."""


@dataclass(frozen=True)
class DocumentStore(Collection, Retriever):
    """A collection of a document store, which is a retriever: its documents whose vectors are nearest to the query's.

    Subclasses are frozen dataclasses, whose further fields say how columns are called and the like; an address sets
    them too, as `?text=body&exact=false` does. Secrets come from the environment, when `connect` runs.

    Args:
        address (`str`): the URI of the collection, without a secret.
        depth (`int`, *optional*): candidates for each query; by default what the other parts need.
        recall (`float`, defaults to 0.98): share of the 100 nearest documents that an approximate search must find; its
            effort is raised until it does.
        reads (`str`, defaults to `"all"`): `"found"` reads the documents that the queries of a job find, where all of
            them are too many; `mine` alone does so.
    """

    _: KW_ONLY
    depth: AtLeastOne | None = None
    recall: ShareAboveZero = 0.98
    reads: Literal["all", "found"] = "all"
    secret: ClassVar[str] = "the variables that its client reads"
    """The environment variables that hold its secrets, in words."""
    told_by: ClassVar[str] = ""
    """An option in each of its addresses, where they look like the URL of a table that is read; else empty."""
    has_users: ClassVar[bool] = False
    """Whether a name may stand before the host."""

    def __init_subclass__(cls, **told: Any) -> None:
        super().__init_subclass__(**told)
        if "scheme" in cls.__dict__ and "name" not in cls.__dict__:
            cls.name = cls.scheme

    def __post_init__(self) -> None:
        check_fields(self)
        place = self.place
        if place.scheme != self.scheme:
            raise ConfigError(
                f"{type(self).__name__}({self.address!r}) has an address of {place.scheme}; those of {self.scheme} are "
                f"allowed. Give one that begins {self.scheme}://."
            )
        options = {part.name for part in fields(self)}.difference(NOT_OPTIONS)
        for name, value in place.options:
            if name not in options:
                raise unknown_name(f"option of an address of {self.scheme}", name, options)
            object.__setattr__(self, name, _read(value, getattr(self, name)))
        check_fields(self)

    @functools.cached_property
    def place(self) -> Address:
        """The parts of the address."""
        return address_of(self.address, secret=self.secret, has_users=self.has_users)

    @property
    def score_kind(self) -> str:
        """See `Retriever`; of vectors it is known once bound."""
        return "cosine" if self.uses_vectors else "bm25"

    @property
    def uses_vectors(self) -> bool:
        """Whether vectors are searched, and not words."""
        return True

    @property
    def can_score(self) -> bool:
        """See `Retriever`: by vectors of documents, else where the store scores chosen pairs."""
        return self.uses_vectors or type(self).score is not DocumentStore.score

    @property
    def has_vectors(self) -> bool:
        """See `Retriever`."""
        return self.uses_vectors

    @property
    def searches_elsewhere(self) -> bool:
        """See `Retriever`."""
        return True

    def bind(self, sources: Sources) -> Searcher:
        """The searcher over a corpus whose documents the collection has, by their ids."""
        if not self.uses_vectors:
            return WordStoreSearcher(opened_store(self, sources.corpus))
        encoder = load(sources.encoder, sources.corpus)
        index = opened_store(
            self,
            sources.corpus,
            encoder=encoder,
            recall=self.recall,
            sample=lambda: job_queries(sources, encoder, SAMPLE),
        )
        return StoreSearcher(index, encoder)

    def joined(self, texts: Iterable[Any]) -> str:
        """The text of a document in several columns: what is there of them, joined by a space."""
        return " ".join(str(text) for text in texts if text is not None)


def _read(value: str, default: Any) -> Any:
    """Read an option of an address as its default is."""
    if isinstance(default, bool):
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        return words.get(value.lower(), value)
    if isinstance(default, (int, float)):
        with contextlib.suppress(ValueError):
            return type(default)(value)
    return value
