"""Random odd values in the fields of all parts of strategies: refused as a `HardNegError`, or accepted, never raw."""

import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np

from hf_hardneg.errors import HardNegError, HardNegWarning
from hf_hardneg.filters import FILTERS
from hf_hardneg.retrievers import RETRIEVERS
from hf_hardneg.samplers import SAMPLERS
from tests.faults.campaign import Row

PARTS = [part for table in (FILTERS, SAMPLERS, RETRIEVERS) for part in table.values()]


def _odd(random: np.random.Generator) -> object:
    number = float(random.normal()) * 10.0 ** int(random.integers(-320, 300))
    text = "".join(map(chr, random.integers(0, 0x300, int(random.integers(0, 5)))))
    values = [number, int(number), -int(abs(number)), np.float32(random.normal()), np.int64(random.integers(-9, 9))]
    values += [float("nan"), float("-inf"), None, True, b"", text, "\ud800", [text], {text: 1}, object(), int]
    return values[int(random.integers(len(values)))]


def odd_field(random: np.random.Generator, folder: Path) -> str | None:
    """One field of one part is something else."""
    part = PARTS[int(random.integers(len(PARTS)))]
    names = [field.name for field in fields(part)]
    if not names:
        return None
    name, value = names[int(random.integers(len(names)))], _odd(random)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", HardNegWarning)
            made = part(**{name: value})
    except HardNegError:
        return None
    except Exception as error:
        return f"{part.__name__}({name}={value!r}) raised {type(error).__name__}: {error}"
    is_odd = isinstance(value, float | np.floating) and not np.isfinite(value)
    return f"{made!r} was accepted with {name}={value!r}" if is_odd else None


ROWS = [Row("odd values in parts of strategies", 1000, odd_field)]
