"""The slow, obvious twins of the evaluation: sort, look, average over all orders of what is tied."""

import itertools
import math

import numpy as np


def counts(scores: np.ndarray, target: int, excluded: set[int]) -> tuple[int, int] | None:
    """(candidates above the target, candidates equal to it), or None for a miss. `scores` is [items]."""
    if target >= len(scores) or target in excluded:
        return None
    above = equal = 0
    for item, score in enumerate(scores):
        if item not in excluded:
            above += bool(score > scores[target])
            equal += bool(score == scores[target])
    return above, equal


def best(scores: np.ndarray, k: int, excluded: set[int]) -> list[int]:
    """The k best candidates, the best first, of equal ones the lower number first; fewer where there are no more."""
    candidates = [item for item in range(len(scores)) if item not in excluded]
    return sorted(candidates, key=lambda item: (-scores[item], item))[:k]


def gain(metric: str, place: int, k: int) -> float:
    """What a metric gives for a target on a place, counted from 1."""
    if place > k:
        return 0.0
    return {"hits": 1.0, "ndcg": 1 / math.log2(place + 1), "mrr": 1 / place}[metric]


def expected_by_permutation(metric: str, above: int, equal: int, k: int) -> float:
    """The mean over every order of the tied items; the target is the tied item number 0."""
    orders = list(itertools.permutations(range(equal)))
    return sum(gain(metric, above + order.index(0) + 1, k) for order in orders) / len(orders)


def expected_by_place(metric: str, above: int, equal: int, k: int) -> float:
    """The mean gain over the places that the tied items share."""
    return sum(gain(metric, place, k) for place in range(above + 1, above + equal + 1)) / equal
