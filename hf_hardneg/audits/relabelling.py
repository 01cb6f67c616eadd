"""Judges that relabel: what a judge finds relevant is no negative, and may be a positive.

After RLHN (arXiv 2505.16967) and ARHN (arXiv 2604.11092). A verdict is keep, drop or promote. A model of pairs gives it
by two thresholds that the known positives calibrate, a judge of lists by what it places above the known positives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_hardneg.arrays.grouping import isin_sorted
from hf_hardneg.arrays.lists import combined, lengths, listed, ragged
from hf_hardneg.audits.verdicts import pair_columns, pair_keys_of
from hf_hardneg.corpus.columns import PROMOTED, PSEUDO, Columns, missing_column
from hf_hardneg.corpus.ids import is_listed, is_text
from hf_hardneg.corpus.pictures import holds_pictures, refuse_names, refuse_pictures
from hf_hardneg.corpus.queries import PairColumns, is_label
from hf_hardneg.errors import ColumnError, ConfigError, DataError, warn
from hf_hardneg.formats.exporting import PER_NEGATIVE
from hf_hardneg.models.cross_encoder import load_cross_encoder
from hf_hardneg.models.score_store import stored
from hf_hardneg.models.scorers import PairScorer
from hf_hardneg.reports.report import check_mined
from hf_hardneg.runtime.arguments import Folder, Range, Share, checked, fit, shown
from hf_hardneg.store.directories import cache_root
from hf_hardneg.text.hashes import NONE, normalized_keys, pair_keys

if TYPE_CHECKING:
    from datasets import Dataset

Promotion = Literal["off", "mark", "merge"]
KEEP, DROP, PROMOTE = 0, 1, 2
JUDGED = "judged"
"""The count of `mining` of negatives that a judge took away."""
BATCH = 1_000
ENOUGH = 20
"""Known positives by which thresholds can be calibrated."""
ADDED = ("pad_", "synthetic")
"""How the sources of negatives begin that no filter let pass."""


@runtime_checkable
class ListJudge(Protocol):
    """A judge of lists: it puts documents in the order of their relevance, such as `ListwiseJudge`."""

    @property
    def at_once(self) -> int:
        """How many documents it may be asked to order."""

    def order(self, queries: Sequence[str], documents: Sequence[Sequence[str]]) -> Sequence[Sequence[int] | None]:
        """Return for each query the places of its documents, best first; `None` where it has no valid answer."""


@checked
def relabel(
    mined: Dataset,
    judge: Any = None,
    *,
    promote: Promotion = "off",
    drop_from: Share = 0.1,
    promote_from: Share = 0.9,
    columns: Columns | None = None,
    cache_dir: Folder | None = None,
) -> Dataset:
    """Have a judge decide of every mined negative whether it stays, goes, or is promoted to a positive.

    A judge of pairs scores negatives and known positives. A negative is kept below the quantile `drop_from` of the
    scores of positives, promoted from the quantile `promote_from` on, and dropped between them. A judge of lists orders
    the row's documents; what it places above all known positives is promoted, what it places above one is dropped. All
    rows of a query share a verdict: where they differ, the document is dropped.

    What is promoted or dropped is no negative of any row of the query; `mining` counts it as `judged`. Promoted
    documents go where `promote` says: by default nowhere, since nobody labelled them.

    Args:
        mined (`Dataset`): what `mine()` returned, also with the columns `pseudo_positives` of a `Denoised`.
        judge (*optional*): a cross-encoder or denoiser as `load_cross_encoder` takes it, or a `ListJudge`. Without one,
            the pseudo-positives that the rows have are promoted.
        promote (`str`, defaults to `"off"`): promoted documents are only taken away; `"mark"` writes them into the
            columns `pseudo_positives` and `pseudo_positive_ids`; `"merge"` adds them to the row's positives, with the
            columns `promoted` and `promoted_ids` to say which; `demote` takes them out again.
        drop_from, promote_from (`float`, default to 0.1 and 0.9): quantiles of the scores of known positives.
        columns (`Columns`, *optional*): as `mine` got them; by default what the recipe says.
        cache_dir (`str`, *optional*): where scores are stored.

    Raises:
        ColumnError: the rows lack columns. ConfigError: the judge is none, or thresholds overlap.
        DataError: too few positives have a score to calibrate by.

    Example:
        >>> class Colours:  # or ListwiseJudge, a language model
        ...     at_once = 20
        ...
        ...     def order(self, queries, documents):
        ...         return [sorted(range(len(texts)), key=lambda n: "red" not in texts[n]) for texts in documents]
        >>> rows = relabel(mined, Colours(), promote="merge")
        >>> mined[0]["negative_ids"], rows[0]["negative_ids"], rows[0]["positive_ids"]
        (['mars', 'sunset'], [], ['rayleigh', 'mars', 'sunset'])
    """
    check_mined(mined, "relabel()")
    names = pair_columns(mined, columns, what="relabel()")
    _check_rows(mined, names, promote)
    if drop_from > promote_from:
        raise ConfigError(
            f"drop_from={drop_from} is above promote_from={promote_from}, so that what is promoted would be kept as a "
            "negative; give promote_from at least drop_from, such as 0.1 and 0.9."
        )
    if judge is None:
        _check_marked(mined, promote)
        rows = mined
    else:
        if isinstance(judge, ListJudge):
            keys, verdicts = _of_lists(mined, names, judge)
        else:
            scorer = stored(load_cross_encoder(judge, cache_dir=cache_root(cache_dir)), cache_root(cache_dir))
            keys, verdicts = _of_pairs(mined, names, scorer, (drop_from, promote_from))
        step = _Relabelled(names.query, *_shared(keys, verdicts), _aligned(mined), marks=promote != "off")
        rows = mined.with_format("arrow").map(step, batched=True, batch_size=BATCH, desc="Relabelling")
    if promote == "merge":
        rows = rows.with_format("arrow").map(_Merged(names), batched=True, batch_size=BATCH, remove_columns=[*PSEUDO])
    return _formatted(rows, mined)


@checked
def demote(rows: Dataset, *, columns: Columns | None = None) -> Dataset:
    """Take documents that `relabel` merged out of the positives again, into `pseudo_positives`.

    A column of one positive a row that became one of lists stays one of lists.

    Args:
        rows (`Dataset`): what `relabel(..., promote="merge")` returned.
        columns (`Columns`, *optional*): as `mine` got them; by default what the recipe says.

    Raises:
        ColumnError: nothing is marked as promoted.
        DataError: a row has more promoted documents than positives.

    Example:
        >>> class Backwards:
        ...     at_once = 20
        ...
        ...     def order(self, queries, documents):
        ...         return [range(len(texts))[::-1] for texts in documents]
        >>> rows = demote(relabel(mined, Backwards(), promote="merge"))
        >>> rows["positive"][:] == mined["positive"][:], rows[0]["pseudo_positive_ids"]
        (True, ['mars', 'sunset'])
    """
    if missing := [name for name in PROMOTED if name not in rows.column_names]:
        raise ColumnError(
            f"demote() needs {' and '.join(map(repr, missing))}, and the rows have "
            f"{', '.join(map(repr, rows.column_names))}. Give what relabel(..., promote='merge') returned."
        )
    _check_promoted(rows, PROMOTED)
    names = pair_columns(rows, columns, what="demote()")
    plain = rows.with_format("arrow").map(
        _Demoted(names), batched=True, batch_size=BATCH, remove_columns=[*PROMOTED], desc="Demoting"
    )
    return _formatted(plain, rows)


def _formatted(rows: Dataset, like: Dataset) -> Dataset:
    """Return rows in the format, or under the transform, of others."""
    return rows.with_format(like.format["type"], **like.format["format_kwargs"])


def _check_rows(mined: Dataset, names: PairColumns, promote: Promotion) -> None:
    """Raise for rows that no judge can read, or whose columns have no room for what is promoted.

    Raises:
        ColumnError, ConfigError, DataError: saying which.
    """
    kinds, present = mined.features.arrow_schema, mined.column_names
    if names.positive not in present:
        raise missing_column(names.positive, present, "dataset", "positive")
    if not len(mined):
        raise DataError("relabel() got 0 rows, and a judge needs at least one. Leave such a split out.")
    if any(holds_pictures(kinds.field(name).type) for name in (names.query, names.positive)):
        raise refuse_pictures("relabel()")
    if is_label(kinds.field(names.positive).type):
        raise ColumnError(
            f"Column {names.positive!r} holds {kinds.field(names.positive).type}, labels and no texts that "
            "relabel() could compare with. Mine with columns={'positive': 'positive_text'}, or rename the labels."
        )
    if promote != "off" and "negative_ids" not in present:
        raise ColumnError(
            f"relabel(promote={promote!r}) names documents by their ids, and the rows have no column 'negative_ids'. "
            "Give what mine() returned, or promote='off'."
        )
    for pair in (PSEUDO, PROMOTED):
        _check_promoted(mined, pair)


def _check_promoted(rows: Dataset, pair: tuple[str, str]) -> None:
    """Raise where columns that hold promoted documents, texts and ids, hold something else or are not both there.

    Raises:
        ColumnError: naming them.
    """
    kinds = {name: rows.features.arrow_schema.field(name).type for name in pair if name in rows.column_names}
    texts = [
        is_listed(kind) and (is_text(kind.value_type) or pa.types.is_null(kind.value_type)) for kind in kinds.values()
    ]
    if len(kinds) == 1 or not all(texts):
        raise ColumnError(
            f"The rows have {', '.join(f'{name!r} of {kind}' for name, kind in kinds.items())}; what a judge promoted "
            f"stands in {pair[0]!r} and {pair[1]!r}, lists of texts, both or none. Rename columns of your own."
        )


def _check_marked(mined: Dataset, promote: Promotion) -> None:
    if PSEUDO[0] not in mined.column_names:
        raise ColumnError(
            f"relabel() got no judge=, and the rows have no column {PSEUDO[0]!r} whose documents it could promote. "
            "Give a judge, or mine with Denoised(pseudo_positives='best')."
        )
    if promote != "merge":
        raise ConfigError(
            f"relabel(promote={promote!r}) without a judge= would change nothing: the rows have pseudo-positives "
            "already. Give promote='merge' to add them to the positives, or a judge."
        )


def _batches(mined: Dataset, names: PairColumns) -> Iterator[pa.Table]:
    wanted = [names.query, names.positive, "negatives"]
    for rows in mined.with_format("arrow", columns=wanted).iter(BATCH):
        refuse_names("relabel()", filter(None, listed(rows.column("negatives")).flatten().to_pylist()))
        yield rows


def _of_pairs(
    mined: Dataset, names: PairColumns, scorer: PairScorer, quantiles: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of all (query, negative) pairs, (n,) uint64, and verdicts by a scorer, (n,) int8.

    Raises:
        DataError: too few positives have a score.
    """
    sides: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {names.positive: [], "negatives": []}
    for rows in _batches(mined, names):
        for side, scored in sides.items():
            scored.append(_scored(rows, names.query, side, scorer))
    keys, scores = (np.concatenate(part) for part in zip(*sides["negatives"], strict=True))
    pairs, known = (np.concatenate(part) for part in zip(*sides[names.positive], strict=True))
    known = known[np.unique(pairs, return_index=True)[1]]
    known = known[np.isfinite(known)]
    if len(known) < ENOUGH:
        raise DataError(
            f"judge= gave {len(known)} of the rows' positives a score, and at least {ENOUGH} are needed to calibrate "
            "its thresholds. Give more rows, or a ListJudge, which compares within a row."
        )
    low, high = np.quantile(known, quantiles)
    return keys, np.where(scores >= high, PROMOTE, np.where(scores >= low, DROP, KEEP)).astype(np.int8)


