"""What the page of `experiments.explore` asks of a trained model, answered as values that JSON has."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.protocol import protocol_of
from alterrec_jax.evaluation.ranking import used_weights
from alterrec_jax.serving.trained_model import TrainedModel
from experiments.side_by_side import RankedView, SideBySide

ITEMS_AT_ONCE, LONGEST_SESSION, MOST_RECOMMENDED = 20, 200, 100


class Explorer:
    """A trained model that answers for a page. Threads may ask at once; rankings are made one after another."""

    def __init__(self, trained: TrainedModel, name: str):
        """Prepares the search and the rankings.

        Args:
          trained: the model.
          name: of the run, for the reader.
        """
        dataset = trained.dataset
        self._trained, self._name, self._catalogue = trained, name, dataset.catalogue_size
        self._ids, self._names = dataset.items["item_id"].to_list(), dataset.items["name"].to_list()
        self._number = {item: number for number, item in enumerate(self._ids)}
        by_popularity = np.argsort(-dataset.train_counts[: self._catalogue], kind="stable").tolist()
        self._haystack = [(f"{self._names[item]}\n{self._ids[item]}".casefold(), item) for item in by_popularity]
        self._excludes = protocol_of(trained.config.protocol, dataset).exclude_session_items
        self._test = dataset.splits["test"]
        self._fitting = np.flatnonzero((self._test.lengths >= 3) & (self._test.lengths <= 12))
        self._rank, self._lock = SideBySide(trained), threading.Lock()

    def about(self) -> dict[str, Any]:
        """The run: what it is called, which model at which epoch, its views, and what holds of its sessions."""
        trained, system = self._trained, self._trained.system
        return {
            "run": self._name,
            "model": trained.config.family,
            "best_epoch": trained.best["epoch"] + 1,
            "finished": trained.finished,
            "items": self._catalogue,
            "test_sessions": len(self._fitting),
            "ordered": trained.dataset.ordered,
            "exclude_session_items": self._excludes,
            "main": system.main,
            "views": [{"name": name, "weights": used_weights(view)} for name, view in system.views.items()],
        }

    def items(self, query: str) -> list[dict[str, Any]]:
        """Items of the catalogue whose name or id holds every word of the query, the most bought first.

        An item whose id is the query stands before them all. Without a word, what is bought most.
        """
        return [self._item(item) for item, _ in zip(self._found(query), range(ITEMS_AT_ONCE), strict=False)]

    def _found(self, query: str) -> Iterator[int]:
        exact = self._number.get(query.strip(), self._catalogue)
        if exact < self._catalogue:
            yield exact
        words = query.casefold().split()
        yield from (item for text, item in self._haystack if item != exact and all(word in text for word in words))

    def sample(self, number: int) -> dict[str, Any]:
        """A test session by number, counted around; its last item, which is what came next, stands apart.

        Raises:
          UserError: there is no test session of 3 to 12 items.
        """
        if not len(self._fitting):
            raise UserError("the dataset has no test session of 3 to 12 items; search items instead")
        number %= len(self._fitting)
        *session, following = self._test[int(self._fitting[number])].tolist()
        return {"number": number, "session": [self._ids[item] for item in session], "next": self._item(following)}

    def rank(self, session: Sequence[str], k: int = 10, exclude_session_items: bool | None = None) -> dict[str, Any]:
        """The rankings of all views for a session, and the evidence of its items for each recommendation.

        Args:
          session: ids of items, the latest last; those that the dataset lacks are left out and named.
          k: how many, at most 100 and the catalogue.
          exclude_session_items: whether its own items are left out; None for the run's protocol.

        Returns:
          "session", its items; "unknown", ids that were left out; "views", of each "name" and "items", from high to
          low, with "score", "lift" (logarithm: how much likelier than by chance) and "evidence": a value and a share
          for each distinct item of the session that training had, the one that speaks most for it first.

        Raises:
          UserError: the session is longer than 200 items, or training had none of them; or k is not as above.
        """
        most = min(MOST_RECOMMENDED, self._catalogue)
        if not 1 <= k <= most:
            raise UserError(f"k is {k}; it goes from 1 to {most}")
        if len(session) > LONGEST_SESSION:
            raise UserError(f"a session of {len(session)} items is too long for this page; {LONGEST_SESSION} are shown")
        held = [self._number[item] for item in session if item in self._number]
        known = [item for item in held if item < self._catalogue]
        if not known:
            raise UserError("the session has no item that training had; add one that the search finds")
        exclude = known if (self._excludes if exclude_session_items is None else exclude_session_items) else []
        with self._lock:
            views = self._rank(known, k, exclude)
        return {
            "session": [self._item(item) for item in held],
            "unknown": [*dict.fromkeys(item for item in session if item not in self._number)],
            "views": [{"name": one.view, "items": [*self._ranked(one)]} for one in views],
        }

    def _ranked(self, view: RankedView) -> Iterator[dict[str, Any]]:
        items, values, lift = view.evidence
        for found, value, share, over_chance in zip(view.found, values, view.evidence.shares, lift, strict=True):
            evidence = [
                {"id": self._ids[items[one]], "value": float(value[one]), "share": float(share[one])}
                for one in np.argsort(-value, kind="stable")
            ]
            scores = {"score": found.score, "lift": float(over_chance)}
            yield {**self._item(found.item), **scores, "evidence": evidence}

    def _item(self, item: int) -> dict[str, Any]:
        count = int(self._trained.dataset.train_counts[item])
        return {"id": self._ids[item], "name": self._names[item], "count": count, "known": item < self._catalogue}
