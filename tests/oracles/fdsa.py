"""FDSA of one prefix, in float64, from its equations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.oracles.encoders import TINY, dense, gelu_blocks, layer_norm


def session_vector(params: Mapping[str, Any], context: Mapping[str, np.ndarray], prefix: Sequence[int]) -> np.ndarray:
    """float64 [dim]."""
    table, encoder = np.asarray(params["items"]["table"], np.float64), params["encoder"]
    places = np.asarray(encoder["positions"]["embedding"], np.float64)
    ids = [table[item] for item in prefix]
    features = [item_vector(params["features"], context, item) for item in prefix]
    last = []
    for name, rows in (("ids", ids), ("features", features)):
        hidden = layer_norm(np.stack(rows) + places[: len(prefix)], encoder["norm"], TINY)
        last.append(gelu_blocks(encoder[name], hidden, causal=True)[-1])
    return layer_norm(dense(np.concatenate(last), encoder["join"]), encoder["norm"], TINY)


def item_vector(params: Mapping[str, Any], context: Mapping[str, np.ndarray], item: int) -> np.ndarray:
    """float64 [dim], g: what is known of an item, weighed field by field."""
    fields = []
    for name, rows in context.items():
        known = rows[item]
        if rows.dtype.kind == "f":
            if known.any():
                scaled = np.asarray(known, np.float64) * np.sqrt(len(known))
                fields.append(np.maximum(dense(scaled, params[name]["output"]), 0))
        else:
            values = [value for value in np.atleast_1d(known).tolist() if value > 0]
            if values:
                embedding = np.asarray(params[name]["embedding"], np.float64)
                fields.append(sum(embedding[value] for value in values) / len(values))
    if not fields:
        return np.zeros(params[next(iter(context))]["output"]["bias"].shape)
    if len(context) == 1:
        return fields[0]
    logits = [dense(np.maximum(dense(u, params["attention"]), 0), params["weight"])[0] for u in fields]
    weights = [np.exp(logit - max(logits)) for logit in logits]
    return sum(weight / sum(weights) * u for weight, u in zip(weights, fields, strict=True))
