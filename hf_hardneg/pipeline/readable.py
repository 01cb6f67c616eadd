"""Parts of a strategy that read words, where queries or documents are images: safeguards go, others are refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.documents import image_columns, text_columns_of
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ConfigError
from hf_hardneg.strategies import SAFEGUARDS, Strategy, resolve

if TYPE_CHECKING:
    from datasets import Dataset


def images_in(corpus: Dataset, pairs: Sequence[Dataset], columns: Columns) -> dict[str, str]:
    """Which sides, `"query"` and `"document"` (positives too), are images, each with its column."""
    names = PairColumns.of(columns)
    documents = image_columns(corpus, text_columns_of(corpus, columns.get("text")))
    positives = [name for rows in pairs for name in image_columns(rows, [names.positive], listed=True)]
    queries = [name for rows in pairs for name in image_columns(rows, [names.query])]
    sides = {"query": queries, "document": [*documents, *positives]}
    return {side: names[0] for side, names in sides.items() if names}


def without_words(strategy: Strategy, named: str | Strategy, images: Mapping[str, str]) -> Strategy:
    """The strategy without the safeguards that read words of what is an image; all that was asked for stays.

    Args:
        strategy (`Strategy`): with its safeguards.
        named (`str` or `Strategy`): as the user gave it.
        images (`Mapping[str, str]`): see `images_in`.
    """
    if not images or isinstance(named, Strategy):
        return strategy
    asked = resolve(named, safeguards=False).filters
    safeguards = [stage for stage in strategy.filters if isinstance(stage, SAFEGUARDS) and stage not in asked]
    kept = [stage for stage in strategy.filters if stage not in safeguards or not _reads(stage, images)]
    return replace(strategy, filters=kept)


def said_of(strategy: Strategy, named: str, *, safeguards: bool) -> str:
    """A line on the safeguards of a named strategy that were left out, since they read words of images; or nothing.

    Args:
        strategy (`Strategy`): as it mined.
        named (`str`), safeguards (`bool`): as the user asked for it.
    """
    kept = {stage.name for stage in strategy.filters}
    gone = [stage.name for stage in resolve(named, safeguards=safeguards).filters if stage.name not in kept]
    return f"Left out, since these read words of what is an image: {', '.join(gone)}." if gone else ""


def check_words(strategy: Strategy, images: Mapping[str, str]) -> None:
    """Raise for a part that reads words of what is an image.

    Raises:
        ConfigError: naming the part and the column.
    """
    parts: Iterable[Any] = (strategy.retriever, *strategy.retrievers, *strategy.filters, *strategy.signals)
    for part in parts:
        if side := _reads(part, images):
            raise ConfigError(
                f"{part.name} reads the words of each {side}, and the column {images[side]!r} holds images; what "
                "compares vectors is allowed, such as 'dense' with an encoder of images. Leave that part out, or name "
                "a column of words, such as captions, with columns=."
            )


def _reads(part: Any, images: Mapping[str, str]) -> str | None:
    """The first side of which a part reads words that are not there."""
    return next((side for side in getattr(part, "needs_words", ()) if side in images), None)