def _scored(rows: pa.Table, query: str, side: str, scorer: PairScorer) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys and scores of the distinct pairs of some rows."""
    documents = listed(rows.column(side))
    owner = np.repeat(np.arange(len(rows)), lengths(documents))
    asked = combined(rows.column(query)).cast(pa.large_string()).take(pa.array(owner))
    texts = documents.flatten().cast(pa.large_string())
    keys, first = np.unique(pair_keys(normalized_keys(asked), normalized_keys(texts)), return_index=True)
    keys, first = keys[keys != NONE], first[keys != NONE]
    chosen = pa.array(first)
    return keys, scorer.score(asked.take(chosen).to_pylist(), texts.take(chosen).to_pylist()).astype(np.float64)


def _of_lists(mined: Dataset, names: PairColumns, judge: ListJudge) -> tuple[np.ndarray, np.ndarray]:
    """Return the keys of (query, negative) pairs and verdicts by a judge of lists, as `_of_pairs` does."""
    keys, verdicts, unplaced, asked = [np.zeros(0, np.uint64)], [np.zeros(0, np.int8)], 0, 0
    if isinstance(judge, type):
        raise ConfigError(
            f"judge= got the class {judge.__name__}; allowed is an object of it. Give {judge.__name__}()."
        )
    at_once: int = fit("relabel", "judge.at_once", judge.at_once, Annotated[int, Range(least=2, such_as=20)])
    for rows in _batches(mined, names):
        of_batch, counts = pair_keys_of(rows, names.query)
        lists = list(_lists(rows, names, counts, at_once))
        answers: Any = judge.order([each.query for each in lists], [each.documents for each in lists])
        if not hasattr(answers, "__len__") or len(answers) != len(lists):
            raise DataError(
                f"judge= gave {shown(answers)} for {len(lists)} lists; order() must return a list of one order for "
                "each, in their order."
            )
        for each, places in zip(lists, answers, strict=True):
            asked, unplaced = asked + 1, unplaced + (places is None)
            if places is not None:
                keys.append(of_batch[each.start : each.start + len(each.documents) - each.positives])
                verdicts.append(each.verdicts(places))
    if unplaced:
        warn(
            f"{unplaced:,} of {asked:,} lists have no valid order, so their negatives stay as they are. Look at "
            "what the judge answers, and at its budget: the same call goes on where that was spent."
        )
    return np.concatenate(keys), np.concatenate(verdicts)


@dataclass(frozen=True)
class _List:
    """Documents to be ordered for a query, its positives first; the negatives begin at `start` of the batch."""

    query: str
    documents: list[str]
    positives: int
    start: int

    def verdicts(self, places: Sequence[int]) -> np.ndarray:
        """Return the verdicts on the negatives of an order.

        Raises:
            DataError: that is no order of the documents.
        """
        try:
            order = np.asarray(places)
        except ValueError:
            order = np.zeros(0)
        if (
            order.ndim != 1
            or order.dtype.kind not in "iu"
            or sorted(order.tolist()) != list(range(len(self.documents)))
        ):
            raise DataError(
                f"judge= ordered {len(self.documents)} documents as {shown(places)}; an order has each place "
                "from 0 on once, or is None where there is no answer."
            )
        rank = np.argsort(order)
        known, others = rank[: self.positives], rank[self.positives :]
        return np.where(others < known.min(), PROMOTE, np.where(others < known.max(), DROP, KEEP)).astype(np.int8)


def _lists(rows: pa.Table, names: PairColumns, counts: np.ndarray, at_once: int) -> Iterator[_List]:
    """Yield lists of at most `at_once` documents, with at most half as many positives in each."""
    starts = np.cumsum(counts) - counts
    positives, negatives = (listed(rows.column(name)).to_pylist() for name in (names.positive, "negatives"))
    for query, known, others, start in zip(
        combined(rows.column(names.query)).to_pylist(), positives, negatives, starts.tolist(), strict=True
    ):
        texts = [text for text in known or [] if text is not None and query is not None][: at_once // 2]
        size = at_once - len(texts)
        for first in range(0, len(others or []) if texts else 0, size):
            yield _List(str(query), [*texts, *others[first : first + size]], len(texts), start + first)


def _shared(keys: np.ndarray, verdicts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return keys, ascending and once, and the verdict on each: where several differ, to drop it."""
    keys, verdicts = keys[keys != NONE], verdicts[keys != NONE]
    table, place = np.unique(keys, return_inverse=True)
    least, most = np.full(len(table), PROMOTE, np.int8), np.full(len(table), KEEP, np.int8)
    np.minimum.at(least, place, verdicts)
    np.maximum.at(most, place, verdicts)
    return table, np.where(least == most, least, DROP).astype(np.int8)


