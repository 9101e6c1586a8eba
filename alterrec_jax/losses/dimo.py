"""What DIMO adds to the cross-entropy: each half of a session stays itself, and the one that tells more finds the item.

q are the vectors of a prefix and p their proxies, the means of its rows, of the ID and of the modality; M are learned
maps and cos the cosine. The proxy loss tells a half from the other one, by what its own proxy shares with it:

    L_pro = - log softmax of cos(M_1 q_id, M_2 p_id) beside cos(M_3 q_id, M_4 q_mo)
            - log softmax of cos(M_4 q_mo, M_5 p_mo) beside cos(M_7 q_mo, M_8 q_id)

(numbers are those of the released code, which never calls its sixth map). The counterfactual loss has the rows e of the
item that follows, and f = 1 where that is among the most frequent companions of an item of the prefix, -1 elsewhere:

    L_cf = - f log softmax of cos(q_id, e_id) beside cos(q_mo, e_mo)

Where items were bought together before, the ID is to be nearer to the item than the modality is; where not, farther.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, Network, Objective, Params, SessionBatch
from alterrec_jax.losses.cooccurrence import COOCCURRENCE, cooccurrence_losses
from alterrec_jax.losses.id_and_modality import COMPANIONS, EncodeFn, Prefixes, cosine, cross_entropy, embedded
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.numerics import MemoryLimits, product
from alterrec_jax.sharding.lookup import lookup

PROXY, COUNTERFACTUAL = "proxy", "counterfactual"
"""Terms of a loss."""

OFTEN = "often_elsewhere"
"""The graph that the counterfactual loss reads."""

MAPS = "maps"
"""The parameter that holds the maps M."""

MAPS_OF = {"q_id": (1, 3, 8), "q_mo": (4, 7), "p_id": (2,), "p_mo": (5,)}
"""Which maps each vector of `Prefixes` goes through."""


class DIMOLoss(NamedTuple):
    """The settings of the loss.

    Attributes:
      weights: by the name of a term.
      items: how many the co-occurrence loss draws in a step.
      swapped: whether L_pro takes q_mo for p_id and p_id for q_mo (released code).
      dtype: of what products take.
    """

    weights: Mapping[str, float]
    items: int
    swapped: bool
    dtype: str

    @property
    def terms(self) -> tuple[str, ...]:
        """Those that count."""
        return tuple(term for term, weight in self.weights.items() if weight)


def dimo_objective(
    name: str,
    network: Network,
    encode: EncodeFn,
    given: DIMOLoss,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """The cross-entropy over the whole catalogue, and the three terms that are added: means, each times its weight.

    Args:
      name, network: what trains.
      encode: what it makes of prefixes.
      given: the settings.
      limits: how much a device holds at a time.
    """
    items = network.catalogue_size

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        own, (table_key, session_key, item_key) = params[name], jax.random.split(key, 3)
        table, prefixes = embedded(network, encode, own, context, batch, table_key, session_key)
        q_id, q_mo, p_id, p_mo = prefixes
        queries = jnp.concatenate([q_id, q_mo], axis=1).astype(given.dtype)
        count = jnp.sum(batch.is_target, dtype=jnp.float32)  # what the step divides by
        found: dict[str, jax.Array] = {}
        if COOCCURRENCE in given.terms:
            ids = table[:, : table.shape[1] // 2]
            losses, counted = cooccurrence_losses(item_key, ids, context.graphs[COMPANIONS], items, given.items)
            found[COOCCURRENCE] = count * jnp.sum(losses) / jnp.maximum(jnp.sum(counted), 1)
        if PROXY in given.terms:
            compared = Prefixes(q_id, p_id, q_mo, p_mo) if given.swapped else prefixes
            losses = proxy_losses(own[MAPS], compared, given.dtype)
            found[PROXY] = jnp.sum(losses, where=batch.is_target)
        if COUNTERFACTUAL in given.terms:
            target_id, target_mo = jnp.split(lookup(table, batch.targets), 2, axis=1)
            often = context.graphs[OFTEN][batch.interaction]  # of padding anything: nobody asks
            losses = counterfactual_losses(prefixes, target_id, target_mo, often)
            found[COUNTERFACTUAL] = jnp.sum(losses, where=batch.is_target)
        weighed = {term: given.weights[term] * total for term, total in found.items()}
        return {NEXT_ITEM: cross_entropy(queries, table, batch, items, limits), **weighed}

    return Objective(loss)


def proxy_losses(maps: Mapping[str, Any], prefixes: Prefixes, dtype: str) -> jax.Array:
    """float32 [prefix], L_pro.

    Args:
      maps: by the vector that they map, `kernel` [dim, n * dim] and `bias` [n * dim] of its n maps side by side.
      prefixes: what is compared.
      dtype: of what products take.
    """

    def mapped(name: str) -> list[jax.Array]:
        linear = maps[name]
        rows = product(getattr(prefixes, name), linear["kernel"], dtype) + linear["bias"][None]
        return jnp.split(rows, len(MAPS_OF[name]), axis=1)

    (m1, m3, m8), (m4, m7), (m2,), (m5,) = (mapped(name) for name in MAPS_OF)
    return nearer(cosine(m1, m2), cosine(m3, m4)) + nearer(cosine(m4, m5), cosine(m7, m8))


def counterfactual_losses(
    prefixes: Prefixes, target_id: jax.Array, target_mo: jax.Array, often: jax.Array
) -> jax.Array:
    """float32 [prefix], L_cf.

    Args:
      prefixes: q of them.
      target_id, target_mo: float32 [prefix, dim], the rows of the items that follow.
      often: bool [prefix], whether f is 1.
    """
    losses = nearer(cosine(prefixes.q_id, target_id), cosine(prefixes.q_mo, target_mo))
    return jnp.where(often, losses, -losses)


def nearer(near: jax.Array, far: jax.Array) -> jax.Array:
    """Minus the logarithm of the share that e^near has of e^near + e^far."""
    return jax.nn.softplus(far - near)
