"""MSGAT against the released forward pass, and the properties that its departures promise."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, SessionBatch
from alterrec_jax.errors import UserError
from alterrec_jax.models.msgat import MSGATConfig, MSGATNetworkConfig, build_network
from tests.models.test_contract import batch_of as packed
from tests.oracles.msgat import msgat
from tests.parity import batch_of, dense, fixture, loss_and_gradient, norm

HELD = fixture("msgat")
(ITEMS, DIM), LENGTH, HEADS = HELD["table_gradient"].shape, HELD["items"].shape[1], 4
NOTHING_KNOWN = Context({}, {})


def parameters() -> dict:
    """The fixture's parameters as ours."""

    def gates(side: str) -> dict:
        return {"kernel": jnp.asarray(HELD[f"gnn.w_{side}"].T), "bias": jnp.asarray(HELD[f"gnn.b_{side}"])}

    encoder = {
        "positions": {"embedding": jnp.asarray(HELD["pos_embedding.weight"])},
        "input_norm": norm(HELD, "LayerNorm"),
        "graph_0": {
            "incoming": dense(HELD, "gnn.linear_edge_in"),
            "outgoing": dense(HELD, "gnn.linear_edge_out"),
            "incoming_bias": jnp.asarray(HELD["gnn.b_iah"]),
            "outgoing_bias": jnp.asarray(HELD["gnn.b_oah"]),
            "input_gates": gates("ih"),
            "hidden_gates": gates("hh"),
        },
        "query": dense(HELD, "attention_mlp"),
        "head_alpha": dense(HELD, "multi_alpha_w"),
        "inner": dense(HELD, "self_atten_w1"),
        "outer": dense(HELD, "self_atten_w2"),
        "norm": norm(HELD, "LN"),
        "each": {"kernel": jnp.asarray(HELD["atten_w1"])},
        "target": {"kernel": jnp.asarray(HELD["atten_w2"]), "bias": jnp.asarray(HELD["atten_bias"])},
        "weight": {"kernel": jnp.asarray(HELD["atten_w0"].T)},
        "alpha": dense(HELD, "alpha_w"),
        "last_gate": dense(HELD, "linear_one"),
        "gate": dense(HELD, "linear_two"),
        "output": dense(HELD, "w_f"),
    }
    return {"items": {"table": jnp.asarray(HELD["embedding.weight"][1:])}, "encoder": encoder}


def test_queries_scores_and_gradients_are_those_of_the_released_code() -> None:
    """Of its whole forward pass, in a batch of twice the same prefix, which is then its own neighbour."""
    config = MSGATNetworkConfig(dim=DIM, heads=HEADS, neighbours="itself")
    network, (batch, ends) = build_network(config, ITEMS, LENGTH, "float32"), batch_of(HELD)
    params = parameters()

    (value, (queries, scores)), gradient = loss_and_gradient(network, params, NOTHING_KNOWN, batch, ends)
    np.testing.assert_allclose(queries / config.scale, HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=4e-5)  # up to 28
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    for name, of_ours in (("multi_alpha_w", "head_alpha"), ("alpha_w", "alpha")):
        found = gradient["encoder"][of_ours]["kernel"].T
        np.testing.assert_allclose(found, HELD[f"{name}_gradient"], rtol=2e-5, atol=2e-6)

    # There the rows that are looked up have been cut, and the gradient is that of what is left of them.
    table, looked_up = HELD["embedding.weight"][1:], np.isin(np.arange(1, ITEMS + 1), HELD["items"])
    length = np.linalg.norm(table, axis=1)
    assert 0 < np.sum(length[looked_up] > config.max_norm) < np.sum(looked_up)
    share = np.where(looked_up, np.minimum(1, config.max_norm / length), 1)[:, None]
    np.testing.assert_allclose(gradient["items"]["table"], share * HELD["table_gradient"], rtol=2e-5, atol=2e-5)


def compiled(neighbours: str) -> tuple[dict, Callable[[SessionBatch], np.ndarray]]:
    """The fixture's network, of the contract suite's batches, without the scale."""
    config = MSGATNetworkConfig(dim=DIM, heads=HEADS, neighbours=neighbours)
    network = build_network(config, ITEMS, LENGTH, "float32")
    params = parameters()
    tables = network.item_tables(params, NOTHING_KNOWN)
    embed = jax.jit(network.session_embeddings)
    return params, lambda batch: np.asarray(embed(params, tables, batch)) / config.scale


@pytest.mark.parametrize("neighbours", ["none", "itself"])
def test_queries_are_those_of_the_equations_whatever_shares_the_row(neighbours: str) -> None:
    params, queries = compiled(neighbours)
    rng = np.random.default_rng(0)
    for _ in range(3):  # six items are few: most sessions have repeats
        sessions = [rng.integers(0, 6, length).tolist() for length in (1, 7, 5, 4, 2, 7, 3)] + [[5, 5, 2]]
        batch, ends = packed(sessions)
        expected = [msgat(params, session, HEADS, 1.5, neighbours) for session in sessions]
        np.testing.assert_allclose(queries(batch)[ends], expected, rtol=2e-5, atol=2e-6)


def test_a_longer_prefix_of_the_session_next_to_it_tells_a_prefix_nothing() -> None:
    """That it did is the leak of the released evaluation."""
    _, queries = compiled("itself")
    found = []
    for other in ([4, 1, 9, 7], [20, 21, 22, 3]):
        batch, ends = packed([[4, 1, 9], other, [*other, 8]])
        found.append(queries(batch)[ends[0]])
    np.testing.assert_array_equal(*found)


def test_the_released_optimizer_is_the_default() -> None:
    (optimizer,) = MSGATConfig().check().build(CatalogueInfo(23)).optimizers.values()
    assert (optimizer.learning_rate, optimizer.l2, optimizer.weight_decay) == (1e-3, 1e-5, 0)
    assert (optimizer.decay_every, optimizer.decay_factor) == (5, 0.1)


def test_heads_divide_the_width_of_the_attention() -> None:
    with pytest.raises(UserError, match=r"network.heads .*divisor of 2 network.dim \(200\)"):
        MSGATConfig(network=MSGATNetworkConfig(heads=3)).check()
