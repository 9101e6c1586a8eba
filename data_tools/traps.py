"""What in a dataset misleads those who do not know of it, and what to do about each."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from alterrec_jax.data.dataset import Dataset
from data_tools import findings
from data_tools.ascending import count_ascending
from data_tools.protocol import are_rare, protocol_of

SORTED = 0.99  # of neighbouring pairs that ascend by item id
MOSTLY = 0.6
_NEARLY_ALL = 0.999  # of the interactions
_FEWEST_PAIRS = 20
_CERTAIN = 5.0  # standard deviations from one half
_CONFIG = "--config.protocol.exclude_session_items"


def find_traps(dataset: Dataset, *, unseen: Mapping[str, tuple[int, int]], repeated: tuple[int, int]) -> list[str]:
    """Names what is found, a sentence or two for each, which end in what to do.

    Args:
      dataset: a loaded dataset.
      unseen: of each held-out split, how many targets lie outside of the catalogue, and how many targets there are.
      repeated: how many held-out targets their session holds already, and how many targets there are.
    """
    order = dataset.manifest.get("order", {})
    found = [
        _ascending(dataset, order),
        _equal_times(order, dataset),
        _positions(order),
        _repeats(dataset, repeated),
        _unseen(unseen),
    ]
    lengths = findings.lengths_of(dataset)
    return [*filter(None, found), *findings.find(dataset.items, lengths, dataset.manifest)]


def count_pairs(dataset: Dataset) -> tuple[int, int]:
    """Neighbouring pairs of different items in all sessions, each counted once; and how many ascend by item id."""
    before, after = [], []
    for sessions in dataset.splits.values():
        # Under leave_one_out the splits overlap: a pair is counted where its second item is a target.
        position = np.arange(len(sessions.items)) - np.repeat(sessions.offsets[:-1], sessions.lengths)
        second = np.flatnonzero(position >= np.maximum(1, np.repeat(sessions.first_target, sessions.lengths)))
        before.append(sessions.items[second - 1])
        after.append(sessions.items[second])
    return count_ascending(np.concatenate(before), np.concatenate(after), dataset.items["item_id"])


def _ascending(dataset: Dataset, order: Mapping[str, Any]) -> str:
    pairs, ascending = count_pairs(dataset)
    tied, tied_ascending = order.get("tied_pairs", 0), order.get("tied_pairs_ascending", 0)
    share = ascending / max(pairs, 1)
    if pairs >= _FEWEST_PAIRS and share >= SORTED:
        return (
            f"Sessions are in ascending item id: {share:.1%} of {pairs:,} neighbouring pairs, where an order of clicks "
            "gives about half. A model can guess the next item from this sort: order by a time (--order_column), or, "
            "where there is none, leave --order_column out and shuffle by --ties=random."
        )
    if tied >= _FEWEST_PAIRS and tied_ascending / tied >= SORTED:
        return (
            f"Within equal places of the order, items ascend by id: {tied_ascending / tied:.1%} of {tied:,} "
            "neighbouring pairs, where an order of clicks gives about half. A model can guess the next item from this "
            "sort: shuffle by --ties=random, or report the metrics of targets that are alone on their time stamp "
            "beside the others."
        )
    if pairs >= _FEWEST_PAIRS and share >= max(MOSTLY, 0.5 + _CERTAIN * 0.5 / np.sqrt(pairs)):
        return (
            f"Items ascend by id in {share:.1%} of {pairs:,} neighbouring pairs, where an order of clicks gives about "
            "half. A part of the order may be a sort, say within equal times: order by the time (--order_column) and "
            "shuffle what is equal (--ties=random)."
        )
    return ""


def _equal_times(order: Mapping[str, Any], dataset: Dataset) -> str:
    tied = order.get("tied_interactions") or 0
    if not tied:
        return ""
    total = int(order.get("interactions", 0))
    share = f"{tied:,} interactions" + (f" ({tied / total:.1%})" if total else "")
    all_tied = total > 0 and tied >= _NEARLY_ALL * total
    timed = any(sessions.alone is not None for sessions in dataset.splits.values())
    what = "time" if timed else "place in the order"
    found = f"{share} in {order['sessions_with_ties']:,} sessions share their {what} with another of the session"
    if "ties" not in order:  # written before the manifest recorded it
        return f"{found}: prepare the dataset again, so that metrics tell targets that are alone on their time apart."
    follow = {"random": "at random, by the seed", "file": "as in the file"}[order["ties"]]
    found += f", and follow each other {follow}. "
    if all_tied and not timed:
        return found + "If the interactions have a time, order by it (--order_column)."
    if all_tied and order.get("ties") == "file":
        return found + "Unless the file is in the order of the clicks, shuffle them by --ties=random."
    if not dataset.ordered:
        return found + (
            "No order is known of them: prefer models that read a session as a set (the mean, which encoder=auto takes "
            "here), and repeat with other seeds (--seed) before you trust a difference."
        )
    if order.get("ties") == "random":
        return found + (
            "Which of them is the target is chance: report the metrics of targets that are alone on their time stamp "
            "beside the others, and repeat with other seeds (--seed)."
        )
    return found + (
        "What the file makes of them is not what people did: report the metrics of targets that are alone on their "
        "time stamp beside the others, and prepare once more with --ties=random."
    )


def _positions(order: Mapping[str, Any]) -> str:
    if not order.get("positions"):
        return ""
    return (
        "The order column counts the positions of a session, so equal times cannot be seen: if the interactions have a "
        "time, order by it (--order_column)."
    )


def _repeats(dataset: Dataset, repeated: tuple[int, int]) -> str:
    train = dataset.splits["train"]
    recorded = "protocol" in dataset.manifest
    rule = dataset.manifest["protocol"] if recorded else protocol_of(train.items, train.lengths)
    exclude, why = bool(rule["exclude_session_items"]), str(rule["why"])
    value, setting = str(exclude).lower(), "yes" if exclude else "no"
    if not recorded:
        return f"{_sentence(why)} This folder records no choice: train with {_CONFIG}={setting}, or prepare it again."
    advice = f"exclude_session_items={value} is recorded, and training follows it"
    targets, total = repeated
    lost = f"{targets:,} of {total:,} held-out targets ({targets / max(total, 1):.1%})"
    if exclude:
        missed = f", and {lost} are certain misses" if targets else ""
        return f"{_sentence(why)} {advice}{missed}: say so beside the results, or set {_CONFIG}=no to count them in."
    if "repeats" in rule and are_rare(rule["repeats"], rule["interactions"]):  # prepared when one repeat decided
        return (
            f"{_sentence(why)} {advice}, but so few repeats do not pay for session items among the candidates: set "
            f"{_CONFIG}=yes, or prepare it again."
        )
    return f"{_sentence(why)} {advice}: leave it, for otherwise {lost} are certain misses."


def _unseen(unseen: Mapping[str, tuple[int, int]]) -> str:
    if not any(new for new, _ in unseen.values()):
        return ""
    shares = ", ".join(f"{new:,} of {split} ({new / max(all_, 1):.1%})" for split, (new, all_) in unseen.items())
    return (
        f"Targets outside the catalogue are certain misses of every model: {shares}. Compare models on the same folder "
        "only; --held_out_rare_items=drop takes such items out, --catalogue=all lets texts recommend them."
    )


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
