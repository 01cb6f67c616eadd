"""What servers answer, as the library wants it: documents as columns, distances as scores."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.errors import ConfigError, DocumentStoreError
from hf_hardneg.retrievers.stores.collection import ID, TEXT, VECTOR

LOOK = "Look at the collection, and at how the address names it."


def documents(ids: Sequence[str], texts: Sequence[str | None] | None, vectors: Any | None) -> pa.RecordBatch:
    """Documents as `Collection.scan` yields them, with texts or vectors (n, d) where there are any."""
    columns = {ID: pa.array(ids, pa.string())}
    if texts is not None:
        columns[TEXT] = pa.array(texts, pa.string())
    if vectors is not None:
        numbers = np.asarray(vectors, np.float32)
        columns[VECTOR] = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), max(numbers.shape[-1], 1))
    return pa.RecordBatch.from_pydict(columns)


@contextlib.contextmanager
def told(
    address: str,
    allowed: str,
    remedies: Mapping[str, str],
    *,
    lost: tuple[type[Exception], ...],
    refused: tuple[type[Exception], ...],
) -> Iterator[None]:
    """Raise errors of a client as ours, with what to do by words of what it says.

    Args:
        address (`str`): of the store.
        allowed (`str`): what would be right.
        remedies (`Mapping[str, str]`): what to do, by words that tell that the store refuses.
        lost, refused (`tuple[type, ...]`): errors after which the store may be asked again, and further ones.

    Raises:
        DocumentStoreError: there is no answer.
        ConfigError: the answer is no.
    """
    try:
        yield
    except (*lost, *refused) as error:
        words = str(error).strip() or type(error).__name__
        said = words.partition("\n")[0]
        remedy = next((remedies[word] for word in remedies if word in words), None)
        if isinstance(error, lost) and remedy is None:
            raise DocumentStoreError(
                f"{address} did not answer ({said}); a server that runs is needed. Look whether it runs and is not too "
                "busy; ?timeout= in the address gives it more seconds."
            ) from error
        raise ConfigError(f"{address} refuses ({said}); {allowed} is allowed. {remedy or LOOK}") from error
