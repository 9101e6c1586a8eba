"""Every model as a system: what trains, what is ranked, and NFRec's parts against NumPy."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.config import AlterRecConfig, FusedNetworkConfig, NetworkConfig, ProtocolConfig, TextNetworkConfig
from alterrec_jax.models.alterrec import item_features
from alterrec_jax.models.registry import System, build_system
from alterrec_jax.scoring.prefix_encoder import Prefixes
from tests.oracles import encoders as oracle
from tests.oracles import nfrec

ITEMS, TEXT_WIDTH, DIM, HIDDEN, LENGTH, TAU = 23, 5, 6, 13, 11, 0.7
PREFIXES: list[Sequence[int]] = [[3, 7, 3], [22], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 0], [5, 17, 1, 0, 8]]


def config_of(model: str, encoder: str = "mean", operation: str = "concat", **fused: Any) -> AlterRecConfig:
    """Small networks; changes to the fused one."""
    shared: dict[str, Any] = {"encoder": encoder, "layers": 2, "heads": 2}
    return AlterRecConfig(
        model=model,
        max_length=LENGTH,
        id=NetworkConfig(dim=4, **shared),
        text=TextNetworkConfig(dim=14, mlp_hidden=(HIDDEN,), **shared),
        fused=FusedNetworkConfig(dim=DIM, operation=operation, temperature=TAU, **shared, **fused),
        protocol=ProtocolConfig(alpha=0.3),
    )


def vectors() -> np.ndarray:
    """float32 [item, d_text], of unit length; two items share a text."""
    drawn = np.random.default_rng(0).normal(size=(ITEMS, TEXT_WIDTH)).astype(np.float32)
    drawn[7] = drawn[2]
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def moved(system: System, seed: int = 1) -> dict[str, Any]:
    """Parameters of ordinary size everywhere, so that no gain of 1 or bias of 0 hides a mistake."""
    rng, params = np.random.default_rng(seed), {}
    for name, network in system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.asarray(vectors()))
        params[name] = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32), shapes)
    return params


def scores_of(system: System, params: Mapping[str, Any], *parts: str) -> dict[str, np.ndarray]:
    """float64 [prefix, item] by part: of all prefixes, as evaluation and recommendation encode them."""
    encoder = system.encoder(params, item_features(vectors(), "float32"), LENGTH, *parts)
    lengths = np.array([len(prefix) for prefix in PREFIXES])
    prefixes = Prefixes(
        items=np.array([item for prefix in PREFIXES for item in prefix], np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        session=np.arange(len(PREFIXES)),
        length=lengths,
    )
    (queries,) = encoder.encode(prefixes)
    tables = {name: np.asarray(table, np.float64) for name, table in encoder.tables.items()}
    return {name: queries[name].astype(np.float64) @ tables[name].T for name in tables}


def tables_of(params: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """float64 [item, dim], by NumPy: the ID and the text table of the fused network."""
    items = params["fused"]["items"]
    return oracle.id_table(items["id"]), oracle.text_table(items["text"], vectors(), output_relu=False)


@pytest.mark.parametrize("item_norm", [False, True])
def test_concatenated_parts_are_those_of_the_oracle_and_add_up_to_the_whole(item_norm: bool) -> None:
    system = build_system(config_of("nfrec", item_norm=item_norm), ITEMS)
    params = moved(system)
    found, (id_table, text_table) = scores_of(system, params), tables_of(params)
    both = nfrec.fused(id_table, text_table, "concat")
    assert both.shape == (ITEMS, 2 * DIM)
    for row, prefix in enumerate(PREFIXES):
        for name, table in (("fused", both), ("id", id_table), ("text", text_table)):
            np.testing.assert_allclose(found[name][row], nfrec.scores(table, prefix, TAU), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["id"] + found["text"], found["fused"], rtol=1e-4, atol=1e-4)


def test_summed_parts_are_those_of_the_oracle_and_leave_the_crossed_terms() -> None:
    system = build_system(config_of("nfrec", operation="sum"), ITEMS)
    params = moved(system)
    found, (id_table, text_table) = scores_of(system, params), tables_of(params)
    both = nfrec.fused(id_table, text_table, "sum")
    assert both.shape == (ITEMS, DIM)
    for row, prefix in enumerate(PREFIXES):
        for name, table in (("fused", both), ("id", id_table), ("text", text_table)):
            np.testing.assert_allclose(found[name][row], nfrec.scores(table, prefix, TAU), rtol=1e-4, atol=1e-4)
        left = found["fused"][row] - found["id"][row] - found["text"][row]
        crossed = nfrec.crossed(id_table, text_table, prefix, TAU)
        assert np.abs(crossed).max() > 0.1
        np.testing.assert_allclose(left, crossed, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operation", ["concat", "sum"])
def test_a_part_of_a_transformer_is_the_same_network_with_the_other_half_zero(operation: str) -> None:
    system = build_system(config_of("nfrec", "transformer", operation), ITEMS)
    params = moved(system)
    found, (id_table, text_table) = scores_of(system, params), tables_of(params)
    nothing = np.zeros_like(id_table)
    for name, halves in (
        ("fused", (id_table, text_table)),
        ("id", (id_table, nothing)),
        ("text", (nothing, text_table)),
    ):
        table = nfrec.fused(*halves, operation)
        for row, prefix in enumerate(PREFIXES):
            query = oracle.transformer(params["fused"]["encoder"], table[list(prefix)]) / TAU
            np.testing.assert_allclose(found[name][row], table @ query, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("part", "other"), [("id", "text"), ("text", "id")])
def test_a_part_does_not_move_with_the_other_table(part: str, other: str) -> None:
    system = build_system(config_of("nfrec", "transformer"), ITEMS)
    params, elsewhere = moved(system), moved(system, seed=2)
    items = params["fused"]["items"] | {other: elsewhere["fused"]["items"][other]}
    changed = {"fused": {**params["fused"], "items": items}}
    before, after = scores_of(system, params), scores_of(system, changed)
    np.testing.assert_array_equal(after[part], before[part])
    assert (after[other] != before[other]).any() and (after["fused"] != before["fused"]).any()


def test_the_parts_of_nfrec_are_functions_of_the_one_trained_network() -> None:
    config = config_of("nfrec")
    system = build_system(config, ITEMS)
    assert list(system.networks) == ["fused"] and system.configs == {"fused": config.fused}
    assert {name: part.trained for name, part in system.parts.items()} == dict.fromkeys(
        ("fused", "id", "text"), "fused"
    )
    assert system.parts["fused"].network is system.networks["fused"]
    shapes = [
        jax.eval_shape(part.network.init, jax.random.key(0), jnp.asarray(vectors())) for part in system.parts.values()
    ]
    assert shapes[0]["items"].keys() == {"id", "text"}
    assert shapes[0] == shapes[1] == shapes[2]


def test_item_dropout_falls_on_the_text_half_alone() -> None:
    config = config_of("nfrec")
    config = dataclasses.replace(config, text=dataclasses.replace(config.text, item_dropout=0.5))
    network = build_system(config, ITEMS).networks["fused"]
    params = moved(build_system(config, ITEMS))["fused"]
    still, dropped = (
        np.asarray(network.item_embeddings(params, jnp.asarray(vectors()), key)) for key in (None, jax.random.key(1))
    )
    np.testing.assert_array_equal(dropped[:, :DIM], still[:, :DIM])
    kept = dropped[:, DIM:] != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(dropped[:, DIM:][kept], 2 * still[:, DIM:][kept], rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "networks", "views"),
    [
        ("alterrec", ["id", "text"], {"fused": {"id": 0.3, "text": 0.7}, "id": {"id": 1.0}, "text": {"text": 1.0}}),
        ("id", ["id"], {"id": {"id": 1.0}}),
        ("text", ["text"], {"text": {"text": 1.0}}),
        ("nfrec", ["fused"], {"fused": {"fused": 1.0}, "id": {"id": 1.0}, "text": {"text": 1.0}}),
    ],
)
def test_networks_and_views_of_each_model(model: str, networks: list[str], views: dict[str, dict[str, float]]) -> None:
    config = config_of(model)
    system = build_system(config, ITEMS)
    assert list(system.networks) == networks, "in the order in which they train"
    assert system.configs == {name: getattr(config, name) for name in networks}
    assert system.views == views
    assert system.main == next(iter(views))
    assert {name for weights in views.values() for name in weights} == set(system.parts)


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("alterrec", ("text",)),
        ("alterrec", ("text", "id")),
        ("id", ("id",)),
        ("nfrec", ("id",)),
        ("nfrec", ("id", "text")),
    ],
)
def test_an_encoder_of_some_parts_scores_as_that_of_all(model: str, parts: tuple[str, ...]) -> None:
    system = build_system(config_of(model), ITEMS)
    params = moved(system)
    whole, some = scores_of(system, params), scores_of(system, params, *parts)
    assert list(whole) == list(system.parts) and list(some) == list(parts)
    for name in parts:
        np.testing.assert_array_equal(some[name], whole[name])
