"""Train steps as compiled programs of which nothing runs and no array is made.

So catalogues of any size can be compiled for meshes of any size, of virtual devices, and for chips that are not there.
"""

import re
from typing import Any

import jax
import jax.numpy as jnp

from alterrec_jax.contract import PACKED, CatalogueInfo, Context, FrozenView, Params, SessionBatch, Stage, param_shapes
from alterrec_jax.data.batches import rows_of_batch
from alterrec_jax.hard_negatives import cache
from alterrec_jax.models.alterrec import FULL, RANDOM, WINDOW, AlterRecConfig
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.sharding import mesh
from alterrec_jax.stages import Epoch
from alterrec_jax.training import steps
from benchmarks.synthetic import TEXT_WIDTH


def stage_of(name: str, objective: str, peer: str = "") -> Stage:
    """An epoch of one network of AlterRec."""
    return Stage((name,), objective, 1, name, ((peer, 1.0),) if peer else ())


def _titled(stage: Stage, reuse_windows: bool) -> str:
    return f"{Epoch(stage, 0, 0)}{' reused' if reuse_windows else ''}"


PROGRAMS = {
    _titled(stage, reuse): (stage, reuse)
    for stage, reuse in (
        (stage_of("id", RANDOM), False),
        (stage_of("id", WINDOW, "text"), False),
        (stage_of("id", WINDOW, "text"), True),
        (stage_of("text", RANDOM), False),
        (stage_of("text", WINDOW, "id"), False),
        (stage_of("text", WINDOW, "id"), True),
        (stage_of("id", FULL), False),
    )
}
"""Every step of the alternation, and that of a network alone, by their names: a stage, and whether it reads the windows
that were mined in an epoch before."""

CLICKS = 10
"""Of each item, as many are taken to be in the training sessions."""


def compiled_step(name: str, config: AlterRecConfig, items: int) -> jax.stages.Compiled:
    """The program of a step, one of `PROGRAMS`, on the mesh in use."""
    stage, reuse_windows = PROGRAMS[name]
    system = config.build(CatalogueInfo(items))
    assert system.layout == PACKED
    known = Context({"text": _shape((mesh.padded(items, mesh.MODEL), TEXT_WIDTH), config.precision, mesh.ITEMS)}, {})
    optimizer = steps.make_optimizer(system.optimizers[stage.optimizer], 1)
    step = steps.make_step(system.objectives[stage.objective](stage), optimizer, reuse_windows)
    params = {name: param_shapes(network, known) for name, network in system.networks.items()}
    trained = {name: params[name] for name in stage.trains}
    opt_state = steps.opt_state_shapes(optimizer, system.networks, trained)
    number = _shape((), jnp.float32, mesh.REPLICATED)
    totals = steps.Totals(number, number, number, number, dict.fromkeys(system.terms, number))
    windows = cache.shapes(CLICKS * items, config.mining.positives)
    state = steps.StageState(trained, opt_state, totals, windows)
    peer = _frozen_shapes(system, stage, params, known) if stage.peer else None
    rows, length = mesh.padded(rows_of_batch(config.batch_prefixes, config.max_length), mesh.DATA), config.max_length
    in_rows, of_prefixes = (_shape(shape, jnp.int32, mesh.BATCH) for shape in ((rows, length), (rows * length,)))
    is_target = _shape((rows * length,), jnp.bool_, mesh.BATCH)
    batch = SessionBatch(in_rows, in_rows, in_rows, of_prefixes, is_target, interaction=of_prefixes)
    key = _shape((), jax.eval_shape(jax.random.key, 0).dtype, mesh.REPLICATED)
    jitted = jax.jit(step, donate_argnames="state", out_shardings=mesh.shardings(state))
    return jitted.lower(state, peer, known, batch, key).compile()


def _frozen_shapes(system: Any, stage: Stage, params: dict[str, Params], known: Context) -> FrozenView:
    """The stage's peer in shape: parameters lie as those of a network that trains, tables over the items."""
    view = dict(stage.peer)
    made: FrozenView = jax.eval_shape(
        lambda params, known: freeze(system.components, view, params, known), params, known
    )
    tables, candidates = jax.tree.map(
        lambda leaf: _shape(leaf.shape, leaf.dtype, mesh.ITEMS), (made.tables, made.candidates)
    )
    return FrozenView({name: params[system.components[name].trained] for name in view}, tables, candidates)


def row_sorts(program: str) -> int:
    """How often a program, by the text of its HLO, sorts long rows of numbers, alone or with their columns."""
    return len(re.findall(r" = \(?f32\[\d+,\d{3,}\][^=]* sort\(", program))  # shorter ones are the best of something


def _shape(shape: tuple[int, ...], dtype: Any, spec: jax.sharding.PartitionSpec) -> Any:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=mesh.sharding(spec))
