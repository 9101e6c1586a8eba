"""The graphs that networks read, counted from training sessions alone; no other split comes here."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from alterrec_jax.data.cooccurrence import (
    Edges,
    companions,
    cooccurrence,
    incidence_matrix,
    met_elsewhere,
    often_elsewhere,
)
from alterrec_jax.data.dataset import Sessions

PREDECESSORS = 12
"""Of each item, so many of its most frequent predecessors are neighbours once more (HG-GNN's released code)."""

LIST_WIDTH = 16
"""Neighbours of a list of `NeighbourLists`: on two cores, a million rows of width 64 are added up in some 10 ms, and in
120 ms one by one."""


class NeighbourLists(NamedTuple):
    """A weighted graph as lists of one width, of which a node has as many as it needs: one whose weights are the same
    both ways, or one way of a graph between two kinds of nodes.

    Attributes:
      node: int32 [list], whose neighbours a list holds; ascending.
      neighbours: int32 [list, LIST_WIDTH]; 0 where a list has fewer.
      weights: float32 [list, LIST_WIDTH]; 0 where a list has fewer.
      degree: float32 [node], the sum of a node's weights.
    """

    node: np.ndarray
    neighbours: np.ndarray
    weights: np.ndarray
    degree: np.ndarray


class Hypergraph(NamedTuple):
    """Sessions as edges that hold items, both ways; weights are 1.

    Attributes:
      sessions: of each session, its items.
      items: of each item, the sessions that hold it.
    """

    sessions: NeighbourLists
    items: NeighbourLists


def session_hypergraph(train: Sessions, items: int) -> Hypergraph:
    """Which items each training session holds before its last one, which it ends in predicting (CoHHN)."""
    held = incidence_matrix(train, items, last=False).tocoo()
    numbers, session = np.unique(held.row, return_inverse=True)  # sessions that hold none are left out
    order = np.lexsort((session, held.col))
    ones = np.ones(len(session), np.float32)
    return Hypergraph(
        _neighbour_lists(Edges(session, held.col, ones), len(numbers)),
        _neighbour_lists(Edges(held.col[order], session[order], ones), items),
    )


def cooccurrence_lists(train: Sessions, items: int) -> NeighbourLists:
    """`cooccurrence` as lists."""
    return _neighbour_lists(cooccurrence(train, items), items)


def items_and_users(train: Sessions, items: int) -> NeighbourLists:
    """HG-GNN's graph, as its released code builds it; user u is node items + u. Weights count, and add up:

    * each time that one item follows another in a session, both ways;
    * once more, both ways, an item and each of its `PREDECESSORS` most frequent predecessors, of equally frequent ones
      those that come first in training;
    * each time that an item is in a session of a user, both ways;
    * a node and itself, once.
    """
    known = train.items < items
    clicked = train.items[known].astype(np.int64)
    session = np.repeat(np.arange(len(train)), train.lengths)[known]
    chained = session[1:] == session[:-1]
    before, after = clicked[:-1][chained], clicked[1:][chained]
    frequent = _most_frequent_predecessors(before, after, items)
    users = train.users[session].astype(np.int64)
    of_users = clicked[users >= 0], items + users[users >= 0]
    one_way = [np.concatenate(ends) for ends in zip((before, after), frequent, of_users, strict=True)]
    nodes = items + len(train.user_names)
    itself = np.arange(nodes)
    source, target = (np.concatenate([*ends, itself]) for ends in (one_way, one_way[::-1]))
    return _neighbour_lists(_added_up(source, target, nodes), nodes)


def _most_frequent_predecessors(before: np.ndarray, after: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 [pair] twice, predecessors and the items that they are of, from all pairs of neighbouring clicks."""
    pairs, first, counts = np.unique(after * items + before, return_index=True, return_counts=True)
    order = np.lexsort((first, -counts, pairs // items))
    item = pairs[order] // items
    rank = np.arange(len(item)) - np.searchsorted(item, item)
    chosen = rank < PREDECESSORS
    return pairs[order][chosen] % items, item[chosen]


def _added_up(source: np.ndarray, target: np.ndarray, nodes: int) -> Edges:
    """The distinct edges of a multiset, int64 [edge]; their weights say how often each is there."""
    edges, counts = np.unique(source * nodes + target, return_counts=True)
    return Edges((edges // nodes).astype(np.int32), (edges % nodes).astype(np.int32), counts.astype(np.float32))


def _neighbour_lists(edges: Edges, nodes: int) -> NeighbourLists:
    """The lists of some edges, each under its source.

    Args:
      edges: sorted by source.
      nodes: how many there are.
    """
    count = np.bincount(edges.source, minlength=nodes)
    lists = -(-count // LIST_WIDTH)
    first = np.cumsum(lists) - lists
    rank = np.arange(len(edges.source)) - (np.cumsum(count) - count)[edges.source]
    at = first[edges.source] + rank // LIST_WIDTH, rank % LIST_WIDTH
    shape = (int(lists.sum()), LIST_WIDTH)
    neighbours, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    neighbours[at], weights[at] = edges.target, edges.weight
    degree = np.bincount(edges.source, edges.weight, nodes).astype(np.float32)
    return NeighbourLists(np.repeat(np.arange(nodes, dtype=np.int32), lists), neighbours, weights, degree)


GRAPHS: Mapping[str, Callable[[Sessions, int], Any]] = {
    "cooccurrence": cooccurrence_lists,
    "companions": companions,
    "met_elsewhere": met_elsewhere,
    "often_elsewhere": often_elsewhere,
    "items_and_users": items_and_users,
    "session_hypergraph": session_hypergraph,
}
"""The graphs that a network may read, by name: functions of training sessions and the number of items."""
