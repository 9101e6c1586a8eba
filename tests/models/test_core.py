"""CORE against the released forward pass, and the properties that its equations promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context
from alterrec_jax.models.core import CORENetworkConfig, build_network
from tests.parity import attention, batch_of, dense, fixture, loss_and_gradient, norm

NOTHING_KNOWN = Context({}, {})
HEADS, INNER = 2, 16


def parameters(held: dict[str, np.ndarray]) -> dict:
    """A fixture's parameters as ours."""
    params: dict = {"items": {"table": jnp.asarray(held["item_embedding.weight"][1:])}, "encoder": {}}
    if "net.fn.weight" not in held:
        return params
    transformer: dict = {
        "positions": {"embedding": jnp.asarray(held["net.position_embedding.weight"])},
        "input_norm": norm(held, "net.LayerNorm"),
    }
    for layer in range(2):
        prefix = f"net.trm_encoder.layer.{layer}"
        maps = {part: f"{prefix}.multi_head_attention.{part}" for part in ("query", "key", "value")}
        maps["out"] = f"{prefix}.multi_head_attention.dense"
        transformer[f"block_{layer}"] = {
            "attention": attention(held, maps, HEADS),
            "attention_norm": norm(held, f"{prefix}.multi_head_attention.LayerNorm"),
            "inner": dense(held, f"{prefix}.feed_forward.dense_1"),
            "outer": dense(held, f"{prefix}.feed_forward.dense_2"),
            "feed_forward_norm": norm(held, f"{prefix}.feed_forward.LayerNorm"),
        }
    params["encoder"] = {"encoder": transformer, "weight": dense(held, "net.fn")}
    return params


@pytest.mark.parametrize("name, weights", [("core_trm", "transformer"), ("core_ave", "mean")])
def test_queries_scores_and_gradient_are_those_of_the_released_code(name: str, weights: str) -> None:
    held = fixture(name)
    (items, dim), length = held["table_gradient"].shape, held["items"].shape[1]
    config = CORENetworkConfig(weights=weights, dim=dim, heads=HEADS, inner=INNER)
    network, (batch, ends) = build_network(config, items, length, "float32"), batch_of(held)
    params = parameters(held)

    (value, (queries, scores)), gradient = loss_and_gradient(network, params, NOTHING_KNOWN, batch, ends)
    np.testing.assert_allclose(queries * config.temperature, held["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, held["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(value, held["loss"], rtol=2e-6)
    # The released float32 gradient itself is 3e-5 off its float64 one, of a largest entry of 14.
    largest = np.abs(held["table_gradient"]).max()
    ours, theirs = (part / largest for part in (gradient["items"]["table"], held["table_gradient"]))
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=5e-6)


@pytest.mark.parametrize("weights", ["transformer", "mean"])
def test_a_prefix_of_one_item_is_that_item(weights: str) -> None:
    config = CORENetworkConfig(weights=weights, dim=6, heads=2, inner=5)
    network, (batch, _) = build_network(config, 23, 7, "float32"), batch_of(fixture("core_ave"))
    params = network.init(jax.random.key(0), NOTHING_KNOWN)
    tables = network.item_tables(params, NOTHING_KNOWN)
    first = network.session_embeddings(params, tables, batch).reshape(*batch.items.shape, -1)[:, 0]
    own = tables.candidates[batch.items[:, 0]]
    np.testing.assert_allclose(first * config.temperature, own, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jnp.sum(first * own, axis=1), 1 / config.temperature, rtol=1e-5)
