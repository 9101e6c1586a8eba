"""The slow, obvious twin of V-SkNN: one prefix at a time, sets and dictionaries, similarities compared as fractions."""

import math
from collections.abc import Sequence
from fractions import Fraction


def scores(
    train: Sequence[Sequence[int]],
    prefix: Sequence[int],
    catalogue: int,
    neighbours: int,
    idf: float,
    remind: bool = True,
) -> list[float]:
    """The score of each item of the catalogue after a prefix of one item or more."""
    position = {item: place for place, item in enumerate(prefix, 1)}  # the latest one stays
    weight = {item: place / len(prefix) for item, place in position.items()}
    norm = math.sqrt(math.fsum(value**2 for value in weight.values()))
    nearest = []
    for number, session in enumerate(train):
        if shared := position.keys() & set(session):
            square = Fraction(sum(position[item] for item in shared) ** 2, len(set(session)))
            nearest.append((square, number))
    result = [0.0] * catalogue
    for _, number in sorted(nearest, reverse=True)[:neighbours]:
        held = set(train[number])
        shared = position.keys() & held
        similarity = math.fsum(weight[item] for item in shared) / (norm * math.sqrt(len(held)))
        for item in held:
            if item < catalogue and (remind or item not in position):
                rarity = math.log(len(train) / sum(item in other for other in train))
                result[item] += similarity * max(weight[i] for i in shared) * (1 + idf * rarity)
    return result
