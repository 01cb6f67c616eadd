"""Make the configs of a pushed dataset: mined rows as they are, in a trainer's layout, or as ids."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_hardneg.corpus.columns import Columns, missing_column
from hf_hardneg.corpus.queries import PairColumns
from hf_hardneg.errors import ConfigError, unknown_name
from hf_hardneg.formats import to_format
from hf_hardneg.formats.layouts import LAYOUTS
from hf_hardneg.formats.tables import corpus_table, with_ids

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

BY_IDS = ("triplet", "n-tuple", "labeled-pair", "labeled-list")
"""Layouts that have a twin of ids."""

_SCORES = re.compile(r"scores(?:-(?P<scores>[a-z][a-z_]*))?(?:-(?P<width>\d+))?")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One config.

    Args:
        name (`str`): the name of the config.
        layout (`str`): a layout of `to_format`.
        width (`int`, *optional*): at most so many negatives for each row.
        ids (`bool`, defaults to `False`): whether it has ids in place of texts.
        scores (`bool` or `str`, *optional*): as `to_format` takes them.
    """

    name: str
    layout: str
    width: int | None = None
    ids: bool = False
    scores: bool | str | None = None

    @classmethod
    def named(cls, name: str) -> Variant:
        """Parse the name of a config, as datasets on the Hub use them.

        `triplet`, `labeled-pair` and so on are layouts, `triplet-5` the n-tuple of 5 negatives, `triplet-ids` the twin
        of ids, and `scores`, `scores-8` rows of ids and a teacher's scores beside `queries` and `documents`;
        `scores-denoised` and `scores-retriever` name whose.

        Raises:
            UnknownNameError: no config has that name; it lists all.
        """
        match = _SCORES.fullmatch(name)
        if match:
            width = int(match["width"]) if match["width"] else None
            return cls(name=name, layout="pylate-kd", width=width, scores=match["scores"] or True)
        ids = name.endswith("-ids")
        layout, _, number = name.removesuffix("-ids").rpartition("-")
        if not number.isdecimal():
            layout, number = name.removesuffix("-ids"), ""
        if number and layout == "triplet":
            layout = "n-tuple"
        if layout not in (BY_IDS if ids else _rows_only()):
            raise unknown_name("config", name, known_names())
        return cls(name=name, layout=layout, width=int(number) if number else None, ids=ids)

    def of(self, mined: Dataset, corpus: Dataset | None, columns: Columns) -> dict[str, Dataset]:
        """Make the rows of one split, and the tables of texts they name, by config.

        Args:
            mined (`Dataset`): what `mine` returned.
            corpus (`Dataset`, *optional*): becomes the table of documents, and where positives have no ids they are
                found in it by their text.
            columns (`Columns`): as `to_format` takes them.

        Raises:
            HardNegError: what `to_format` raises.
        """
        if self.ids:
            mined, corpus, columns = _by_ids(mined, corpus, columns), None, Columns()
        width, scores = self.width, self.scores
        rows = to_format(mined, self.layout, scores=scores, num_negatives=width, corpus=corpus, columns=columns)
        tables = rows if self.layout == "pylate-kd" else {"train": rows}
        return {self.name: tables["train"]} | {name: table for name, table in tables.items() if name != "train"}


def _rows_only() -> tuple[str, ...]:
    return ("list", *(name for name, layout in LAYOUTS.items() if not layout.documents))


def known_names() -> list[str]:
    """List every name of a config, `N` being a number."""
    layouts = _rows_only()
    return [*layouts, "triplet-N", *(f"{name}-ids" for name in BY_IDS), "triplet-N-ids", "scores", "scores-FILTER"]


def _by_ids(mined: Dataset, corpus: Dataset | None, columns: Columns) -> Dataset:
    """Replace the texts of mined rows by ids, under the names texts have by default."""
    names = PairColumns.of(columns)
    if names.query_id not in mined.column_names:
        raise missing_column(names.query_id, mined.column_names, "mined data", "query_id")
    documents = None if corpus is None else corpus_table(corpus, columns)
    identified = with_ids(mined.with_format("arrow"), names, documents)
    ids = {"query_id": "query", "positive_ids": "positive", "negative_ids": "negatives"}
    return identified.select_columns(list(ids)).rename_columns(ids).with_format(None)


def variants_of(
    mined: DatasetDict, configs: Iterable[str], corpus: Dataset | None, columns: Columns
) -> dict[str, DatasetDict]:
    """Make all configs of a push by name, with the splits of `mined`.

    Raises:
        HardNegError: see `Variant`; or splits of a config would differ in their columns.
    """
    from datasets import DatasetDict

    by_name: dict[str, DatasetDict] = {}
    for variant in [Variant.named(name) for name in dict.fromkeys(configs)]:
        for split, rows in mined.items():
            for name, table in variant.of(rows, corpus, columns).items():
                by_name.setdefault(name, DatasetDict())[split] = table
    for name, splits in by_name.items():
        if len({str(dict(table.features)) for table in splits.values()}) > 1:
            raise ConfigError(
                f"The splits {', '.join(splits)} of the config {name!r} have different columns, and one config has the "
                "same in all. Where it is the number of negatives, name it, such as triplet-3."
            )
    return by_name
