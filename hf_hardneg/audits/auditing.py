"""`audit` reads rows twice, and tells what is wrong with their negatives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hf_hardneg.audits.audited_rows import AuditedBatch, AuditedRows
from hf_hardneg.audits.checks import CHECKS
from hf_hardneg.audits.collecting import CheckTally, Histograms, note_frequent
from hf_hardneg.audits.facts import Collector, Facts, HeldOut, held_out, relevant_pairs
from hf_hardneg.audits.findings import Finding
from hf_hardneg.audits.judging import Judge, SampledPairs
from hf_hardneg.audits.lookups import open_lookup
from hf_hardneg.audits.result import Audit
from hf_hardneg.audits.sources import open_queries, open_sources, test_source
from hf_hardneg.audits.views import View
from hf_hardneg.corpus.columns import Columns, columns_of
from hf_hardneg.errors import ConfigError, DataError, unknown_name
from hf_hardneg.formats.importing import READ_ONLY
from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.formats.loading import load_corpus
from hf_hardneg.formats.reading import read_rows
from hf_hardneg.runtime.arguments import Name, checked
from hf_hardneg.runtime.process import ahead
from hf_hardneg.runtime.progress import bar

if TYPE_CHECKING:
    from datasets import Dataset

    from hf_hardneg.pipeline.options import Documents, PairRows


@checked
def audit(
    dataset: PairRows,
    corpus: Documents | None = None,
    qrels: Dataset | Mapping[str, Any] | None = None,
    judge: Any = None,
    *,
    layout: Name | None = None,
    split: Name = "train",
    queries: Dataset | None = None,
    test_queries: Dataset | Sequence[str] | None = None,
    columns: Columns | None = None,
) -> Audit:
    """Tell what is wrong with a dataset of hard negatives, in any layout, mined by anyone.

    The rows are read twice, batch by batch. What is kept of them are 64-bit keys with counts: 12 bytes for each query
    and each distinct negative, twice that for each positive (six times where there are ids), however long the texts.
    Two texts are the same where they are after Unicode NFKC, case-folding and collapsing white space. `CHECKS` holds
    every check; a check that lacks what it needs is in `unchecked`.

    Args:
        dataset (`Dataset`, `IterableDataset`, `DatasetDict`, mapping, list, frame or path): rows in a layout of
            `from_format()`; beside them their tables of texts, for layouts of ids, or other splits, which are test sets
            unless called train.
        corpus (`Dataset` or whatever holds documents, *optional*): the documents that were mined, as `mine` takes
            them: ids and texts are compared with it, and found in it where rows have only one of them.
        qrels (`Dataset` or `Mapping`, *optional*): judgements by ids: BEIR's columns query-id, corpus-id and score, or
            from a query to relevant documents or their grades.
        judge (*optional*): a cross-encoder, as `load_cross_encoder` takes it, or a function (queries, documents) to
            probabilities (or logits, with an attribute `kind` of `"ce_logit"`), that estimates false negatives; or a
            `Judge`, which says how many pairs such a model is asked, and from which probability it says relevant.
        layout (`str`, *optional*): by default what the columns say.
        split (`str`, defaults to `"train"`): which of several is audited.
        queries (`Dataset`, *optional*): ids and texts of the queries, for rows that have only one of them: a column
            `query`, `text`, `question` or `anchor`, and `query_id`, `query-id`, `_id`, `qid` or `id`.
        test_queries (`Dataset` or `Sequence[str]`, *optional*): queries of a test set: texts, or rows with `query` or
            `text` and perhaps `query_id` or `_id`, or rows of a layout. With `qrels`, what is relevant to them counts.
        columns (`Columns`, *optional*): of the corpus, the roles `id` and `text`; by default as the recipe in the rows
            says. Rows are read by their layout, mined ones by the names in their recipe.

    Raises:
        UnknownNameError: no such layout.
        ColumnError: the columns are of no layout, or something given lacks columns.
        ConfigError: an argument of another type; or `qrels` needs ids, or `judge` texts, that are nowhere.
        DataError: there are no rows; or a table repeats an id; or grades are no numbers, or scores no probabilities.

    Example:
        >>> from datasets import Dataset
        >>> rows = Dataset.from_dict({"query": ["sky"], "positive": ["Blue."], "negative": ["blue."]})
        >>> result = audit(rows)
        >>> bool(result), result.counts
        (False, {'positive_normalized': 1})
    """
    if layout is not None and layout not in (*READ_ONLY, *LAYOUTS):
        raise unknown_name("layout", layout, (*READ_ONLY, *LAYOUTS))
    if corpus is None and columns:
        raise ConfigError("audit() got columns=, whose id and text are of a corpus, and no corpus=. Give it, too.")
    asked = None if judge is None else judge if isinstance(judge, Judge) else Judge(judge)
    rows = read_rows(dataset, layout, "audit(dataset=)")
    source, others = open_sources(rows, layout, split)
    if corpus is not None:
        documents = load_corpus(corpus, columns, what="audit(corpus=)")
        roles = columns_of(source.dataset, columns, documents.rows)
        source = replace(source, documents=open_lookup(documents.rows, {**documents.columns, **roles}))
    if queries is not None:
        source = replace(source, queries=open_queries(queries))
    tests = [*others, *([] if test_queries is None else [test_source(test_queries)])]
    if corpus is not None:
        tests = [replace(test, documents=source.documents) for test in tests]
    facts = _facts(source, qrels, tests, asked is not None)
    return _audited(source, facts, asked)


def _facts(source: AuditedRows, qrels: Any, tests: Sequence[AuditedRows], judged: bool) -> Facts:
    """Collect in a first pass what checks must know of other rows."""
    relevant = None if qrels is None else relevant_pairs(qrels)[0]
    test: HeldOut | None = held_out([test.batches() for test in tests], qrels) if tests else None
    collector = Collector()
    for batch in _shown(source, "Audit, first pass", compared=False):
        if relevant is not None:
            _check_has("qrels=", "ids", batch.query_id, batch.negative.ids)
        if judged:
            _check_has("judge=", "texts", batch.query, batch.negative.texts)
        collector.add(batch)
    if not collector.rows:
        raise DataError("The dataset has 0 rows; an audit needs one at least. Give the split that was mined.")
    return collector.facts(relevant, test)


def _check_has(option: str, what: str, query: Any, documents: Any) -> None:
    if query is None or documents is None:
        side, table = ("queries", "queries") if query is None else ("documents", "corpus")
        raise ConfigError(
            f"{option} needs {what}, and the rows have none of {side}. Give {table}=, a Dataset of ids and texts, to "
            f"look them up; or leave {option} out."
        )


def _shown(source: AuditedRows, what: str, *, compared: bool) -> Iterator[AuditedBatch]:
    """Read the batches of a pass, each with its keys, and show how far it is."""
    with bar(desc=what, unit=" rows") as progress:
        for batch in ahead(batch.with_keys(compared=compared) for batch in source.batches()):
            yield batch
            progress.update(len(batch.number))


def _audited(source: AuditedRows, facts: Facts, judge: Judge | None) -> Audit:
    """Run all checks in a second pass."""
    occurrences = {name: CheckTally() for name in CHECKS}
    untold: set[str] = set()
    histograms = Histograms()
    samples = [SampledPairs(judge.sample, judge.seed) for _ in range(2)] if judge else []
    most: dict[int, dict[str, Any]] = {}
    for batch in _shown(source, "Audit, second pass", compared=True):
        view = View(batch, facts)
        for name, check in CHECKS.items():
            flags = check.find(view)
            if flags is None:
                untold.add(name)
            else:
                occurrences[name].add(flags, batch)
        histograms.add(view)
        note_frequent(batch, facts, most)
        for side, sample in zip((batch.negative, batch.positive), samples, strict=False):
            sample.add(batch, side)
    occurrences["frequent_negative"].examples = [most[key] for key in facts.most]
    findings = [_finding(name, each, facts.rows) for name, each in occurrences.items() if each.count]
    order = ("error", "warning", "note")
    return Audit(
        layout=source.layout,
        rows=facts.rows,
        negatives=facts.negatives,
        findings=tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
        unchecked={name: CHECKS[name].needs for name in CHECKS if name in untold},
        histograms=histograms.filled(facts),
        estimate=judge.estimate(*samples) if judge else None,
    )


def _finding(name: str, occurrences: CheckTally, rows: int) -> Finding:
    check, share = CHECKS[name], occurrences.rows / rows
    figures: dict[str, Any] = {
        "count": occurrences.count,
        "rows": occurrences.rows,
        "examples": tuple(occurrences.examples),
    }
    return Finding(name=name, severity=check.severity, says=check.says, todo=check.todo, share=share, **figures)
