"""MSGIFSR against the released forward pass, and against its equations in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, SessionBatch, Stage
from alterrec_jax.models.msgifsr import MSGIFSR, MSGIFSRConfig, MSGIFSRNetworkConfig
from alterrec_jax.scoring.item_sums import entries_of, scores_of_entries
from alterrec_jax.scoring.prefix_encoder import PrefixEncoder
from alterrec_jax.sharding import mesh
from tests.models.families import LENGTH
from tests.models.test_contract import batch_of as packed
from tests.models.test_contract import random_params
from tests.oracles.msgifsr import probabilities, session_vector
from tests.parity import batch_of, dense, fixture

HELD = fixture("msgifsr")
ITEMS, DIM = HELD["table_gradient"].shape
HEADS, ORDER = 8, 3
NOTHING_KNOWN = Context({}, {})
CONFIG = MSGIFSRNetworkConfig(order=ORDER, dim=DIM, heads=HEADS)


def parameters() -> dict:
    """The fixture's parameters as ours."""

    def stacked(names: list[str], shape: tuple[int, ...] = ()) -> jax.Array:
        return jnp.stack([HELD[name].reshape(shape or HELD[name].shape) for name in names])

    grus = [f"expander.GRUs.{number}" for number in range(ORDER - 1)]
    windows = {}
    for ours, theirs in (("input", "ih"), ("hidden", "hh")):
        windows[f"{ours}_kernel"] = jnp.swapaxes(stacked([f"{gru}.weight_{theirs}_l0" for gru in grus]), 1, 2)
        windows[f"{ours}_bias"] = stacked([f"{gru}.bias_{theirs}_l0" for gru in grus])

    convs = [f"layers.0.{conv}.mods" for conv in ("conv1", "conv2")]
    within = [[f"{conv}.intra{size}" for size in range(1, ORDER + 1)] for conv in convs]
    attention = {}
    for ours, groups in (("within", within), ("between", [[f"{conv}.inter"] for conv in convs])):
        for part, name, shape in (
            ("kernel", "fc.weight", (HEADS, DIM, DIM)),
            ("source", "attn_l", (HEADS, DIM)),
            ("target", "attn_r", (HEADS, DIM)),
            ("bias", "bias", (HEADS, DIM)),
        ):
            found = jnp.stack([stacked([f"{module}.{name}" for module in group], shape) for group in groups])
            found = jnp.swapaxes(found, -1, -2) if part == "kernel" else found
            attention[f"{ours}_{part}"] = found if ours == "within" else found[:, 0]
    encoder = {
        "windows": windows,
        "layer_0": attention,
        "each": dense(HELD, "readout.fc_u.0"),
        "last": dense(HELD, "readout.fc_v.0"),
        "attention": dense(HELD, "readout.fc_e.0"),
        "output": dense(HELD, "fc_sr.0"),
        "shares_inner": dense(HELD, "sc_sr.0.0"),
        "shares": dense(HELD, "sc_sr.0.2"),
    }
    return {"items": {"table": jnp.asarray(HELD["embeddings.weight"])}, "encoder": encoder}


@functools.partial(jax.jit, static_argnums=0)
def queries_and_log_mixture(model: MSGIFSR, params: dict, batch: SessionBatch) -> tuple[jax.Array, jax.Array]:
    """float32 [prefix, dim] and [prefix, item]: the queries, and log p by queries and offsets, as rankings have it."""
    tables = model.network.item_tables(params, NOTHING_KNOWN)
    queries = model.network.session_embeddings(params, tables, batch)
    scores = jnp.matmul(queries, tables.candidates.T, precision="highest")
    tables = model.offsets.item_tables(params, NOTHING_KNOWN)
    entries = entries_of(model.offsets.session_embeddings(params, tables, batch), tables.candidates)
    return queries, jax.nn.log_softmax(scores + scores_of_entries(entries, 0, scores.shape[1]))


