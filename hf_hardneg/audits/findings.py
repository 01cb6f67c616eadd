"""A finding of an audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hf_hardneg.audits.checks import Severity


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found.

    Args:
        name (`str`): the name of the check.
        severity (`str`): `"error"`, `"warning"` or `"note"`.
        count (`int`): how many negatives, documents or rows, as `says` has it.
        rows (`int`): rows with at least one.
        share (`float`): these as a share of all rows.
        says, todo (`str`): what it is, and what to do about it.
        examples (`tuple[dict, ...]`): the first few: `row` counts from 0 in the dataset; beside it stand, where rows
            have them, `query`, `positive`, `negative`, their ids and scores, and `count` where one text is in many
            rows.
    """

    name: str
    severity: Severity
    count: int
    rows: int
    share: float
    says: str
    todo: str
    examples: tuple[dict[str, Any], ...]
