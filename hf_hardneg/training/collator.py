"""From rows of mined data to token batches, with the keys by which losses know texts again on other ranks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from torch import Tensor

from hf_hardneg.corpus.columns import Columns, columns_of, missing_column
from hf_hardneg.corpus.documents import content_digest
from hf_hardneg.corpus.loaded_from import in_words
from hf_hardneg.corpus.pictures import refuse_names
from hf_hardneg.corpus.positives import KnownPositives, Listing, PositiveList, obtain_positives
from hf_hardneg.corpus.queries import PairColumns, group_keys
from hf_hardneg.errors import ColumnError, ConfigError, DataError
from hf_hardneg.runtime.arguments import AtLeastOne, Folder, Name, Range, check_fields, checked
from hf_hardneg.store import directories
from hf_hardneg.text.keys import Dedupe, text_keys
from hf_hardneg.training.batch_columns import BatchColumns
from hf_hardneg.training.fresh import FreshNegatives

if TYPE_CHECKING:
    from datasets import Dataset

Row = Mapping[str, Any]
BATCH = 1000


@dataclass(frozen=True)
class CrossBatchCollator:
    """A `collate_fn`: tokens of queries, positives and negatives, and 64-bit keys of all texts.

    It keeps no state but the epoch of `FreshNegatives`, so any number of DataLoader workers gives the same batches. Of
    several positives of a row the first is trained on; the others, and what `known` holds, are known not to be
    negatives. A row with too few negatives is filled up with its positive, which `negative_mask` and the keys take out
    again.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): any that pads and returns PyTorch tensors.
        num_negatives (`int` or `FreshNegatives`, *optional*): for each query, the first ones, or others in each epoch;
            by default as many as the longest row of the batch has, 0 for none.
        query_prompt, document_prompt (`str`, defaults to `""`): put before each text.
        query_max_length, document_max_length (`int`, *optional*): tokens; by default what the tokenizer says.
        known (`KnownPositives`, *optional*): positives of a query in other rows, see `known_positives`.
        dedupe (`str`, defaults to `"normalized"`): when two texts are the same, as in `HardNegatives`.
        columns (`BatchColumns`, *optional*): as `mine()` got them, and the roles of mined columns.
        score_columns (`tuple[str, str]`, *optional*): a teacher's scores of positives and of negatives to learn from,
            such as `("positive_scores", "negative_scores")`.

    Raises:
        ConfigError: options that cannot work.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(mined, batch_size=2, collate_fn=CrossBatchCollator(tokenizer, num_negatives=2))
        >>> batch = next(iter(loader))
        >>> {name: tuple(batch[name]["input_ids"].shape) for name in ("queries", "positives", "negatives")}
        {'queries': (2, 9), 'positives': (2, 22), 'negatives': (4, 25)}
    """

    tokenizer: Any
    _: KW_ONLY
    num_negatives: Annotated[int, Range(least=0, most=10_000)] | FreshNegatives | None = None
    query_prompt: str = ""
    document_prompt: str = ""
    query_max_length: AtLeastOne | None = None
    document_max_length: AtLeastOne | None = None
    known: KnownPositives | None = None
    columns: BatchColumns | None = None
    dedupe: Dedupe = "normalized"
    score_columns: tuple[Name, Name] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if not callable(self.tokenizer):
            raise ConfigError(
                f"CrossBatchCollator(tokenizer=) got a {type(self.tokenizer).__name__}, which cannot be called; a "
                "tokenizer of transformers is allowed. Give AutoTokenizer.from_pretrained(name)."
            )
        if isinstance(self.num_negatives, FreshNegatives):
            named: Any = self.num_negatives.columns or {}
            if any(self._column(role) != name for role, name in named.items()):
                raise ConfigError(
                    f"FreshNegatives(columns={named!r}) reads other columns than CrossBatchCollator(columns="
                    f"{self.columns!r}); it must cut those that the collator takes. Name all in columns= of the "
                    "collator, by which it goes."
                )

    @checked
    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Make the batch of B rows.

        Returns:
            `dict` of `queries`, `positives` and, where m > 0, `negatives`: token batches of B, B and B * m rows;
            `negative_mask` (B, m) bool; `keys`: `queries` (B,), `positives` (B,), `negatives` (B, m), `known` (B, p)
            int64, the arguments of `Keys`; with `score_columns`, `scores` (B, 1 + m) float32, NaN where filled up; with
            the columns `weight` and `false_negative`, `weights` (B,) and `negative_weights` (B, m) float32.

        Raises:
            ColumnError: a column is missing.
            DataError: a text is missing or is no string.
        """
        if not len(rows):
            raise DataError("CrossBatchCollator got a batch of 0 rows; it needs one at least. Give the loader rows.")
        if isinstance(self.num_negatives, FreshNegatives):
            beside = () if self.score_columns is None else self.score_columns[1:]
            rows = self.num_negatives.reading(self.columns, beside).of_rows(rows)
        queries = [text for row in rows for text in self._texts(row, "query", at_most=1)]
        positives = [self._texts(row, "positive", at_least=1) for row in rows]
        first = [texts[0] for texts in positives]
        negatives, mask = self._negatives(rows, first)
        flat = [text for texts in negatives for text in texts]
        batch: dict[str, Any] = {
            "queries": self._tokens(queries, self.query_prompt, self.query_max_length),
            "positives": self._tokens(first, self.document_prompt, self.document_max_length),
            "negative_mask": torch.from_numpy(mask),
            "keys": {
                "queries": self._keys(queries),
                "positives": self._keys(first),
                "negatives": self._keys(flat).view(mask.shape),
                "known": self._known(rows, queries, positives),
            },
        }
        if flat:
            batch["negatives"] = self._tokens(flat, self.document_prompt, self.document_max_length)
        if self.score_columns is not None:
            batch["scores"] = self._scores(rows, mask, *self.score_columns)
        return batch | self._weights(rows, mask)

    def _column(self, role: str) -> str:
        named: Any = self.columns or {}
        return str(named.get(role, role))

    def _texts(self, row: Row, role: str, *, at_least: int = 0, at_most: int | None = None) -> list[str]:
        """Return the strings of a column that holds one string or a list."""
        column = self._column(role)
        if column not in row:
            raise missing_column(column, list(row), "batch", role)
        texts = [row[column]] if isinstance(row[column], str) else row[column]
        if (
            not hasattr(texts, "__len__")
            or not all(isinstance(text, str) for text in texts)
            or len(texts) < at_least
            or (at_most is not None and len(texts) != at_most)
        ):
            allowed = "one string" if at_most == 1 else f"a string, or a list of at least {at_least}"
            raise DataError(f"Column {column!r} holds {row[column]!r}; it must hold {allowed}. Drop or mend such rows.")
        refuse_names("CrossBatchCollator", texts)
        return list(texts)

    def _tokens(self, texts: list[str], prompt: str, max_length: int | None) -> Any:
        prompted = [prompt + text for text in texts]
        return self.tokenizer(prompted, padding=True, truncation=True, max_length=max_length, return_tensors="pt")

    def _negatives(self, rows: Sequence[Row], fill: list[str]) -> tuple[list[list[str]], np.ndarray]:
        """Return the negatives of each row, B lists of m, and which of them are not filled up, (B, m) bool."""
        limit = self.num_negatives.size if isinstance(self.num_negatives, FreshNegatives) else self.num_negatives
        if limit == 0:
            return [[] for _ in rows], np.zeros((len(rows), 0), bool)
        mined = [self._texts(row, "negatives")[:limit] for row in rows]
        counts = np.array([len(texts) for texts in mined])
        width = int(counts.max()) if limit is None else limit
        filled = [texts + [text] * (width - len(texts)) for texts, text in zip(mined, fill, strict=True)]
        return filled, np.arange(width) < counts[:, None]

    def _keys(self, texts: list[str]) -> Tensor:
        return _short(text_keys(texts, self.dedupe))

    def _known(self, rows: Sequence[Row], queries: list[str], positives: list[list[str]]) -> Tensor:
        """Return the keys of all known positives of each row, (B, p), filled up with the first."""
        if "known_positives" in (self.columns or ()):
            positives = [
                texts + self._texts(row, "known_positives") for texts, row in zip(positives, rows, strict=True)
            ]
        keys = [self._keys(texts) for texts in positives]
        if self.known is not None:
            column = self._column("query_id")
            ids = [str(row[column]) for row in rows] if column in rows[0] else None
            for group in group_keys(text_keys(queries, self.dedupe), ids):
                owner, listed, _, _ = self.known.of(group)
                starts = np.searchsorted(owner, np.arange(1, len(rows)))
                parts = torch.tensor_split(_short(listed), torch.from_numpy(starts))
                keys = [torch.cat(joined) for joined in zip(keys, parts, strict=True)]
        width = max(map(len, keys))
        return torch.stack([torch.cat([known, known[:1].expand(width - len(known))]) for known in keys])

    def _weights(self, rows: Sequence[Row], mask: np.ndarray) -> dict[str, Tensor]:
        """Return the weights of rows (B,) and of negatives (B, m), as far as there are columns for them."""
        named, weights = self.columns or {}, dict[str, Tensor]()
        if "weight" in named:
            weights["weights"] = torch.tensor([self._numbers(row, "weight", 1)[0] for row in rows])
        if "false_negative" in named:
            chances = np.zeros(mask.shape, np.float32)
            for place, row in enumerate(rows):
                count = int(mask[place].sum())
                chances[place, :count] = self._numbers(row, "false_negative", count)
            weights["negative_weights"] = torch.from_numpy(1 - chances)
        return weights

    def _numbers(self, row: Row, role: str, count: int) -> list[float]:
        """Return the first numbers of a column, of at least 0, and at most 1 where they are chances."""
        column, most = self._column(role), np.inf if role == "weight" else 1.0
        if column not in row:
            raise missing_column(column, list(row), "batch", role)
        values = list(_listed(row[column]))[:count]
        if len(values) < count or not all(_is_number(value) and 0 <= value <= most for value in values):
            allowed = "a finite number of at least 0" if role == "weight" else f"{count} probabilities from 0 to 1"
            raise DataError(f"Column {column!r} holds {row[column]!r}; it must hold {allowed}. Drop or mend such rows.")
        return [float(value) for value in values]

    def _scores(self, rows: Sequence[Row], mask: np.ndarray, positive: str, negative: str) -> Tensor:
        scores = np.full((len(rows), 1 + mask.shape[1]), np.nan, np.float32)
        for place, row in enumerate(rows):
            for column in (positive, negative):
                if column not in row:
                    raise ColumnError(
                        f"The batch has no column {column!r}; it has {', '.join(map(repr, row))}. "
                        "Name the right one with score_columns=."
                    )
            count = 1 + mask[place].sum()
            listed = [*_listed(row[positive])[:1], *_listed(row[negative])[: count - 1]]
            if None in listed or len(listed) != count:
                raise DataError(
                    f"Row {place} of the batch has the scores {listed} for {count} documents; each needs one. Score "
                    "all documents, or leave out score_columns=."
                )
            scores[place, :count] = listed
        return torch.from_numpy(scores)


