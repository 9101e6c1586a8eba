"""MMSBR from its equations, in float64 and by loops: an item from its pivots, a prefix from its items."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.oracles.hg_gnn import dense, sigmoid


def softmax(values: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.exp(values - values.max())
    return weights / weights.sum()


def layer_norm(layer: Mapping[str, Any], row: np.ndarray, epsilon: float) -> np.ndarray:
    scaled = (row - row.mean()) / np.sqrt(row.var() + epsilon)
    return np.asarray(scaled * np.asarray(layer["scale"], np.float64) + np.asarray(layer["bias"], np.float64))


def positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values + 1, np.exp(np.minimum(values, 0)))


def distance(mean: np.ndarray, variance: np.ndarray, other_mean: np.ndarray, other_variance: np.ndarray) -> float:
    """W2, squared, of two normal distributions without covariances."""
    return float(np.sum((mean - other_mean) ** 2) + np.sum((np.sqrt(variance) - np.sqrt(other_variance)) ** 2))


def transformer_layer(layer: Mapping[str, Any], hidden: np.ndarray, heads: int) -> np.ndarray:
    """float64 [token, dim] -> [token, dim]."""
    count, dim = hidden.shape
    size = dim // heads
    query, key, value = np.split(dense(layer["attention"], hidden), 3, axis=1)
    out = []
    for token in range(count):
        mixed = []
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            weights = softmax(np.array([query[token, part] @ key[other, part] for other in range(count)]) / size**0.5)
            mixed.append(sum(weights[other] * value[other, part] for other in range(count)))
        first = layer_norm(layer["norm"], hidden[token] + dense(layer["out"], np.concatenate(mixed)), 1e-5)
        second = dense(layer["outer"], np.maximum(dense(layer["inner"], first), 0))
        out.append(layer_norm(layer["norm"], first + second, 1e-5))
    return np.array(out)


def item_vector(
    fusion: Mapping[str, Any], pivots: np.ndarray, vectors: Mapping[str, np.ndarray], pairs: int, heads: int
) -> np.ndarray:
    """float64 [dim], v of an item, whose text stands in `vectors` before its image."""
    tokens = {}
    for name, vector in vectors.items():
        kernels, biases = fusion[f"{name}_kernel"], fusion[f"{name}_bias"]
        first = np.split(np.tanh(dense(fusion[f"{name}_tokens"], vector)), len(kernels))
        tokens[name] = np.array(
            [np.tanh(dense({"kernel": k, "bias": b}, x)) for k, b, x in zip(kernels, biases, first, strict=True)]
        )
    for pair in range(pairs):
        for name in vectors:
            hidden = transformer_layer(fusion[f"{name}_{pair}"], np.concatenate([pivots, tokens[name]]), heads)
            pivots, tokens[name] = (pivots + hidden[: len(pivots)]) / 2, tokens[name] + hidden[len(pivots) :]
    hidden = np.maximum(dense(fusion["join"], pivots.reshape(-1)), 0)
    return np.maximum(dense(fusion["output"], hidden), 0)


def interest(layer: Mapping[str, Any], prefix: np.ndarray) -> np.ndarray:
    """float64 [dim], i of the vectors of a prefix's items."""
    mean, total = prefix.mean(axis=0), np.zeros(prefix.shape[1])
    for vector in prefix:
        gate = sigmoid(dense(layer["each"], vector) + dense(layer["mean"], mean))
        total += (gate @ np.asarray(layer["weight"], np.float64)[:, 0] + float(layer["bias"][0])) * vector
    return total


def prices_of_prefix(
    layer: Mapping[str, Any], levels: Sequence[int], categories: Sequence[int] | None, heads: int
) -> tuple[np.ndarray, np.ndarray]:
    """float64 [dim] twice, mean and variance of a prefix."""
    means = [np.asarray(layer["means"]["embedding"], np.float64)[level] for level in levels]
    spreads = [np.asarray(layer["spreads"]["embedding"], np.float64)[level] for level in levels]
    added = [np.zeros_like(means[0])] * len(means)
    if categories is not None:
        rows = [np.asarray(layer["category"]["embedding"], np.float64)[category] for category in categories]
        added = [layer_norm(layer["norm"], row, 1e-12) for row in rows]
    token_means = [layer_norm(layer["norm"], row, 1e-12) + more for row, more in zip(means, added, strict=True)]
    token_spreads = [
        positive(layer_norm(layer["norm"], row, 1e-12) + more) for row, more in zip(spreads, added, strict=True)
    ]
    of_means = [np.split(dense(layer["map_means"], row), 3) for row in token_means]
    of_spreads = [np.split(positive(dense(layer["map_spreads"], row)), 3) for row in token_spreads]
    dim = len(means[0])
    size, last = dim // heads, len(levels) - 1
    mean, spread = np.zeros(dim), np.zeros(dim)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        far = [
            distance(of_means[last][0][part], of_spreads[last][0][part], m[1][part], s[1][part])
            for m, s in zip(of_means, of_spreads, strict=True)
        ]
        weights = softmax(-np.array(far) / size**0.5)
        for weight, m, s in zip(weights, of_means, of_spreads, strict=True):
            mean[part] += weight * m[2][part]
            spread[part] += weight**2 * s[2][part]
    mean = layer_norm(layer["norm"], means[last] + dense(layer["out_means"], mean), 1e-12)
    spread = layer_norm(layer["norm"], spreads[last] + dense(layer["out_spreads"], spread), 1e-12)
    return mean, positive(spread)


def prices_of_item(layer: Mapping[str, Any], level: int, category: int | None) -> tuple[np.ndarray, np.ndarray]:
    """float64 [dim] twice, mean and variance of an item."""
    mean, spread = (np.asarray(layer[name]["embedding"], np.float64)[level] for name in ("means", "spreads"))
    if category is None:
        return mean, positive(spread)
    row = np.asarray(layer["category"]["embedding"], np.float64)[category]
    return mean + row, positive(spread + row)
