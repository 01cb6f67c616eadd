"""Kernels that cut a graph of training rows into communities of rows that may share a batch."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, unused-ignore"
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

PASSES = 2
"""Over all rows, at most, to exchange them."""


class Graph(NamedTuple):
    """Links between n rows, in both directions.

    Args:
        starts (`np.ndarray`): (n + 1,) where the neighbours of each row begin.
        others (`np.ndarray`), links (`np.ndarray`): (m,) int64, the neighbours, and how many links lead to each.
    """

    starts: np.ndarray
    others: np.ndarray
    links: np.ndarray


class Sharing(NamedTuple):
    """Which rows may share a batch: all of one group, none of which brings a document that another's query knows.

    Args:
        group (`np.ndarray`), query (`np.ndarray`): (n,) int64.
        known_starts (`np.ndarray`), known (`np.ndarray`): the known positives of each query.
        brings_starts (`np.ndarray`), brings (`np.ndarray`): the positives that each row brings.
    """

    group: np.ndarray
    query: np.ndarray
    known_starts: np.ndarray
    known: np.ndarray
    brings_starts: np.ndarray
    brings: np.ndarray


@njit(cache=True, nogil=True)
def _answers(row, other, rows):
    """Whether a row brings a known positive of another's query."""
    _, query, known_starts, known, brings_starts, brings = rows
    for i in range(brings_starts[row], brings_starts[row + 1]):
        for j in range(known_starts[query[other]], known_starts[query[other] + 1]):
            if brings[i] == known[j]:
                return True
    return False


@njit(cache=True, nogil=True)
def _fits(row, members, size, gone, rows):
    """Whether a row may join the first `size` members, but for the one that is gone."""
    for i in range(size):
        other = members[i]
        if other != gone and (
            rows[0][other] != rows[0][row] or _answers(row, other, rows) or _answers(other, row, rows)
        ):
            return False
    return True


@njit(cache=True, nogil=True)
def grown(graph, rows, seeds, size):
    """The community of each row, (n,) int64: each grows by the row with most links to it, else by the next that fits.

    Args:
        graph (`tuple`), rows (`tuple`): what a `Graph` and a `Sharing` of n rows hold, as plain tuples, since numba's
            files of compiled code name the classes of arguments, and cannot be read once one is called otherwise.
        seeds (`np.ndarray`): (n,) the rows, groups side by side, in the order in which they begin communities.
        size (`int`): rows of a community; one is smaller only where no other row fits.
    """
    (starts, others, links), group = graph, rows[0]
    count, community = len(seeds), np.full(len(seeds), -1, np.int64)
    pull, frontier, members = np.zeros(count, np.int64), np.empty(count, np.int64), np.empty(size, np.int64)
    first, number, held, reach = 0, -1, size, 0
    for _ in range(count):
        row = -1
        if held < size:
            for i in range(reach):
                other = frontier[i]
                nearest = community[other] < 0 and (row < 0 or pull[other] > pull[row])
                if nearest and _fits(other, members, held, -1, rows):
                    row = other
            place = first
            while row < 0 and place < count and group[seeds[place]] == group[members[0]]:
                if community[seeds[place]] < 0 and _fits(seeds[place], members, held, -1, rows):
                    row = seeds[place]
                place += 1
        while first < count and community[seeds[first]] >= 0:
            first += 1
        if row < 0:
            row = seeds[first]
            pull[frontier[:reach]] = 0
            number, held, reach = number + 1, 0, 0
        community[row], members[held] = number, row
        held += 1
        for i in range(starts[row], starts[row + 1]):
            other = others[i]
            if community[other] < 0:
                if pull[other] == 0:
                    frontier[reach] = other
                    reach += 1
                pull[other] += links[i]
    return community


@njit(cache=True, nogil=True)
def _gain(row, other, pull, community, graph):
    """Links that communities gain where two rows change places; `pull` (communities,) are the first row's."""
    (starts, others, links), home, away, total = graph, community[row], community[other], 0
    for i in range(starts[other], starts[other + 1]):
        if others[i] == row:
            total -= 2 * links[i]
        if community[others[i]] == home:
            total += links[i]
        elif community[others[i]] == away:
            total -= links[i]
    return total + pull[away] - pull[home]


@njit(cache=True, nogil=True)
def refine(graph, rows, community, members, sizes, order):
    """Exchanges rows between communities, in place, each for the row with which that gains most links.

    Args:
        graph (`tuple`), rows (`tuple`): what a `Graph` and a `Sharing` of n rows hold, as plain tuples, since numba's
            files of compiled code name the classes of arguments, and cannot be read once one is called otherwise.
        community (`np.ndarray`): (n,) of each row.
        members (`np.ndarray`), sizes (`np.ndarray`): (communities, size) the rows of each, and how many it has.
        order (`np.ndarray`): (n,) in which order rows are looked at.
    """
    starts, others, links = graph
    pull, looked_at_by = np.zeros(len(sizes), np.int64), np.full(len(sizes), -1, np.int64)
    for _ in range(PASSES):
        looked_at_by[:] = -1
        exchanged = 0
        for row in order:
            home, best, most = community[row], -1, 0
            for i in range(starts[row], starts[row + 1]):
                pull[community[others[i]]] += links[i]
            for i in range(starts[row], starts[row + 1]):
                away = community[others[i]]
                if away != home and pull[away] > pull[home] and looked_at_by[away] != row:
                    looked_at_by[away] = row
                    for k in range(sizes[away]):
                        other = members[away, k]
                        gain = _gain(row, other, pull, community, graph)
                        fits = gain > most and _fits(row, members[away], sizes[away], other, rows)
                        if fits and _fits(other, members[home], sizes[home], row, rows):
                            best, most = other, gain
            for i in range(starts[row], starts[row + 1]):
                pull[community[others[i]]] = 0
            if best >= 0:
                away = community[best]
                for k in range(sizes[home]):
                    if members[home, k] == row:
                        members[home, k] = best
                for k in range(sizes[away]):
                    if members[away, k] == best:
                        members[away, k] = row
                community[row], community[best] = away, home
                exchanged += 1
        if not exchanged:
            return
