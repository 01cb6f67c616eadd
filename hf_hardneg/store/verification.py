"""Every checksum of a cache compared with what is on the disk: `hf-hardneg cache verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hf_hardneg.errors import StoreError
from hf_hardneg.store import directories
from hf_hardneg.store.inventory import SHARDED, Entry, inventory
from hf_hardneg.store.named_files import is_intact, shards
from hf_hardneg.store.replies import FILE, altered_replies


@dataclass(frozen=True, kw_only=True)
class Verified:
    """The state of one directory of a cache; `str()` renders it.

    Args:
        entry (`Entry`): the directory.
        damage (`str`): what is wrong and what to do; empty where every file is what was written.
    """

    entry: Entry
    damage: str

    def __str__(self) -> str:
        return f"{self.entry.kind:<10} {self.entry.path.name}  {self.damage or 'as it was written'}"


def verify_cache(root: Path) -> list[Verified]:
    """Read all that a cache holds and compare it with the checksums it was published with.

    What running or dead builds left is passed over. A directory that vanishes meanwhile counts as whole.

    Args:
        root (`Path`): the cache.
    """
    return [
        Verified(entry=entry, damage=_damage(entry) if entry.path.exists() else "")
        for entry in inventory(root)
        if entry.kind not in ("partial", "unfinished")
    ]


def _damage(entry: Entry) -> str:
    try:
        if entry.kind in SHARDED:
            bad = [path.name for path in shards(entry.path) if not is_intact(path)]
            lost = "what they held is computed again when it is needed"
            return f"{len(bad)} shards were altered, such as {bad[0]}; {lost}." if bad else ""
        with directories.verifying():
            directories.check(entry.path)
        altered = altered_replies(entry.path) if (entry.path / FILE).exists() else 0
    except StoreError as error:
        return str(error)
    return f"{altered} replies were altered; they are asked again when they are needed." if altered else ""
