"""Atten-Mixer against the released forward pass, mended, and against its equations in NumPy, several sessions a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context
from alterrec_jax.errors import UserError
from alterrec_jax.models.atten_mixer import AttenMixerConfig, AttenMixerNetworkConfig, build_network, mixed_weights
from alterrec_jax.nn.segments import causal_mask
from tests.models import test_contract
from tests.oracles import atten_mixer as oracle
from tests.parity import batch_of, dense, fixture, loss_and_gradient, norm

NOTHING_KNOWN = Context({}, {})


def parameters(held: dict[str, np.ndarray], levels: int) -> dict:
    """A fixture's parameters as ours."""
    weights = [held[f"linear_q.{level}.weight"] for level in range(levels)]
    dim = len(weights[0])
    # Theirs: of each level, a block for each place; ours: of each place, a block for each level that sees it.
    blocks = [
        weights[level][:, dim * back : dim * (back + 1)].T for back in range(levels) for level in range(back, levels)
    ]
    encoder = {
        "levels": {
            "kernel": jnp.asarray(np.concatenate(blocks, axis=1)),
            "bias": jnp.asarray(np.stack([held[f"linear_q.{level}.bias"] for level in range(levels)])),
        },
        "query": dense(held, "mattn.linear_zero"),
        "key": dense(held, "mattn.linear_one"),
        "value": dense(held, "mattn.linear_two"),
        "norm": norm(held, "mattn.last_layernorm"),
        "output": dense(held, "linear_transform"),
    }
    return {"items": {"table": jnp.asarray(held["embedding.weight"][1:])}, "encoder": encoder}


def test_queries_scores_and_gradient_are_those_of_the_mended_code() -> None:
    held, levels = fixture("atten_mixer"), 4
    items, dim = held["table_gradient"].shape
    config = AttenMixerNetworkConfig(dim=dim, levels=levels, heads=int(held["heads"]), power=int(held["power"]))
    network, (batch, ends) = build_network(config, items, held["items"].shape[1], "float32"), batch_of(held)
    params = parameters(held, levels)

    (value, (queries, scores)), gradient = loss_and_gradient(network, params, NOTHING_KNOWN, batch, ends)
    np.testing.assert_allclose(queries * config.temperature, held["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, held["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(value, held["loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient["items"]["table"], held["table_gradient"], rtol=2e-5, atol=1e-5)


SESSIONS = [[4], [2, 9], [7, 7, 1, 7], [3, 5, 3, 8, 3], [6, 6], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]


@pytest.mark.parametrize("levels", [1, 7])
def test_every_prefix_of_packed_sessions_is_what_the_equations_give(levels: int) -> None:
    config = AttenMixerNetworkConfig(dim=12, heads=4, levels=levels, power=3)
    network = build_network(config, 23, test_contract.LENGTH, "float32")
    params = jax.jit(network.init)(jax.random.key(levels), NOTHING_KNOWN)
    batch, ends = test_contract.batch_of(SESSIONS)
    assert len(set(np.asarray(ends) // test_contract.LENGTH)) < len(SESSIONS), "nothing shares a row"
    tables = network.item_tables(params, NOTHING_KNOWN)
    queries = np.asarray(jax.jit(network.session_embeddings)(params, tables, batch)) * config.temperature
    exact = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for session, end in zip(SESSIONS, ends, strict=True):
        for length in range(1, len(session) + 1):
            expected = oracle.session_vector(config, exact, session[:length])
            np.testing.assert_allclose(queries[end - len(session) + length], expected, rtol=2e-5, atol=5e-6)


def test_weights_are_those_of_the_prefix_alone_and_add_up_to_one() -> None:
    batch, _ = test_contract.batch_of(SESSIONS)
    visible = np.asarray(causal_mask(batch))
    rng = np.random.default_rng(0)
    affinity, elsewhere = (rng.uniform(size=(len(visible), 3, 5, *visible.shape[1:])) for _ in range(2))
    weights = mixed_weights(jnp.asarray(affinity), jnp.asarray(visible), 4)
    other = mixed_weights(jnp.asarray(np.where(visible[:, None, None], affinity, elsewhere)), jnp.asarray(visible), 4)
    item = np.broadcast_to(visible.any(axis=2)[:, None], weights.shape[:3])
    np.testing.assert_array_equal(np.asarray(weights)[item], np.asarray(other)[item])
    np.testing.assert_allclose(np.sum(weights, axis=-1), 1, rtol=1e-6)
    assert not np.asarray(weights)[np.broadcast_to(~visible[:, None], weights.shape) & item[..., None]].any()


def test_heads_divide_the_width() -> None:
    with pytest.raises(UserError, match=r"network.heads .*a divisor of network.dim \(10\)"):
        AttenMixerConfig(network=AttenMixerNetworkConfig(dim=10, heads=4)).check()
