"""A small world to compare strategies in."""

from hf_hardneg.training import Trials
from tests.worlds import world

QUICK = Trials(seeds=1, rounds=1, epochs=1)
WORLD = PAIRS, CORPUS = world(3, documents=60, queries=30)
