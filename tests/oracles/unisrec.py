"""The slow, obvious twin of UniSRec: one item and one prefix at a time, in float64, with loops over experts."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tests.oracles.encoders import gelu_transformer
from tests.oracles.losses import sampled_softmax


def adapted(params: Mapping[str, Any], vector: np.ndarray) -> np.ndarray:
    """float64 [dim]: A(v), without dropout and noise."""
    gate, kernel, bias = (np.asarray(params[name], np.float64) for name in ("gate", "kernel", "bias"))
    logits = [float(vector @ gate[:, expert]) for expert in range(len(bias))]
    total, dim = math.fsum(math.exp(logit) for logit in logits), kernel.shape[1] // len(bias)
    result = np.zeros(dim)
    for expert, logit in enumerate(logits):
        mapped = (vector - bias[expert]) @ kernel[:, expert * dim : (expert + 1) * dim]
        result += math.exp(logit) / total * mapped
    return result


def session_vector(params: Mapping[str, Any], inputs: np.ndarray) -> np.ndarray:
    """float64 [dim], of length 1: a prefix, from the rows of its items; each position attends to what stands before."""
    return unit(gelu_transformer(params, inputs, causal=True)[-1])


def unit(vector: np.ndarray) -> np.ndarray:
    """Of length 1."""
    return vector / np.linalg.norm(vector)


class Augmented(NamedTuple):
    """A session of a batch: its items, what follows each, and which items are left and get other vectors."""

    items: Sequence[int]
    targets: Sequence[int]
    kept: Sequence[bool]
    reworded: Sequence[bool]


def pretraining(
    params: Mapping[str, Any],
    sessions: Sequence[Augmented],
    text: np.ndarray,
    dropped: np.ndarray,
    temperature: float,
    weight: float,
) -> float:
    """The mean over all prefixes of all sessions of the two contrasts."""
    prefixes = []
    for number, session in enumerate(sessions):
        rows = np.array([adapted(params["adaptor"], text[item]) for item in session.items])
        left = [
            (adapted(params["adaptor"], (dropped if reworded else text)[item]), end)
            for end, (item, kept, reworded) in enumerate(
                zip(session.items, session.kept, session.reworded, strict=True)
            )
            if kept
        ]
        for end, target in enumerate(session.targets):
            query = session_vector(params["encoder"], rows[: end + 1])
            again = session_vector(params["encoder"], np.array([row for row, place in left if place <= end]))
            following = unit(adapted(params["adaptor"], text[target]))
            prefixes.append((number, target, query, following, again))
    losses = []
    for number, target, query, following, again in prefixes:
        others = [(z, q) for session, item, _, z, q in prefixes if session != number and item != target]
        for factor, own, rows in ((1.0, following, [z for z, _ in others]), (weight, again, [q for _, q in others])):
            scores = [float(query @ row) / temperature for row in rows]
            losses.append(factor * sampled_softmax(float(query @ own) / temperature, scores))
    return math.fsum(losses) / len(prefixes)
