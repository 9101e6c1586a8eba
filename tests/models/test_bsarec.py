"""BSARec against the released forward pass, and against the Fourier transform of its equations in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context, SessionBatch
from alterrec_jax.models.bsarec import BSARecNetworkConfig, build_network, softmax_with_pad
from tests.parity import attention, batch_of, dense, fixture, norm

HELD = fixture("bsarec")
ITEMS, DIM = HELD["table_gradient"].shape
LENGTH, HEADS, CUTOFF = HELD["items"].shape[1], 2, 5
NOTHING_KNOWN = Context({}, {})
CONFIG = BSARecNetworkConfig(dim=DIM, heads=HEADS, alpha=0.7, cutoff=CUTOFF, dropout=0.0, attention_dropout=0.0)


def parameters(dtype: str = "float32") -> dict:
    """The fixture's parameters as ours."""
    table, positions = (jnp.asarray(HELD[f"{name}_embeddings.weight"], dtype) for name in ("item", "position"))
    encoder: dict = {"positions": {"embedding": positions}, "input_norm": norm(HELD, "LayerNorm", dtype)}
    for layer in range(2):
        of_block = f"item_encoder.blocks.{layer}"
        of_filter, of_attention = f"{of_block}.layer.filter_layer", f"{of_block}.layer.attention_layer"
        maps = {part: f"{of_attention}.{part}" for part in ("query", "key", "value")} | {"out": f"{of_attention}.dense"}
        encoder[f"block_{layer}"] = {
            "sqrt_beta": jnp.asarray(HELD[f"{of_filter}.sqrt_beta"][0, 0], dtype),
            "filter_norm": norm(HELD, f"{of_filter}.LayerNorm", dtype),
            "attention": attention(HELD, maps, HEADS, dtype),
            "attention_norm": norm(HELD, f"{of_attention}.LayerNorm", dtype),
            "inner": dense(HELD, f"{of_block}.feed_forward.dense_1", dtype),
            "outer": dense(HELD, f"{of_block}.feed_forward.dense_2", dtype),
            "feed_forward_norm": norm(HELD, f"{of_block}.feed_forward.LayerNorm", dtype),
        }
    return {"items": {"table": table[1:]}, "pad": table[0], "encoder": encoder}


def of_the_fixture() -> SessionBatch:
    """Its prefixes and their targets, all of them wanted."""
    batch, ends = batch_of(HELD)
    ends = ends.astype(np.int32)
    return batch._replace(ends=ends, targets=batch.targets[ends], is_target=np.ones(len(ends), bool))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_queries_scores_and_gradients_are_those_of_the_released_code(precision: str) -> None:
    """There the pad is a class of the softmax, and has a score and a gradient."""
    digits, near = ("64", 1e-9) if precision == "float64" else ("", 2e-5)
    with jax.enable_x64(bool(digits)):
        network, batch = build_network(CONFIG, ITEMS, LENGTH, precision), of_the_fixture()

        def loss(params: dict) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            tables = network.item_tables(params, NOTHING_KNOWN)
            queries = network.session_embeddings(params, tables, batch)
            classes = jnp.concatenate([params["pad"][None], tables.candidates])
            scores = jnp.matmul(queries, classes.T, precision="highest")
            chosen = jnp.take_along_axis(jax.nn.log_softmax(scores), batch.targets[:, None] + 1, axis=1)
            return -jnp.mean(chosen), (queries, scores[:, 1:])

        (value, (queries, scores)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(parameters(precision))
        of_table, of_pad = gradient["items"]["table"], gradient["pad"]
        found = {"queries": queries, "scores": scores, "table_gradient": of_table, "pad_gradient": of_pad}
        for name, ours in {**found, "loss": value}.items():
            assert ours.dtype == precision
            np.testing.assert_allclose(ours, HELD[name + digits], rtol=near, atol=near, err_msg=name)


def test_the_objective_is_that_of_the_released_code() -> None:
    network, batch = build_network(CONFIG, ITEMS, LENGTH, "float32"), of_the_fixture()
    objective = softmax_with_pad("bsarec", network)

    def loss(params: dict) -> jax.Array:
        (total,) = objective.loss(params, NOTHING_KNOWN, batch, jax.random.key(0), None).values()
        return total / len(batch.targets)

    value, gradient = jax.jit(jax.value_and_grad(loss))({"bsarec": parameters()})
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["bsarec"]["items"]["table"], HELD["table_gradient"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(gradient["bsarec"]["pad"], HELD["pad_gradient"], rtol=2e-5, atol=2e-6)