@checked
def known_positives(
    *pairs: Dataset,
    dedupe: Dedupe = "normalized",
    columns: Columns | None = None,
    symmetric: bool = False,
    cache_dir: Folder | None = None,
) -> KnownPositives:
    """Build the table of every positive of every query over all rows of some datasets, once; it is memory-mapped.

    Rows that share a query's text, or its id, are one query.

    Args:
        pairs (`Dataset`): mined data, or pairs whose positives are texts.
        dedupe (`str`, defaults to `"normalized"`): when two texts are the same.
        columns (`Columns`, *optional*): of the pairs, by default as their recipe says; ids may be absent.
        symmetric (`bool`, defaults to `False`): whether pairs hold in both directions, as for `HardNegatives`.
        cache_dir (`str`, *optional*): where it is stored; default is under the datasets cache.

    Raises:
        ColumnError: a column is missing.
        DataError: a text is null, or there is no row.
    """
    if not any(map(len, pairs)):
        raise DataError("known_positives() got 0 rows; it needs at least one. Give pairs, or leave out known=.")
    names = PairColumns.of(columns_of(dict(enumerate(pairs)), columns))
    wanted = [names.query, names.query_id, names.positive]
    for rows in pairs:
        for name, role in ((names.query, "query"), (names.positive, "positive")):
            if name not in rows.column_names:
                raise missing_column(name, rows.column_names, "dataset", role)
    present = [[name for name in wanted if name in rows.column_names] for rows in pairs]
    plain = [rows.with_format("arrow", columns=held) for rows, held in zip(pairs, present, strict=True)]
    digests = [content_digest(rows, held) for rows, held in zip(plain, present, strict=True)]

    def listings() -> Iterator[Listing]:
        for table in (table for rows in plain for table in rows.iter(batch_size=BATCH)):
            queries = table.column(names.query).to_pylist()
            ids = table.column(names.query_id).to_pylist() if names.query_id in table.column_names else None
            texts = [[row] if isinstance(row, str) else row for row in table.column(names.positive).to_pylist()]
            owner = np.repeat(np.arange(len(texts)), [len(of_row) for of_row in texts])
            listed = PositiveList.outside(owner, [text for of_row in texts for text in of_row], dedupe)
            themselves = PositiveList.outside(np.arange(len(queries)), queries, dedupe)
            groups = group_keys(themselves.key, None if ids is None else list(map(str, ids)))
            yield Listing(groups, listed, themselves, listed.key)

    parameters = {"pairs": digests, "dedupe": dedupe, "columns": wanted}
    root, about = directories.cache_root(cache_dir), {"pairs": in_words(pairs, "rows")}
    return obtain_positives(root, listings, parameters, about, symmetric=symmetric)


def _listed(scores: Any) -> Any:
    """Return the scores of a column that holds one or several, or none."""
    return scores if np.ndim(scores) else [scores]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _short(keys: np.ndarray) -> Tensor:
    """Return the first 64 bits of text keys, (n,) int64."""
    return torch.from_numpy(np.ascontiguousarray(keys).view(np.int64).reshape(-1, 2)[:, 0].copy())
