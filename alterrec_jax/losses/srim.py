"""SRIM's loss: cross-entropy, alignment of both modalities of a session, joint inference, and co-occurrence (eq. 16).

    L = CE(q_id . E_id + q_mo . E_mo) + beta (L_align + L_joint + L_co),  all of them means

p are means of a prefix's rows (eq. 5), q what attention makes of them (eq. 8), of the ID and of the modality; sim is
the cosine. Alignment (eqs. 9-11) has six maps W:

    a = sim(W_1 p_id, W_2 q_id),  b = sim(W_5 p_mo, W_6 q_mo),  x = sim(W_3 p_id, W_4 p_mo)
    L_align = log(1 + e^x / (1 + e^a)) + log(1 + e^x / (1 + e^b)) + log(1 + (e^a + e^b) / (1 + e^x))

As printed, the numerator of eq. 9 repeats the pair of its denominator with other maps; the released code has the pair
of both modalities there. Joint inference (eqs. 12-13), with c the cosine of q and the row of the item that follows:

    L_id = log(e^c_id + e^c_mo) - c_id,   L_mo = log(e^c_id + e^c_mo) - c_mo
    L_joint = L_id + L_mo / 2  where that item met one of the prefix in another session, else L_mo + L_id / 2

Eq. 6 taken at its word lets the prefix's own session count, in which they always met. The cosine is that of q, which
is what scores, as in the released code; the paper prints p. L_co is that of `losses.cooccurrence`, on the ID rows that
are scored.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, Network, Objective, Params, SessionBatch
from alterrec_jax.losses.cooccurrence import COOCCURRENCE, cooccurrence_losses
from alterrec_jax.losses.id_and_modality import COMPANIONS, EncodeFn, Prefixes, cosine, cross_entropy, embedded
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.sharding.lookup import lookup

MET = "met_elsewhere"
"""The graph that joint inference reads."""

MAPS_OF_ALIGNMENT = "alignment"
"""The parameter that holds the maps W."""

ALIGNMENT, JOINT_INFERENCE = "alignment", "joint_inference"
ID_ALONE, MODALITY_ALONE = "id_alone", "modality_alone"
"""Terms of a loss, beside `NEXT_ITEM` and `COOCCURRENCE`."""

REPAIRED, RELEASED = "repaired", "released"
MAPS = {REPAIRED: 6, RELEASED: 8}
"""How many maps the alignment has."""


class SRIMLoss(NamedTuple):
    """The settings of the loss.

    Attributes:
      terms: which of `ALIGNMENT`, `JOINT_INFERENCE` and `COOCCURRENCE` there are.
      beta: their weight.
      form: `REPAIRED`; or `RELEASED`, as the authors' program has them: sums instead of means, L_co over the whole
        catalogue in decimal logarithms, `alignment_losses` as it says, and L_joint with a minus, so that it rises.
      drawn: items of a step for L_co.
      dtype: of what the products of scores take.
    """

    terms: tuple[str, ...]
    beta: float
    form: str
    drawn: int
    dtype: str


def joint_objective(
    name: str,
    network: Network,
    encode: EncodeFn,
    given: SRIMLoss,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """L, of a network whose candidates are [E_id ; E_mo].

    Args:
      name, network: what trains.
      encode: what it makes of prefixes.
      given: the settings.
      limits: how much a device holds at a time.
    """
    released, items = given.form == RELEASED, network.catalogue_size

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        own, (table_key, session_key, item_key) = params[name], jax.random.split(key, 3)
        table, prefixes = embedded(network, encode, own, context, batch, table_key, session_key)
        queries = jnp.concatenate([prefixes.q_id, prefixes.q_mo], axis=1).astype(given.dtype)
        count = jnp.sum(batch.is_target, dtype=jnp.float32)
        of_all = given.beta * count if released else given.beta  # the step divides by the count
        terms = {NEXT_ITEM: cross_entropy(queries, table, batch, items, limits)}
        id_rows, mo_rows = jnp.split(table, 2, axis=1)
        if ALIGNMENT in given.terms:
            losses = alignment_losses(own[MAPS_OF_ALIGNMENT], prefixes, given.form)
            terms[ALIGNMENT] = of_all * jnp.sum(losses, where=batch.is_target)
        if JOINT_INFERENCE in given.terms:
            target_id, target_mo = jnp.split(lookup(table, batch.targets), 2, axis=1)
            losses = joint_inference_losses(prefixes, target_id, target_mo, _met(context, batch))
            terms[JOINT_INFERENCE] = (-1 if released else 1) * of_all * jnp.sum(losses, where=batch.is_target)
        if COOCCURRENCE in given.terms:
            drawn = items if released else given.drawn
            losses, counted = cooccurrence_losses(item_key, id_rows, context.graphs[COMPANIONS], items, drawn)
            divisor = math.log(10) if released else jnp.maximum(jnp.sum(counted), 1)
            terms[COOCCURRENCE] = given.beta * count * jnp.sum(losses) / divisor
        return terms

    return Objective(loss)


def independent_objective(
    name: str,
    network: Network,
    encode: EncodeFn,
    dtype: str,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """Both modalities trained alone: the sum of a cross-entropy of each, which share no parameter.

    Args:
      name, network, encode, limits: as of `joint_objective`.
      dtype: of what the products of scores take.
    """

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        table, prefixes = embedded(network, encode, params[name], context, batch, *jax.random.split(key))
        parts = zip((ID_ALONE, MODALITY_ALONE), prefixes, jnp.split(table, 2, axis=1), strict=False)
        items = network.catalogue_size
        return {term: cross_entropy(q.astype(dtype), rows, batch, items, limits) for term, q, rows in parts}

    return Objective(loss)


def _met(context: Context, batch: SessionBatch) -> jax.Array:
    """bool [prefix], whether what follows met an item of the prefix in another session; no one asks of padding."""
    if batch.interaction is None:
        return jnp.zeros(batch.targets.shape, bool)
    found: jax.Array = context.graphs[MET][jnp.maximum(batch.interaction, 0)]
    return found


def alignment_losses(maps: Mapping[str, Any], prefixes: Prefixes, form: str) -> jax.Array:
    """float32 [prefix], L_align.

    `RELEASED` is what the authors' program computes: it hands q_mo over for p_id and the other way round, so that a
    compares the two modalities and x attention with its input; and the last term is log((1 + e^a + e^b) / (1 + e^x)).

    Args:
      maps: by their number from 1, `kernel` [dim, dim] and `bias` [dim].
      prefixes: what is aligned.
      form: `REPAIRED` or `RELEASED`.
    """
    q_id, q_mo, p_id, p_mo = prefixes

    def sim(first: int, left: jax.Array, second: int, right: jax.Array) -> jax.Array:
        return cosine(_mapped(maps[str(first)], left), _mapped(maps[str(second)], right))

    if form == REPAIRED:
        a, x, b = sim(1, p_id, 2, q_id), sim(3, p_id, 4, p_mo), sim(5, p_mo, 6, q_mo)
        across = jnp.log1p((jnp.exp(a) + jnp.exp(b)) / (1 + jnp.exp(x)))
        return _within(x, a) + _within(x, b) + across
    a, x, b, y = sim(1, q_id, 2, q_mo), sim(3, q_id, 4, p_id), sim(4, p_id, 5, p_mo), sim(7, p_id, 8, q_id)
    across = jnp.log1p(jnp.exp(a) + jnp.exp(b)) - jnp.log1p(jnp.exp(x))
    return _within(x, a) + _within(y, b) + across


def joint_inference_losses(prefixes: Prefixes, target_id: jax.Array, target_mo: jax.Array, met: jax.Array) -> jax.Array:
    """float32 [prefix], L_joint.

    Args:
      prefixes: q of them.
      target_id, target_mo: float32 [prefix, dim], the rows of the items that follow.
      met: bool [prefix], whether these met an item of the prefix in another session.
    """
    c_id, c_mo = cosine(prefixes.q_id, target_id), cosine(prefixes.q_mo, target_mo)
    total = jnp.logaddexp(c_id, c_mo)
    first, second = jnp.where(met, c_id, c_mo), jnp.where(met, c_mo, c_id)
    return (total - first) + 0.5 * (total - second)


def _within(across: jax.Array, within: jax.Array) -> jax.Array:
    return jnp.log1p(jnp.exp(across) / (1 + jnp.exp(within)))


def _mapped(linear: Mapping[str, jax.Array], rows: jax.Array) -> jax.Array:
    return jnp.matmul(rows, linear["kernel"], precision="highest") + linear["bias"][None]
