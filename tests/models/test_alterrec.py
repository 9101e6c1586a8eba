"""The networks: causal, blind to their neighbours in a row, equal to NumPy, random only with a key."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, ItemTables, Network, SessionBatch
from alterrec_jax.data.packing import cut_chunks, fill_rows, plan_rows
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.neighbours import NeighbourConfig
from alterrec_jax.models.unimodal import EncoderConfig, IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.nn.segments import causal_mask, same_segment
from tests.evaluation.examples import make_sessions
from tests.oracles import encoders as oracle

ITEMS, TEXT_WIDTH, HIDDEN, LENGTH = 23, 5, 13, 11
DIM = {"id": 6, "text": 14}
LISTS = [[3, 7, 3], [22], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 0], [5, 17, 1, 0, 8], [21, 20, 19, 18, 17, 16, 3]]


def config_of(encoder: str, **changes: Any) -> AlterRecConfig:
    """Small networks, with the same changes to both."""
    shared: dict[str, Any] = {"encoder": encoder, "layers": 2, "heads": 2, "temperature": 0.5, **changes}
    return AlterRecConfig(
        max_length=LENGTH,
        networks={
            "id": IdNetworkConfig(dim=DIM["id"], **shared),
            "text": VectorNetworkConfig(dim=DIM["text"], mlp_hidden=(HIDDEN,), **shared),
        },
    )


def networks_of(config: AlterRecConfig) -> Mapping[str, Network]:
    """Its networks."""
    return config.build(CatalogueInfo(ITEMS)).networks


def vectors() -> jax.Array:
    """float32 [item, d_text], of unit length."""
    drawn = np.random.default_rng(0).normal(size=(ITEMS, TEXT_WIDTH)).astype(np.float32)
    return jnp.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def context() -> Context:
    """What a network may read."""
    return Context({"text": vectors()}, {})


def shapes(network: Network) -> Any:
    """The parameters' shapes, without making them."""
    return jax.eval_shape(network.init, jax.random.key(0), context())


def start(network: Network, seed: int = 0) -> Any:
    """Fresh parameters."""
    return network.init(jax.random.key(seed), context())


def table_with(network: Network, params: Any, key: jax.Array | None = None) -> jax.Array:
    """float32 [item, dim]: inputs and candidates."""
    tables = network.item_tables(params, context(), key)
    assert tables.inputs is tables.candidates
    return tables.candidates


