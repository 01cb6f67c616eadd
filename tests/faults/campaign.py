"""The campaign against faults and attacks: `python -m tests.faults.campaign --seed N`.

Every row is a kind of fault, tried many times with draws of one seed. A trial returns nothing where the library came
through (the result equals that of an undisturbed run, or the fault is refused by a `HardNegError` in time), and says
what happened where it did not. The table at the end counts what was tried, what was survived and what failed; every
failed trial is printed with the seed and number that repeat it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MODULES: tuple[str, ...] = (
    "arguments",
    "disks",
    "hostile",
    "interrupts",
    "kills",
    "manifests",
    "mutations",
)
"""The modules of this folder that have `ROWS`."""


@dataclass(frozen=True)
class Row:
    """One kind of fault.

    Args:
        name (`str`): of the fault, as the table shows it.
        trials (`int`): how many a whole campaign tries.
        trial (`Callable`): takes a generator of random numbers and an empty folder; returns what went wrong, or None.
        unavailable (`Callable`, defaults to never): says why this machine cannot try it, or returns None.
        figures (`Callable`, defaults to none): what was measured in the trials so far.
    """

    name: str
    trials: int
    trial: Callable[[np.random.Generator, Path], str | None]
    unavailable: Callable[[], str | None] = lambda: None
    figures: Callable[[], str] = str


def rows() -> Iterator[Row]:
    """The rows of all modules, in order."""
    for module in MODULES:
        yield from importlib.import_module(f"tests.faults.{module}").ROWS


def failures(row: Row, seed: int, trials: int) -> Iterator[str]:
    """What went wrong in the first trials of a row, each repeatable by its seed and number."""
    for number in range(trials):
        with tempfile.TemporaryDirectory() as folder:
            said = row.trial(np.random.default_rng([seed, number]), Path(folder))
        if said is not None:
            yield f"{row.name}, seed {seed}, trial {number}: {said}"


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print its table; 1 if a trial failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=1.0, help="of the trials, such as 0.1")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--table", type=Path, help="a JSON file that the rows are entered into")
    options = parser.parse_args(arguments)
    total = 0
    print(f"{'kind of fault':56} {'tried':>6} {'survived':>8} {'failed':>6}")
    for row in rows():
        if options.only not in row.name:
            continue
        if reason := row.unavailable():
            print(f"{row.name:56} not tried: {reason}")
            continue
        trials = max(1, round(row.trials * options.share))
        failed = list(failures(row, options.seed, trials))
        total += len(failed)
        counts = {"tried": trials, "survived": trials - len(failed), "failed": len(failed), "figures": row.figures()}
        print("{:56} {tried:6} {survived:8} {failed:6}  {figures}".format(row.name, **counts).rstrip())
        print(*(f"  {said}" for said in failed), sep="\n", end="\n" * bool(failed), flush=True)
        if options.table:
            entered = json.loads(options.table.read_text()) if options.table.exists() else {}
            table = {**entered, row.name: {"seed": options.seed, **counts}}
            options.table.write_text(json.dumps(table, indent=1) + "\n")
    return int(total > 0)


if __name__ == "__main__":
    sys.exit(main())