@dataclass(frozen=True)
class _Relabelled:
    """Rows without the negatives that were dropped or promoted, a map callable.

    Args:
        query (`str`): the column of queries.
        keys, verdicts (`np.ndarray`): (n,) of pairs, keys ascending.
        aligned (`tuple[str, ...]`): the columns that hold a value for each negative.
        marks (`bool`): whether promoted documents go into the columns of pseudo-positives.
    """

    query: str
    keys: np.ndarray
    verdicts: np.ndarray
    aligned: tuple[str, ...]
    marks: bool

    def __call__(self, rows: pa.Table) -> pa.Table:
        keys, counts = pair_keys_of(rows, self.query)
        place, judged = isin_sorted(keys, self.keys)
        verdict = np.where(judged, self.verdicts[place], KEEP) if len(self.keys) else np.zeros(len(keys), np.int8)
        columns = {name: combined(rows.column(name)) for name in rows.column_names}
        changed = {name: _taken(columns[name], counts, verdict == KEEP) for name in self.aligned}
        sources = columns["negative_sources"].flatten()
        padded = np.any([pc.starts_with(sources, start).to_numpy(zero_copy_only=False) for start in ADDED], axis=0)
        gone = np.bincount(_owner(counts)[(verdict != KEEP) & ~padded], minlength=len(rows))
        changed["mining"] = _counted(columns["mining"], gone)
        for ours, theirs in zip(PSEUDO, ("negatives", "negative_ids"), strict=True) if self.marks else ():
            new = _taken(columns[theirs], counts, verdict == PROMOTE)
            changed[ours] = _behind(listed(columns[ours]), new) if ours in columns else new
        return pa.table({**columns, **changed})


