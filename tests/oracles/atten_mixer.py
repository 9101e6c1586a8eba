"""Atten-Mixer by its equations, one prefix, one level and one head at a time, in float64."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Params = Mapping[str, Any]


def softmax(values: np.ndarray) -> np.ndarray:
    """Of a vector."""
    return np.exp(values) / np.sum(np.exp(values))


def unit(vector: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return vector / np.linalg.norm(vector)


def session_vector(config: Any, params: Params, session: list[int]) -> np.ndarray:
    """float64 [dim]: q of one prefix, without its temperature, of parameters in float64; `config` is the network's."""
    encoder, dim, levels = params["encoder"], config.dim, config.levels
    inputs = [unit(params["items"]["table"][item]) for item in session]

    def mapped(name: str, vector: np.ndarray) -> np.ndarray:
        return vector @ encoder[name]["kernel"] + encoder[name]["bias"]

    blocks = iter(np.split(encoder["levels"]["kernel"], levels * (levels + 1) // 2, axis=1))
    of_level = encoder["levels"]["bias"].copy()
    for back in range(levels):
        for level in range(back, levels):
            block = next(blocks)
            if back < len(session):
                of_level[level] += inputs[-1 - back] @ block
    of_level /= np.sqrt(np.sum(of_level**2, axis=0))
    pooled, width = np.zeros(dim), dim // config.heads
    for head in range(config.heads):
        part = slice(head * width, (head + 1) * width)
        keys = [mapped("key", vector)[part] for vector in inputs]
        total = np.zeros(len(session))
        for query in of_level:
            affinity = np.array([1 / (1 + np.exp(-mapped("query", query)[part] @ key)) for key in keys])
            total += softmax(2 * affinity) ** config.power
        for weight, vector in zip(softmax(2 * total ** (1 / config.power)), inputs, strict=True):
            pooled[part] += weight * mapped("value", vector)[part]
    pooled = (pooled - pooled.mean()) / np.sqrt(pooled.var() + 1e-8) * encoder["norm"]["scale"]
    return unit(mapped("output", np.concatenate([pooled + encoder["norm"]["bias"], inputs[-1]])))
