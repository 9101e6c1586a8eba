"""The slow, obvious twin of BSARec: one prefix at a time, in float64, filtered by the Fourier transform itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import erf

from tests.oracles.encoders import dense, layer_norm

EPSILON = 1e-12


def smoothed(hidden: np.ndarray, cutoff: int) -> np.ndarray:
    """[position, dim], of which no more than the lowest cutoff // 2 + 1 frequencies are left."""
    bins = np.fft.rfft(hidden, axis=0)
    bins[cutoff // 2 + 1 :] = 0
    return np.fft.irfft(bins, n=len(hidden), axis=0)


def attended(hidden: np.ndarray, params: Mapping[str, Any], pads: int) -> np.ndarray:
    """[position, dim]: an item attends to the items up to itself, a pad (the first ones are) to everything."""
    maps = {name: np.asarray(params[name]["kernel"], np.float64) for name in ("query", "key", "value", "out")}
    biases = {name: np.asarray(params[name]["bias"], np.float64) for name in maps}
    result = np.tile(biases["out"], (len(hidden), 1))
    for head in range(maps["query"].shape[1]):
        q, k, v = (hidden @ maps[name][:, head] + biases[name][head] for name in ("query", "key", "value"))
        for position in range(len(hidden)):
            seen = slice(0, len(hidden)) if position < pads else slice(pads, position + 1)
            weights = np.exp(k[seen] @ q[position] / np.sqrt(q.shape[1]))
            result[position] += (weights / weights.sum()) @ v[seen] @ maps["out"][head]
    return result


def query(
    params: Mapping[str, Any], prefix: Sequence[int], length: int, cutoff: int, alpha: float, padded: bool
) -> np.ndarray:
    """float64 [dim]: the embedding of one prefix, in a row of `length` columns if it is padded."""
    table = np.asarray(params["items"]["table"], np.float64)
    rows = [table[item] for item in prefix]
    pads = length - len(prefix) if padded else 0
    rows = [np.asarray(params["pad"], np.float64)] * pads + rows if pads else rows
    encoder = params["encoder"]
    columns = np.asarray(encoder["positions"]["embedding"], np.float64)[length - len(rows) : length]
    hidden = layer_norm(np.stack(rows) + columns, encoder["input_norm"], EPSILON)
    for layer in range(sum(name.startswith("block_") for name in encoder)):
        block = encoder[f"block_{layer}"]
        low, root = smoothed(hidden, cutoff), np.asarray(block["sqrt_beta"], np.float64)
        filtered = layer_norm(hidden + low + root**2 * (hidden - low), block["filter_norm"], EPSILON)
        around = hidden + attended(hidden, block["attention"], pads)
        mixed = alpha * filtered + (1 - alpha) * layer_norm(around, block["attention_norm"], EPSILON)
        inner = dense(mixed, block["inner"])
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        hidden = layer_norm(mixed + dense(inner, block["outer"]), block["feed_forward_norm"], EPSILON)
    return hidden[-1]
