"""MSGAT's slow, obvious twin: one prefix at a time, in float64, with dictionaries where the model has masks."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.oracles.encoders import ON_TABLES, layer_norm

Params = Mapping[str, Any]


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Of each."""
    return 1 / (1 + np.exp(-values))


def unit(vector: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return vector / np.linalg.norm(vector)


def selu(values: np.ndarray) -> np.ndarray:
    """Of each."""
    return 1.0507009873554805 * np.where(values > 0, values, 1.6732632423543772 * np.expm1(values))


def linear(values: np.ndarray, params: Params) -> np.ndarray:
    """[..., in] -> [..., out], with a bias if there is one."""
    return values @ np.asarray(params["kernel"], np.float64) + np.asarray(params.get("bias", 0.0), np.float64)


def entmax(scores: np.ndarray, alpha: float) -> np.ndarray:
    """[n]: [(alpha - 1) z_i - tau]_+ ^ (1 / (alpha - 1)), tau by a hundred halvings."""
    scaled = (alpha - 1) * scores
    low, high = scaled.max() - 1, scaled.max()

    def weights(tau: float) -> np.ndarray:
        return np.maximum(scaled - tau, 0) ** (1 / (alpha - 1))

    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if weights(middle).sum() >= 1 else (low, middle)
    return weights(low)


def cut(row: np.ndarray, length: float) -> np.ndarray:
    """The row, at most so long."""
    return row * min(1.0, length / float(np.linalg.norm(row)))


def graph_layer(nodes: np.ndarray, numbers: list[int], params: Params) -> np.ndarray:
    """A step of SR-GNN's cell over [node, dim]; `numbers` are the prefix's nodes in order."""
    edges = set(zip(numbers, numbers[1:], strict=False))
    around = []
    for name, ends in (("incoming", 1), ("outgoing", 0)):
        mapped, side = linear(nodes, params[name]), np.zeros_like(nodes)
        for node in range(len(nodes)):
            found = [edge[1 - ends] for edge in edges if edge[ends] == node]
            side[node] = np.mean(mapped[found], axis=0) if found else 0.0
        around.append(side + np.asarray(params[f"{name}_bias"], np.float64))
    given = np.split(linear(np.concatenate(around, axis=1), params["input_gates"]), 3, axis=1)
    own = np.split(linear(nodes, params["hidden_gates"]), 3, axis=1)
    reset, update = (sigmoid(given[i] + own[i]) for i in range(2))
    new = np.tanh(given[2] + reset * own[2])
    return (1 - update) * new + update * nodes


def msgat(params: Params, items: list[int], heads: int, max_norm: float, neighbours: str) -> np.ndarray:
    """[dim]: q of a prefix."""
    table, of = np.asarray(params["items"]["table"], np.float64), params["encoder"]
    distinct = list(dict.fromkeys(items))
    numbers = [distinct.index(item) for item in items]
    rows = np.array([cut(table[item], max_norm) for item in distinct])
    places = np.asarray(of["positions"]["embedding"], np.float64)[: len(distinct)]
    joined = np.concatenate([rows, [cut(place, max_norm) for place in places]], axis=1)
    hidden = graph_layer(layer_norm(joined, of["input_norm"], 1e-12), numbers, of["graph_0"])[numbers]

    withtarget = np.concatenate([hidden, np.zeros_like(hidden[:1])])
    queries, mixed = np.maximum(linear(withtarget, of["query"]), 0), np.zeros_like(withtarget)
    width = hidden.shape[1] // heads
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        alpha = 1 + sigmoid(linear(queries[-1, part], of["head_alpha"]))[0]
        for place, query in enumerate(queries):
            weights = entmax(withtarget[:, part] @ query[part] / np.sqrt(width), alpha)
            mixed[place, part] = weights @ withtarget[:, part]
    inner = np.maximum(linear(mixed, of["inner"]), 0)
    attended = layer_norm(mixed + linear(inner, of["outer"]), of["norm"], ON_TABLES)
    each, target = attended[:-1], attended[-1]

    logits = linear(np.maximum(linear(each, of["each"]) + linear(target, of["target"]), 0), of["weight"])[:, 0]
    weights = entmax(logits, 1 + sigmoid(linear(target, of["alpha"]))[0])
    pooled = weights @ sigmoid(linear(hidden[-1], of["last_gate"]) + linear(hidden, of["gate"]))
    session = unit(selu(linear(np.concatenate([pooled, target]), of["output"])))
    return session if neighbours == "none" else 2 * session + unit(selu(rows.sum(axis=0)))
