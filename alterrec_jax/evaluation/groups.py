"""Metrics by kind of target: how popular it was in training, how long its session is, whether that holds it already,
and whether its time is its own."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.targets import Targets, target_in_history
from alterrec_jax.evaluation.metrics import KS, METRICS, summarise
from alterrec_jax.evaluation.popularity import popularity_groups
from alterrec_jax.evaluation.ranking import Ranks

SHORT = 5

Masks = dict[str, dict[str, np.ndarray]]


def target_groups(targets: Targets, sessions: Sessions, train_counts: np.ndarray) -> Masks:
    """Which targets belong to which group.

    Args:
      targets: of a split.
      sessions: the sessions of that split.
      train_counts: int64 [items], how often each item occurs in training.

    Returns:
      of each grouping, label -> bool [targets]; the groups of one grouping are disjoint and cover all targets:
      "popularity": half-open intervals of the target's occurrences in training, "[0, 5)" to "[100, inf)".
      "session_length": "<=5" and ">5" items in the whole session, also where a target stands in its middle.
      "repeat": "in_session" if the target stands in its session before, else "new".
      "time_stamp": "alone" if nothing else of its session has the target's time, else "shared": there, the order
        within the time is that of a file or a shuffle, and not the user's. Missing where times are unknown.
    """
    repeat = target_in_history(sessions, targets)
    short = sessions.lengths[targets.session] <= SHORT
    groups = {
        "popularity": popularity_groups(train_counts[targets.item]),
        "session_length": {f"<={SHORT}": short, f">{SHORT}": ~short},
        "repeat": {"in_session": repeat, "new": ~repeat},
    }
    if sessions.alone is not None:
        alone = sessions.alone[sessions.offsets[targets.session] + targets.position]
        groups["time_stamp"] = {"alone": alone, "shared": ~alone}
    return groups


def group_metrics(ranks: Mapping[str, Ranks], masks: Masks, ks: Sequence[int] = KS) -> dict[str, dict[str, Any]]:
    """The metrics of each view in each group.

    Args:
      ranks: of each view, where the targets stand.
      masks: as from `target_groups`.
      ks: the cut-offs.

    Returns:
      grouping -> label -> {"n": targets in the group, view: metrics}. The metrics of an empty group are None.
    """
    return {
        grouping: {
            label: {"n": int(mask.sum()), **{view: _summary(rank, mask, ks) for view, rank in ranks.items()}}
            for label, mask in labels.items()
        }
        for grouping, labels in masks.items()
    }


def _summary(rank: Ranks, mask: np.ndarray, ks: Sequence[int]) -> dict[str, float | None]:
    if not mask.any():
        return {f"{metric}@{k}": None for k in ks for metric in METRICS}
    return dict(summarise(rank.above[mask], rank.equal[mask], ks))
