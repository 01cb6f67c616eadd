"""The table of the layouts that pairs are read from. To add one, write what reads it here and list it.

A reader returns `None` for rows of another layout, so the first of the table that knows the rows reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.lists import combined
from hf_hardneg.corpus.columns import Columns
from hf_hardneg.corpus.ids import class_names, is_text
from hf_hardneg.errors import ColumnError, ConfigError, DataError, silenced, warn
from hf_hardneg.formats.importing import from_format
from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.formats.pair_columns import ReadPairs, by_names, is_as_mined, judging, labelled

if TYPE_CHECKING:
    from datasets import Dataset

NESTED = ("positive_ctxs", "positive_passages", "positive_contexts", "pos_ctxs", "pos_passages")
IDS = ("docid", "passage_id", "psg_id", "doc_id", "document_id", "pid", "_id", "id")
ENTAILMENT: dict[str, bool] = {
    **dict.fromkeys(("entailment", "entails", "e"), True),
    **dict.fromkeys(("neutral", "contradiction", "not_entailment", "contradicts", "n", "c", "-", ""), False),
}
"""Words of NLI; `-` and nothing stand where annotators did not agree."""
NUMBERED: dict[str, bool] = {"0": True, "1": False, "2": False, "-1": False, "": False}
"""Numbers of NLI, of three classes."""
MINED = ("query_id", "query", "positive", "positive_ids")


@dataclass(frozen=True, kw_only=True)
class PairLayout:
    """A layout that pairs are read from.

    Args:
        name (`str`): in words.
        known_by (`str`): the columns it is known by, as Markdown.
        is_read (`str`): what becomes of them, as Markdown.
        read (`Callable`): rows and the user's `Columns` to `ReadPairs`, or to `None` for another layout.
    """

    name: str
    known_by: str
    is_read: str
    read: Callable[[Any, Columns], ReadPairs | None]


def _as_mined(rows: Dataset, told: Columns) -> ReadPairs | None:
    present, positive = rows.column_names, told.get("positive", "positive")
    if not is_as_mined(present, told) or (positive in present and _holds_structs(_kind(rows, positive))):
        return None
    pairs = ReadPairs(rows=rows)
    label = next((name for name in present if name.lower() in ("label", "labels")), None) or judging(rows, present)
    named = next(name for name in (positive, told.get("positive_ids", "positive_ids")) if name in present)
    if label is None or (named == positive and not is_text(_kind(rows, positive))):
        return pairs
    try:
        return labelled(pairs, label)
    except (DataError, ConfigError) as error:
        if named in dict(told).values():
            return pairs
        warn(
            f"{label!r} beside {named!r} is not read as relevance, and every row counts as a positive: {error} Call "
            "the column otherwise where it says something else."
        )
        return pairs


def _nested_articles(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read SQuAD as it is published: articles of paragraphs of questions."""
    from datasets import Dataset

    present = rows.column_names
    if "paragraphs" not in present and "data" not in present:
        return None
    articles = (
        [row for row in rows if row] if "paragraphs" in present else [each for row in rows for each in row["data"]]
    )
    columns: dict[str, list[Any]] = {"query_id": [], "query": [], "positive": [], "answers": []}
    left_out = 0
    for paragraph in (each for article in articles for each in article.get("paragraphs") or ()):
        for asked in paragraph.get("qas") or ():
            answers = [answer["text"] for answer in asked.get("answers") or () if answer.get("text")]
            if asked.get("is_impossible") or ("answers" in asked and not answers):
                left_out += 1
                continue
            columns["query_id"].append(str(asked.get("id", len(columns["query"]))))
            columns["query"].append(asked["question"])
            columns["positive"].append(paragraph["context"])
            columns["answers"].append(answers)
    if not columns["query"]:
        return None
    return ReadPairs(
        rows=Dataset.from_dict(columns), words=f"query 'question', positive 'context'{_unanswered(left_out)}"
    )


def _unanswered(count: int) -> str:
    return f"; {count:,} questions without an answer are left out" if count else ""


