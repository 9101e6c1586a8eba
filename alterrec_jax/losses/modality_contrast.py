"""MMSBR's contrast: an item's vector of one modality finds what was made of its other modality in the same space.

    L = mean over items i of  log sum over j in H_i of exp(x_i . z_j)  -  x_i . z_i

x_i is what an item's text says and z_i what its image says in words, or x_i what its image shows and z_i what an image
drawn from its text would show; H_i are the items whose z are nearest to x_i, itself among them if it is near enough.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, Objective, Params, SessionBatch
from alterrec_jax.hard_negatives.rank_window import random_negatives
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup

SAME_ITEM = "same_item"
"""The term of the contrast."""


class ModalityContrast(NamedTuple):
    """What is compared.

    Attributes:
      pairs: names of x and of z: parameters under "items", and features whose zeros say that an item lacks one. A pair
        that is not all there is left out.
      weight: of the sum of their means.
      items: how many are drawn in a step, of whom each is compared with all.
      hardest: how many of these count.
    """

    pairs: tuple[tuple[str, str], ...]
    weight: float
    items: int
    hardest: int


def with_modality_contrast(
    objective: Objective, name: str, contrast: ModalityContrast, catalogue_size: int
) -> Objective:
    """An objective that nothing is mined for, and the contrast as a term beside its own.

    Args:
      objective: what a prefix adds; the contrast counts once for each prefix.
      name: of the network.
      contrast: what is compared.
      catalogue_size: of how many items some are drawn.
    """
    count = min(contrast.items, catalogue_size)

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        draw_key, loss_key = jax.random.split(key)
        drawn = random_negatives(draw_key, catalogue_size, count)
        total, tables = jnp.float32(0), params[name]["items"]
        for pair in contrast.pairs:
            if not tables.keys() >= set(pair):
                continue
            rows, others = (lookup(tables[one], drawn, mesh.REPLICATED) for one in pair)
            features = [lookup(context.features[one], drawn, mesh.REPLICATED) for one in pair]
            known = jnp.all(jnp.stack([jnp.any(some != 0, axis=1) for some in features]), axis=0)
            total += contrast_of(rows, others, known, contrast.hardest)
        terms = objective.loss(params, context, batch, loss_key, mined)
        return {**terms, SAME_ITEM: contrast.weight * total * jnp.sum(batch.is_target)}

    return Objective(loss)


def contrast_of(rows: jax.Array, others: jax.Array, known: jax.Array, hardest: int) -> jax.Array:
    """float32 [], L of the items that have both; 0 where none has.

    Args:
      rows, others: float32 [item, width], x and z.
      known: bool [item], who has both.
      hardest: the size of H.
    """
    logits = jnp.matmul(rows, others.T, precision="highest")
    near, _ = jax.lax.top_k(jnp.where(known[None], logits, -1e9), min(hardest, len(rows)))
    losses = jax.nn.logsumexp(near, axis=1) - jnp.diagonal(logits)
    return jnp.sum(losses, where=known) / jnp.maximum(jnp.sum(known), 1)
