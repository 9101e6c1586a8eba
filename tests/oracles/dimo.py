"""DIMO of one prefix, in float64, from its equations: loops where the model has axes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.oracles.encoders import dense


def propagated(rows: np.ndarray, counts: np.ndarray, layers: int, mean: bool) -> np.ndarray:
    """float64 [item, dim]: in each layer an item adds its neighbours' weighed mean, or takes the mean of both."""
    rows = np.asarray(rows, np.float64)
    for _ in range(layers):
        following = []
        for item, own in enumerate(rows):
            total = counts[item].sum()
            if not total:
                following.append(own)
                continue
            around = sum(count / total * rows[other] for other, count in enumerate(counts[item]))
            following.append((own + around) / 2 if mean else own + around)
        rows = np.array(following)
    return rows


def session_vector(half: Mapping[str, Any], rows: np.ndarray) -> np.ndarray:
    """float64 [dim]: what the last of a prefix' rows attends to, head by head."""
    kernels = {name: np.asarray(half[name]["kernel"], np.float64) for name in ("query", "key", "value")}
    heads = kernels["query"].shape[1]
    found = []
    for head in range(heads):
        query, key, value = (
            rows @ kernels[name][:, head] + np.asarray(half[name]["bias"], np.float64)[head]
            for name in ("query", "key", "value")
        )
        logits = np.array([query[-1] @ of_item for of_item in key]) / np.sqrt(key.shape[1])
        weights = np.exp(logits - logits.max())
        found.append(sum(weight / weights.sum() * of_item for weight, of_item in zip(weights, value, strict=True)))
    return np.concatenate(found)


def cosine(left: np.ndarray, right: np.ndarray) -> float:
    return float(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))


def nearer(near: float, far: float) -> float:
    """Minus the logarithm of the share of `near` in the softmax of both."""
    return float(-np.log(np.exp(near) / (np.exp(near) + np.exp(far))))


def proxy_loss(
    maps: Mapping[str, Any], ids: np.ndarray, texts: np.ndarray, of_ids: np.ndarray, of_texts: np.ndarray
) -> float:
    """L_pro of a prefix, of its two vectors and the two proxies."""
    m = {number: lambda rows, number=number: dense(rows, maps[f"map_{number}"]) for number in (1, 2, 3, 4, 5, 7, 8)}
    return nearer(cosine(m[1](ids), m[2](of_ids)), cosine(m[3](ids), m[4](texts))) + nearer(
        cosine(m[4](texts), m[5](of_texts)), cosine(m[7](texts), m[8](ids))
    )


def often_elsewhere(sessions: Sequence[Sequence[int]], own: int, prefix: Sequence[int], target: int, most: int) -> bool:
    """Whether the target is among the `most` most frequent neighbours of an item of the prefix, in other sessions."""
    others = [set(session) for number, session in enumerate(sessions) if number != own]
    for item in set(prefix) - {target}:
        counts: dict[int, int] = {}
        for session in others:
            for other in session - {item} if item in session else ():
                counts[other] = counts.get(other, 0) + 1
        if target in counts and sum(count > counts[target] for count in counts.values()) < most:
            return True
    return False