def _extractive(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read SQuAD as the Hub has it: a question, its context, and answers in it."""
    if not {"question", "context", "answers"} <= set(rows.column_names) or not _holds_structs(_kind(rows, "answers")):
        return None
    answers = combined(rows.with_format("arrow", columns=["answers"])[:].column("answers"))
    texts = pc.struct_field(answers, "text") if pa.types.is_struct(answers.type) else answers
    mask = pc.fill_null(pc.greater(pc.list_value_length(texts), 0), False).to_numpy(zero_copy_only=False)
    kept = rows if mask.all() else rows.select(mask.nonzero()[0])
    if not len(kept):
        raise DataError("No question of the pairs has an answer, so no context is a positive. Give rows with answers.")
    columns = Columns(query="question", positive="context")
    words = f"query 'question', positive 'context'{_unanswered(len(rows) - len(kept))}"
    return ReadPairs(rows=kept, columns=columns, words=words)


def _passages(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read positives that are structs of a title, a text and an id: DPR's and Tevatron's."""
    cases = {name.lower(): name for name in rows.column_names}
    name = next((cases[name] for name in NESTED if name in cases and _holds_structs(_kind(rows, cases[name]))), None)
    query = next((cases[each] for each in (told.get("query", "query"), "question", "query") if each in cases), None)
    if name is None or query is None:
        return None
    inner = {part.name for part in _kind(rows, name).value_type}
    key = next((each for each in IDS if each in inner), None)
    text = next((each for each in ("text", "contents", "passage") if each in inner), None)
    if text is None:
        return None
    ids = next((cases[each] for each in ("query_id", "question_id", "qid") if each in cases), None)
    kept = [each for each in rows.column_names if each in (query, ids, "answers")]
    plain = rows.select_columns([*kept, name]).with_format("arrow")
    reader = _Passages(name, text, key)
    read = plain.map(reader, batched=True, remove_columns=[name], desc="Reading passages").with_format(None)
    chosen = Columns(query=query) if query != "query" else Columns()
    if ids not in (None, "query_id"):
        chosen["query_id"] = str(ids)
    return ReadPairs(rows=read, columns=chosen, words=f"query {query!r}, positive {name!r}", ids=key and "positive_ids")


@dataclass(frozen=True)
class _Passages:
    name: str
    text: str
    key: str | None

    def __call__(self, table: pa.Table) -> pa.Table:
        lists = table.column(self.name).to_pylist()
        texts = [[_titled(each.get("title"), each[self.text]) for each in passages or ()] for passages in lists]
        kept = {name: table.column(name) for name in table.column_names if name != self.name}
        columns = {"positive": pa.array(texts, pa.list_(pa.string()))}
        if self.key is not None:
            ids = [[str(each[self.key]) for each in passages or ()] for passages in lists]
            columns["positive_ids"] = pa.array(ids, pa.list_(pa.string()))
        return pa.table({**kept, **columns})


def _titled(title: str | None, text: str | None) -> str:
    return " ".join(part for part in (title, text) if part and part.strip())


def _trainer(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read a trainer's layout that `from_format` knows by its columns."""
    present = set(rows.column_names)
    names = [name for name, layout in LAYOUTS.items() if layout.columns and set(layout.columns) <= present]
    if not names:
        return None
    name = max(names, key=lambda each: len(LAYOUTS[each].columns))
    if name == "flagembedding":
        return ReadPairs(rows=rows, columns=Columns(positive="pos"), words="query 'query', positive 'pos'")
    if LAYOUTS[name].documents:
        return None
    with silenced():
        read = from_format(rows, name)
    return ReadPairs(rows=read.select_columns([each for each in MINED if each in read.column_names]), words=name)


def _entailment(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read NLI: what a premise entails is its positive."""
    cases = {name.lower(): name for name in rows.column_names}
    label = cases.get("gold_label", cases.get("label"))
    pair = next(
        (pair for pair in (("premise", "hypothesis"), ("sentence1", "sentence2")) if set(pair) <= set(cases)), None
    )
    if pair is None or label is None:
        return None
    numbers = _unnamed_numbers(rows, label)
    if pair[0] != "premise" and label.lower() != "gold_label":
        if {0, 1, 2} <= numbers <= {-1, 0, 1, 2}:
            raise DataError(
                f"{pair[0]!r} and {pair[1]!r} have the numbers 0, 1 and 2 as {label!r}, without names: in NLI 0 is "
                "entailment, which a positive is, and as a grade 2 is best. Map them to the words entailment, neutral "
                "and contradiction, or to 1 for positives and 0 for others."
            )
        return None
    query, positive = (cases[name] for name in pair)
    pairs = ReadPairs(
        rows=rows,
        columns=Columns(query=query, positive=positive),
        words=f"query {query!r}, positive {positive!r} where {label!r} is entailment",
    )
    if numbers and 2 not in numbers:
        raise DataError(
            f"{label!r} has the numbers {', '.join(sorted(map(str, numbers)))} without names; of three classes 0 "
            "is entailment, and of two either may be. Map them to the words entailment and not_entailment."
        )
    return labelled(pairs, label, NUMBERED if numbers else ENTAILMENT)


def _unnamed_numbers(rows: Dataset, label: str) -> set[int | None]:
    """Return the labels that are whole numbers whose meaning the features do not name; none of another type."""
    if not pa.types.is_integer(_kind(rows, label)) or label in class_names(rows.features.arrow_schema):
        return set()
    return set(pc.unique(combined(rows.with_format("arrow", columns=[label])[:].column(label))).to_pylist())


def _duplicates(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read duplicates as Quora's: pairs of questions, which hold in both directions."""
    from datasets import Dataset

    if "questions" in rows.column_names and "is_duplicate" in rows.column_names:
        table = rows.with_format("arrow")[:]
        texts = combined(table.column("questions"))
        texts = pc.struct_field(texts, "text") if pa.types.is_struct(texts.type) else texts
        columns = {f"question{place + 1}": pc.list_element(texts, place) for place in (0, 1)}
        rows = Dataset(pa.table({**columns, "is_duplicate": table.column("is_duplicate")}))
    cases = {name.lower(): name for name in rows.column_names}
    if not {"question1", "question2"} <= set(cases):
        return None
    query, positive = cases["question1"], cases["question2"]
    said = f"query {query!r}, positive {positive!r}, duplicates, which hold in both directions"
    pairs = ReadPairs(rows=rows, columns=Columns(query=query, positive=positive), words=said, symmetric=True)
    label = next((cases[name] for name in ("is_duplicate", "label", "duplicate") if name in cases), None)
    return pairs if label is None else labelled(pairs, label)


def _sets(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read sets of texts that mean the same: the first is the query, the others are its positives."""
    if rows.column_names != ["set"]:
        return None
    texts = combined(rows.with_format("arrow")[:].column("set"))
    columns = {"query": pc.list_element(texts, 0), "positive": pc.list_slice(texts, 1, return_fixed_size_list=False)}
    from datasets import Dataset

    words = "query and positives of 'set', which hold in both directions"
    return ReadPairs(rows=Dataset(pa.table(columns)), words=words, symmetric=True)


def _listed_labels(rows: Dataset, told: Columns) -> ReadPairs | None:
    """Read sentence-transformers' lists of documents with a list of labels."""
    name = next((each for each in ("labels", "label") if each in rows.column_names), None)
    if name is None or not pa.types.is_nested(_kind(rows, name)):
        return None
    with silenced():  # what each column is taken for is said once, of all layouts alike
        read = from_format(rows if name == "labels" else rows.rename_column(name, "labels"), "labeled-list")
    kept = [each for each in MINED if each in read.column_names]
    return ReadPairs(rows=read.select_columns(kept), words=f"query, and its positives by {name!r}")


PAIR_LAYOUTS: tuple[PairLayout, ...] = (
    PairLayout(
        name="labelled lists",
        known_by="a query, a list of documents, a list `labels`",
        is_read="documents whose label is above 0 are positives",
        read=_listed_labels,
    ),
    PairLayout(
        name="mined data, or rows made for mining",
        known_by="`query` with `positive` or `positive_ids`, or what `columns=` names",
        is_read="as it is; a `label` of 0 or false leaves its row out",
        read=_as_mined,
    ),
    PairLayout(
        name="SQuAD, as it is published",
        known_by="`data` of `paragraphs` of `context` and `qas`",
        is_read="each question with its paragraph; those without an answer are left out",
        read=_nested_articles,
    ),
    PairLayout(
        name="SQuAD, as the Hub has it",
        known_by="`question`, `context`, `answers`",
        is_read="the context is the positive; questions without an answer are left out",
        read=_extractive,
    ),
    PairLayout(
        name="DPR, Tevatron",
        known_by="a query or question, `positive_ctxs` or `positive_passages` of `title`, `text` and an id",
        is_read="title and text are the positive, and the id its id",
        read=_passages,
    ),
    PairLayout(
        name="FlagEmbedding, NeMo, contrastors, ms-swift",
        known_by="the columns of the layout, as `from_format()` knows them; FlagEmbedding also without `neg`",
        is_read="the positives of the layout; negatives it has already stay aside",
        read=_trainer,
    ),
    PairLayout(
        name="NLI",
        known_by="`premise`, `hypothesis`, `label`; or `sentence1`, `sentence2`, `gold_label`",
        is_read="a hypothesis that is entailed is the positive; `sentence1`, `sentence2` with a bare `label` of 0, 1 "
        "and 2 are refused, since those may be grades",
        read=_entailment,
    ),
    PairLayout(
        name="duplicates, as Quora's",
        known_by="`question1`, `question2`, `is_duplicate`; or `questions`",
        is_read="duplicates are positives of each other: `symmetric=True`",
        read=_duplicates,
    ),
    PairLayout(
        name="sets of the same meaning",
        known_by="`set`, a list of texts",
        is_read="the first is the query, the others are its positives: `symmetric=True`",
        read=_sets,
    ),
    PairLayout(
        name="sentence-transformers' pairs, triplets and labelled pairs; any table with such names",
        known_by="`anchor`, `question`, `sentence1`, … with `positive`, `answer`, `passage`, …, in any case; or two "
        "columns of texts in this order",
        is_read="by names; ids such as `docid` where there is no text; a `label` of 0 leaves its row out",
        read=by_names,
    ),
)
"""In the order in which they are tried."""


def read_pairs(rows: Dataset, told: Columns) -> ReadPairs:
    """Read a table of pairs by the first layout of the table that knows its columns.

    Raises:
        ColumnError: none does.
    """
    for layout in PAIR_LAYOUTS:
        pairs = layout.read(rows, told)
        if pairs is not None:
            chosen: Any = {role: name for role, name in pairs.columns.items() if role not in told}
            return replace(pairs, columns=chosen)
    raise ColumnError(
        f"The columns {', '.join(map(repr, rows.column_names))} are those of no layout of pairs. Name them with "
        "columns={'query': ..., 'positive': ...}."
    )


def _kind(rows: Dataset, name: str) -> Any:
    return rows.features.arrow_schema.field(name).type


def _holds_structs(kind: Any) -> bool:
    inner = kind.value_type if pa.types.is_list(kind) or pa.types.is_large_list(kind) else kind
    return pa.types.is_struct(inner)
