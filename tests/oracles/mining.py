"""The slow, obvious twin of mining: sort the whole catalogue and slice it."""

from collections.abc import Sequence


def ranking(scores: Sequence[float]) -> list[int]:
    """The items by descending score, equal scores by ascending item number."""
    return sorted(range(len(scores)), key=lambda item: (-scores[item], item))


def window(scores: Sequence[float], k1: int, k2: int) -> set[int]:
    """The items of rank k1 .. k2-1: the rank of an item is how many score higher."""
    rank = [sum(other > score for other in scores) for score in scores]
    return {item for item in range(len(scores)) if k1 <= rank[item] < k2}


def top(scores: Sequence[float], p: int) -> list[int]:
    """The first p of the ranking."""
    return ranking(scores)[:p]
