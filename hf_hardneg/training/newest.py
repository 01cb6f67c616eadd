"""The callable through which a loader reads the newest negatives of its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hf_hardneg.corpus.batches import Batch
from hf_hardneg.corpus.queries import Reader
from hf_hardneg.errors import ColumnError
from hf_hardneg.hard_negatives import HardNegatives
from hf_hardneg.runtime.arguments import Checked
from hf_hardneg.training.generations import Generations
from hf_hardneg.training.negative_arrays import ADDED
from hf_hardneg.training.row_keys import RowKeys


@dataclass(frozen=True, kw_only=True)
class GenerationNegatives(Checked):
    """Adds the newest negatives to a batch: pass it to `with_transform`, or to any other `datasets` verb.

    Before the first generation, and for rows that it does not cover yet, the warm start mines negatives. It
    holds no model; it pickles as paths, and works in any worker of a `DataLoader`.

    It adds the columns of `ADDED`, and `negative_generation`: the number of the generation, 0 for the warm start.

    Args:
        generations (`Generations`): where they are.
        rows (`RowKeys`): the rows they are of.
        reader (`Reader`): the corpus.
        warm_start (`HardNegatives`, *optional*): mines where no generation has; by default rows bring `negatives`.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> loader = DataLoader(pairs.with_transform(refresher.negatives), batch_size=2, collate_fn=list)
        >>> next(iter(loader))[0]["negatives"]
        ['The sky of Mars is red by day and blue at sunset.', 'The sky is red at sunset because the light crosses ...']
    """

    generations: Generations
    rows: RowKeys
    reader: Reader
    warm_start: HardNegatives | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields and the current generation, so that `Dataset.map` stores the rows of each apart."""
        return {**self.__dict__, "current": self.generations.current}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if name != "current"})

    def __call__(self, batch: Any) -> Any:
        """Return the batch in the form it came, with negatives.

        Raises:
            DataError: a row is none of the pairs.
            ColumnError: no generation covers a row, there is no warm start, and the row brings no `negatives`.
            StoreError: the files of the generation are altered or missing.
        """
        rows = Batch.of(batch, self.rows.columns.query)
        numbers = self.rows.find(rows.columns)
        newest = self.generations.newest()
        generations = np.zeros(len(numbers), np.int32) if newest is None else newest.generations[numbers]
        old, new = np.flatnonzero(generations == 0), np.flatnonzero(generations)
        parts = [self._warm(rows.columns, old)] if len(old) or not len(new) else []
        if newest is not None and len(new):
            parts.append(newest.columns(numbers[new], self.reader))
        order = pa.array(np.argsort(np.concatenate([old, new]), kind="stable"))
        added = {name: pa.concat_arrays([part[name] for part in parts]).take(order) for name in ADDED}
        positives = self.reader.positive_texts(rows.columns)
        if positives is not None:
            added[self.rows.columns.positive] = positives
        return rows.with_columns({**added, "negative_generation": pa.array(generations)})

    def _warm(self, columns: Mapping[str, pa.ChunkedArray], rows: np.ndarray) -> dict[str, pa.Array]:
        table = pa.table(dict(columns)).take(pa.array(rows))
        if self.warm_start is not None:
            table = self.warm_start(table)
        if "negatives" not in table.column_names:
            raise ColumnError(
                f"No generation covers {len(rows)} rows yet, and they have no column 'negatives'; they have "
                f"{', '.join(map(repr, table.column_names))}. Give mined pairs, or warm_start='bm25'."
            )
        nothing = pa.nulls(len(rows))
        values = {name: table[name].combine_chunks() if name in table.column_names else nothing for name in ADDED}
        return {name: column.cast(ADDED[name]) for name, column in values.items()}