def _aligned(mined: Dataset) -> tuple[str, ...]:
    """Name the columns that hold a value for each negative, in every row; others are the user's, and stay.

    Raises:
        DataError: a column of mining does not.
    """
    kinds = mined.features.arrow_schema
    names = [name for name in mined.column_names if name.startswith("negative_") and is_listed(kinds.field(name).type)]
    for rows in mined.with_format("arrow", columns=["negatives", *names]).iter(BATCH):
        counts = lengths(listed(rows.column("negatives")))
        names = [name for name in names if np.array_equal(lengths(listed(rows.column(name))), counts)]
    names = ["negatives", *names]
    if missing := [name for name in PER_NEGATIVE if name in kinds.names and name not in names]:
        raise DataError(
            f"{', '.join(map(repr, missing))} must hold a value for each of a row's 'negatives', and do not. Give the "
            "rows as mine() returned them."
        )
    return tuple(names)


def _owner(counts: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(counts)), counts)


def _taken(column: pa.Array, counts: np.ndarray, mask: np.ndarray) -> pa.ListArray:
    """Return lists with the values that a mask over all of them leaves."""
    left = np.bincount(_owner(counts)[mask], minlength=len(counts))
    return ragged(listed(column).flatten().filter(pa.array(mask)), left)


def _counted(mining: pa.StructArray, gone: np.ndarray) -> pa.StructArray:
    """Return the counts of mining with those that a judge took away, before what was kept."""
    counts = dict(zip([field.name for field in mining.type], mining.flatten(), strict=True))
    before = counts.pop(JUDGED, pa.array(np.zeros(len(gone), np.int32)))
    taken = pa.array(gone.astype(np.int32))
    counts["kept"], counts["short"] = pc.subtract(counts["kept"], taken), pc.add(counts["short"], taken)
    names = list(counts)
    names.insert(names.index("kept"), JUDGED)
    counts[JUDGED] = pc.add(before, taken)
    return pa.StructArray.from_arrays([counts[name] for name in names], names=names)


