"""NARM against RecBole's forward pass and against its equations in NumPy, several sessions a row."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.contract import Context
from alterrec_jax.models.narm import NARMNetworkConfig, build_network
from alterrec_jax.nn.gru import SegmentGRU
from tests.models import test_contract
from tests.oracles import narm as oracle
from tests.parity import batch_of, dense, fixture, kernel, loss_and_gradient

HELD = fixture("narm")
ITEMS, DIM = HELD["table_gradient"].shape
STATE = len(HELD["v_t.weight"][0])
NOTHING_KNOWN = Context({}, {})


def parameters() -> dict:
    """The fixture's parameters as ours."""
    gru = {
        "input_gates": {"kernel": jnp.asarray(HELD["gru.weight_ih_l0"].T)},
        "hidden_gates": jnp.asarray(HELD["gru.weight_hh_l0"].T),
    }
    attention = {"each": dense(HELD, "a_1"), "last": dense(HELD, "a_2"), "weight": kernel(HELD, "v_t")}
    encoder = {"gru": gru, "attention": attention, "output": dense(HELD, "b")}
    return {"items": {"table": jnp.asarray(HELD["item_embedding.weight"][1:])}, "encoder": encoder}


def test_queries_scores_and_gradient_are_those_of_recbole() -> None:
    config = NARMNetworkConfig(dim=DIM, state=STATE)
    network, (batch, ends) = build_network(config, ITEMS, HELD["items"].shape[1], "float32"), batch_of(HELD)
    params = parameters()

    (value, (queries, scores)), gradient = loss_and_gradient(network, params, NOTHING_KNOWN, batch, ends)
    np.testing.assert_allclose(queries, HELD["queries"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient"], rtol=2e-5, atol=1e-5)


SESSIONS = [[4], [2, 9], [7, 7, 1, 7], [3, 5, 3, 8, 3], [6, 6], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]


def test_every_prefix_of_packed_sessions_is_what_the_equations_give() -> None:
    network = build_network(NARMNetworkConfig(dim=DIM, state=STATE), ITEMS, test_contract.LENGTH, "float32")
    params, (batch, ends) = parameters(), test_contract.batch_of(SESSIONS)
    assert len(set(np.asarray(ends) // test_contract.LENGTH)) < len(SESSIONS), "nothing shares a row"
    tables = network.item_tables(params, NOTHING_KNOWN)
    queries = np.asarray(jax.jit(network.session_embeddings)(params, tables, batch))
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for session, end in zip(SESSIONS, ends, strict=True):
        for length in range(1, len(session) + 1):
            expected = oracle.session_vector(exact, session[:length])
            np.testing.assert_allclose(queries[end - len(session) + length], expected, rtol=2e-5, atol=2e-5)


def test_the_state_of_the_gru_begins_anew_with_each_session() -> None:
    batch, ends = test_contract.batch_of(SESSIONS)
    params = parameters()
    gru, table = SegmentGRU(STATE, "float32"), params["items"]["table"]
    variables = {"params": params["encoder"]["gru"]}
    packed = np.asarray(gru.apply(variables, table[batch.items], batch)).reshape(-1, STATE)
    for session, end in zip(SESSIONS, ends, strict=True):
        expected = oracle.states_of(params["encoder"]["gru"], np.asarray(table)[session])
        np.testing.assert_allclose(packed[end - len(session) + 1 : end + 1], expected, rtol=2e-5, atol=2e-6)


def test_nothing_squared_in_positions_has_the_width_of_the_state() -> None:
    """The attention holds the vectors of one query of each row at a time, forward and backward."""
    rows, length, state = 3, 41, 17
    network = build_network(NARMNetworkConfig(dim=5, state=state), ITEMS, length, "float32")
    params = jax.eval_shape(network.init, jax.random.key(0), NOTHING_KNOWN)
    shape = jax.ShapeDtypeStruct((rows, length), jnp.int32)
    batch, _ = test_contract.batch_of(SESSIONS)
    batch = batch._replace(items=shape, positions=shape, segments=shape)

    def loss(params: dict, batch: object) -> jax.Array:
        return jnp.sum(network.session_embeddings(params, network.item_tables(params, NOTHING_KNOWN), batch))

    program = jax.jit(jax.grad(loss)).lower(params, batch).as_text()
    shapes = {tuple(map(int, shape.split("x")[:-1])) for shape in re.findall(r"tensor<((?:\d+x)+)", program)}
    assert (rows, length, state) in shapes
    assert max(map(math.prod, shapes)) < rows * length * length * state
