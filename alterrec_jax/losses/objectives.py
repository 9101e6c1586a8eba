"""What a step minimises: next-item objectives against one set of negatives or another.

Each builder returns an `Objective` of one network; its loss is a pure function of the parameters that train. A peer is
a frozen view (`scoring.frozen`), so one network, or several fused, can be mined. A builder's `limits` say how much a
device holds at a time.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.contract import Component, Context, FrozenView, Network, Objective, Params, SessionBatch, View
from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives import cache, rank_window
from alterrec_jax.hard_negatives.cache import WindowCache
from alterrec_jax.hard_negatives.rank_window import RankWindow
from alterrec_jax.hard_negatives.sets import (
    CountedNegatives,
    Negatives,
    PeerWeighted,
    SharedNegatives,
    WholeCatalogue,
    WindowNegatives,
)
from alterrec_jax.losses.softmax import sampled_softmax_loss
from alterrec_jax.losses.streamed import log_sum_exp
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.scoring.frozen import frozen_queries
from alterrec_jax.scoring.item_sums import Queries, scores_of_items, slice_scores
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.lookup import lookup

NEXT_ITEM = "next_item"
"""The term of a loss that predicts the item which follows."""


@dataclasses.dataclass(frozen=True)
class WindowSettings:
    """Which part of a ranking a network learns from (section 4.2). Ranks count from 0.

    Attributes:
      k1, k2: hard negatives have the ranks k1 .. k2-1; k2 at most the catalogue's size.
      positives: the best so many are augmented positives; at most k1.
      beta: weight of each of them.
      selection: how ranks are found, one of `rank_window.SELECTIONS`.
      hard_fraction: share of the window that is drawn; uniform negatives fill up the rest (released code).
      gpu_kernels: whether long windows are summed by kernels for NVIDIA GPUs, in bfloat16.
    """

    k1: int
    k2: int
    positives: int = 0
    beta: float = 0.0
    selection: str = "search"
    hard_fraction: float = 1.0
    gpu_kernels: bool = False


class Mined(NamedTuple):
    """What a ranking says about a batch.

    Attributes:
      negatives: which items are negatives of each prefix.
      positives: int32 [prefix, p], the best items of the ranking.
    """

    negatives: Negatives
    positives: jax.Array


Candidates = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, Negatives, int]]
"""Given a key, the item table and the targets: rows, the negatives among them, and how many rows are no padding."""


def full_softmax(
    name: str,
    network: Network,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """Cross-entropy over the whole catalogue."""

    def whole(key: jax.Array, table: jax.Array, targets: jax.Array) -> tuple[jax.Array, Negatives, int]:
        del key
        return table, WholeCatalogue(targets), network.catalogue_size

    return _unmined(name, network, whole, limits)


def random_negatives(
    name: str,
    network: Network,
    count: int,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """The warm-up: so many uniform negatives, drawn once for all prefixes of a batch, without the target."""
    drawn_count = min(count + 1, network.catalogue_size)

    def draw(key: jax.Array, table: jax.Array, targets: jax.Array) -> tuple[jax.Array, Negatives, int]:
        drawn = rank_window.random_negatives(key, network.catalogue_size, drawn_count)
        places = jnp.pad(drawn, (0, mesh.padded(drawn_count, mesh.MODEL) - drawn_count))
        rows = lookup(table, places, mesh.REPLICATED)
        negatives = SharedNegatives.of(drawn, targets)
        return mesh.with_sharding_constraint(rows, mesh.ITEMS), negatives, drawn_count

    return _unmined(name, network, draw, limits)


def _unmined(name: str, network: Network, candidates: Candidates, limits: MemoryLimits) -> Objective:
    """An objective whose candidates, rows of the item table, and negatives among them need no ranking."""

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: None
    ) -> dict[str, jax.Array]:
        del mined
        sample_key, dropout_key = jax.random.split(key)
        table, queries = embed(network, params[name], context, batch, dropout_key)
        losses = sampled_softmax_loss(
            target_scores=jnp.einsum("pd,pd->p", queries, lookup(table, batch.targets)),
            log_sum=log_sum_exp(queries, *candidates(sample_key, table, batch.targets), limits=limits),
        )
        return {NEXT_ITEM: jnp.sum(losses, where=batch.is_target)}

    return Objective(loss)


def peer_window(
    name: str,
    network: Network,
    components: Mapping[str, Component],
    peer: View,
    settings: WindowSettings,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """The alternation: hard negatives, and augmented positives, from a frozen view's ranking.

    Args:
      name, network: what trains.
      components: of the system.
      peer: the weights of those that are mined.
      settings: which part of the ranking.
      limits: how much a device holds at a time.
    """
    _check_devices(settings)

    def mine(
        params: Mapping[str, Params],
        context: Context,
        frozen: FrozenView | None,
        batch: SessionBatch,
        key: jax.Array,
        windows: WindowCache | None,
        reuse: bool,
    ) -> tuple[Mined, WindowCache | None]:
        del params, context
        assert frozen is not None, "a window needs a frozen peer"
        queries = frozen_queries(components, peer, frozen, batch)
        if reuse:
            assert windows is not None, "no window has been cached"
            found = cache.read(windows, batch)
        else:
            kept, items = windows is not None, network.catalogue_size
            found = _window(queries, frozen.candidates, settings, items, kept, limits)
        mined = Mined(_negatives(found, queries, frozen.candidates, batch.targets, key, settings), found.best)
        if windows is not None and not reuse:
            windows = cache.write(windows, batch, found)
        return mined, windows

    fixed = settings.hard_fraction == 1
    return Objective(_mined_loss(name, network, settings, limits), mine, settings.positives if fixed else None)


def peer_weighted(
    name: str,
    network: Network,
    components: Mapping[str, Component],
    peer: View,
    share: float,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """Cross-entropy of the network's score plus a share of the frozen peer's, over the whole catalogue.

    Args:
      name, network, components, peer, limits: as of `peer_window`.
      share: what the peer's score is multiplied by; 0 is the network alone.
    """
    shared = {component: share * weight for component, weight in peer.items()}

    def mine(
        params: Mapping[str, Params],
        context: Context,
        frozen: FrozenView | None,
        batch: SessionBatch,
        key: jax.Array,
        windows: WindowCache | None,
        reuse: bool,
    ) -> tuple[Mined, WindowCache | None]:
        del params, context, key, reuse
        assert frozen is not None, "a peer must be frozen"
        queries = frozen_queries(components, shared, frozen, batch)
        of_targets = scores_of_items(queries, frozen.candidates, batch.targets)
        negatives = PeerWeighted(queries, frozen.candidates, of_targets, batch.targets)
        return Mined(negatives, batch.targets[:, None][:, :0]), windows  # another stage's

    whole = WindowSettings(k1=0, k2=network.catalogue_size)
    return Objective(_mined_loss(name, network, whole, limits), mine)


def own_window(
    name: str,
    network: Network,
    settings: WindowSettings,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> Objective:
    """A network that is its own miner: its ranking as it stands at each step, without dropout or gradient."""
    _check_devices(settings)

    def mine(
        params: Mapping[str, Params],
        context: Context,
        frozen: FrozenView | None,
        batch: SessionBatch,
        key: jax.Array,
        windows: WindowCache | None,
        reuse: bool,
    ) -> tuple[Mined, WindowCache | None]:
        del frozen, reuse
        tables = network.item_tables(params[name], context)
        queries = network.session_embeddings(params[name], tables, batch)
        found = _window(queries, tables.candidates, settings, network.catalogue_size, False, limits)
        mined = Mined(_negatives(found, queries, tables.candidates, batch.targets, key, settings), found.best)
        return mined, windows  # another stage's

    return Objective(_mined_loss(name, network, settings, limits), mine)


def embed(
    network: Network, params: Params, context: Context, batch: SessionBatch, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The candidates [item, dim] and an embedding [prefix, dim] for each prefix, with dropout."""
    table_key, session_key = jax.random.split(key)
    tables = network.item_tables(params, context, table_key)
    queries = network.session_embeddings(params, tables, batch, session_key)
    return tables.candidates, mesh.with_sharding_constraint(queries, mesh.BATCH)


