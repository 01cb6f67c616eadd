"""`Columns`: which column of the pairs and of the corpus plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from hf_hardneg.errors import ColumnError
from hf_hardneg.runtime.arguments import Name

VERDICTS, DRAWN = "negative_verdicts", "negative_drawn"
"""Columns of what people said of negatives: 1 for relevant, 0 for not, null where nobody judged; and whether it was
drawn for their random sample."""


class Columns(TypedDict, total=False):
    """Names of columns by their role, such as `{"query": "question", "positive": "answer"}`; any may be left out.

    The same mapping serves `mine()`, `to_format()`, `audit()` and whatever else reads these rows: each looks at the
    roles it knows what to do with.

    In the pairs:
        query (`str`, defaults to `"query"`): text.
        query_id (`str`, defaults to `"query_id"`): identity; where the column is absent, the text is the identity.
        positive (`str`, defaults to `"positive"`): a text or a list of texts.
        positive_ids (`str`, defaults to `"positive_ids"`): ids in the corpus. Ids that are classes (`ClassLabel`) count
            by their names, which streams, transforms and pandas or numpy formats do not hand on: there cast such a
            column to strings first.
        query_vector (`str`): vectors of the queries.
        exclude_ids (`str`): per row, ids of documents that must not come out.
        answer (`str`): answers that a negative must not contain, a text or a list of texts.

    In the corpus:
        text (`str` or `Sequence[str]`): the text of a document; several are joined by a space, without those that are
            empty. By default `text`, with `title` before it where there is one, as BEIR and `from_format()` read them;
            `"text"` is the text alone.
        id (`str`): by default the one column that is called as id columns are, such as `_id`, `id`, `docid`, `doc_id`,
            `pid`, `passage_id` or `corpus-id`; where several are, the one whose values are all different. A corpus
            without such a column has no ids: rows that name documents by ids are an error, and negatives are called
            `row-0`, `row-1`, …. `"row_number"`: ids are row numbers, `0`, `1`, ….
        vector (`str`): vectors of the documents, instead of an encoder.
        parent (`str`): what names the larger document; none of a positive comes out.
    """

    query: Name
    query_id: Name
    positive: Name
    positive_ids: Name
    query_vector: Name
    exclude_ids: Name
    answer: Name
    text: Name | Sequence[Name]
    id: Name
    vector: Name
    parent: Name


def in_order(columns: Mapping[str, Any] | None) -> Columns:
    """The same roles in the order of `Columns`, so that equal mappings are equal text."""
    named: Any = {role: (columns or {})[role] for role in Columns.__annotations__ if role in (columns or {})}
    return cast("Columns", named)


def missing_column(name: str, present: Sequence[str], where: str, role: str) -> ColumnError:
    """The error for a column that is not there, naming those that are.

    Args:
        name (`str`), present (`Sequence[str]`): the column, and those that are there.
        where (`str`): what lacks it, such as `"corpus"`.
        role (`str`): in `Columns`.
    """
    return ColumnError(
        f"The {where} has no column {name!r}; it has {', '.join(map(repr, present))}. "
        f"Name the right one with columns={{{role!r}: ...}}."
    )