def away_from_start(params: Any, seed: int) -> Any:
    """Parameters of ordinary size everywhere, so that no gain of 1 or bias of 0 hides a mistake."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32) * 0.5 + 0.1, params)


def packed(lists: list[list[int]], rows: int | None = None) -> SessionBatch:
    """The sessions in rows."""
    sessions = make_sessions(lists)
    chunks = cut_chunks(np.zeros(len(lists), int), sessions.lengths, LENGTH, 1)
    plan = plan_rows(sessions.lengths, LENGTH)
    return fill_rows(sessions.items, sessions.offsets, chunks, plan._replace(rows=rows or plan.rows), LENGTH)


def source_of(batch: SessionBatch) -> np.ndarray:
    """int32 [row, position]: the interaction that stands there, -1 where none does."""
    return np.asarray(batch.interaction).reshape(batch.items.shape)


class Built(NamedTuple):
    """A network that can be run. `embed` gives its session embeddings as [row, position, dim]."""

    name: str
    encoder: str
    network: Network
    params: Any
    table: jax.Array
    embed: Any


@pytest.fixture(scope="module", params=["id-mean", "id-transformer", "text-mean"])
def built(request: pytest.FixtureRequest) -> Iterator[Built]:
    """Each network, with parameters away from their start."""
    name, encoder = request.param.split("-")
    network = networks_of(config_of(encoder, dropout=0.3))[name]
    params = away_from_start(shapes(network), seed=1)

    @jax.jit
    def embed(params: Any, table: jax.Array, batch: SessionBatch, key: jax.Array | None = None) -> jax.Array:
        found = network.session_embeddings(params, ItemTables(table), batch, key)
        return found.reshape(*batch.items.shape, -1)

    yield Built(name, encoder, network, params, table_with(network, params), embed)


def test_embeddings_are_those_of_the_oracle(built: Built) -> None:
    rows = packed(LISTS)
    found = np.asarray(built.embed(built.params, built.table, rows))
    assert found.shape == (*rows.items.shape, DIM[built.name]) and found.dtype == np.float32
    of_prefix = getattr(oracle, built.encoder)
    table = np.asarray(built.table)
    for row, position in zip(*np.nonzero(source_of(rows) >= 0), strict=True):
        prefix = rows.items[row, position - rows.positions[row, position] : position + 1]
        expected = of_prefix(built.params["encoder"], table[prefix]) / 0.5
        np.testing.assert_allclose(found[row, position], expected, rtol=1e-4, atol=2e-5)


def test_packed_sessions_do_not_see_each_other(built: Built) -> None:
    rows = packed(LISTS)
    together = np.asarray(built.embed(built.params, built.table, rows))
    flat = np.concatenate(LISTS)
    begin = 0
    for items in LISTS:
        alone = packed([items], rows=len(rows.items))
        found = np.asarray(built.embed(built.params, built.table, alone))[0, : len(items)]
        chosen = (source_of(rows) >= begin) & (source_of(rows) < begin + len(items))
        assert flat[source_of(rows)[chosen]].tolist() == items
        np.testing.assert_allclose(together[chosen], found, rtol=1e-5, atol=1e-6)
        begin += len(items)


def test_later_items_and_padding_leave_earlier_outputs_alone(built: Built) -> None:
    rows = packed(LISTS)
    empty = source_of(rows) < 0
    before = np.asarray(built.embed(built.params, built.table, rows))
    for cut in range(1, LENGTH):
        later = np.broadcast_to(np.arange(LENGTH) >= cut, empty.shape)
        changed = rows._replace(items=np.where(later, (rows.items + 5) % ITEMS, rows.items).astype(np.int32))
        after = np.asarray(built.embed(built.params, built.table, changed))
        np.testing.assert_array_equal(after[~later & ~empty], before[~later & ~empty])
        assert (after != before)[later & ~empty].all(axis=-1).any()
    assert empty.any()
    changed = rows._replace(
        items=np.where(empty, 9, rows.items).astype(np.int32),
        positions=np.where(empty, 4, rows.positions).astype(np.int32),
    )
    after = np.asarray(built.embed(built.params, built.table, changed))
    np.testing.assert_array_equal(after[~empty], before[~empty])


def test_a_session_embedding_knows_the_order_only_in_a_transformer(built: Built) -> None:
    orders = [[4, 9, 2], [9, 4, 2]]
    forth, back = (np.asarray(built.embed(built.params, built.table, packed([o], rows=3)))[0, 2] for o in orders)
    assert np.allclose(forth, back, rtol=1e-5) == (built.encoder == "mean")


def test_dropout_acts_only_with_a_key_and_follows_it(built: Built) -> None:
    rows = packed(LISTS)
    there = source_of(rows) >= 0

    def embed(seed: int | None) -> np.ndarray:
        key = None if seed is None else jax.random.key(seed)
        return np.asarray(built.embed(built.params, built.table, rows, key))[there]

    np.testing.assert_array_equal(embed(None), embed(None))
    np.testing.assert_array_equal(embed(3), embed(3))
    assert not np.allclose(embed(3), embed(None))
    assert not np.allclose(embed(3), embed(4))


def test_segments_and_causality_by_hand() -> None:
    rows = packed([[4, 5], [6]], rows=1)
    short = rows._replace(segments=jnp.asarray(rows.segments)[:, :4])
    seen, together = np.asarray(causal_mask(short))[0], np.asarray(same_segment(short))[0]
    np.testing.assert_array_equal(seen, [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(together, [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])


def table_of(changes: Mapping[str, Any], name: str) -> tuple[Network, Any, np.ndarray]:
    """A network with such changes, its moved parameters, and its item table."""
    network = networks_of(with_text_changes(changes))[name]
    params = away_from_start(shapes(network), seed=3)
    return network, params, np.asarray(table_with(network, params))


def with_text_changes(changes: Mapping[str, Any]) -> AlterRecConfig:
    """Changes to both networks, or to the text network where only that one has the field."""
    names = {field.name for field in dataclasses.fields(EncoderConfig)}
    config = config_of("mean", **{name: value for name, value in changes.items() if name in names})
    own = {name: value for name, value in changes.items() if name not in names}
    text = dataclasses.replace(config.networks["text"], **own)
    return dataclasses.replace(config, networks={**config.networks, "text": text})


@pytest.mark.parametrize("item_norm", [False, True])
def test_id_table_is_that_of_the_oracle(item_norm: bool) -> None:
    _, params, table = table_of({"item_norm": item_norm}, "id")
    assert ("norm" in params["items"]) == item_norm
    np.testing.assert_allclose(table, oracle.id_table(params["items"]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"item_norm": True}, {"mlp_output_relu": True}, {"mlp_hidden": ()}, {"mlp_hidden": (7, 3), "item_norm": True}],
)
def test_text_table_is_that_of_the_oracle(changes: dict[str, Any]) -> None:
    _, params, table = table_of(changes, "text")
    expected = oracle.text_table(params["items"], np.asarray(vectors()), changes.get("mlp_output_relu", False))
    assert table.shape == (ITEMS, DIM["text"])
    np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-5)


def test_item_dropout_is_one_mask_for_inputs_and_candidates() -> None:
    network, params, still = table_of({"item_dropout": 0.5}, "text")
    table = np.asarray(table_with(network, params, jax.random.key(1)))
    kept = table != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(table[kept], 2 * still[kept], rtol=1e-6)
    # Inputs are rows of that very table: a session of one item, under a mean, is that item's row.
    rows = packed([[item] for item in range(ITEMS)])
    found = np.asarray(network.session_embeddings(params, ItemTables(jnp.asarray(table)), rows))
    there = rows.is_target
    np.testing.assert_allclose(found[there], table[rows.items.reshape(-1)[there]] / 0.5, rtol=1e-6)


def test_temperature_divides() -> None:
    rows = packed(LISTS)
    there, found = source_of(rows) >= 0, []
    for temperature in (1.0, 0.07):
        network = networks_of(config_of("mean", temperature=temperature))["id"]
        params = away_from_start(shapes(network), seed=2)
        found.append(np.asarray(network.session_embeddings(params, network.item_tables(params, context()), rows)))
    there = there.reshape(-1)
    np.testing.assert_allclose(found[0][there] / 0.07, found[1][there], rtol=1e-5)


@pytest.mark.parametrize(("name", "encoder"), [("id", "transformer"), ("text", "mean")])
def test_uniform_start_keeps_every_parameter_within_its_bound(name: str, encoder: str) -> None:
    network = networks_of(config_of(encoder, layers=1, init="uniform", item_norm=True))[name]
    bound = DIM[name] ** -0.5
    leaves = jax.tree_util.tree_leaves_with_path(start(network))
    for path, leaf in leaves:
        where = jax.tree_util.keystr(path)
        assert np.abs(leaf).max() <= bound, where
        assert np.std(leaf) > 0.1 * bound, where
    flat = np.concatenate([np.ravel(leaf) for _, leaf in leaves])
    assert abs(flat.mean()) < 0.1 * bound
    assert len(np.unique(flat)) > 0.99 * len(flat), "no two parameters share their draw"


@pytest.mark.parametrize(("name", "encoder"), [("id", "transformer"), ("text", "mean")])
def test_normal_start_is_sane(name: str, encoder: str) -> None:
    network = networks_of(config_of(encoder, layers=1, item_norm=True))[name]
    for path, leaf in jax.tree_util.tree_leaves_with_path(start(network)):
        where = jax.tree_util.keystr(path)
        if "scale" in where:
            assert (np.asarray(leaf) == 1).all(), where
        elif "bias" in where:
            assert not np.asarray(leaf).any(), where
        else:
            assert 0 < np.std(leaf) < 1, where


def test_both_tables_start_alike_so_that_neither_drowns_the_other() -> None:
    for name, network in networks_of(config_of("mean")).items():
        table = table_with(network, start(network))
        assert 0.005 < np.std(table) < 0.05, name


def test_networks_start_differently_for_different_keys() -> None:
    network = networks_of(config_of("mean"))["id"]
    first, second, again = (start(network, seed)["items"]["table"] for seed in (0, 1, 0))
    assert (first != second).any()
    np.testing.assert_array_equal(first, again)


def test_attention_has_no_bias_and_mean_has_no_parameters() -> None:
    params = shapes(networks_of(config_of("transformer"))["id"])
    for layer in range(2):
        attention = params["encoder"][f"block_{layer}"]["attention"]
        assert attention.keys() == {"query", "key", "value", "out"}
        assert all(part.keys() == {"kernel"} for part in attention.values())
    assert not shapes(networks_of(config_of("mean"))["id"])["encoder"]


def test_what_follows_what_is_left_out_where_the_order_is_random() -> None:
    networks = {
        "id": IdNetworkConfig(dim=4, peer="rest"),
        "following": NeighbourConfig(relation="following"),
        "together": NeighbourConfig(),
    }
    config = AlterRecConfig(networks=networks, mining=MiningConfig(negatives="weighted", k1=1, augment=False)).check()
    assert set(config.build(CatalogueInfo(9)).components) == {"id", "together", "following"}
    system = config.build(CatalogueInfo(9, ordered=False))
    assert set(system.components) == {"id", "together"} and "following left out" in system.notes[0]
    assert dict(system.stages[-1].peer) == {"together": 1.0}


def test_neighbours_have_no_turns_and_no_optimizer() -> None:
    networks = {
        "id": IdNetworkConfig(dim=4),
        "text": VectorNetworkConfig(dim=4, peer="near"),
        "near": NeighbourConfig(),
    }
    mining = MiningConfig(negatives="weighted", k1=1, augment=False)
    system = AlterRecConfig(networks=networks, mining=mining, epochs=9).check().build(CatalogueInfo(9))
    assert set(system.optimizers) == {"id", "text"}
    assert {stage.trains for stage in system.stages} == {("id",), ("text",)}
    peers = {stage.trains[0]: dict(stage.peer) for stage in system.stages if stage.peer}
    assert peers == {"id": {"text": 1.0}, "text": {"near": 1.0}}
    with pytest.raises(UserError, match="at least one network that trains"):
        AlterRecConfig(networks={"near": NeighbourConfig()}).check()
