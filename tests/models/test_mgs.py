"""MGS against the released forward pass and losses, against its equations in NumPy, and what it promises of peers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, ItemTables, Network, Params
from alterrec_jax.errors import UserError
from alterrec_jax.losses.mirror_contrast import CONTRAST, MirrorViews, mirror_contrast, node_contrast
from alterrec_jax.losses.objectives import NEXT_ITEM
from alterrec_jax.models.mgs import NAME, MGSConfig, MGSNetworkConfig, build_network
from alterrec_jax.nn.gnn import edge_types, latest_nodes
from alterrec_jax.nn.peers import drawn_peers, mean_of_all_peers, shuffled_peers
from tests.models.test_contract import batch_of as packed
from tests.oracles import mgs as oracle
from tests.parity import batch_of, dense, fixture, kernel, loss_and_gradient

HELD = fixture("mgs")
(ITEMS, DIM), LENGTH = HELD["table_gradient"].shape, HELD["items"].shape[1]
BOTH = ("category", "brand")
VALUES = {name: jnp.asarray(HELD[name], jnp.int32) for name in BOTH}
PLAIN = MGSNetworkConfig(
    dim=DIM,
    steps=2,
    peers=ITEMS,
    mirror_dropout=0,
    last_item=0.5,
    contrast=float(HELD["contrast_weight"]),
    temperature=float(HELD["temperature"]),
)


def parameters(features: tuple[str, ...] = BOTH) -> Params:
    """The fixture's parameters as ours."""
    encoder = {
        "highway": dense(HELD, "highway"),
        "ages": {"embedding": jnp.asarray(HELD["pos_embedding.weight"])},
        "each": dense(HELD, "glu1"),
        "mirror": dense(HELD, "glu2"),
        "last": dense(HELD, "glu3"),
        "weight": {"kernel": jnp.asarray(HELD["w"])},
        "gate": dense(HELD, "gate"),
    }
    for step in range(2):
        of_types = [HELD[f"local_agg.{step}.linear{number}.weight"][0] for number in range(4)]
        maps = {"pull_query": "Wq1", "pull_key": "Wk1", "mirror_query": "Wq2", "mirror_key": "Wk2"}
        encoder[f"graph_{step}"] = {
            "neighbours": {"weights": jnp.asarray(np.stack(of_types))},
            **{ours: dense(HELD, f"mirror_agg.{step}.{theirs}") for ours, theirs in maps.items()},
        }
    weights = [HELD[f"attribute_agg.Ws.{number}.weight"].reshape(2, DIM) for number in range(len(features))]
    params = {
        "items": {"table": jnp.asarray(HELD["embedding.weight"][1:])},
        "peers": jnp.asarray(np.stack(weights)),
        "encoder": encoder,
    }
    return params if len(features) == 1 else params | {"join": kernel(HELD, "attribute_agg.combine_NN")}


def network_of(features: tuple[str, ...] = BOTH, **changes: object) -> Network:
    config = dataclasses.replace(PLAIN, **changes)  # type: ignore[arg-type]
    return build_network(config, features, ITEMS, LENGTH, "float32")[0]


def test_queries_scores_and_gradient_are_those_of_the_released_code() -> None:
    """Without a draw: the fixture's lists hold all peers."""
    batch, ends = batch_of(HELD)
    (value, (queries, scores)), gradient = loss_and_gradient(
        network_of(), parameters(), Context(VALUES, {}), batch, ends
    )
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=8e-6)  # up to 11
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient"], rtol=2e-5, atol=2e-6)


def test_of_one_attribute_mirrors_are_the_means_and_the_last_item_can_be_left_out() -> None:
    network, (batch, ends) = network_of(("category",), last_item=0), batch_of(HELD)
    params = parameters(("category",))
    tables = jax.jit(network.item_tables)(params, Context(VALUES, {}))
    found = jax.jit(network.session_embeddings)(params, tables, batch)[ends]
    np.testing.assert_allclose(found, HELD["one_queries"], rtol=2e-5, atol=2e-6)


