"""What systems of one jointly trained network have in common: one stage, most often of cross-entropy over the whole
catalogue."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from alterrec_jax.config import OptimizerConfig
from alterrec_jax.contract import (
    Component,
    ItemTables,
    Network,
    Objective,
    Params,
    SessionBatch,
    Stage,
    System,
    View,
)
from alterrec_jax.losses.objectives import full_softmax

FULL = "full"


def part_of(network: Network, columns: slice) -> Network:
    """A network whose score is what some columns of the session vectors add to that of another one.

    Args:
      network: what trains.
      columns: of its session vectors; the others are zeros.
    """

    def session_embeddings(
        params: Params, tables: ItemTables, batch: SessionBatch, key: jax.Array | None = None
    ) -> jax.Array:
        queries = network.session_embeddings(params, tables, batch, key)
        assert isinstance(queries, jax.Array)
        return jnp.zeros_like(queries).at[:, columns].set(queries[:, columns])

    return network._replace(session_embeddings=session_embeddings)


def halves_of(network: Network, names: tuple[str, str]) -> dict[str, Network]:
    """What the first half of the session vectors scores, and what the second one does, by their names."""
    middle = network.dim // 2
    columns = (slice(middle), slice(middle, None))
    return {name: part_of(network, half) for name, half in zip(names, columns, strict=True)}


def single_network_system(
    name: str,
    network: Network,
    optimizer: OptimizerConfig,
    epochs: int,
    *,
    objective: Objective | None = None,
    init_number: int = 0,
    parts: Mapping[str, Network] | None = None,
    notes: tuple[str, ...] = (),
) -> System:
    """A system of one network.

    Args:
      name: of the network, its component and its view.
      network: what trains.
      optimizer: its settings.
      epochs: in all.
      objective: what is minimised; None is the cross-entropy over the whole catalogue.
      init_number: as of `System.init_numbers`.
      parts: other functions of the same parameters that are scored beside it, by name.
      notes: as of `System.notes`.
    """
    components = {name: Component(network, name)}
    components |= {part: Component(of_part, name) for part, of_part in (parts or {}).items()}
    views: dict[str, View] = {component: {component: 1.0} for component in components}

    def of_stage(stage: Stage) -> Objective:
        del stage
        return full_softmax(name, network) if objective is None else objective

    return System(
        networks={name: network},
        init_numbers={name: init_number},
        components=components,
        views=views,
        objectives={FULL: of_stage},
        optimizers={name: optimizer},
        optimized={name: (name,)},
        stages=(Stage((name,), FULL, epochs, name),),
        notes=notes,
    )