def _check_devices(settings: WindowSettings) -> None:
    if settings.hard_fraction < 1 and mesh.size(mesh.MODEL) > 1:
        raise UserError("mining.hard_fraction below 1 ranks the whole catalogue in one place; use --mesh with model:1")
    if settings.gpu_kernels and mesh.platform() != "gpu":
        raise UserError(f"mining.gpu_kernels are for GPUs, not for {mesh.platform()}; leave them off")


def _window(
    queries: jax.Array | Queries,
    table: jax.Array,
    settings: WindowSettings,
    items: int,
    cached: bool,
    limits: MemoryLimits,
) -> RankWindow:
    k1, k2, p = settings.k1, settings.k2, settings.positives
    return rank_window.peer_window(queries, table, k1, k2, p, settings.selection, items, cached, limits)


def _negatives(
    found: RankWindow,
    queries: jax.Array | Queries,
    table: jax.Array,
    targets: jax.Array,
    key: jax.Array,
    settings: WindowSettings,
) -> Negatives:
    if settings.hard_fraction == 1:
        return WindowNegatives(queries, table, found, targets)
    draw: Any = mesh.shard_map(
        lambda key, scores: rank_window.drawn_from_window(
            key, scores, settings.k1, settings.k2, settings.hard_fraction
        ),
        (mesh.REPLICATED, mesh.BATCH),
        mesh.BATCH,
    )
    return CountedNegatives(draw(key, slice_scores(queries, table, 0, len(table))), targets)


def _mined_loss(
    name: str, network: Network, settings: WindowSettings, limits: MemoryLimits
) -> Callable[..., dict[str, jax.Array]]:
    """Eqs. 2-5 on what was mined."""

    def loss(
        params: Mapping[str, Params], context: Context, batch: SessionBatch, key: jax.Array, mined: Mined
    ) -> dict[str, jax.Array]:
        table, queries = embed(network, params[name], context, batch, key)
        positives, items = mined.positives, network.catalogue_size
        augment, kernels = settings.positives > 0, settings.gpu_kernels
        losses = sampled_softmax_loss(
            target_scores=jnp.einsum("pd,pd->p", queries, lookup(table, batch.targets)),
            log_sum=log_sum_exp(queries, table, mined.negatives, items, gpu_kernels=kernels, limits=limits),
            positive_scores=jnp.einsum("pd,pad->pa", queries, lookup(table, positives)) if augment else None,
            positive_where=positives != batch.targets[:, None] if augment else None,
            beta=settings.beta,
        )
        return {NEXT_ITEM: jnp.sum(losses, where=batch.is_target)}

    return loss