def test_the_loss_of_training_and_its_gradient_are_those_of_the_released_code() -> None:
    """Of draws of all peers, which are the same twice, without dropout."""
    network, views = build_network(PLAIN, BOTH, ITEMS, LENGTH, "float32")
    objective = mirror_contrast(NAME, network, views, PLAIN.contrast, PLAIN.temperature)
    batch, ends = batch_of(HELD)
    batch = batch._replace(targets=batch.targets[ends], is_target=batch.is_target[ends], ends=ends)

    def loss(params: Params) -> tuple[jax.Array, dict[str, jax.Array]]:
        terms = objective.loss({NAME: params}, Context(VALUES, {}), batch, jax.random.key(0), None)
        return sum(terms.values(), jnp.zeros(())) / len(ends), terms

    (_, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters())
    np.testing.assert_allclose(terms[NEXT_ITEM], 5 * HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(terms[CONTRAST], PLAIN.contrast * HELD["contrast"].sum(), rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["joint_gradient"], rtol=2e-5, atol=2e-6)


SESSIONS = [[5], [3, 8, 3, 11], [6, 6, 2], [1, 17, 4, 1, 20, 17, 13], [4, 4], [2, 9, 2, 9]]
SPARSE = {
    "category": np.where(np.arange(ITEMS) % 4 == 1, 0, 1 + np.arange(ITEMS) % 4),
    "brand": np.where(np.arange(ITEMS) == 3, 3, np.arange(ITEMS) % 3),
}
"""Some values are unknown, and item 3 has a brand of its own."""


def context_of(values: dict[str, np.ndarray]) -> Context:
    return Context({name: jnp.asarray(some, jnp.int32) for name, some in values.items()}, {})


def test_queries_are_those_of_the_equations_whatever_shares_the_row() -> None:
    network, params = network_of(), parameters()
    rows = np.asarray(params["items"]["table"], np.float64)
    lists = {i: [oracle.peers_of(SPARSE[name], i) for name in BOTH] for i in range(ITEMS)}
    mirrors = {i: oracle.mirror(params, rows, i, lists[i]) for i in range(ITEMS)}
    tables = jax.jit(network.item_tables)(params, context_of(SPARSE))
    np.testing.assert_allclose(tables.inputs.mirrors, np.stack(list(mirrors.values())), rtol=2e-5, atol=2e-6)
    batch, ends = packed(SESSIONS)
    found = jax.jit(network.session_embeddings)(params, tables, batch)[jnp.asarray(ends)]
    expected = [oracle.session_vector(params, rows, mirrors, session, 0.5) for session in SESSIONS]
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=5e-6)


@pytest.fixture(scope="module")
def step() -> tuple[ItemTables, MirrorViews, list[int]]:
    """What a step makes of the sessions, of three peers in a draw."""
    network, views = build_network(dataclasses.replace(PLAIN, peers=3), BOTH, ITEMS, LENGTH, "float32")
    batch, ends = packed(SESSIONS)
    tables = jax.jit(network.item_tables)(parameters(), context_of(SPARSE), jax.random.key(1))
    return tables, jax.jit(views)(parameters(), tables, batch, jax.random.key(2)), ends


def test_a_step_is_that_of_the_equations_given_what_it_draws(step: tuple[ItemTables, MirrorViews, list[int]]) -> None:
    (tables, views, ends), params = step, parameters()
    rows = np.asarray(params["items"]["table"], np.float64)
    items = jnp.arange(ITEMS)
    draws = []  # by attribute and draw, of each item the peers
    for orders in tables.inputs.orders:
        found = [drawn_peers(order, items, 3) for order in orders]
        draws.append([[some[there] for some, there in zip(*map(np.asarray, one), strict=True)] for one in found])
    contrasts = node_contrast(*views.mirrors, views.nodes, 0.7).reshape(-1)
    for session, end in zip(SESSIONS, ends, strict=True):
        lists = [{i: [kind[draw][i] for kind in draws] for i in session} for draw in (0, 1)]
        one, other = ({i: oracle.mirror(params, rows, i, some[i]) for i in reversed(session)} for some in lists)
        both = {i: [np.concatenate(pair) for pair in zip(*(some[i] for some in lists), strict=True)] for i in session}
        mirrors = {i: oracle.mirror(params, rows, i, both[i]) for i in session}
        expected = oracle.session_vector(params, rows, mirrors, session, 0.5)
        np.testing.assert_allclose(views.queries[end], expected, rtol=2e-5, atol=5e-6)
        np.testing.assert_allclose(contrasts[end], oracle.contrast(one, other, 0.7), rtol=2e-5, atol=2e-6)


