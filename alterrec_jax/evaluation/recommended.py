"""What rankings recommend, right or wrong: how much of the catalogue, how popular it is, how much of the long tail."""

from collections.abc import Collection, Sequence

import numpy as np

from alterrec_jax.evaluation.best_items import NO_ITEM
from alterrec_jax.evaluation.metrics import KS
from alterrec_jax.evaluation.popularity import LONG_TAIL, popularity_groups

MEASURES = ("coverage", "novelty", "long_tail")


class Recommended:
    """The best items of the targets, counted batch by batch as they are ranked, and kept if somebody wants them.

    Attributes:
      names: of the rankings that are looked at.
      k: how many of the best are looked at.
      items: of each ranking whose lists are kept, int32 [targets, kept], NO_ITEM where fewer are candidates.
    """

    def __init__(
        self,
        names: Collection[str],
        catalogue: int,
        targets: int,
        ks: Sequence[int] = KS,
        kept: int = 0,
        keep: Collection[str] = (),
    ):
        """Nothing is seen yet.

        Args:
          names: of the rankings that are looked at.
          catalogue: how many items can be recommended.
          targets: how many are ranked.
          ks: the cut-offs of the measures.
          kept: how many of the best items of each target are kept.
          keep: the names of the rankings whose are.
        """
        self.names = frozenset(names)
        self._catalogue, self._ks = catalogue, tuple(ks)
        self.k = min(max([*ks, kept]), catalogue)
        self.items = {name: np.full((targets, min(kept, catalogue)), NO_ITEM, np.int32) for name in keep if kept}
        self._counts: dict[str, np.ndarray] = {}

    def see(self, name: str, start: int, items: np.ndarray) -> None:
        """Counts the best items, int32 [some targets, k], of the targets from `start` on in the ranking of a name."""
        counts = self._counts.setdefault(name, np.zeros((len(self._ks), self._catalogue), np.int64))
        for count, k in zip(counts, self._ks, strict=True):
            best = items[:, :k]
            np.add.at(count, best[best != NO_ITEM], 1)
        if name in self.items:
            of_name = self.items[name]
            of_name[start : start + len(items)] = items[:, : of_name.shape[1]]

    def measures(self, train_counts: np.ndarray) -> dict[str, dict[str, float]]:
        """Of each ranking, for each cut-off k:

        "coverage@k": the share of the catalogue that stands in the k best of some target;
        "novelty@k": the mean of -log2 of an item's share in the training interactions, over all that is recommended, in
          bits; an item that training lacks counts as one that it has once;
        "long_tail@k": the share of what is recommended that belongs to `popularity.LONG_TAIL`.

        Args:
          train_counts: int64 [items], how often each item occurs in training.
        """
        popularity = train_counts[: self._catalogue]
        bits = -np.log2(np.maximum(popularity, 1) / max(int(train_counts.sum()), 1))
        groups = popularity_groups(popularity)
        in_tail = np.any([groups[label] for label in LONG_TAIL], axis=0)
        return {name: self._measured(counts, bits, in_tail) for name, counts in self._counts.items()}

    def _measured(self, counts: np.ndarray, bits: np.ndarray, in_tail: np.ndarray) -> dict[str, float]:
        found: dict[str, float] = {}
        for count, k in zip(counts, self._ks, strict=True):
            total = max(int(count.sum()), 1)
            values = (float((count > 0).mean()), float(count @ bits) / total, float(count[in_tail].sum()) / total)
            found |= {f"{measure}@{k}": value for measure, value in zip(MEASURES, values, strict=True)}
        return found
