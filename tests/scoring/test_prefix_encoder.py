"""Prefixes are encoded as if each stood alone, from its last items, in the order they were asked for."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Component, Context, SessionBatch
from alterrec_jax.data.targets import select_targets
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.sr_gnn import SRGNNConfig, SRGNNNetworkConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.scoring.prefix_encoder import PrefixEncoder, Prefixes, drop_unknown
from tests.evaluation.examples import make_sessions
from tests.oracles import encoders as oracle

ITEMS, TEXT_WIDTH, LENGTH = 23, 5, 7
DIM = {"id": 6, "text": 3}
SHARED: dict[str, Any] = {"layers": 1, "temperature": 0.5}
SYSTEM = AlterRecConfig(
    max_length=LENGTH,
    networks={
        "id": IdNetworkConfig(encoder="transformer", dim=DIM["id"], heads=2, **SHARED),
        "text": VectorNetworkConfig(encoder="mean", dim=DIM["text"], mlp_hidden=(), **SHARED),
    },
).build(CatalogueInfo(ITEMS))


def context() -> Context:
    """What the networks know of the items."""
    vectors = np.random.default_rng(1).normal(size=(ITEMS, TEXT_WIDTH))
    return Context({"text": jnp.asarray(vectors, jnp.float32)}, {})


def params_of(networks: Any) -> dict[str, Any]:
    """Parameters of ordinary size, by network."""
    rng, found = np.random.default_rng(0), {}
    for name, network in networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), context())
        found[name] = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    return found


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    return params_of(SYSTEM.networks)


@pytest.fixture(scope="module")
def encoder(params: dict[str, Any]) -> PrefixEncoder:
    return PrefixEncoder(SYSTEM.components, params, context(), LENGTH)


def expected(encoder: PrefixEncoder, params: dict[str, Any], name: str, prefix: list[int]) -> np.ndarray:
    """The embedding of one prefix, by NumPy: of its last known items; zeros where there is none."""
    known = [item for item in prefix if item < ITEMS][-LENGTH:]
    if not known:
        return np.zeros(DIM[name])
    of_prefix = oracle.transformer if name == "id" else oracle.mean
    return of_prefix(params[name]["encoder"], np.asarray(encoder.tables[name])[known]) / 0.5


def prefixes_of(lists: list[list[int]], wanted: list[tuple[int, int]]) -> Prefixes:
    """The wanted (session, length) of some sessions."""
    sessions = make_sessions(lists)
    session, length = np.array(wanted, np.int64).reshape(-1, 2).T
    return Prefixes(sessions.items, sessions.offsets, session, length)


def random_lists(seed: int) -> list[list[int]]:
    """Sessions with items outside the catalogue, longer than an encoder sees, empty, of unknown items alone."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, ITEMS + 5, rng.integers(0, 4 * LENGTH)).tolist() for _ in range(13)]
    return [*lists, [], [ITEMS], [ITEMS + 4, ITEMS, 3], [3, 3, 3], list(range(LENGTH + 1))]


def assert_encoded(
    encoder: PrefixEncoder, params: dict[str, Any], lists: list[list[int]], wanted: list[tuple[int, int]]
) -> int:
    """Compares every wanted prefix with the oracle; returns in how many batches they came."""
    batches = list(encoder.encode(prefixes_of(lists, wanted)))
    for name in DIM:
        found = np.concatenate([batch[name] for batch in batches])
        assert found.shape == (len(wanted), DIM[name]) and found.dtype == np.float32
        for embedding, (session, length) in zip(found, wanted, strict=True):
            prefix = lists[session][:length]
            np.testing.assert_allclose(embedding, expected(encoder, params, name, prefix), rtol=1e-3, atol=5e-5)
    return len(batches)


def test_every_prefix_is_encoded_as_if_alone(encoder: PrefixEncoder, params: dict[str, Any]) -> None:
    lists = random_lists(2)
    wanted = [(s, length) for s, items in enumerate(lists) for length in range(len(items) + 1)]
    assert assert_encoded(encoder, params, lists, wanted) == 1


def test_order_is_kept_where_prefixes_are_few_repeated_and_out_of_order(
    encoder: PrefixEncoder, params: dict[str, Any]
) -> None:
    lists = random_lists(3)
    rng = np.random.default_rng(4)
    wanted = []
    for session in (1, 2, 5, 5, 11, len(lists) - 1):
        wanted += [(session, int(n)) for n in rng.integers(0, len(lists[session]) + 1, 3)]
    assert_encoded(encoder, params, lists, wanted)


