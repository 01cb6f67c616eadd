"""`Columns`: which column of the pairs and of the corpus plays which role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

from hf_hardneg.errors import ColumnError, ConfigError
from hf_hardneg.runtime.arguments import Name, fit
from hf_hardneg.text.recipe_text import in_description, values_of

OF_CORPUS = ("text", "id", "vector", "parent")
"""Roles of columns of the corpus; all others are of the pairs."""

PSEUDO, PROMOTED = ("pseudo_positives", "pseudo_positive_ids"), ("promoted", "promoted_ids")
"""Columns of documents that a judge found relevant: beside the positives, or among them."""
VERDICTS, DRAWN = "negative_verdicts", "negative_drawn"
"""Columns of what people said of negatives: 1 for relevant, 0 for not, null where nobody judged; and whether it was
drawn for their random sample."""


class Columns(TypedDict, total=False):
    """Names of columns by their role, such as `{"query": "question", "positive": "answer"}`; any may be left out.

    The same mapping serves `mine()`, `to_format()`, `audit()` and whatever else reads these rows: each looks at the
    roles it knows what to do with.

    In the pairs:
        query (`str`, defaults to `"query"`): text, or an image.
        query_id (`str`, defaults to `"query_id"`): identity; where the column is absent, the text is the identity.
        positive (`str`, defaults to `"positive"`): a text or a list of texts, or images.
        positive_ids (`str`, defaults to `"positive_ids"`): ids in the corpus. Ids that are classes (`ClassLabel`) count
            by their names, which streams, transforms and pandas or numpy formats do not hand on: there cast such a
            column to strings first.
        query_vector (`str`): vectors of the queries.
        exclude_ids (`str`): per row, ids of documents that must not come out.
        answer (`str`): answers that a negative must not contain, a text or a list of texts.

    In the corpus:
        text (`str` or `Sequence[str]`): the text of a document; several are joined by a space, without those that are
            empty. By default `text`, with `title` before it where there is one, as BEIR and `from_format()` read them;
            `"text"` is the text alone. Without `text`, the only column of images. One of several may hold images, in
            the rows in which the others are empty.
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


def columns_of(dataset: Any, told: Columns | None = None, corpus: Any = None) -> Columns:
    """Names of the columns of mined data by role: as the user says, else as the recipe in it says, else none.

    What the recipe says counts as far as there are columns of those names: of the pairs in the data, of the corpus in
    the one that is given. Parts that were mined by different names have none.

    Args:
        dataset (`Dataset`, `DatasetDict` or `IterableDataset`): what `mine()` returned.
        told (`Columns`, *optional*): as the user says.
        corpus (`Dataset`, *optional*): the documents that were mined.
    """
    splits = list(dataset.values()) if isinstance(dataset, Mapping) else [dataset]
    lines = {line for split in splits for line in in_description(split.info.description or "")}
    recipes = [_in_recipe(line) for line in lines]
    roles = dict(recipes[0]) if recipes and all(each == recipes[0] for each in recipes) else {}
    present = {name for split in splits for name in split.column_names or ()}
    documents = {"row_number", *(() if corpus is None else corpus.column_names)}
    kept = {role: name for role, name in roles.items() if _names(name) <= (documents if role in OF_CORPUS else present)}
    return in_order({**kept, **(told or {})})


def _names(name: Any) -> set[str]:
    return {name} if isinstance(name, str) else set(name)


def _in_recipe(line: str) -> Columns:
    """The roles in the JSON of a recipe that anybody may have written; none where it cannot be read."""
    try:
        return fit("Recipe", "columns", values_of(line)["options"].get("columns"), Columns | None) or Columns()
    except (ConfigError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Columns()


def with_default_names(dataset: Any) -> Any:
    """Mined data whose columns are called as by default, where its recipe says that they are called otherwise."""
    ours = ("query", "query_id", "positive", "positive_ids")
    named = {str(name): role for role, name in columns_of(dataset).items() if role in ours and name != role}
    taken = set(dataset.column_names or ()) - set(named)
    return dataset.rename_columns(named) if named and not taken & set(named.values()) else dataset


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
