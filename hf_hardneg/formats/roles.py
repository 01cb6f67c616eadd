"""Decide which column of sentence-transformers' layouts is what: by names, and by order where they say nothing."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined
from hf_hardneg.corpus.ids import is_text
from hf_hardneg.corpus.pictures import are_pictures
from hf_hardneg.errors import ColumnError, ConfigError, DataError, warn

LABELS = ("label", "labels", "score", "scores")
QUERY = (
    *("query", "anchor", "question", "sentence1", "sentence_a", "premise", "sentence", "sent0"),
    *("question1", "query_text", "question_text", "text1", "sentence_1", "search_query", "prompt"),
)
POSITIVE = (
    *("positive", "pos", "positives", "positive_passage", "answer", "passage", "document", "doc", "context"),
    *("response", "sentence2", "sentence_b", "hypothesis", "text", "sent1"),
    *("question2", "positive_text", "text2", "sentence_2", "paragraph", "chunk", "content", "contents", "body"),
    *("documents", "docs", "passages"),
)
PASSAGES = ("passage", "context", "document", "doc", "paragraph", "chunk", "content", "contents", "body", "text")
"""Names of what is searched; an answer beside one of these is that of the question, and no document."""
ANSWERS = ("answer", "response")
METADATA = ("source", "dataset", "split", "lang", "language", "url", "domain", "category", "topic", "metadata", "task")
_NEGATIVE = re.compile(r"(hard_?)?neg(ative)?s?(_(passage|document|doc|text))?s?(_?\d+)?", re.IGNORECASE)
_JUDGED = re.compile(
    r"is_?(duplicate|relevant|positive|match|selected|correct|paraphrase|answer)|relevan(t|ce)|relevance_(score|label)"
    r"|gold_?labels?|judge?ments?|grade|duplicate",
    re.IGNORECASE,
)
"""Columns that say what is relevant under another name than a label's."""
_ID = re.compile(r"_?ids?|idx|index|uuid|[qp]id|docid|.+[_-](ids?|idx|uuid)|__index_level_\d+__", re.IGNORECASE)
_QUERY_ID = re.compile(r"(query|question|anchor)[_-]?id|qid", re.IGNORECASE)
_POSITIVE_ID = re.compile(
    r"(positive|pos|answer|relevant|gold)[_-]?((document|doc|passage|corpus)s?[_-]?)?p?ids?", re.IGNORECASE
)
_DOCUMENT_ID = re.compile(r"(document|doc|passage|corpus)[_-]?ids?|docids?|pids?", re.IGNORECASE)
_NEGATIVE_ID = re.compile(r"(hard_?)?neg(ative)?s?((_\d+)?[_-]ids?|[_-]id_\d+)", re.IGNORECASE)
RELEVANT = {"1", "true", "yes", "relevant", "positive", "entailment", "duplicate", "match"}
IRRELEVANT = {"0", "-1", "false", "no", "irrelevant", "negative", "neutral", "contradiction", "not_relevant"}
IRRELEVANT |= {"not relevant", "non-relevant", "not_duplicate", "not_entailment", "no match"}


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Names of columns, by what they hold.

    Args:
        query, positive (`str`): columns of texts; beside labels the second holds all documents.
        negatives (`tuple[str, ...]`): columns of texts or of lists of texts.
        label (`str`, *optional*): column of labels or scores.
        query_id, positive_id (`str`, *optional*), negative_ids (`tuple[str, ...]`): columns of ids.
        left_out (`tuple[str, ...]`): columns that are none of these.
        by_order (`bool`): whether names did not tell all of them.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]
    label: str | None
    query_id: str | None
    positive_id: str | None
    negative_ids: tuple[str, ...]
    left_out: tuple[str, ...]
    by_order: bool

    @property
    def layout_of_labels(self) -> str | None:
        """The labelled layout that the label belongs to; `None` beside negatives."""
        if self.label is None or self.negatives:
            return None
        return "labeled-pair" if self.label in ("label", "score") else "labeled-list"


@dataclass(frozen=True, kw_only=True)
class Named:
    """What the names of columns say, before order decides anything.

    Args:
        labels, aside (`list[str]`): columns called as labels are; of ids, and of what describes a row.
        query, positive (`str`, *optional*): the columns of texts that are called so.
        negatives, unknown (`list[str]`): columns of texts that are called so, and those whose names say nothing.
    """

    labels: list[str]
    aside: list[str]
    query: str | None
    positive: str | None
    negatives: list[str]
    unknown: list[str]

    @classmethod
    def of(cls, schema: pa.Schema) -> Named:
        """Sort the columns of a schema by their names."""
        labels = [name for name in LABELS if name in schema.names]
        aside = [name for name in schema.names if name.lower() in METADATA or _ID.fullmatch(name)]
        others = [name for name in schema.names if name not in (*labels, *aside)]
        texts = [name for name in others if _holds_texts(schema.field(name).type)]
        query, positive = (_named(known, texts) for known in (QUERY, POSITIVE))
        negatives = [name for name in texts if _NEGATIVE.fullmatch(name)]
        unknown = [name for name in texts if name not in (query, positive, *negatives)]
        return cls(labels=labels, aside=aside, query=query, positive=positive, negatives=negatives, unknown=unknown)