def test_chunks_of_sessions_and_of_rows_do_not_show(params: dict[str, Any]) -> None:
    # Fewer items than some session holds.
    encoder = PrefixEncoder(SYSTEM.components, params, context(), LENGTH, items_at_once=10, rows_at_once=2)
    lists = random_lists(5)
    # Sessions 3 .. 5 are not wanted at all.
    wanted = [(s, length) for s, items in enumerate(lists) if s not in (3, 4, 5) for length in range(len(items) + 1)]
    assert max(map(len, lists)) > 10
    assert assert_encoded(encoder, params, lists, wanted) > 5


def test_nothing_wanted_gives_nothing(encoder: PrefixEncoder) -> None:
    assert list(encoder.encode(prefixes_of(random_lists(6), []))) == []
    assert list(encoder.encode(prefixes_of([], []))) == []


@pytest.mark.parametrize("which", ["last", "all_prefixes"])
def test_targets_get_the_embedding_of_what_stands_before_them(
    encoder: PrefixEncoder, params: dict[str, Any], which: str
) -> None:
    lists = random_lists(7)
    sessions = make_sessions(lists)
    targets = select_targets(sessions, which)
    found = np.concatenate([batch["id"] for batch in encoder(sessions, targets)])
    assert len(found) == len(targets)
    for embedding, session, position in zip(found, targets.session, targets.position, strict=True):
        prefix = lists[session][:position]
        np.testing.assert_allclose(embedding, expected(encoder, params, "id", prefix), rtol=1e-3, atol=5e-5)


def test_tables_are_those_of_the_networks(encoder: PrefixEncoder, params: dict[str, Any]) -> None:
    np.testing.assert_allclose(encoder.tables["id"], params["id"]["items"]["table"])
    vectors = np.asarray(context().features["text"])
    np.testing.assert_allclose(
        encoder.tables["text"], oracle.text_table(params["text"]["items"], vectors, False), rtol=1e-4
    )


@pytest.mark.parametrize("rows_at_once", [1, 32])
def test_an_encoder_that_reads_whole_prefixes_is_given_each_alone(rows_at_once: int) -> None:
    """And networks that do not need it are encoded with it, to the same vectors."""
    graph = SRGNNConfig(network=SRGNNNetworkConfig(dim=5), max_length=LENGTH).build(CatalogueInfo(ITEMS))
    networks = {**graph.networks, "id": SYSTEM.networks["id"]}
    components, params = {name: Component(network, name) for name, network in networks.items()}, params_of(networks)
    lists = random_lists(8)
    wanted = [(s, length) for s, items in enumerate(lists) for length in range(len(items) + 1)]
    prefixes = prefixes_of(lists, wanted)
    (found,) = PrefixEncoder(components, params, context(), LENGTH, rows_at_once=rows_at_once).encode(prefixes)
    (alone,) = PrefixEncoder({"id": components["id"]}, params, context(), LENGTH).encode(prefixes)
    np.testing.assert_allclose(found["id"], alone["id"], rtol=1e-4, atol=1e-5)
    network, tables = networks["sr_gnn"], networks["sr_gnn"].item_tables(params["sr_gnn"], context())
    embed = jax.jit(network.session_embeddings)
    for embedding, (session, length) in zip(found["sr_gnn"], wanted, strict=True):
        known = [item for item in lists[session][:length] if item < ITEMS][-LENGTH:]
        if not known:
            assert not embedding.any()
            continue
        row = np.pad(np.array([known], np.int32), ((0, 0), (0, LENGTH - len(known))))
        there = np.arange(LENGTH)[None] < len(known)
        none = np.zeros(LENGTH, np.int32)
        batch = SessionBatch(row, np.arange(LENGTH, dtype=np.int32)[None], np.where(there, 0, -1), none, none > 0)
        expected = np.asarray(embed(params["sr_gnn"], tables, batch))[len(known) - 1]
        np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-5)


def test_of_whole_prefixes_no_more_than_twice_the_wanted_are_embedded_and_few_shapes_occur() -> None:
    graph = SRGNNConfig(network=SRGNNNetworkConfig(dim=5), max_length=LENGTH).build(CatalogueInfo(ITEMS))
    network, embedded = graph.networks["sr_gnn"], set()

    def embed(params: Any, tables: Any, batch: SessionBatch, key: Any = None) -> jax.Array:
        embedded.add(batch.ends.shape)
        return network.session_embeddings(params, tables, batch, key)

    component = {"sr_gnn": Component(network._replace(session_embeddings=embed), "sr_gnn")}
    encoder = PrefixEncoder(component, params_of(graph.networks), context(), LENGTH, rows_at_once=8)
    lists = [[1] * length for length in (7, 7, 6, 7, 7, 6, 5, 7, 1, 1, 1, 1, 1, 1, 1, 1)]
    wanted = [(session, len(items)) for session, items in enumerate(lists)]
    (found,) = encoder.encode(prefixes_of(lists, wanted))
    assert len(found["sr_gnn"]) == 16 and embedded == {(16,), (4,)}, "12 and 4 of 56 positions a block"


