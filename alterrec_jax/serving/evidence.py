"""Why an item is recommended: what each item of the session adds to it, found by leaving that item out.

The evidence of session item j for item i under a view is

    log p(i | session) - log p(i | session without j),

where p is the softmax over the catalogue of the view's score, as it stands: temperatures of networks and weights of the
fusion are in the score, and no further one is applied. It is the logarithm of how many times likelier j makes i. The
system is asked again without j, so this is exact for any system, whether it reads order or not. It follows that

* an item which stands in a session several times is left out everywhere at once;
* a session without anything left has the uniform p, for all its scores tie. The evidence of an only item is therefore
  how much likelier than by chance it makes i;
* evidence does not add up to the score: of two items that say the same, each can be left out at no loss;
* numbers compare within a view only. Scores of neighbours differ little, and so does their p.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.evaluation.batching import default_batch_size, rebatch
from alterrec_jax.evaluation.ranking import component_scores, padded_columns, used_weights, view_scores
from alterrec_jax.scoring.prefix_encoder import Prefixes
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_shards import ItemShards


class Evidence(NamedTuple):
    """What a session says for some recommended items, under one view.

    Attributes:
      items: int32 [item], the distinct items of the session that the run knows, in the order of their first places.
      values: float32 [recommended, item], the evidence of each for each: natural logarithms; below 0 it speaks against.
      lift: float32 [recommended], log p(i | session) + log catalogue: that of the whole session, over chance.
    """

    items: np.ndarray
    values: np.ndarray
    lift: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """float32 [recommended, item], what each has of all that speaks for the item; zeros where nothing does."""
        positive = np.maximum(self.values, 0)
        total = positive.sum(axis=1, keepdims=True)
        return np.divide(positive, total, out=np.zeros_like(positive), where=total > 0)


class Explainer:
    """Finds the evidence for recommendations of a trained model, under all its views."""

    def __init__(self, trained: TrainedModel, rows_at_once: int | None = None):
        """Makes the tables of all components that a view weighs.

        Args:
          trained: the model.
          rows_at_once: how many rows of scores over the catalogue are held; None chooses by the catalogue's size.
        """
        self._catalogue = trained.dataset.catalogue_size
        self._rows_at_once = rows_at_once or default_batch_size(self._catalogue)
        self._views = {name: used_weights(view) for name, view in trained.system.views.items()}
        self._components = sorted({name for weights in self._views.values() for name in weights})
        self._encoder = trained.encoder(*self._components)
        self._shards = ItemShards.of(self._catalogue)
        self._tables = {name: padded_columns(table, self._shards) for name, table in self._encoder.tables.items()}
        is_item = np.zeros(self._shards.columns, bool)
        is_item[self._shards.column(np.arange(self._catalogue))] = True
        self._is_item = mesh.put(is_item, mesh.ITEMS)

    def __call__(self, session: Iterable[int], recommended: Mapping[str, Sequence[int]]) -> dict[str, Evidence]:
        """The evidence of a session's items.

        The session, and what is left of it without each of its items, are encoded together.

        Args:
          session: item numbers, the latest last; those beyond the catalogue are unknown, and no evidence.
          recommended: by the name of a view, the items of the catalogue that it recommends.

        Raises:
          ValueError: a recommended item is not of the catalogue.
        """
        if wrong := [item for items in recommended.values() for item in items if not 0 <= item < self._catalogue]:
            raise ValueError(f"there is no evidence for item {wrong[0]}; the catalogue has {self._catalogue}")
        known = np.array([item for item in session if item < self._catalogue], np.int32)
        items = np.array([*dict.fromkeys(known.tolist())], np.int32)
        log_probs = self._log_probs([known, *(known[known != item] for item in items)], recommended)
        return {
            view: Evidence(items, (found[0] - found[1:]).T, found[0] + np.float32(np.log(self._catalogue)))
            for view, found in log_probs.items()
        }

    def _log_probs(self, sessions: list[np.ndarray], recommended: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
        """float32 [session, recommended] by view: log p of what it recommends, given each session."""
        lengths = np.array([len(session) for session in sessions], np.int64)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        prefixes = Prefixes(np.concatenate(sessions), offsets, np.arange(len(sessions)), lengths)
        size = min(self._rows_at_once, 1 << (len(sessions) - 1).bit_length())  # few shapes occur
        columns = {
            view: mesh.put(self._shards.column(np.array(items, np.int32))) for view, items in recommended.items()
        }
        found: dict[str, list[np.ndarray]] = {view: [] for view in recommended}
        for count, batch in rebatch(self._encoder.encode(prefixes), self._components, mesh.padded(size, mesh.DATA)):
            queries = mesh.put(batch, mesh.BATCH)
            scores = {name: component_scores(queries[name], self._tables[name], self._shards) for name in queries}
            for view, parts in found.items():
                log_probs = _log_probs_at(view_scores(scores, self._views[view]), self._is_item, columns[view])
                parts.append(np.asarray(mesh.replicated(log_probs))[:count])
        return {view: np.concatenate(parts) for view, parts in found.items()}


@jax.jit
def _log_probs_at(scores: jax.Array, is_item: jax.Array, columns: jax.Array) -> jax.Array:
    """float32 [session, recommended], from scores float32 [session, column]; which columns are items, and wanted."""
    total = jax.nn.logsumexp(jnp.where(is_item[None], scores, -jnp.inf), axis=1, keepdims=True)
    return jnp.take(scores, columns, axis=1) - total
