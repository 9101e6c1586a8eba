"""MSGIFSR in NumPy, a session at a time: nodes in a dictionary, edges in a set, a mixture over the whole catalogue."""

from typing import Any

import numpy as np

Window = tuple[int, ...]

PARTS = ("kernel", "source", "target", "bias")


def session_vector(params: Any, session: list[int], order: int) -> np.ndarray:
    """r, float64 [dim]."""
    params = _float64(params)
    table, encoder = params["items"]["table"], params["encoder"]
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1)
    windows = {size: _windows(session, size) for size in range(1, order + 1)}
    nodes = [*dict.fromkeys(window for size in windows for window in windows[size])]
    vectors = {node: _unit(_window_vector(encoder, table, node)) for node in nodes}
    edges = {(a, b) for some in windows.values() for a, b in zip(some, some[1:], strict=False)}
    for size in range(2, order + 1):
        for start, window in enumerate(windows[size]):
            if start > 0:
                edges.add(((session[start - 1],), window))
            if start + size < len(session):
                edges.add((window, (session[start + size],)))
    hidden = {node: _unit(found) for node, found in _attended(encoder["layer_0"], vectors, edges, order).items()}
    last = hidden[(session[-1],)]
    each, by_last = encoder["each"], encoder["last"]["kernel"]
    logits = {
        node: _sigmoid(of_node @ each["kernel"] + each["bias"] + last @ by_last) @ encoder["attention"]["kernel"][:, 0]
        for node, of_node in hidden.items()
    }
    total = sum(np.exp(logit) for logit in logits.values())
    pooled = sum(np.exp(logits[node]) / total * hidden[node] for node in nodes)
    return _unit(np.concatenate([last, pooled]) @ encoder["output"]["kernel"])


def probabilities(params: Any, session: list[int], vector: np.ndarray) -> np.ndarray:
    """p of every item, float64 [item], with REnorm."""
    params = _float64(params)
    encoder, table = params["encoder"], params["items"]["table"]
    inner = np.maximum(vector @ encoder["shares_inner"]["kernel"] + encoder["shares_inner"]["bias"], 0)
    shares = np.exp(inner @ encoder["shares"]["kernel"])
    shares /= shares.sum()
    weights = np.exp([12 * vector @ _unit(row) for row in table])
    held = np.array([item in session for item in range(len(table))])
    return np.where(held, shares[0] * weights / weights[held].sum(), shares[1] * weights / weights[~held].sum())


def _windows(session: list[int], size: int) -> list[Window]:
    if len(session) < size:
        return [(session[-1],) * size]
    return [tuple(session[start : start + size]) for start in range(len(session) - size + 1)]


def _window_vector(encoder: Any, table: np.ndarray, window: Window) -> np.ndarray:
    if len(window) == 1:
        return table[window[0]]
    weights = {name: of_sizes[len(window) - 2] for name, of_sizes in encoder["windows"].items()}
    hidden = np.zeros(table.shape[1])
    for item in window:
        of_item = np.split(table[item] @ weights["input_kernel"] + weights["input_bias"], 3)
        of_hidden = np.split(hidden @ weights["hidden_kernel"] + weights["hidden_bias"], 3)
        reset, update = (_sigmoid(of_item[gate] + of_hidden[gate]) for gate in (0, 1))
        new = np.tanh(of_item[2] + reset * of_hidden[2])
        hidden = (1 - update) * new + update * hidden
    return (table[list(window)].mean(axis=0) + hidden) / 2


def _attended(
    layer: Any, vectors: dict[Window, np.ndarray], edges: set[tuple[Window, Window]], order: int
) -> dict[Window, np.ndarray]:
    """The layer, with one attention for each kind of edge, direction and head."""
    heads = layer["within_kernel"].shape[2]
    found = {}
    for node, vector in vectors.items():
        total = np.zeros((heads, len(vector)))
        for direction in (0, 1):
            for source_size in range(1, order + 1):
                if source_size != len(node) and 1 not in (source_size, len(node)):
                    continue  # longer windows of different sizes have no edges
                pairs = edges if direction == 0 else {(b, a) for a, b in edges}
                sources = [a for a, b in pairs if b == node and len(a) == source_size]
                within = source_size == len(node)
                names = {part: ("within_" if within else "between_") + part for part in PARTS}
                weights = {part: layer[name][direction] for part, name in names.items()}
                weights = {part: array[len(node) - 1] if within else array for part, array in weights.items()}
                total += [_head(weights, vector, [vectors[a] for a in sources], head) for head in range(heads)]
        of_size = [other for name, other in vectors.items() if len(name) == len(node)]
        found[node] = total.max(axis=0) + np.mean(of_size, axis=0)
    return found


def _head(weights: Any, target: np.ndarray, sources: list[np.ndarray], head: int) -> np.ndarray:
    kernel, left, right, bias = (weights[part][head] for part in PARTS)
    logits = np.array([left @ (source @ kernel) + right @ (target @ kernel) for source in sources])
    weight = np.exp(np.where(logits > 0, logits, 0.2 * logits))
    summed = [w * (source @ kernel) for w, source in zip(weight / weight.sum(), sources, strict=True)]
    return np.sum(summed, axis=0) + target + bias if sources else target + bias


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def _float64(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _float64(part) for name, part in tree.items()}
    return np.asarray(tree, np.float64)
