"""The top items for given sessions, by the fused score.

Items that were not in training are placed by their text alone. A session of which nothing is known, an empty one
say, gets what is bought most: all its scores would tie.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.encode import Prefixes
from alterrec_jax.errors import UserError
from alterrec_jax.trained import Trained

_SESSIONS_AT_ONCE = 64


class Recommendation(NamedTuple):
    """One recommended item.

    Attributes:
      item: its number; from the catalogue's size on, the number of a new item.
      score: what it was ranked by; the kinds of score are not comparable.
      by: "fused" score, "text" network's score (a new item), or "popularity" in training.
    """

    item: int
    score: float
    by: str


@dataclasses.dataclass
class Recommender:
    """Recommends from a trained model.

    Attributes:
      trained: the model.
      new_vectors: float32 [new item, d_text], text vectors of items that were not in training; they get the
        numbers after the catalogue's. May hold none.
      exclude_session_items: whether to leave out what a session holds.
    """

    trained: Trained
    new_vectors: np.ndarray
    exclude_session_items: bool

    def __post_init__(self) -> None:
        self._catalogue = self.trained.dataset.catalogue_size
        self._encoders = {"id": self.trained.encoder("id"), "text": self.trained.encoder("text", self.new_vectors)}
        self._items = {
            "id_table": self._encoders["id"].tables["id"],
            "text_table": self._encoders["text"].tables["text"],
            "counts": jnp.asarray(self.trained.dataset.train_counts[: self._catalogue], jnp.float32),
        }

    def __call__(self, sessions: Sequence[Sequence[int]], k: int) -> Iterator[list[Recommendation]]:
        """Yields the k best items for each session.

        A new item has no ID score, so it cannot be weighed against fused scores: it takes the rank that the text
        network gives it among the catalogue and the new items, and moves what stood there down by one.

        Args:
          sessions: item numbers, the latest last; new items may be among them, and are known to the text network.
          k: how many; at most as many as there are items.
        """
        total = self._catalogue + len(self.new_vectors)
        if not 1 <= k <= total:
            raise UserError(f"--k={k} is not between 1 and the number of items, {total}")
        for start in range(0, len(sessions), _SESSIONS_AT_ONCE):
            yield from self._some(sessions[start : start + _SESSIONS_AT_ONCE], k)

    def _some(self, sessions: Sequence[Sequence[int]], k: int) -> Iterator[list[Recommendation]]:
        lengths = np.fromiter((len(session) for session in sessions), np.int64, len(sessions))
        prefixes = Prefixes(
            items=np.fromiter((item for session in sessions for item in session), np.int32, int(lengths.sum())),
            offsets=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]),
            session=np.arange(len(sessions)),
            length=lengths,
        )
        queries = {
            name: np.concatenate([batch[name] for batch in encoder.encode(prefixes)])
            for name, encoder in self._encoders.items()
        }
        seen = np.zeros((len(sessions), self._catalogue + len(self.new_vectors)), bool)
        if self.exclude_session_items:
            seen[np.repeat(np.arange(len(sessions)), lengths), prefixes.items] = True
        shape = 1 << (len(sessions) - 1).bit_length()  # one session is not made to wait for 63 empty ones
        padding = ((0, shape - len(sessions)), (0, 0))
        parts = (queries["id"], queries["text"], seen, (lengths > 0)[:, None])
        alpha = self.trained.config.protocol.alpha
        found = jax.device_get(_select(*(np.pad(part, padding) for part in parts), **self._items, alpha=alpha, k=k))
        for row, length in enumerate(lengths):
            by = "fused" if length else "popularity"
            yield _merge(*(part[row] for part in found), by=by, catalogue=self._catalogue, k=k)


@functools.partial(jax.jit, static_argnames="k")
def _select(
    id_queries: jax.Array,
    text_queries: jax.Array,
    seen: jax.Array,
    known: jax.Array,
    *,
    id_table: jax.Array,
    text_table: jax.Array,
    counts: jax.Array,
    alpha: float,
    k: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Top k of the catalogue (scores, items), and of the new items their text scores and text ranks.

    Scores are fused where `known` (bool [session, 1]) says that something is known of the session, else `counts`.
    """
    catalogue = len(id_table)
    id_scores, text_scores = id_queries @ id_table.T, text_queries @ text_table.T
    fused = alpha * id_scores + (1 - alpha) * text_scores[:, :catalogue]
    fused = jnp.where(seen[:, :catalogue], -jnp.inf, jnp.where(known, fused, counts[None, :]))
    scores, items = jax.lax.top_k(fused, min(k, catalogue))
    new_scores = jnp.where(seen[:, catalogue:] | ~known, -jnp.inf, text_scores[:, catalogue:])
    if not new_scores.shape[1]:
        return scores, items, new_scores, jnp.zeros(new_scores.shape, jnp.int32)
    by_text = jnp.sort(jnp.where(seen[:, :catalogue], -jnp.inf, text_scores[:, :catalogue]), axis=1)
    ranks = catalogue - jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))(by_text, new_scores)
    return scores, items, new_scores, ranks


def _merge(
    scores: np.ndarray, items: np.ndarray, new_scores: np.ndarray, ranks: np.ndarray, *, by: str, catalogue: int, k: int
) -> list[Recommendation]:
    """Puts the new items, the best first, at their ranks into the list of the others.

    `ranks` are those among the catalogue; in the text network's ranking of all items, better new ones come before too.
    """
    merged = [Recommendation(int(i), float(s), by) for s, i in zip(scores, items, strict=True) if np.isfinite(s)]
    for better, new in enumerate(np.argsort(-new_scores, kind="stable")):
        if np.isfinite(new_scores[new]):
            merged.insert(
                int(ranks[new]) + better, Recommendation(catalogue + int(new), float(new_scores[new]), "text")
            )
    return merged[:k]
