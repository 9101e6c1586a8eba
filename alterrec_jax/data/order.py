"""Whether the order within sessions means something, or was drawn at random."""

from collections.abc import Mapping
from typing import Any

NEARLY_ALL = 0.9
"""The share of the interactions from which on random ties leave no order."""

_DRAWN = ("random ", "a random ")  # how the rule of an order begins that knows no time


def is_ordered(order: Mapping[str, Any]) -> bool:
    """Whether sessions have an order, by the counts and the words that a manifest has of it.

    They have none where (nearly) every interaction shares its place with another of its session, and ties were broken
    at random.

    Args:
      order: as in a manifest under "order"; what it lacks speaks for an order.
    """
    if str(order.get("rule", "")).startswith(_DRAWN):
        return False
    tied, interactions = order.get("tied_interactions") or 0, order.get("interactions") or 0
    return not (order.get("ties") == "random" and interactions and tied >= NEARLY_ALL * interactions)