def roles_of(schema: pa.Schema) -> Roles | None:
    """Tell what each column is; `None` where no two can be a query and its documents."""
    sorted_out = Named.of(schema)
    labels, aside, query, positive = sorted_out.labels, sorted_out.aside, sorted_out.query, sorted_out.positive
    negatives, unknown = list(sorted_out.negatives), list(sorted_out.unknown)
    by_order = query is None or positive is None
    if query is None and unknown:
        query = unknown.pop(0)
    if positive is None and unknown:
        positive = unknown.pop(0)
        negatives, unknown = (negatives, unknown) if negatives else (unknown, [])
    if query is None or positive is None or pa.types.is_nested(schema.field(query).type):
        return None
    roles = Roles(
        query=query,
        positive=positive,
        negatives=tuple(negatives),
        label=_label(labels, bool(negatives), schema),
        query_id=next((name for name in aside if _QUERY_ID.fullmatch(name)), None),
        positive_id=next(
            (name for kind in (_POSITIVE_ID, _DOCUMENT_ID) for name in aside if kind.fullmatch(name)), None
        ),
        negative_ids=tuple(name for name in aside if _NEGATIVE_ID.fullmatch(name)),
        left_out=(),
        by_order=by_order,
    )
    used = (query, positive, roles.label, roles.query_id, roles.positive_id, *roles.negatives, *roles.negative_ids)
    return replace(roles, left_out=tuple(name for name in schema.names if name not in used))


def _named(known: Sequence[str], names: Sequence[str]) -> str | None:
    """Find the first of some known names among the columns, in whatever case."""
    cases = {name.lower(): name for name in reversed(names)}
    return next((cases[name] for name in known if name in cases), None)


def is_usual_name(name: str) -> bool:
    """Tell whether columns are called so, whatever their case: a query, a positive, a label, an id, or what is beside
    them."""
    plain = name.strip().lower()
    known = (*QUERY, *POSITIVE, *LABELS, *METADATA, "title", "pos_doc", "neg_doc", "answers", "abstract")
    patterns = (_ID, _JUDGED, _NEGATIVE, _POSITIVE_ID, _DOCUMENT_ID)
    return plain in known or any(pattern.fullmatch(plain) for pattern in patterns)


def named_for_ids(schema: pa.Schema) -> str | None:
    """Name the column that is called as positives are and holds whole numbers, which are their ids."""

    def holds_numbers(kind: pa.DataType) -> bool:
        return pa.types.is_integer(kind.value_type if pa.types.is_list(kind) else kind)

    return _named(POSITIVE, [part.name for part in schema if holds_numbers(part.type)])


def is_query_id(name: str) -> bool:
    """Tell whether columns of ids of queries are called so."""
    return _QUERY_ID.fullmatch(name) is not None


def is_positive_id(name: str) -> bool:
    """Tell whether columns of ids of positives are called so."""
    return _POSITIVE_ID.fullmatch(name) is not None


def is_document_id(name: str) -> bool:
    """Tell whether columns of ids of documents are called so."""
    return _DOCUMENT_ID.fullmatch(name) is not None


def is_judged_name(name: str) -> bool:
    """Tell whether columns that judge documents are called so, besides labels."""
    return _JUDGED.fullmatch(name) is not None


def is_label(text: str) -> bool:
    """Tell whether a text judges a document, as a number or a word that is understood."""
    return _is_number(text) or _word(text) is not None


def check_judged(schema: pa.Schema) -> None:
    """Raise where documents would all be positives though a column judges them.

    Raises:
        ColumnError: it is not called as a label is.
    """
    roles = roles_of(schema)
    if roles is None or roles.negatives or roles.label:
        return
    judged = next((name for name in roles.left_out if _JUDGED.fullmatch(name)), None)
    if judged is not None:
        raise ColumnError(
            f"The column {judged!r} says by its name which {roles.positive!r} are relevant, and only labels called "
            f"'label' are read. Rename it to 'label', with 0 for what is not relevant, or remove it where all are."
        )


def _label(labels: Sequence[str], has_negatives: bool, schema: pa.Schema) -> str | None:
    """Choose the column of labels: scores of each document beside negatives, else labels before scores."""
    if has_negatives:
        return "scores" if "scores" in labels and not pa.types.is_primitive(schema.field("scores").type) else None
    return next(iter(labels), None)


