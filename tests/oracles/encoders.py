"""The slow, obvious twins of the networks: one prefix at a time, in float64, with loops where the models have axes."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

INSIDE, ON_TABLES, TINY = 1e-6, 1e-5, 1e-12
"""The epsilons of LayerNorms: inside a Transformer, on item tables, and in the Transformers of RecBole."""


def layer_norm(rows: np.ndarray, params: Mapping[str, Any], epsilon: float = INSIDE) -> np.ndarray:
    """[..., dim], normalised over dim with the variance of the population."""
    mean = rows.mean(axis=-1, keepdims=True)
    variance = ((rows - mean) ** 2).mean(axis=-1, keepdims=True)
    gain, bias = (np.asarray(params[name], np.float64) for name in ("scale", "bias"))
    return (rows - mean) / np.sqrt(variance + epsilon) * gain + bias


def dense(rows: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    """[..., in] -> [..., out]."""
    return rows @ np.asarray(params["kernel"], np.float64) + np.asarray(params["bias"], np.float64)


def attention(hidden: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    """[position, dim] -> [position, dim]: each position attends to itself and to those before it."""
    query, key, value, out = (
        np.asarray(params[name]["kernel"], np.float64) for name in ("query", "key", "value", "out")
    )
    result = np.zeros_like(hidden)
    for head in range(query.shape[1]):
        q, k, v = (hidden @ kernel[:, head] for kernel in (query, key, value))
        for position in range(len(hidden)):
            logits = k[: position + 1] @ q[position] / np.sqrt(q.shape[1])
            weights = np.exp(logits - logits.max())
            result[position] += (weights / weights.sum()) @ v[: position + 1] @ out[head]
    return result


def transformer(params: Mapping[str, Any], inputs: np.ndarray) -> np.ndarray:
    """float64 [dim]: the embedding of one prefix, from the [position, dim] rows of its items.

    Post-LayerNorm blocks with ReLU, learned positions from 0, read at the last item.
    """
    places = np.asarray(params["positions"]["embedding"], np.float64)
    hidden = layer_norm(np.asarray(inputs, np.float64) + places[: len(inputs)], params["input_norm"])
    for layer in range(sum(name.startswith("block_") for name in params)):
        block = params[f"block_{layer}"]
        hidden = layer_norm(hidden + attention(hidden, block["attention"]), block["attention_norm"])
        inner = np.maximum(dense(hidden, block["inner"]), 0)
        hidden = layer_norm(hidden + dense(inner, block["outer"]), block["feed_forward_norm"])
    return hidden[-1]


def gelu(rows: np.ndarray) -> np.ndarray:
    """x times the probability that a normal number is below it."""
    return rows * np.vectorize(lambda x: (1 + math.erf(x / math.sqrt(2))) / 2)(rows)


def gelu_transformer(
    params: Mapping[str, Any], inputs: np.ndarray, causal: bool, epsilon: float = TINY, from_end: bool = False
) -> np.ndarray:
    """float64 [position, dim]: each item of one session, from their rows.

    Post-LayerNorm blocks with GELU and biases, in which an item attends to every item, or to itself and those before
    it; learned positions, from 0 or so that the last item has the last one. The LayerNorm on the input is there if it
    has parameters.
    """
    places = np.asarray(params["positions"]["embedding"], np.float64)
    hidden = np.asarray(inputs, np.float64) + (places[-len(inputs) :] if from_end else places[: len(inputs)])
    if "input_norm" in params:
        hidden = layer_norm(hidden, params["input_norm"], epsilon)
    return gelu_blocks(params, hidden, causal, epsilon)


def gelu_blocks(params: Mapping[str, Any], hidden: np.ndarray, causal: bool, epsilon: float = TINY) -> np.ndarray:
    """[position, dim] -> [position, dim]: the blocks alone."""
    for layer in range(sum(name.startswith("block_") for name in params)):
        block = params[f"block_{layer}"]
        mixed = biased_attention(hidden, block["attention"], causal)
        hidden = layer_norm(hidden + mixed, block["attention_norm"], epsilon)
        outer = dense(gelu(dense(hidden, block["inner"])), block["outer"])
        hidden = layer_norm(hidden + outer, block["feed_forward_norm"], epsilon)
    return hidden


def cloze(params: Mapping[str, Any], inputs: np.ndarray, epsilon: float = TINY, from_end: bool = False) -> np.ndarray:
    """float64 [position, dim]: what BERT4Rec's head makes of each token of one session, from their rows.

    Every token attends to every token. The LayerNorm behind the head is there if it has parameters.
    """
    hidden = gelu_transformer(params["transformer"], inputs, False, epsilon, from_end)
    read = gelu(dense(hidden, params["head"]))
    return layer_norm(read, params["head_norm"], epsilon) if "head_norm" in params else read


def biased_attention(hidden: np.ndarray, params: Mapping[str, Any], causal: bool) -> np.ndarray:
    """[position, dim] -> [position, dim]: each position attends to all or those up to it; the maps have biases."""
    maps = {name: [np.asarray(params[name][part], np.float64) for part in ("kernel", "bias")] for name in params}
    result = np.zeros_like(hidden) + maps["out"][1]
    for head in range(maps["query"][0].shape[1]):
        q, k, v = (hidden @ maps[name][0][:, head] + maps[name][1][head] for name in ("query", "key", "value"))
        for position in range(len(hidden)):
            seen = position + 1 if causal else len(hidden)
            logits = k[:seen] @ q[position] / np.sqrt(q.shape[1])
            weights = np.exp(logits - logits.max())
            result[position] += (weights / weights.sum()) @ v[:seen] @ maps["out"][0][head]
    return result


def mean(params: Mapping[str, Any], inputs: np.ndarray) -> np.ndarray:
    """float64 [dim]: the mean of a prefix's item rows."""
    assert not params
    return np.asarray(inputs, np.float64).mean(axis=0)


def id_table(params: Mapping[str, Any]) -> np.ndarray:
    """float64 [item, dim]."""
    table = np.asarray(params["table"], np.float64)
    return layer_norm(table, params["norm"], ON_TABLES) if "norm" in params else table


def text_table(params: Mapping[str, Any], vectors: np.ndarray, output_relu: bool) -> np.ndarray:
    """float64 [item, dim]: the MLP on sentence vectors that are scaled to entries of unit variance."""
    table = np.asarray(vectors, np.float64) * np.sqrt(vectors.shape[1])
    for layer in range(sum(name.startswith("hidden_") for name in params)):
        table = np.maximum(dense(table, params[f"hidden_{layer}"]), 0)
    table = dense(table, params["output"])
    table = np.maximum(table, 0) if output_relu else table
    return layer_norm(table, params["norm"], ON_TABLES) if "norm" in params else table
