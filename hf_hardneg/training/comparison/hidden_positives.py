"""Proven false negatives: queries with several positives show one of them, and the others are counted as negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from hf_hardneg.audits.judging import Share
from hf_hardneg.corpus.columns import Columns
from hf_hardneg.draws import keyed_uniforms
from hf_hardneg.training.comparison.ranking_task import RankingTask

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True, kw_only=True)
class HiddenPositives:
    """Pairs that show one positive of each query that has several, and what they do not show.

    Args:
        pairs (`Dataset`): a row for each such query, its shown positive as a text.
        columns (`Columns`, *optional*): names of their columns.
        hidden (`np.ndarray`): (h, 2) int64, a row of `pairs` and a document of the corpus that answers it.
        task (`RankingTask`): knows the documents by their texts.
    """

    pairs: Dataset
    columns: Columns | None
    hidden: np.ndarray
    task: RankingTask

    @classmethod
    def of(cls, pairs: Dataset, task: RankingTask, columns: Columns | None, seed: int) -> HiddenPositives | None:
        """Choose what is shown, by draws that the query and the document decide; `None` where no query has several."""
        names = task.reader.columns
        answers = task.pool[task.relevant]
        several = np.flatnonzero(np.bincount(task.relevant_query, minlength=len(task.first)) > 1)
        if not len(several):
            return None
        hidden, shown = [], []
        for place, query in enumerate(several.tolist()):
            rows = answers[task.relevant_query == query]
            texts = task.reader.corpus.texts(rows).to_pylist()
            chosen = int(np.argmax(keyed_uniforms(seed, "shown", task.queries[query], texts)))
            shown.append([texts[chosen]])
            hidden += [(place, row) for number, row in enumerate(rows.tolist()) if number != chosen]
        rest = [name for name in pairs.column_names if name not in (names.positive, names.positive_ids)]
        of_queries = pairs.select_columns(names.read(rest)).select(task.first[several])
        of_queries = of_queries.add_column(names.positive, shown)
        named: Any = {role: name for role, name in (columns or {}).items() if role != "positive_ids"}
        return cls(pairs=of_queries, columns=cast("Columns", named) or None, hidden=np.array(hidden), task=task)

    def among(self, negatives: Sequence[Sequence[str]]) -> Share:
        """Count the hidden positives among the negatives of each row of the shown pairs."""
        owner = np.repeat(np.arange(len(negatives)), list(map(len, negatives)))
        groups = self.task.reader.keys.groups()[0]
        rows = groups[self.task.rows_of_texts([text for texts in negatives for text in texts])]
        size = len(groups)
        proven = np.isin(owner * size + rows, self.hidden[:, 0] * size + self.hidden[:, 1])
        return Share(int(proven.sum()), len(proven))