def test_a_draw_is_of_different_peers_and_each_is_as_likely() -> None:
    values, items = jnp.asarray(SPARSE["brand"], jnp.int32), jnp.arange(ITEMS)
    orders = jax.vmap(lambda key: shuffled_peers(key, values))(jax.random.split(jax.random.key(0), 400))
    peers, there = (np.asarray(part) for part in jax.vmap(lambda order: drawn_peers(order, items, 3))(orders))
    counts = np.zeros((ITEMS, ITEMS), int)
    for item in range(ITEMS):
        expected = oracle.peers_of(SPARSE["brand"].tolist(), item)
        size = min(3, len(expected))
        assert (there[:, item].sum(axis=1) == size).all() and there[:, item, :size].all()
        for drawn in peers[:, item, :size]:
            assert len(set(drawn.tolist())) == size and set(drawn.tolist()) <= set(expected)
            counts[item, drawn] += 1
        if size:  # six standard deviations at most
            share = size / len(expected)
            assert np.abs(counts[item, expected] - 400 * share).max() < 6 * np.sqrt(400 * share * (1 - share) + 1e-9)
    assert not there[:, SPARSE["brand"] == 0].any() and not there[:, 3].any()


def test_draws_of_all_peers_are_all_peers_in_whatever_order() -> None:
    network, params = network_of(), parameters()
    batch, ends = packed(SESSIONS)
    make, embed = jax.jit(network.item_tables), jax.jit(network.session_embeddings)
    found = []
    for key in (None, jax.random.key(1), jax.random.key(2)):
        tables = make(params, context_of(SPARSE), key)
        found.append(np.asarray(embed(params, tables, batch, None if key is None else jax.random.key(3)))[ends])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("block", [4, ITEMS])
def test_means_of_all_peers_are_those_of_the_equation_however_many_meet_at_a_time(block: int) -> None:
    rng = np.random.default_rng(block)
    rows, weights = rng.normal(size=(ITEMS, DIM)), 3 * rng.normal(size=(2, DIM))
    values = SPARSE["category"]
    arrays = (jnp.asarray(values, jnp.int32), *(jnp.asarray(array, jnp.float32) for array in (rows, weights)))
    found, back = jax.vjp(lambda rows, weights: mean_of_all_peers(arrays[0], rows, weights, block), *arrays[1:])
    for item in range(ITEMS):
        expected = oracle.mean_of_peers(rows, item, oracle.peers_of(values.tolist(), item), weights)
        np.testing.assert_allclose(found[item], expected, rtol=2e-5, atol=1e-5)
    alone = np.flatnonzero(values == 0)
    np.testing.assert_array_equal(found[alone], arrays[1][alone])
    assert all(np.isfinite(part).all() for part in back(jnp.ones_like(found)))


def test_an_item_without_peers_is_its_own_mirror_in_training_too() -> None:
    values = {"category": np.arange(ITEMS) % 2 * (1 + np.arange(ITEMS))}  # unknown, or one of its own
    _, views = build_network(dataclasses.replace(PLAIN, last_item=0), ("category",), ITEMS, LENGTH, "float32")
    network, params = network_of(("category",), last_item=0), parameters(("category",))
    table, make = np.asarray(params["items"]["table"]), jax.jit(network.item_tables)
    np.testing.assert_array_equal(make(params, context_of(values)).inputs.mirrors, table)
    batch, _ = packed([[3, 4, 3]])
    drawn = make(params, context_of(values), jax.random.key(0))
    for mirrors in jax.jit(views)(params, drawn, batch, jax.random.key(1)).mirrors:
        np.testing.assert_array_equal(mirrors[0, :3], table[[3, 4, 3]])


