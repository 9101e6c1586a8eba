"""The slow, obvious twin of mining: sort the whole catalogue and slice it."""

from collections.abc import Sequence


def ranking(scores: Sequence[float]) -> list[int]:
    """The items by descending score, equal scores by ascending item number."""
    return sorted(range(len(scores)), key=lambda item: (-scores[item], item))


def window(scores: Sequence[float], k1: int, k2: int) -> set[int]:
    """The items of rank k1 .. k2-1, counted from 0."""
    return set(ranking(scores)[k1:k2])


def top(scores: Sequence[float], p: int) -> list[int]:
    """The items of rank 0 .. p-1."""
    return ranking(scores)[:p]
