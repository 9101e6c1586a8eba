"""Train steps as compiled programs of which nothing runs and no array is made.

So catalogues of any size can be compiled for meshes of any size, of virtual devices, and for chips that are not there.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.contract import PackedRows
from alterrec_jax.data.batches import rows_of_batch
from alterrec_jax.hard_negatives.cache import shapes_for
from alterrec_jax.models.alterrec import build_networks
from alterrec_jax.nn import item_tables
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.mesh import DATA, MODEL
from alterrec_jax.training import steps
from alterrec_jax.training.stages import FULL, RANDOM, WINDOW, Turn
from benchmarks.synthetic import TEXT_WIDTH

TURNS = {
    str(turn): turn
    for turn in (
        Turn("id", RANDOM),
        Turn("id", WINDOW, "text"),
        Turn("id", WINDOW, "text", again=True),
        Turn("text", RANDOM),
        Turn("text", WINDOW, "id"),
        Turn("text", WINDOW, "id", again=True),
        Turn("id", FULL),
    )
}
"""Every step of the alternation, and that of a network alone, by their names."""


CLICKS = 10
"""Of each item, as many are taken to be in the training sessions."""


def compiled_step(turn: Turn, config: AlterRecConfig, items: int) -> jax.stages.Compiled:
    """The program of a turn's step on the mesh in use."""
    networks = build_networks(config, items)
    optimizer = steps.make_optimizer(config.id if turn.network == "id" else config.text, 1)
    window = (config.mining.k1, min(config.mining.k2, items))
    step = steps.make_step(turn, networks, optimizer, config.mining, window)
    key, features = _shape((), jax.eval_shape(jax.random.key, 0).dtype, mesh.REPLICATED), features_of(config, items)
    peer = None
    if turn.peer:
        network = networks[turn.peer]
        params = item_tables.placed_shapes(jax.eval_shape(network.init, key, features[turn.peer]))
        made = jax.eval_shape(network.item_embeddings, params, features[turn.peer])
        table: Any = _shape(made.shape, made.dtype, mesh.ITEMS)
        peer = steps.FrozenPeer(params, table)
    batch = (rows_of_step(config), config.max_length)
    rows = PackedRows(*(_shape(batch, dtype, mesh.BATCH) for dtype in (*4 * (jnp.int32,), jnp.bool_, jnp.int32)))
    of_network, windows = features[turn.network], shapes_for(config, CLICKS * items)
    state = steps.state_shapes(networks[turn.network], optimizer, of_network)._replace(windows=windows)
    jitted = jax.jit(step, donate_argnames="state", out_shardings=mesh.shardings(state))
    return jitted.lower(state, peer, of_network, rows, key).compile()


def row_sorts(program: str) -> int:
    """How often a program, by the text of its HLO, sorts long rows of numbers, alone or with their columns."""
    return len(re.findall(r" = \(?f32\[\d+,\d{3,}\][^=]* sort\(", program))  # shorter ones are the best of something


def rows_of_step(config: AlterRecConfig) -> int:
    """Rows of a batch, as many as the devices of `data` share alike."""
    return mesh.padded(rows_of_batch(config.batch_prefixes, config.max_length), DATA)


def features_of(config: AlterRecConfig, items: int) -> dict[str, Any]:
    """What each network knows of the items, in shape."""
    vectors = _shape((mesh.padded(items, MODEL), TEXT_WIDTH), config.precision, mesh.ITEMS)
    return {"id": None, "text": vectors}


def _shape(shape: tuple[int, ...], dtype: Any, spec: jax.sharding.PartitionSpec) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.sharding(spec))
