"""HG-GNN from its equations, in float64 and by loops: nodes from a matrix of weights, a session from its items."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-values))


def dense(layer: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    return values @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer.get("bias", 0), np.float64)


def node_vectors(layer: Mapping[str, Any], raw: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """float64 [node, dim], (h + Z)/2."""
    vectors = []
    for node, row in enumerate(raw):
        mean = sum(weight * raw[other] for other, weight in enumerate(weights[node])) / weights[node].sum()
        hidden = np.maximum(dense(layer["own"], row) + dense(layer["neighbours"], mean), 0)
        vectors.append((hidden + row) / 2)
    return np.array(vectors)


def session_vector(readout: Mapping[str, Any], prefix: np.ndarray, user: np.ndarray, window: int) -> np.ndarray:
    """float64 [dim], of the vectors of a prefix' items, the latest last."""
    latest = prefix[-window:]
    mean = latest.mean(axis=0)
    current, general = np.zeros_like(user), np.zeros_like(user)
    for age, item in enumerate(reversed(latest)):
        place = np.asarray(readout["ages"][age], np.float64)
        hidden = np.tanh(dense(readout["of_ages"], place) + dense(readout["items"], item))
        gate = sigmoid(dense(readout["gate"], hidden) + dense(readout["gate_of_mean"], mean))
        current += dense(readout["weight"], gate) * item
        hidden = np.tanh(dense(readout["general_items"], item))
        gate = sigmoid(dense(readout["general_gate"], hidden) + dense(readout["gate_of_user"], user))
        general += dense(readout["general_weight"], gate) * item
    share = sigmoid(dense(readout["share"], np.concatenate([current, general])))
    return np.asarray(user + share * current + (1 - share) * general)
