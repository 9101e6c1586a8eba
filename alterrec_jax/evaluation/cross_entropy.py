"""The loss of every view on a fixed sample of training targets: comparable between systems, phases and epochs.

What a step reports is the loss against its own negatives, and with dropout. Here it is the cross-entropy of a softmax
over the whole catalogue, without dropout (eq. 3 with every other item as a negative; appendix B, for NFRec's parts).
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import View
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.targets import Targets, draw, select_targets
from alterrec_jax.evaluation.batching import default_batch_size, rebatch
from alterrec_jax.evaluation.ranking import component_scores, on_mesh, used_weights, view_scores
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_shards import ItemShards

CROSS_ENTROPY = "cross_entropy"
"""Under this name, after the view's, it stands in the history of a run."""

_SAMPLE = 4096


def sample_of_training(dataset: Dataset, count: int = _SAMPLE) -> Targets:
    """The targets of training sessions drawn at random, always the same, so many of them (or all, if there are fewer).

    Every item of a training session after its first, or from its `first_target` on, is one.
    """
    train = dataset.splits["train"]
    return draw(select_targets(train, "all_prefixes"), len(train), count)


def mean_cross_entropy(
    query_batches: Iterable[Mapping[str, Any]],
    tables: Mapping[str, Any],
    views: Mapping[str, View],
    targets: Targets,
    *,
    catalogue: int | None = None,
    batch_size: int | None = None,
) -> dict[str, float]:
    """The mean over the targets of -log softmax(scores)[target], in nats, for every view.

    Args:
      query_batches, tables, views, catalogue: as of `ranking.rank_targets`.
      targets: items of the catalogue.
      batch_size: targets scored at a time; None chooses by the catalogue's size.
    """
    catalogue = catalogue or len(next(iter(tables.values())))
    needed = sorted({name for weights in views.values() for name in used_weights(weights)})
    on_devices = {name: on_mesh(tables[name]) for name in needed}
    size = mesh.padded(batch_size or default_batch_size(catalogue), mesh.DATA)
    totals, shards = dict.fromkeys(views, 0.0), ItemShards.of(catalogue, 1)
    start = 0
    for count, queries in rebatch(query_batches, needed, size):
        item, queries = mesh.put((np.pad(targets.item[start : start + count], (0, size - count)), queries), mesh.BATCH)
        components = {name: component_scores(queries[name], on_devices[name], shards) for name in needed}
        for view, weights in views.items():
            losses = _losses(view_scores(components, used_weights(weights)), item, catalogue=catalogue)
            totals[view] += float(np.sum(np.asarray(losses)[:count], dtype=np.float64))
        start += count
    return {view: total / len(targets) for view, total in totals.items()}


@functools.partial(jax.jit, static_argnames="catalogue")
def _losses(scores: jax.Array, item: jax.Array, *, catalogue: int) -> jax.Array:
    """float32 [batch], from scores float32 [batch, item] and targets int32 [batch]."""
    shards = ItemShards.of(catalogue, 1)

    def of_device(scores: jax.Array, item: jax.Array) -> jax.Array:
        here, column = shards.local_columns(item)
        own = jnp.take_along_axis(scores, column[:, None], axis=1)[:, 0]
        target = mesh.psum(jnp.where(here, own, 0), mesh.MODEL)
        scores = jnp.where(shards.is_item(0, shards.columns_per_device, catalogue)[None], scores, -jnp.inf)
        largest = mesh.pmax(jnp.max(scores, axis=1), mesh.MODEL)
        total = mesh.psum(jnp.sum(jnp.exp(scores - largest[:, None]), axis=1), mesh.MODEL)
        return mesh.all_gather(jnp.log(total) + largest - target, mesh.DATA)

    losses: jax.Array = mesh.shard_map(of_device, (mesh.BATCH_AND_ITEMS, mesh.BATCH), mesh.REPLICATED)(scores, item)
    return losses
