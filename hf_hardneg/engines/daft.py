"""Mining of Daft's tables: by processes of this machine under its native runner, by actors under its Ray runner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.engines import ray
from hf_hardneg.engines.base import in_ordinary_types, rows_out
from hf_hardneg.errors import ConfigError
from hf_hardneg.mining import mine as mine_here
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.runtime.arguments import AtLeastOne, checked
from hf_hardneg.runtime.optional import require
from hf_hardneg.runtime.units import processors
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import EngineOptions


@with_options_of(mine_here, without=("num_proc",))
@checked
def mine(
    pairs: Any,
    corpus: Any = None,
    strategy: str | Strategy | None = None,
    *,
    workers: AtLeastOne | None = None,
    shared: str | None = None,
    **options: Unpack[EngineOptions],
) -> Dataset | DatasetDict:
    """Do what `hf_hardneg.mine` does for tables of Daft, and return the same rows, in the same order.

    Daft's native runner is this process and has no workers that stay: rows are mined by processes of this machine, as
    by `num_proc=`. Where its runner is Ray, actors of that cluster mine, see `hf_hardneg.engines.ray.mine`.

    Args:
        pairs (`daft.DataFrame`, or whatever `mine` reads): rows, whose order stays.
        corpus (`daft.DataFrame`, or whatever `mine` reads, *optional*), strategy: see `mine`.
        workers (`int`, *optional*): processes or actors; by default one for each processor, or as many actors as the
            cluster has room for.
        shared (`str`, *optional*): for the actors of Ray, see there.
        options: every other argument of `mine`.

    Raises:
        HardNegError: see `mine`, wherever it was raised.
        WorkerError: a process died; what was done before is kept, and mining again goes on from there.
    """
    daft = require("daft", extra="daft", needed_by="engines.daft.mine()")
    pairs, corpus = rows_out((pairs, corpus), _tables, "Daft", options)
    if daft.get_or_infer_runner_type() == "ray":
        return ray.mine(pairs, corpus, strategy, workers=workers, shared=shared, **options)
    if shared is not None:
        raise ConfigError(
            f"shared={shared!r} would change nothing: Daft's native runner works on this machine alone. Leave it out, "
            "or choose the other runner with daft.set_runner_ray()."
        )
    return mine_here(pairs, corpus, strategy, num_proc=workers or processors(), **options)


def _tables(rows: Any) -> Iterator[pa.Table] | None:
    """Yield the rows of a frame of Daft, in the types that `datasets` gives them."""
    if not (type(rows).__module__.startswith("daft.") and hasattr(rows, "to_arrow_iter")):
        return None
    return (in_ordinary_types(pa.Table.from_batches([batch])) for batch in rows.to_arrow_iter())
