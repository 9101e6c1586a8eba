"""MGS's slow, obvious twin: one prefix at a time, in float64, with dictionaries where the model has masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.oracles.msgat import linear, sigmoid

Params = Mapping[str, Any]
SELF, PRECEDES, FOLLOWS, BOTH = 1, 2, 3, 4


def softmax(logits: Sequence[float]) -> np.ndarray:
    """Of all."""
    shares = np.exp(np.array(logits) - np.max(logits))
    return shares / shares.sum()


def leaky(value: float) -> float:
    """LeakyReLU of slope 0.2."""
    return value if value > 0 else 0.2 * value


def peers_of(values: Sequence[int], item: int) -> list[int]:
    """The other items of the same value, unless it is unknown."""
    return [other for other, value in enumerate(values) if value == values[item] > 0 and other != item]


def mean_of_peers(rows: np.ndarray, item: int, peers: Sequence[int], weights: np.ndarray) -> np.ndarray:
    """Of one attribute, from the peers that are given; the item's own row where there are none."""
    if not len(peers):
        return rows[item]
    shares = softmax([leaky(weights[0] @ rows[item] + weights[1] @ rows[peer]) for peer in peers])
    return sum(share * rows[peer] for share, peer in zip(shares, peers, strict=True))


def mirror(params: Params, rows: np.ndarray, item: int, peers: Sequence[Sequence[int]]) -> np.ndarray:
    """m, from the peers by attribute."""
    weights = np.asarray(params["peers"], np.float64)
    found = [mean_of_peers(rows, item, some, w) for some, w in zip(peers, weights, strict=True)]
    return found[0] if len(found) == 1 else np.concatenate(found) @ np.asarray(params["join"], np.float64)


def edges(items: Sequence[int]) -> dict[tuple[int, int], int]:
    """The type of (i, j): what item j is to item i."""
    types = {(item, item): SELF for item in items}
    pairs = {(one, other) for one, other in zip(items, items[1:], strict=False) if one != other}
    for one, other in pairs:
        both = (other, one) in pairs
        types[one, other], types[other, one] = (BOTH, BOTH) if both else (FOLLOWS, PRECEDES)
    return types


def session_vector(
    params: Params, rows: np.ndarray, mirrors: Mapping[int, np.ndarray], items: Sequence[int], last_item: float
) -> np.ndarray:
    """q of a prefix, from its items' mirrors."""
    encoder, types = params["encoder"], edges(items)
    nodes = list(dict.fromkeys(reversed(items)))
    x, m = {i: rows[i] for i in nodes}, {i: mirrors[i] for i in nodes}
    scale = rows.shape[1] ** -0.5
    for step in range(sum(name.startswith("graph_") for name in encoder)):
        layer = encoder[f"graph_{step}"]
        weights = np.asarray(layer["neighbours"]["weights"], np.float64)
        heard = {}
        for i in nodes:
            near = [j for j in nodes if (i, j) in types]
            shares = softmax([leaky(weights[types[i, j] - 1] @ (x[i] * x[j])) for j in near])
            heard[i] = sum(share * x[j] for share, j in zip(shares, near, strict=True))
        x = heard
        pull = {i: scale * linear(x[i], layer["pull_query"]) @ linear(m[i], layer["pull_key"]) for i in nodes}
        x = {i: x[i] + pull[i] * (m[i] - x[i]) for i in nodes}
        changed = {}
        for i in nodes:
            query = linear(m[i], layer["mirror_query"])
            shares = softmax([scale * query @ linear(x[j], layer["mirror_key"]) for j in nodes])
            changed[i] = sum(share * m[j] for share, j in zip(shares, nodes, strict=True))
        m = changed
    for i in nodes:
        gate = sigmoid(linear(np.concatenate([rows[i], x[i]]), encoder["highway"]))
        x[i] = gate * rows[i] + (1 - gate) * x[i]
    last, ages = x[items[-1]], np.asarray(encoder["ages"]["embedding"], np.float64)
    pooled = np.zeros(rows.shape[1])
    for age, i in enumerate(nodes):
        y = x[i] + ages[age]
        joined = linear(y, encoder["each"]) + linear(m[i], encoder["mirror"]) + linear(last, encoder["last"])
        pooled += linear(sigmoid(joined), encoder["weight"]) * y
    if not last_item:
        return pooled
    share = last_item * sigmoid(linear(np.concatenate([pooled, last]), encoder["gate"]))
    return share * last + (1 - share) * pooled


def contrast(one: Mapping[int, np.ndarray], other: Mapping[int, np.ndarray], temperature: float) -> float:
    """Of the mirrors of a prefix's nodes from two draws."""
    return -sum(np.log(softmax([one[i] @ other[j] / temperature for j in other])[list(other).index(i)]) for i in one)
