"""What every view of a trained model recommends for one session, and what of the session speaks for it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from alterrec_jax.serving.evidence import Evidence, Explainer
from alterrec_jax.serving.recommend import Recommendation, Recommender
from alterrec_jax.serving.trained_model import TrainedModel


class RankedView(NamedTuple):
    """A view and what it recommends.

    Attributes:
      view: its name.
      found: the best items, from high to low.
      evidence: of the session's items, a row for each of them.
    """

    view: str
    found: list[Recommendation]
    evidence: Evidence


class SideBySide:
    """Ranks by all views of a model, the main one first."""

    def __init__(self, trained: TrainedModel):
        """Makes what scores; the items' tables are held once for ranking, and once for evidence."""
        self._catalogue = trained.dataset.catalogue_size
        self._recommenders = {view: Recommender(trained, False, view=view) for view in trained.system.views}
        self._explain = Explainer(trained)

    def __call__(self, session: Sequence[int], k: int, exclude: Iterable[int] = ()) -> list[RankedView]:
        """The k best items by each view.

        Args:
          session: item numbers, the latest last; those beyond the catalogue are passed over.
          k: how many, at most as many as the catalogue has.
          exclude: items of the catalogue that are not recommended.
        """
        known = [item for item in session if item < self._catalogue]
        found = {
            view: next(recommend([known], k, exclude=[[*exclude]])) for view, recommend in self._recommenders.items()
        }
        evidence = self._explain(known, {view: [one.item for one in some] for view, some in found.items()})
        return [RankedView(view, some, evidence[view]) for view, some in found.items()]