def test_queries_scores_and_gradient_are_those_of_the_released_code() -> None:
    model = MSGIFSR(CONFIG, ITEMS, HELD["items"].shape[1], "float32")
    batch, ends = batch_of(HELD)

    def loss(params: dict) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        tables = model.network.item_tables(params, NOTHING_KNOWN)
        queries = model.network.session_embeddings(params, tables, batch)[ends]
        scores = jnp.matmul(queries, tables.candidates.T, precision="highest")
        chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), batch.targets[ends][:, None], axis=1)
        return -jnp.mean(chosen), (queries, scores)

    (value, (queries, scores)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters())
    np.testing.assert_allclose(queries / 12, HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient"], rtol=2e-5, atol=5e-6)


def test_the_mixture_and_its_gradient_are_those_of_the_released_code() -> None:
    model = MSGIFSR(CONFIG, ITEMS, HELD["items"].shape[1], "float32")
    batch, ends = batch_of(HELD)
    params = parameters()
    _, found = queries_and_log_mixture(model, params, batch)
    np.testing.assert_allclose(found[ends], HELD["renorm_logp"], rtol=2e-5, atol=2e-5)
    batch = batch._replace(is_target=np.isin(np.arange(batch.items.size), ends))
    still = MSGIFSR(dataclasses.replace(CONFIG, dropout=0.0), ITEMS, HELD["items"].shape[1], "float32")
    objective = still.objective(Stage(("msgifsr",), "full", 1, "msgifsr"))

    def loss(params: dict) -> jax.Array:
        (value,) = objective.loss({"msgifsr": params}, NOTHING_KNOWN, batch, jax.random.key(0), None).values()
        return value / len(ends)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, HELD["renorm_loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["renorm_table_gradient"], rtol=2e-5, atol=5e-6)


SESSIONS = [[4], [7, 7], [2, 5], [1, 2, 9, 1, 2, 5, 1, 2, 9], [3, 3, 3, 3], [8, 6, 8, 6, 8], [0, 1, 2], [5, 4, 5]]


@pytest.mark.parametrize("order", [1, 2, 3])
def test_vectors_and_mixture_are_those_of_the_equations(order: int) -> None:
    """Sessions packed several a row, and shorter than the longest window."""
    rng = np.random.default_rng(order)
    sessions = [*SESSIONS[:4], rng.integers(0, 4, 7).tolist(), *SESSIONS[4:]]
    config = MSGIFSRNetworkConfig(order=order, dim=5, heads=2)
    model = MSGIFSR(config, 11, LENGTH, "float32")
    params = random_params(model.network, NOTHING_KNOWN, seed=order)
    batch, ends = packed(sessions)
    queries, log_probs = (np.asarray(part)[ends] for part in queries_and_log_mixture(model, params, batch))
    for session, query, found in zip(sessions, queries, log_probs, strict=True):
        vector = session_vector(params, session, order)
        np.testing.assert_allclose(query / 12, vector, rtol=2e-5, atol=5e-6, err_msg=str(session))
        expected = np.log(probabilities(params, session, vector))
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-4, err_msg=str(session))
        np.testing.assert_array_equal(np.argsort(-found), np.argsort(-expected))


def test_with_windows_order_matters_to_a_graph_that_is_the_same_without() -> None:
    """[1, 2, 1, 3, 1] and [1, 3, 1, 2, 1] have the same edges between items, but not between longer windows."""
    for order, equal in ((1, True), (3, False)):
        model = MSGIFSR(MSGIFSRNetworkConfig(order=order, dim=5, heads=2), 11, LENGTH, "float32")
        params = random_params(model.network, NOTHING_KNOWN, seed=1)
        batch, ends = packed([[1, 2, 1, 3, 1], [1, 3, 1, 2, 1]])
        one, other = np.asarray(queries_and_log_mixture(model, params, batch)[0])[ends]
        assert np.allclose(one, other, atol=1e-5) == equal


def test_the_length_of_a_row_beyond_one_changes_nothing() -> None:
    """Rows are cut to length 1 where they are read, and compared by their cosine."""
    model = MSGIFSR(MSGIFSRNetworkConfig(order=2, dim=5, heads=2), 11, LENGTH, "float32")
    params = random_params(model.network, NOTHING_KNOWN, seed=1)
    table = params["items"]["table"]
    table = table / jnp.linalg.norm(table, axis=1, keepdims=True)
    batch, ends = packed(SESSIONS[:5])
    one, other = (
        queries_and_log_mixture(model, {**params, "items": {"table": length * table}}, batch)[1][np.array(ends)]
        for length in (1.0, 3.0)
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)


def test_a_session_that_holds_the_whole_catalogue_has_a_finite_loss_and_gradient() -> None:
    model = MSGIFSR(MSGIFSRNetworkConfig(order=2, dim=5, heads=2, dropout=0.0), 3, LENGTH, "float32")
    params = random_params(model.network, NOTHING_KNOWN, seed=1)
    batch, (end,) = packed([[2, 0, 1, 0]])
    of_end = jnp.arange(batch.items.size) == end
    objective = model.objective(Stage(("msgifsr",), "full", 1, "msgifsr"))

    def loss(params: dict) -> jax.Array:
        one = batch._replace(is_target=of_end)
        return sum(objective.loss({"msgifsr": params}, NOTHING_KNOWN, one, jax.random.key(0), None).values())

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    _, log_probs = queries_and_log_mixture(model, params, batch)
    np.testing.assert_allclose(np.exp(log_probs[end]).sum(), 1, rtol=1e-6)


def test_offsets_on_a_mesh_are_those_of_one_device() -> None:
    """The sum over all other items is one over the devices that share them."""
    model = MSGIFSR(MSGIFSRNetworkConfig(order=2, dim=5, heads=2), 12, LENGTH, "float32")
    params = random_params(model.network, NOTHING_KNOWN, seed=1)
    batch, ends = packed(SESSIONS[:5])
    batch = SessionBatch(*(jnp.asarray(part)[:4] for part in batch[:3]), batch.targets, batch.is_target)
    assert max(ends) < batch.items.size

    def offsets() -> np.ndarray:
        tables = model.offsets.item_tables(params, NOTHING_KNOWN)
        found = jax.jit(model.offsets.session_embeddings)(mesh.put(params), tables, mesh.put(batch, mesh.REPLICATED))
        return np.asarray(found.weights)[ends]

    expected = offsets()
    with mesh.used(mesh.make_mesh("data:2,model:2", jax.devices()[:4])):
        np.testing.assert_allclose(offsets(), expected, rtol=1e-5, atol=1e-5)


def test_offsets_make_no_table_and_share_that_of_the_vectors() -> None:
    """What is one row an item is made once: a program that encodes computes nothing of that shape."""
    items = 97
    config = MSGIFSRConfig(max_length=LENGTH, network=MSGIFSRNetworkConfig(order=2, dim=5, heads=2))
    system = config.build(CatalogueInfo(items))
    params = {"msgifsr": random_params(system.networks["msgifsr"], NOTHING_KNOWN, seed=1)}
    tables = PrefixEncoder(system.components, params, NOTHING_KNOWN, LENGTH).item_tables
    vectors, offsets = tables["msgifsr"], tables["renorm"]
    assert vectors.candidates is vectors.inputs.unit is offsets.inputs.unit
    assert vectors.inputs.length is offsets.inputs.length
    embed = system.components["renorm"].network.session_embeddings
    lowered = jax.jit(embed).lower(params["msgifsr"], offsets, packed(SESSIONS[:5])[0])
    assert not [line for line in lowered.as_text().splitlines() if line.endswith(f": tensor<{items}x5xf32>")]