def test_few_whole_prefixes_are_encoded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of them fit into a row; and they are the same as of larger blocks."""
    graph = SRGNNConfig(network=SRGNNNetworkConfig(dim=5), max_length=LENGTH).build(CatalogueInfo(ITEMS))
    network, shapes = graph.networks["sr_gnn"], set()

    def embed(params: Any, tables: Any, batch: SessionBatch, key: Any = None) -> jax.Array:
        shapes.add((len(batch.items), len(batch.ends)))
        return network.session_embeddings(params, tables, batch, key)

    component = {"sr_gnn": Component(network._replace(session_embeddings=embed), "sr_gnn")}
    lists = [*([[1, 2, 3, 4, 5, 6, item] for item in range(14)]), *([[item % ITEMS] for item in range(8 * LENGTH)])]
    prefixes = prefixes_of(lists, [(session, len(items)) for session, items in enumerate(lists)])
    params = params_of(graph.networks)
    (expected,) = PrefixEncoder(component, params, context(), LENGTH, rows_at_once=8).encode(prefixes)
    assert shapes == {(8, 8), (8, 32), (8, 56)}, "14 rows of a prefix each, and 8 of 7 prefixes each"
    shapes.clear()
    monkeypatch.setattr("alterrec_jax.scoring.prefix_encoder.PREFIXES_AT_ONCE", 16)
    (found,) = PrefixEncoder(component, params, context(), LENGTH, rows_at_once=8).encode(prefixes)
    assert shapes == {(4, 4), (4, 16), (2, 14)}, "and one of 8 rows, which the first encoder has compiled"
    np.testing.assert_allclose(found["sr_gnn"], expected["sr_gnn"], rtol=1e-5, atol=1e-6)


def test_encoders_of_the_same_functions_share_what_is_compiled(params: dict[str, Any]) -> None:
    """A run makes one after each epoch, of other parameters."""
    prefixes = prefixes_of([[1, 2, 3], [4, 5]], [(0, 3), (1, 1)])
    traced = []

    def embed(*args: Any) -> jax.Array:
        traced.append(args)
        return SYSTEM.networks["id"].session_embeddings(*args)

    component = {"id": Component(SYSTEM.networks["id"]._replace(session_embeddings=embed), "id")}
    others = jax.tree.map(lambda leaf: leaf + 1, params)
    first, second = (
        next(PrefixEncoder(component, of_epoch, context(), LENGTH).encode(prefixes))["id"]
        for of_epoch in (params, others)
    )
    assert len(traced) == 1 and not np.allclose(first, second)
    alone = PrefixEncoder({"id": SYSTEM.components["id"]}, others, context(), LENGTH)
    np.testing.assert_allclose(second, next(alone.encode(prefixes))["id"], rtol=1e-6)


def test_components_of_one_network_are_encoded_in_one_program_by_arrays_that_are_one(params: dict[str, Any]) -> None:
    """So that what they have in common is computed once: two equal components cost as much as one."""
    components = {"id": SYSTEM.components["id"], "again": SYSTEM.components["id"]}
    encoder = PrefixEncoder(components, params, context(), LENGTH)
    (program,) = encoder._programs.values()
    (alone,) = PrefixEncoder({"id": components["id"]}, params, context(), LENGTH)._programs.values()
    assert encoder.tables["id"] is encoder.tables["again"]
    place = np.tile(np.arange(LENGTH, dtype=np.int32), (2, 1))
    none = np.zeros(2 * LENGTH, np.int32)
    batch = SessionBatch(place, place, np.zeros_like(place), none, none > 0)
    both, one = (
        some.encode.lower(params["id"], some.arrays, batch).compile().cost_analysis()["flops"]
        for some in (program, alone)
    )
    assert both == one
    (found,) = encoder.encode(prefixes_of([[1, 2]], [(0, 2)]))
    np.testing.assert_array_equal(found["id"], found["again"])


def test_unknown_items_are_dropped_by_hand() -> None:
    found = drop_unknown(prefixes_of([[9, 1, 9, 2], [], [9, 9], [3, 4]], [(0, 1), (0, 3), (0, 4), (2, 2), (3, 1)]), 5)
    assert found.items.tolist() == [1, 2, 3, 4]
    assert found.offsets.tolist() == [0, 2, 2, 2, 4]
    assert found.session.tolist() == [0, 0, 0, 2, 3]
    assert found.length.tolist() == [0, 1, 2, 0, 1]
