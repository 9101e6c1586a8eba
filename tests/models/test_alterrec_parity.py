"""AlterRec's networks against the released forward pass, in float32, and in float64 to the tenth digit.

With these parameters a wrong LayerNorm epsilon moves float32 scores by little more than their rounding, so only the
float64 comparison tells 1e-6 (inside) from 1e-5 (on tables).
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context
from alterrec_jax.models import unimodal
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig, build_network, item_encoder
from alterrec_jax.nn import item_tables
from alterrec_jax.nn.transformer import TransformerSettings
from tests.parity import attention, batch_of, dense, fixture, loss_and_gradient, norm

HEADS, LAYERS = 2, 2
ENCODER = {
    "id": "id_module.session_encoder_id.transformer_encoder",
    "text": "text_module.session_encoder.transformer_encoder",
}
NOISE = {"id": {"queries": 5e-7, "scores": 3.3e-6, "gradient": 1e-6}}
NOISE["text"] = {"queries": 9e-7, "scores": 3.9e-5, "gradient": 3.1e-5}
"""How far the released float32 numbers are off their float64 ones, at most."""


class Found(NamedTuple):
    """What the fixture holds, of ours."""

    queries: Any
    scores: Any
    loss: Any
    gradient: Any


def parameters(held: Mapping[str, np.ndarray], name: str, encoder: str, dtype: Any) -> dict[str, Any]:
    """A fixture's parameters as ours."""
    read: dict[str, Any] = {"dtype": dtype}
    if name == "id":
        table = jnp.asarray(held["id_module.emb.weight"][1:], dtype)
        items: dict[str, Any] = {"table": table, "norm": norm(held, "id_module.layernorm1", **read)}
    else:
        output = dense(held, "text_module.linearlayer1", **read)
        items = {"output": output, "norm": norm(held, "text_module.layernorm2", **read)}
    if encoder == "mean":
        return {"items": items, "encoder": {}}
    whole = ENCODER[name]
    positions = {"embedding": jnp.asarray(held[f"{whole}.position_embedding.weight"], dtype)}
    params: dict[str, Any] = {"positions": positions, "input_norm": norm(held, f"{whole}.layer_norm", **read)}
    for layer in range(LAYERS):
        block = f"{whole}.transformer_blocks.{layer}"
        maps = {"query": "w_Q", "key": "w_K", "value": "w_V", "out": "fc"}
        of_attention = {part: f"{block}.multi_head_attention.{theirs}" for part, theirs in maps.items()}
        params[f"block_{layer}"] = {
            "attention": attention(held, of_attention, HEADS, **read),
            "attention_norm": norm(held, f"{block}.multi_head_attention.layer_norm", **read),
            "inner": dense(held, f"{block}.feed_forward.w_1", **read),
            "outer": dense(held, f"{block}.feed_forward.w_2", **read),
            "feed_forward_norm": norm(held, f"{block}.feed_forward.layer_norm", **read),
        }
    return {"items": items, "encoder": params}


def config_of(name: str, encoder: str, dim: int) -> Any:
    """The networks as the released code has them."""
    shared: dict[str, Any] = {"encoder": encoder, "dim": dim, "layers": LAYERS, "heads": HEADS, "item_norm": True}
    if name == "id":
        return IdNetworkConfig(**shared)
    return VectorNetworkConfig(temperature=0.07, mlp_hidden=(), unit_variance=False, mlp_output_relu=True, **shared)


def ours(held: Mapping[str, np.ndarray], name: str, encoder: str = "transformer", precision: str = "float32") -> Found:
    """Our queries [prefix, dim], scores [prefix, item], mean cross-entropy, and its gradient."""
    (_, dim), items = held["queries"].shape, held["scores"].shape[1]
    config = config_of(name, encoder, dim)
    of_items = item_encoder(config, CatalogueInfo(items), precision)
    network = build_network(config, CatalogueInfo(items), of_items, held["items"].shape[1], precision)
    params, (batch, ends) = parameters(held, name, encoder, precision), batch_of(held)
    known = Context({"text": jnp.asarray(held["text_vectors"][1:], precision)} if name == "text" else {}, {})

    (value, (queries, scores)), gradient = loss_and_gradient(network, params, known, batch, ends)
    return Found(queries * config.temperature, scores, value, gradient["items"])


@pytest.fixture(params=["id", "text"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def gradients(found: Found, held: Mapping[str, np.ndarray], name: str, digits: str = "") -> list[tuple[Any, Any]]:
    """Pairs of ours and theirs."""
    if name == "id":
        return [(found.gradient["table"], held[f"table_gradient{digits}"])]
    linear = found.gradient["output"]
    return [
        (linear["kernel"].T, held[f"gradient_linear_weight{digits}"]),
        (linear["bias"], held[f"gradient_linear_bias{digits}"]),
    ]


def test_queries_scores_and_gradient_are_those_of_the_released_code(name: str) -> None:
    held = fixture(f"alterrec_{name}")
    found, noise = ours(held, name), NOISE[name]
    np.testing.assert_allclose(found.queries, held["queries"], rtol=2e-5, atol=2 * noise["queries"])
    np.testing.assert_allclose(found.scores, held["scores"], rtol=2e-5, atol=2 * noise["scores"])
    np.testing.assert_allclose(found.loss, held["loss"], rtol=2e-6)
    for mine, theirs in gradients(found, held, name):
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2 * noise["gradient"])


def test_a_mean_of_items_is_that_of_the_released_code() -> None:
    held = fixture("alterrec_id")
    found = ours(held, "id", "mean")
    np.testing.assert_allclose(found.queries, held["queries_mean"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(found.scores, held["scores_mean"], rtol=2e-5, atol=5e-6)


def far(held: Mapping[str, np.ndarray], name: str) -> float:
    """How far our scores are off the released ones, both in float64."""
    with jax.enable_x64(True):
        found = ours(held, name, precision="float64")
        assert found.scores.dtype == jnp.float64
        return float(np.abs(found.scores - held["scores64"]).max())


def test_in_float64_all_digits_are_those_of_the_released_code(name: str) -> None:
    held = fixture(f"alterrec_{name}")
    with jax.enable_x64(True):
        found = ours(held, name, precision="float64")
        pairs = [(getattr(found, part), held[f"{part}64"]) for part in ("queries", "scores", "loss")]
        pairs += gradients(found, held, name, "64")
        for mine, theirs in pairs:
            assert mine.dtype == jnp.float64
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-9)


def test_another_epsilon_would_be_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = fixture(f"alterrec_{name}")
    assert far(held, name) < 1e-9
    with monkeypatch.context() as patch:
        patch.setattr(unimodal, "TransformerSettings", functools.partial(TransformerSettings, norm_epsilon=1e-5))
        assert far(held, name) > 1e-6
    with monkeypatch.context() as patch:
        patch.setattr(item_tables, "NORM_EPSILON", 1e-6)
        assert far(held, name) > 1e-6