def test_edges_of_a_b_a_c_by_hand() -> None:
    """And, in the same row, of d d e: an item that follows itself has no edge but its own."""
    batch, _ = packed([[5, 6, 5, 7], [8, 8, 9]])
    graph = jax.jit(lambda batch: (edge_types(batch), *latest_nodes(batch)))
    types, numbers, latest = (np.asarray(part)[0] for part in graph(batch))
    a, b, c, d, e = 2, 1, 3, 5, 6  # where they appear last
    assert np.flatnonzero(latest).tolist() == [b, a, c, d, e]
    assert numbers[:7].tolist() == [1, 2, 1, 0, 1, 1, 0]
    nodes = [a, b, c, d, e]
    assert types[np.ix_(nodes, nodes)].tolist() == [
        [1, 4, 3, 0, 0],  # a: b stands before it and behind it, c behind it
        [4, 1, 0, 0, 0],
        [2, 0, 1, 0, 0],  # c: a stands before it
        [0, 0, 0, 1, 3],
        [0, 0, 0, 2, 1],
    ]
    held, _ = batch_of(HELD)  # the released matrices, whose nodes are the latest first
    types, numbers, latest = map(np.asarray, graph(held))
    for row, expected in enumerate(HELD["edge_types"]):
        places = np.flatnonzero(latest[row])[np.argsort(numbers[row][latest[row]])]
        np.testing.assert_array_equal(types[row][np.ix_(places, places)], expected[: len(places), : len(places)])


def test_a_step_of_one_session_of_one_item_has_no_contrast() -> None:
    network, views = build_network(PLAIN, BOTH, ITEMS, LENGTH, "float32")
    objective = mirror_contrast(NAME, network, views, 1.0, 0.1)
    batch, (end,) = packed([[4]])
    batch = jax.tree.map(lambda part: part[:1], batch)
    one = jnp.ones(1, jnp.int32)
    batch = batch._replace(targets=one, is_target=one > 0, ends=end * one)
    terms = jax.jit(objective.loss)({NAME: parameters()}, context_of(SPARSE), batch, jax.random.key(0), None)
    assert terms[CONTRAST] == 0 and np.isfinite(terms[NEXT_ITEM])


def test_what_the_dataset_lacks_is_left_out_with_a_note_and_nothing_is_refused_with_the_remedy() -> None:
    whole = MGSConfig().check().build(CatalogueInfo(ITEMS, {"category": 3, "brand": 5}))
    assert whole.reads.features == BOTH and not whole.notes and whole.terms == (NEXT_ITEM, CONTRAST)
    alone = MGSConfig().check().build(CatalogueInfo(ITEMS, {"category": 1, "brand": 5}))  # all unknown
    assert alone.reads.features == ("brand",)
    assert alone.notes == ("mgs: the items have no category; peers have the brand in common",)
    with pytest.raises(UserError, match=r"have none; prepare it with --category_column or --brand_column"):
        MGSConfig().check().build(CatalogueInfo(ITEMS))
    with pytest.raises(UserError, match="network.features .*category or brand or both, each once"):
        MGSConfig(network=MGSNetworkConfig(features=())).check()


def test_the_released_optimizer_is_the_default_and_a_contrast_of_no_weight_is_not_there() -> None:
    known = CatalogueInfo(ITEMS, {"category": 3})
    (optimizer,) = MGSConfig().check().build(known).optimizers.values()
    assert (optimizer.learning_rate, optimizer.l2, optimizer.weight_decay) == (1e-3, 1e-5, 0)
    assert (optimizer.decay_every, optimizer.decay_factor) == (3, 0.1)
    assert not MGSConfig(network=MGSNetworkConfig(contrast=0)).build(known).terms
