"""Mining in shards that any scheduler starts, each a process that knows of no other: `mine` one, then `merge` all.

A shard mines consecutive rows of each split, knows the positives of all rows, and draws by queries and documents as
every run does, so that what is merged equals what one run gives, to the byte of its columns. Shards may share a cache,
where one builds what is missing and the others wait, or each have one of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hf_hardneg.corpus.documents import rows_digest
from hf_hardneg.engines.parts import ABOUT, IN_CALL, IN_PLACE, Part, Shard, collected, noted, publish
from hf_hardneg.errors import ConfigError, DataError, check_keywords
from hf_hardneg.hard_negatives import OPTIONS, HardNegatives
from hf_hardneg.identity import UNIDENTIFIED, one_run
from hf_hardneg.mining import KEYWORDS, MiningRun, Running
from hf_hardneg.pipeline.options import with_options_of
from hf_hardneg.recipes.recipe import Recipe, attach, recipe_of
from hf_hardneg.runtime.arguments import Folder, Processes, checked
from hf_hardneg.runtime.versions import joined
from hf_hardneg.steps import BATCH
from hf_hardneg.store import directories
from hf_hardneg.store.arrow_files import check_arrow
from hf_hardneg.strategies import Strategy

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict
    from typing_extensions import Unpack

    from hf_hardneg.pipeline.options import Documents, MinerOptions, PairRows

ROWS = "rows.arrow"
CALL = (f"hf_hardneg.engines.shards.mine(..., shard='{IN_PLACE}', out=...{IN_CALL}) with the same arguments",)
"""What is to be called again, where no command was."""


@with_options_of(HardNegatives)
@checked
def mine(
    pairs: PairRows,
    corpus: Documents | Strategy | None = None,
    strategy: str | Strategy | None = None,
    *,
    shard: tuple[int, int] | str,
    out: Folder,
    overwrite: bool = False,
    num_proc: Processes | None = None,
    confirm_cost: bool = False,
    known_positives: Sequence[Dataset] = (),
    **options: Unpack[MinerOptions],
) -> Path:
    """Mine the rows of one shard, and write them as a part, from which `merge` gives all rows.

    Every shard is called with the same arguments but for `shard`, and reads all pairs, whose positives it excludes.

    Args:
        pairs, corpus, strategy, num_proc, confirm_cost, known_positives: as for `mine`.
        shard (`tuple[int, int]` or `str`): `(3, 64)` or `"3/64"`, the third of 64.
        out (`str` or `Path`): the folder of all parts.
        overwrite (`bool`, defaults to `False`): whether the part of another job is replaced; one of this job is kept.
        options: every other argument of `HardNegatives`.

    Returns:
        the directory of the part.

    Raises:
        HardNegError: see `mine`; it is noted beside the parts, where `merge` finds it.
    """
    check_keywords("shards.mine()", options, OPTIONS | KEYWORDS)
    how = Running(num_proc=num_proc, batch_size=BATCH, confirm_cost=confirm_cost)
    place = Path(out).absolute(), Shard.of_words(shard)
    with noted(*place, CALL):
        return mined_part((pairs, corpus, strategy), options, how, known_positives, place, CALL, overwrite=overwrite)


def mined_part(
    sources: tuple[Any, Any, str | Strategy | None],
    options: Any,
    how: Running,
    known_positives: Sequence[Dataset],
    place: tuple[Path, Shard],
    again: Sequence[str],
    *,
    overwrite: bool,
) -> Path:
    """Do what `mine` does, at a place of a folder and a shard; `again` has the words of the command."""
    folder, shard = place
    runs: list[MiningRun] = []

    def job() -> dict[str, Any]:
        run = MiningRun.of("shards.mine", sources, how, known_positives=known_positives, share=shard.share, **options)
        runs.append(run)
        return _made_from(run)

    def build(directory: Path) -> dict[str, Any]:
        (run,) = runs
        for place, rows in enumerate(run.negatives().values()):
            _save(rows, directory / str(place))
        return {"splits": list(run.rows), "rows": [len(rows) for rows in run.rows.values()]}

    with one_run(), directories.verifying(options.get("verify") is True):
        return publish(folder, shard, job, build, again, overwrite=overwrite)


def _made_from(run: MiningRun) -> dict[str, Any]:
    """What the parts of a job depend on, under words for people.

    Raises:
        ConfigError: what is not identified has another identity in each process.
    """
    splits = [(name, rows) for name, rows in run.pairs.items() if len(rows)]
    whole = {name: run.steps.made_from(rows, run.miner) for name, rows in splits}
    recipes = [
        {name: value for name, value in values.items() if name not in ("pairs", "rows", "reader", "searcher")}
        for values in whole.values()
    ]
    retrieval = run.miner.retrieval
    made_from = {
        "pairs": {name: rows_digest(rows, rows.column_names) for name, rows in run.pairs.items()},
        "corpus and known positives": retrieval.reader.identity,
        "index": retrieval.searcher.identity,
        "recipe": directories.digest_of({"of": recipes}) if UNIDENTIFIED not in str(recipes) else UNIDENTIFIED,
    }
    unidentified = [name for name, value in made_from.items() if UNIDENTIFIED in str(value)]
    if unidentified:
        raise ConfigError(
            f"{' and '.join(unidentified)} holds what cannot be identified, and shards are told to be of one job by "
            "identities. Give that function or model an attribute `digest`, the same string in all shards, or mine in "
            "one process."
        )
    return made_from


def _save(rows: Dataset, directory: Path) -> None:
    """Write rows as one Arrow file, with what `datasets` knows of them beside it."""
    from datasets.arrow_writer import ArrowWriter

    directory.mkdir()
    with ArrowWriter(path=str(directory / ROWS), features=rows.features) as writer:
        for table in rows.with_format("arrow").iter(BATCH) if len(rows) else ():
            writer.write_table(table)
        writer.finalize()
    rows.info.write_to_directory(str(directory))


@checked
def merge(parts: Folder | Sequence[Folder]) -> Dataset | DatasetDict:
    """Join the parts of all shards: the rows that `mine` gives without shards, in their order, with their recipe.

    The rows stay mapped where the parts lie, until they are saved elsewhere.

    Args:
        parts (`str`, `Path` or a sequence of those): the folder that the shards wrote to, or several, as of machines
            that share none.

    Raises:
        DataError: a part is missing, stands twice, is damaged, or of another recipe, index or input than the others.
            Each is named, with the command that mines it again alone.
    """
    from datasets import DatasetDict

    several = [parts] if isinstance(parts, str) or not isinstance(parts, Sequence) else list(parts)
    found_parts = collected([Path(folder).absolute() for folder in several])
    abouts = [_about(part) for part in found_parts]
    mined = {
        name: _joined([(part, place, about["rows"][place]) for part, about in zip(found_parts, abouts, strict=True)])
        for place, name in enumerate(abouts[0]["splits"])
    }
    return mined[""] if list(mined) == [""] else DatasetDict(mined)


def _about(part: Part) -> dict[str, Any]:
    about = directories.read_object(part.directory, ABOUT)
    if not isinstance(about.get("splits"), list) or not isinstance(about.get("rows"), list):
        raise DataError(
            f"{part.directory} is a part of an index, and rows are merged here. Its parts are joined by the command "
            "`hf-hardneg index` with --parts."
        )
    return about


def _joined(parts: Sequence[tuple[Part, int, int]]) -> Dataset:
    """Concatenate the rows of one split: of each part its place among the splits, and how many rows it mined."""
    from datasets import concatenate_datasets

    mined = [_opened(part, place) for part, place, _ in parts]
    mined = [rows for rows, (_, _, asked) in zip(mined, parts, strict=True) if asked] or mined[:1]
    recipes = [recipe_of(rows) for rows in mined]
    whole = concatenate_datasets([rows for rows in mined if len(rows)] or mined[:1])
    whole.info.description = mined[0].info.description
    if recipes[0] is not None:
        attach(whole, _with_versions(recipes))
    return whole


def _opened(part: Part, place: int) -> Dataset:
    from datasets import Dataset, DatasetInfo

    name = f"{place}/{ROWS}"
    check_arrow(part.directory, name)
    try:
        info = DatasetInfo.from_directory(str(part.directory / str(place)))
        return Dataset.from_file(str(part.directory / name), info=info)
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise directories.altered(part.directory, name, f"it cannot be read ({str(error)[:200]})") from error


def _with_versions(recipes: Sequence[Recipe | None]) -> Recipe:
    """The recipe of all parts, with the versions that any was made with."""
    several = [recipe for recipe in recipes if recipe is not None]
    return replace(several[0], versions=joined(recipe.versions for recipe in several))