def _behind(lists: pa.ListArray, more: pa.ListArray) -> pa.ListArray:
    """Return lists with the values of other lists behind their own."""
    counts, added = lengths(lists), lengths(more)
    order = np.argsort(np.concatenate([_owner(counts), _owner(added)]), kind="stable")
    kind = (more if pa.types.is_null(lists.type.value_type) else lists).type.value_type
    values = pa.concat_arrays([part.flatten().cast(kind) for part in (lists, more)])
    return ragged(values.take(pa.array(order)), counts + added)


@dataclass(frozen=True)
class _Merged:
    """Rows whose pseudo-positives stand behind their positives, a map callable."""

    names: PairColumns

    def __call__(self, rows: pa.Table) -> pa.Table:
        columns = {name: combined(rows.column(name)) for name in rows.column_names}
        texts, ids = (listed(columns.pop(name)) for name in PSEUDO)
        nothing = pa.nulls(len(texts.flatten()), pa.float32())
        added = {self.names.positive: texts, self.names.positive_ids: ids}
        for name in _of_positives(columns, self.names):
            columns[name] = _behind(listed(columns[name]), added.get(name, ragged(nothing, lengths(texts))))
        for name, new in zip(PROMOTED, (texts, ids), strict=True):
            columns[name] = _behind(listed(columns[name]), new) if name in columns else new
        return pa.table(columns)


@dataclass(frozen=True)
class _Demoted:
    """Rows without their promoted documents among the positives, a map callable."""

    names: PairColumns

    def __call__(self, rows: pa.Table) -> pa.Table:
        columns = {name: combined(rows.column(name)) for name in rows.column_names}
        marked = [listed(columns.pop(name)) for name in PROMOTED]
        for name in _of_positives(columns, self.names):
            array = listed(columns[name])
            counts, left = lengths(array), lengths(array) - lengths(marked[0])
            if (left < 0).any():
                raise DataError(
                    f"Column {name!r} has fewer values than {PROMOTED[0]!r} in {int((left < 0).sum())} rows, so which "
                    "were promoted is not known. Give the rows as relabel() returned them."
                )
            place = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            columns[name] = _taken(array, counts, place < left[_owner(counts)])
        for name, theirs in zip(PSEUDO, marked, strict=True):
            columns[name] = _behind(theirs, listed(columns[name])) if name in columns else theirs
        return pa.table(columns)


def _of_positives(columns: dict[str, Any], names: PairColumns) -> list[str]:
    """Name the columns to which a value is added for each document that becomes a positive of a row."""
    listings = [name for name in (names.positive, names.positive_ids) if name in columns]
    scores = [name for name in columns if name.startswith("positive_") and name.endswith("scores")]
    return listings + [name for name in scores if is_listed(columns[name].type)]
