"""The slow, obvious twins of the losses: eqs. 2-5 of the AlterRec paper, one prefix at a time, in float64."""

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles import mining


def cross_entropy(positive: float, negatives: Sequence[float]) -> float:
    """-log softmax of a positive's score over {positive} + negatives."""
    scores = [float(positive), *(float(score) for score in negatives)]
    largest = max(scores)
    return math.log(math.fsum(math.exp(score - largest) for score in scores)) + largest - float(positive)


def sampled_softmax(
    target: float, negatives: Sequence[float], positives: Sequence[float] = (), beta: float = 0.0
) -> float:
    """The loss of a prefix; 0 without negatives, for then there is nothing to tell the positives from."""
    if not len(negatives):
        return 0.0
    return cross_entropy(target, negatives) + beta * math.fsum(cross_entropy(y, negatives) for y in positives)


def window_loss(
    own: np.ndarray, peer: np.ndarray, target: int, k1: int, k2: int, p: int = 0, beta: float = 0.0
) -> float:
    """The loss of a prefix against a frozen peer.

    Args:
      own, peer: [item], the scores of the network that trains, and of its peer.
      target: the item that follows, t.
      k1, k2: N(s) are the items of these ranks in the peer's ranking, without t.
      p, beta: A(s) are the peer's best p, without t; the weight of each.
    """
    negatives = sorted(mining.window(peer.tolist(), k1, k2) - {target})
    positives = [item for item in mining.top(peer.tolist(), p) if item != target]
    return sampled_softmax(own[target], own[negatives], own[positives], beta)
