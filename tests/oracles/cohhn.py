"""CoHHN from its equations, in float64 and by loops: items and prices from the sessions of training, then a session."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.oracles.hg_gnn import dense, sigmoid


def spreading(sessions: Sequence[Sequence[int]], items: int) -> np.ndarray:
    """float64 [item, item], S of training sessions, whose last items are left out."""
    inputs = [sorted({item for item in session[:-1] if item < items}) for session in sessions]
    matrix = np.zeros((items, items))
    for item in range(items):
        holding = [session for session in inputs if item in session]
        for session in holding:
            for other in session:
                matrix[item, other] += 1 / len(holding) / len(session)
    return matrix


def gate(params: Mapping[str, Any], own: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """float64 [dim], of one node."""
    kernels = {name: np.asarray(values, np.float64) for name, values in params.items()}
    logits = np.concatenate([own, first, second]) @ kernels["joined"] + kernels["bias"]
    share = sigmoid(logits + first @ kernels["part_1"] + second @ kernels["part_2"])
    return np.asarray(own + share * first + (1 - share) * second)


def mean(values: np.ndarray, strength: float, members: Sequence[int]) -> np.ndarray:
    """float64 [dim], of the rows that are members."""
    if not members:
        return np.zeros(values.shape[1])
    weights = np.exp([float(strength) * values[member].sum() for member in members])
    return np.asarray(
        sum(weight * values[member] for weight, member in zip(weights, members, strict=True)) / weights.sum()
    )


def item_side(
    params: Mapping[str, Any],
    table: np.ndarray,
    level: Sequence[int],
    category: Sequence[int],
    matrix: np.ndarray,
    layers: int,
) -> tuple[np.ndarray, np.ndarray]:
    """float64 [item, dim] and [level, dim]."""
    items, prices, categories = (np.asarray(t, np.float64) for t in (table, params["prices"], params["categories"]))
    numbers = range(len(items))
    for layer in range(layers):
        rows = [
            gate(params["gate_items"], items[i], prices[level[i]], categories[category[i]]) + matrix[i] @ items
            for i in numbers
        ]
        of_prices = []
        for at, own in enumerate(prices):
            members = [i for i in numbers if level[i] == at]
            by_items = mean(items, params["price_items"][at], members)
            by_categories = mean(categories, params["price_categories"][at], sorted({category[i] for i in members}))
            of_prices.append(gate(params["gate_prices"], own, by_items, by_categories))
        of_categories = []
        for at, own in enumerate(categories if layer + 1 < layers else ()):
            members = [i for i in numbers if category[i] == at]
            by_prices = mean(prices, params["category_prices"][at], sorted({level[i] for i in members}))
            by_items = mean(items, params["category_items"][at], members)
            of_categories.append(gate(params["gate_categories"], own, by_prices, by_items))
        items, prices, categories = np.array(rows), np.array(of_prices), np.array(of_categories)
    return items, prices


def price_half(params: Mapping[str, Any], paid: np.ndarray, heads: int) -> np.ndarray:
    """float64 [dim], what the last of a prefix' prices attends to."""
    width, parts = paid.shape[1] // heads, []
    query, key, value = (
        dense({part: np.asarray(of).reshape(*np.shape(of)[:-2], -1) for part, of in params[name].items()}, paid)
        for name in ("query", "key", "value")
    )
    for head in range(heads):
        own = slice(head * width, (head + 1) * width)
        weights = np.exp([query[-1, own] @ row[own] / np.sqrt(width) for row in key])
        parts.append(sum(w * row[own] for w, row in zip(weights / weights.sum(), value, strict=True)))
    return np.concatenate(parts)


def interest_half(params: Mapping[str, Any], liked: np.ndarray) -> np.ndarray:
    """float64 [dim], of the vectors of a prefix' items."""
    total, middle = np.zeros(liked.shape[1]), liked.mean(axis=0)
    for age, item in enumerate(liked[::-1]):
        place = np.asarray(params["ages"][age], np.float64)
        hidden = np.tanh(dense(params["of_ages"], place) + dense(params["items"], item))
        hidden = sigmoid(dense(params["gate"], hidden) + dense(params["gate_of_mean"], middle))
        total += dense(params["weight"], hidden) * item
    return total


def session_vector(params: Mapping[str, Any], liked: np.ndarray, paid: np.ndarray, heads: int) -> np.ndarray:
    """float64 [2 dim], of a prefix' items and their prices."""
    price, interest = price_half(params["price"], paid, heads), interest_half(params["interest"], liked)

    def both(name: str, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return dense(params[f"{name}_first"], first) + dense(params[f"{name}_second"], second)

    product, total = (
        np.tanh(dense(params["product"], price * interest)),
        np.tanh(dense(params["sum"], price + interest)),
    )
    of_interest, of_price = (sigmoid(both(f"keep_{name}", product, total)) for name in ("interest", "price"))
    mixed_price = np.tanh(both("of_price", of_price * price, (1 - of_price) * interest))
    mixed_interest = np.tanh(both("of_interest", of_interest * interest, (1 - of_interest) * price))
    return np.concatenate([(interest + mixed_price) * mixed_interest, (price + mixed_interest) * mixed_price])
