"""Train steps on meshes of eight virtual devices: the same numbers as on one, and no device sees a whole table."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest

from alterrec_jax.config import OptimizerConfig
from alterrec_jax.contract import PREFIX, CatalogueInfo, Context, Stage, System
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives import rank_window
from alterrec_jax.models.alterrec import MiningConfig
from alterrec_jax.models.sr_gnn import SRGNNConfig, SRGNNNetworkConfig
from alterrec_jax.numerics import MemoryLimits
from alterrec_jax.scoring.frozen import freeze
from alterrec_jax.sharding import mesh
from alterrec_jax.training import steps
from tests.evaluation.examples import make_sessions
from tests.oracles import mining as oracle
from tests.sharding.examples import (
    MESHES,
    ONE,
    assert_alike,
    assert_params_alike,
    context_on_mesh,
    on_mesh,
    padded_rows,
    params_on_mesh,
)
from tests.training.examples import (
    ALTERNATING,
    ITEMS,
    LENGTH,
    MINING,
    batch,
    on_host,
    stage_of,
    step_of,
    system_of,
    title,
)

ID_WINDOW, TEXT_RANDOM = stage_of("id", "window", "text"), stage_of("text", "random")
TEXT_FULL = stage_of("text", "full")
REST = stage_of("id", "window", "text", "image")


@functools.cache
def stepped(
    stage: Stage,
    words: str,
    config: MiningConfig = MINING,
    encoder: str = "mean",
    dropout: float = 0.0,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> steps.StageState:
    """The state after a step of plain gradient descent of rate 1 on a mesh."""
    names = ("id", "text", "image") if "image" in dict(stage.peer) else ("id", "text")
    with on_mesh(words):
        system = system_of(encoder, dropout, mining=config, names=names, limits=limits)
        optimizer = optax.sgd(1.0)
        known = context_on_mesh()
        params = {name: params_on_mesh(system.networks[name], known, 1) for name in stage.trains}
        placed = jax.tree.map(lambda leaf: leaf.sharding, params)
        state = steps.StageState(params, optimizer.init(params), steps.Totals.zeros())
        of_peer = {name: params_on_mesh(system.networks[name], known, 2) for name, _ in stage.peer}
        peer = freeze(system.components, dict(stage.peer), of_peer, known) if stage.peer else None
        step = steps.compiled(step_of(system, stage, optimizer))
        after = step(state, peer, known, padded_rows(batch()), jax.random.key(5))
        assert jax.tree.map(lambda leaf: leaf.sharding, after.params) == placed
        return on_host(after)


# One of each kind; that of the text network on the whole catalogue is made in blocks below.
KINDS = (*ALTERNATING, stage_of("id", "full"), stage_of("id", "own_window"), REST)
EVERY_STAGE = [(stage, "data:4,model:2") for stage in KINDS]
BOTH_ENDS = [(stage, words) for stage in (ID_WINDOW, TEXT_RANDOM) for words in MESHES[:2]]


@pytest.mark.parametrize(("stage", "words"), [*EVERY_STAGE, *BOTH_ENDS], ids=title)
def test_a_step_is_that_of_one_device(stage: Stage, words: str) -> None:
    assert_alike(stepped(stage, words), stepped(stage, ONE))


def test_dropout_does_not_depend_on_the_mesh() -> None:
    case: tuple[Any, ...] = (MINING, "transformer", 0.4)
    whole = stepped(ID_WINDOW, ONE, *case)
    assert whole.totals.loss != stepped(ID_WINDOW, ONE, MINING, "transformer").totals.loss
    assert_alike(stepped(ID_WINDOW, "data:4,model:2", *case), whole)


@pytest.mark.parametrize("stage", [ID_WINDOW, stage_of("text", "window", "id"), TEXT_FULL], ids=title)
def test_a_long_catalogue_in_blocks_makes_the_same_step(stage: Stage) -> None:
    in_blocks = MemoryLimits(
        scores=1, scores_of_piece=4 * 12, scores_of_block=14 * 5, items_of_product=5, rows_of_table=5
    )
    assert_alike(stepped(stage, "data:4,model:2", limits=in_blocks), stepped(stage, ONE))


def test_half_a_window_needs_whole_rows() -> None:
    config = dataclasses.replace(MINING, hard_fraction=0.5)
    assert_alike(stepped(ID_WINDOW, "data:8", config), stepped(ID_WINDOW, ONE, config))
    with pytest.raises(UserError, match="use --mesh with model:1"):
        stepped(ID_WINDOW, "data:4,model:2", config)


@pytest.mark.parametrize("name", ["id", "text"])
def test_a_network_and_its_optimizer_begin_alike(name: str) -> None:
    params = []
    for words in (ONE, "data:4,model:2"):
        with on_mesh(words):
            network, known = system_of("transformer").networks[name], context_on_mesh()
            begun = steps.init_params(network, known, jax.random.key(0))
            optimizer = steps.make_optimizer(OptimizerConfig(), 1)
            state = steps.init_opt_state(optimizer, {name: network}, {name: begun})
            placed = steps.opt_state_shapes(optimizer, {name: network}, {name: begun})
            if words != ONE:
                assert mesh_specs(state) == mesh_specs(placed)
            params.append(on_host({name: begun}))
    assert_params_alike(params[1], params[0])


def mesh_specs(tree: Any) -> Any:
    """How arrays lie, or are to lie."""
    return jax.tree.map(lambda leaf: leaf.sharding.spec, tree)


class Prefixes:
    """SR-GNN on batches in the layout `prefix`."""

    def __init__(self, epoch_key: int = 0):
        rng = np.random.default_rng(0)
        lists = [rng.integers(0, ITEMS, n).tolist() for n in (3, 12, 2, 5, 4, 9, 7, 6, 2)]
        self.batches = TrainBatches(make_sessions(lists), batch_prefixes=13, max_length=LENGTH, layout=PREFIX)
        self.key = jax.random.key(epoch_key)

    def system(self) -> System:
        """Its parameters are shared over the mesh in use."""
        network = SRGNNNetworkConfig(dim=5)
        return SRGNNConfig(network=network, max_length=LENGTH).build(CatalogueInfo(ITEMS))

    def trained(self, words: str) -> steps.StageState:
        """The state after an epoch of plain gradient descent."""
        nothing = Context({}, {})
        with mesh.used(mesh.make_mesh(words, jax.devices()[: np.prod(list(mesh.named_sizes(words).values()))])):
            system, optimizer = self.system(), optax.sgd(0.01)
            params = {"sr_gnn": params_on_mesh(system.networks["sr_gnn"], nothing, 1)}
            state = steps.StageState(params, optimizer.init(params), steps.Totals.zeros())
            step = steps.compiled(steps.in_chunks(step_of(system, system.stages[0], optimizer)))
            for count, chunk in self.batches.device_chunks(self.key):
                for _ in range(count):
                    state = step(state, None, nothing, chunk, jax.random.key(1))
            return on_host(state)


@pytest.mark.parametrize("words", ["data:2", "data:2,model:2"])
def test_an_epoch_of_prefixes_is_that_of_one_device(words: str) -> None:
    run = Prefixes()
    whole = run.trained(ONE)
    assert float(whole.totals.prefixes) == run.batches.prefixes and float(whole.totals.steps) > 2
    assert_alike(run.trained(words), whole)


@functools.cache
def ranked(items: int, k1: int, k2: int, p: int) -> tuple[np.ndarray, np.ndarray, list[tuple[set[int], list[int]]]]:
    """Queries and a table whose scores tie, and of each query the window and the best items by the oracle."""
    rng = np.random.default_rng(3)
    queries, table = (rng.integers(-3, 4, size=(count, 2)).astype(np.float32) for count in (8, items))
    rows = (queries @ table.T).tolist()
    return queries, table, [(oracle.window(scores, k1, k2), oracle.top(scores, p)) for scores in rows]


@pytest.mark.parametrize(
    ("words", "selection", "max_scores"),
    [
        *((words, "search", 2**26) for words in MESHES),
        ("data:4,model:2", "search", 1),
        ("data:4,model:2", "top_k", 2**26),
        ("model:8", "top_k", 1),
    ],
)
@pytest.mark.parametrize(("items", "k1", "k2", "p"), [(901, 3, 500, 3), (901, 90, 901, 0), (11, 2, 9, 2)])
def test_windows_are_those_of_the_oracle(
    words: str, selection: str, max_scores: int, items: int, k1: int, k2: int, p: int
) -> None:
    """With scores that tie, within a device's items and between those of several, at once or a prefix at a time."""
    limits = MemoryLimits(scores=max_scores)
    queries, table, wanted = ranked(items, k1, k2, p)
    with on_mesh(words):
        arguments = (mesh.put(queries, mesh.BATCH), mesh.put_rows(table, np.float32))

        def window(queries: jax.Array, table: jax.Array) -> rank_window.RankWindow:
            return rank_window.peer_window(queries, table, k1, k2, p, selection, items, limits=limits)

        found = jax.device_get(jax.jit(window)(*arguments))
    for row, (scores, (of_window, best)) in enumerate(zip(queries @ table.T, wanted, strict=True)):
        inside = (scores < found.upper[row]) & (scores >= found.lower[row])
        assert set(np.flatnonzero(inside).tolist()) == of_window
        assert found.best[row].tolist() == best
