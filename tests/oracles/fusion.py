"""Fitting fusion weights by trying them all anew, one target and one item at a time."""

from collections.abc import Sequence

import numpy as np

from tests.oracles.ranking import counts, expected_by_place

ROUNDS = 3
NEW = [2.0**power for power in range(-5, 4)]
FACTORS = [0, *(2.0**power for power in (-1, -0.5, -0.25, 0.25, 0.5, 1))]


def quality(
    scores: dict[str, np.ndarray],
    weights: dict[str, float],
    items: Sequence[int],
    excluded: Sequence[set[int]],
    metric: str,
) -> float:
    """The mean of a metric under some weights; `scores` are float32 [target, item]."""
    name, _, k = metric.partition("@")
    view = sum(np.float32(weight) * scores[component] for component, weight in weights.items() if weight)
    assert isinstance(view, np.ndarray)
    gains = []
    for row, (item, without) in enumerate(zip(items, excluded, strict=True)):
        place = counts(view[row], item, without)
        gains.append(0.0 if place is None else expected_by_place(name, *place, int(k)))
    return float(np.mean(gains))


def fitted(
    scores: dict[str, np.ndarray], items: Sequence[int], excluded: Sequence[set[int]], metric: str
) -> dict[str, float]:
    """The weights that `fit_fusion` is to find; no component ties all items."""
    spread = {name: np.sqrt(of_name.astype(np.float64).var(axis=1).mean()) for name, of_name in scores.items()}

    def weights(multiples: dict[str, float]) -> dict[str, float]:
        shares = {name: multiple / spread[name] for name, multiple in multiples.items()}
        return {name: share / sum(shares.values()) for name, share in shares.items()}

    def value(multiples: dict[str, float]) -> float:
        return quality(scores, weights(multiples), items, excluded, metric)

    chosen = max(({name: float(name == only) for name in scores} for only in scores), key=value)
    highest = value(chosen)
    for _ in range(ROUNDS):
        for name in scores:
            own = chosen[name]
            if own and sum(map(bool, chosen.values())) == 1:
                continue
            tried = [{**chosen, name: own * factor if own else factor} for factor in (FACTORS if own else NEW)]
            best = max(tried, key=value)
            if value(best) > highest:
                chosen, highest = best, value(best)
    return weights(chosen)
