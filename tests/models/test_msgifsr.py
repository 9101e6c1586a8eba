"""MSGIFSR against the released forward pass, and against its equations in NumPy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context, SessionBatch, Stage
from alterrec_jax.models.msgifsr import MSGIFSR, MSGIFSRNetworkConfig
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
def log_mixture(model: MSGIFSR, params: dict, batch: SessionBatch, ends: np.ndarray) -> jax.Array:
    """float32 [prefix, item]: log p from queries and offsets, as a ranking has them."""
    scores = jnp.matmul(
        model.network.session_embeddings(params, model.network.item_tables(params, NOTHING_KNOWN), batch)[ends],
        model.network.item_tables(params, NOTHING_KNOWN).candidates.T,
        precision="highest",
    )
    sums = model.offsets.session_embeddings(params, model.offsets.item_tables(params, NOTHING_KNOWN), batch)
    scores = scores.at[jnp.arange(len(ends))[:, None], sums.items[ends]].add(sums.weights[ends])
    return jax.nn.log_softmax(scores)


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
    found = log_mixture(model, params, batch, ends)
    np.testing.assert_allclose(found, HELD["renorm_logp"], rtol=2e-5, atol=2e-5)
    batch = batch._replace(is_target=np.isin(np.arange(batch.items.size), ends))
    still = MSGIFSR(dataclasses.replace(CONFIG, dropout=0.0), ITEMS, HELD["items"].shape[1], "float32")
    objective = still.objective(Stage(("msgifsr",), "full", 1, "msgifsr"))

    def loss(params: dict) -> jax.Array:
        (value,) = objective.loss({"msgifsr": params}, NOTHING_KNOWN, batch, jax.random.key(0), None).values()
        return value / len(ends)

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    np.testing.assert_allclose(value, HELD["renorm_loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], HELD["renorm_table_gradient"], rtol=2e-5, atol=5e-6)