def _holds_texts(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return is_text(inner) or pa.types.is_null(inner) or are_pictures(inner)


def tell(schema: pa.Schema) -> None:
    """Warn where order had to decide, and of columns that are not read."""
    roles = roles_of(schema)
    if roles is None:
        return
    told = []
    if roles.by_order:
        negatives = f", {', '.join(map(repr, roles.negatives))} for negatives" if roles.negatives else ""
        told.append(
            f"Names do not say what each column is, so the order does: {roles.query!r} is taken for the query, "
            f"{roles.positive!r} for the positive{negatives}. Rename columns to query, positive and negative_1 …"
        )
    if roles.left_out:
        names = ", ".join(map(repr, roles.left_out))
        told.append(f"The columns {names} are neither query, positive, negative, label nor an id of one: left out.")
    if told:
        warn(" ".join(told))


def check_classes(features: Any) -> None:
    """Raise unless the names of classes, where labels are such, say that 0 is irrelevant and all above relevant.

    Raises:
        ConfigError: a name is not understood, or says something else.
    """
    for column in ("label", "labels"):
        feature = features.get(column)
        classes = getattr(getattr(feature, "feature", feature), "names", None)
        if classes is not None and [_word(name) for name in classes] != [place > 0 for place in range(len(classes))]:
            raise ConfigError(
                f"{column!r} has the classes {', '.join(map(repr, classes))}, and 0 must stand for what is not "
                "relevant, all above for what is. Map them to 0 and 1."
            )


def _word(text: Any) -> bool | None:
    """Tell whether a label in words says relevant; `None` where it is not understood."""
    plain = str(text).strip().lower()
    return plain in RELEVANT if plain in RELEVANT | IRRELEVANT else None


def relevant(labels: Any, name: str) -> np.ndarray:
    """Tell which labels, as numbers, booleans or words, say that a document is relevant, (n,).

    Raises:
        DataError: a label is missing, or a word that is not understood.
        ConfigError: labels are scores.
    """
    if labels.null_count:
        raise DataError(
            f"{labels.null_count} values of {name!r} are missing; each document needs one. Fill or drop them."
        )
    if pa.types.is_boolean(labels.type):
        return labels.to_numpy(zero_copy_only=False)
    if pa.types.is_string(labels.type) or pa.types.is_large_string(labels.type):
        words = {text: _word(text) for text in pc.unique(labels).to_pylist()}
        strange = [text for text, says in words.items() if says is None]
        if not strange:
            return np.array([words[text] for text in labels.to_pylist()], bool)
        if not all(_is_number(text) for text in words):
            raise DataError(
                f"{name!r} has the label {strange[0]!r}; read are numbers, true and false. Map it to 0 or 1."
            )
    values = labels.cast(pa.float64()).to_numpy(zero_copy_only=False)
    scores = values[np.isnan(values) | (values % 1 != 0)]
    if len(scores):
        raise ConfigError(
            f"Values of {name!r} such as {scores[0]:.4g} are scores, which do not say which documents are positive. "
            "Give whole numbers, above 0 for positives."
        )
    return values > 0


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\s*[+-]?\d+(\.\d*)?\s*", text) is not None


def decoded(column: Any, kind: type = str) -> Any:
    """Parse a column of strings that are lists, as Python or JSON write them; any other column stays as it is.

    Args:
        column (`pa.ChunkedArray` or `pa.Array`): the column.
        kind (`type`, defaults to `str`): of the elements; `float` for scores, `object` for ids.
    """
    array = combined(column)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return array
    trimmed = pc.utf8_trim_whitespace(array.drop_null())
    if not len(trimmed) or not pc.all(pc.and_(pc.starts_with(trimmed, "["), pc.ends_with(trimmed, "]"))).as_py():
        return array
    allowed = {str: (str,), float: (int, float)}.get(kind, (str, int))
    lists = [None if text is None else _parsed(text, allowed) for text in array.to_pylist()]
    whole = sum(values is not None for values in lists) == len(trimmed)
    return pa.array(lists) if whole and any(lists) else array


def _parsed(text: str, allowed: tuple[type, ...]) -> list[Any] | None:
    """Parse a list of allowed values as JSON or Python write it; `None` for any other text, which is a text in
    brackets.

    Raises:
        DataError: it is an array as NumPy prints it.
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            values = parse(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue  # not written in this language; `literal_eval` reports deep nesting as the last two
        if isinstance(values, list) and all(isinstance(value, allowed) for value in values):
            if parse is ast.literal_eval:
                _check_commas(text, values)
            return values
    return None


def _check_commas(text: str, values: list[Any]) -> None:
    """Raise for an array as NumPy prints it, whose strings Python would join into one.

    Raises:
        DataError: there are no commas between them.
    """
    steps = tokenize.generate_tokens(io.StringIO(text.strip()).readline)
    if sum(step.type == tokenize.STRING for step in steps) > sum(isinstance(value, str) for value in values):
        raise DataError(
            f"{text[:40]!r} is an array as NumPy prints it, with no commas between its values; lists as Python or JSON "
            "write them are read. Convert the column with .tolist() before it is saved."
        )
