"""What mining says of its yield: why rows are short of negatives, and what safeguards take of a small corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass

import pyarrow as pa

from hf_hardneg.pipeline.found import COUNTS
from hf_hardneg.pipeline.selection import INCONSISTENT
from hf_hardneg.strategies import Strategy

WORTH_SAYING = 0.1
"""The share of rows short of negatives, or of documents that safeguards take, above which it is said."""
TAKES_MOST = 0.3
"""The share of hits above which a filter is named as what takes too many."""


@dataclass(frozen=True, kw_only=True)
class Yields:
    """What the column `mining` counts, added up over rows.

    Args:
        wanted (`int`), depth (`int`): negatives and candidates that a row should have.
        documents (`int`): size of the corpus.
        rows (`Counter`): how many rows there are: all `rows`, `short` and `empty` ones, and among those that are short
            the ones whose search saw the `whole` corpus, or is `dry`: it stopped before as many candidates as wanted.
        hits (`Counter`): of all rows, retrieved and then removed, by stage.
        of_short (`Counter`): likewise, of rows that are short.
    """

    wanted: int
    depth: int
    documents: int
    rows: Counter[str]
    hits: Counter[str]
    of_short: Counter[str]

    @classmethod
    def of(cls, batches: Iterable[pa.StructArray], *, wanted: int, depth: int, documents: int) -> Yields:
        """Add up what rows count, batch by batch."""
        rows: Counter[str] = Counter()
        hits: Counter[str] = Counter()
        of_short: Counter[str] = Counter()
        for batch in batches:
            names = [part.name for part in batch.type if pa.types.is_integer(part.type)]
            counts = {name: batch.field(name).to_numpy(zero_copy_only=False) for name in names}
            is_short = counts["short"] > 0
            whole = counts["retrieved"] >= documents
            candidates = counts["retrieved"] - sum(counts[name] for name in COUNTS[1:])
            kinds = {"short": is_short, "empty": counts["short"] >= wanted}
            kinds |= {"whole": is_short & whole, "dry": is_short & ~whole & (candidates < depth)}
            rows.update({"rows": len(batch), **{name: int(mask.sum()) for name, mask in kinds.items()}})
            hits.update({name: int(values.sum()) for name, values in counts.items()})
            of_short.update({name: int(values[is_short].sum()) for name, values in counts.items()})
        return cls(wanted=wanted, depth=depth, documents=documents, rows=rows, hits=hits, of_short=of_short)

    def why_short(self, strategy: Strategy) -> str:
        """Say how many rows lack negatives, which stage took most of what was found, and what gives more.

        It is empty where few rows do, see `WORTH_SAYING`.
        """
        rows, hits = self.rows, self.of_short
        if rows["short"] <= WORTH_SAYING * rows["rows"]:
            return ""
        stage, removed = max(_removed(hits).items(), key=lambda each: each[1])
        none = f", {rows['empty']:,} of them none" if rows["empty"] else ""
        took = f"; {stage} took most of these, {_share(removed, hits['retrieved'])}" if removed else ""
        return (
            f"{rows['short']:,} of {rows['rows']:,} rows have fewer than {self.wanted} negatives{none}. The search "
            f"found {hits['retrieved']:,} documents for all of them together{took}. To have more, "
            f"{' or '.join(self._ways(strategy))}, or fill up with on_shortage=; report() of the rows says what each "
            "stage took."
        )

    def _ways(self, strategy: Strategy) -> Iterator[str]:
        """Name what gives more negatives: less of a filter, more documents, another search or a deeper one."""
        removed = _removed(self.of_short)
        for stage in strategy.filters:
            if removed.get(stage.name, 0) > TAKES_MOST * self.of_short["retrieved"]:
                options = ", ".join(option.name for option in fields(stage)) if is_dataclass(stage) else ""
                yield f"loosen {stage.name}{f' ({options})' if options else ''}"
        if removed.get("not_chosen", 0) > TAKES_MOST * self.of_short["retrieved"]:
            yield f"take another sampler than {strategy.sampler.name}"
        search, short = strategy.retriever, self.rows["short"]
        if self.wanted >= self.documents:
            yield f"add documents: the corpus has {self.documents:,}, and a row should have {self.wanted:,} negatives"
        elif 2 * self.rows["whole"] > short:
            yield f"add documents to the {self.documents:,} of the corpus, all of which were looked at"
        elif 2 * self.rows["dry"] > short:
            yield f"search in another way than by {search.name}, which finds no more, however deep"
        else:
            yield f"search deeper than {self.depth:,}, with depth= of {type(search).__name__}()"

    def what_safeguards_take(self, strategy: Strategy) -> str:
        """Say what rules by a share of each query's best candidates take where those are most of the corpus."""
        pools = {stage.name: stage.pool for stage in strategy.filters if hasattr(stage, "pool")}
        small = [name for name, pool in pools.items() if self.documents < 2 * pool]
        taken = sum(self.hits[name] for name in small)
        if taken <= WORTH_SAYING * self.hits["retrieved"]:
            return ""
        total, pool = self.hits["retrieved"], max(pools[name] for name in small)
        return (
            f"{' and '.join(small)} removed {_share(taken, total)} of the {total:,} documents that the search found: a "
            f"share of each query's {pool} best, which of a corpus of {self.documents:,} are most or all. Where you "
            "know all positives, keep them with safeguards=False (--no-safeguards)."
        )


def _removed(hits: Counter[str]) -> dict[str, int]:
    """How many hits each stage removed, in order."""
    return {name: count for name, count in hits.items() if name not in ("retrieved", "kept", "short", INCONSISTENT)}


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})"
