"""Families as systems: what trains, what is ranked, and NFRec's parts against NumPy."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import LAYOUTS, CatalogueInfo, Context, System
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.nfrec import FusedNetworkConfig, NFRecConfig
from alterrec_jax.models.registry import COUNTED, TRAINED, families, family
from alterrec_jax.models.sasrec import LLM2SASRecConfig, SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig, VectorsConfig
from alterrec_jax.scoring.prefix_encoder import PrefixEncoder, Prefixes
from tests.oracles import encoders as oracle
from tests.oracles import nfrec

ITEMS, TEXT_WIDTH, DIM, HIDDEN, LENGTH, TAU = 23, 5, 6, 13, 11, 0.7
PREFIXES: list[Sequence[int]] = [[3, 7, 3], [22], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 0], [5, 17, 1, 0, 8]]
KNOWN = CatalogueInfo(ITEMS)


def nfrec_of(
    encoder: str = "mean", operation: str = "concat", text: dict[str, Any] | None = None, **fused: Any
) -> System:
    """NFRec, small; changes to its network, and to its text encoder."""
    shared: dict[str, Any] = {"encoder": encoder, "layers": 2, "heads": 2, "dim": DIM, "temperature": TAU}
    return NFRecConfig(
        max_length=LENGTH,
        network=FusedNetworkConfig(operation=operation, **shared, **fused),
        text=VectorsConfig(mlp_hidden=(HIDDEN,), **(text or {})),
    ).build(KNOWN)


def alterrec_of(*names: str) -> RunConfig:
    """AlterRec on some of two small networks."""
    shared: dict[str, Any] = {"encoder": "mean"}
    networks = {
        "id": IdNetworkConfig(dim=4, weight=0.6, **shared),
        "text": VectorNetworkConfig(dim=14, weight=1.4, mlp_hidden=(HIDDEN,), **shared),
    }
    return AlterRecConfig(
        max_length=LENGTH,
        networks={name: networks[name] for name in names},
        mining=MiningConfig(k1=2, negatives="peer" if len(names) > 1 else "full", augment=False),
    ).check()


def vectors() -> np.ndarray:
    """float32 [item, d_text], of unit length; two items share a text."""
    drawn = np.random.default_rng(0).normal(size=(ITEMS, TEXT_WIDTH)).astype(np.float32)
    drawn[7] = drawn[2]
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def context() -> Context:
    """What the networks read."""
    return Context({"text": jnp.asarray(vectors())}, {})


def moved(system: System, seed: int = 1) -> dict[str, Any]:
    """Parameters of ordinary size everywhere, so that no gain of 1 or bias of 0 hides a mistake."""
    rng, params = np.random.default_rng(seed), {}
    for name, network in system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), context())
        params[name] = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 2, jnp.float32), shapes)
    return params


def scores_of(system: System, params: Mapping[str, Any], *names: str) -> dict[str, np.ndarray]:
    """float64 [prefix, item] by component: of all prefixes, as evaluation and recommendation encode them."""
    components = {name: system.components[name] for name in names or system.components}
    encoder = PrefixEncoder(components, params, context(), LENGTH)
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
    system = nfrec_of(item_norm=item_norm)
    params = moved(system)
    found, (id_table, text_table) = scores_of(system, params), tables_of(params)
    both = nfrec.fused(id_table, text_table, "concat")
    assert both.shape == (ITEMS, 2 * DIM)
    for row, prefix in enumerate(PREFIXES):
        for name, table in (("fused", both), ("id", id_table), ("text", text_table)):
            np.testing.assert_allclose(found[name][row], nfrec.scores(table, prefix, TAU), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["id"] + found["text"], found["fused"], rtol=1e-4, atol=1e-4)


def test_summed_parts_are_those_of_the_oracle_and_leave_the_crossed_terms() -> None:
    system = nfrec_of(operation="sum")
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
    system = nfrec_of("transformer", operation)
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
    system = nfrec_of("transformer")
    params, elsewhere = moved(system), moved(system, seed=2)
    items = params["fused"]["items"] | {other: elsewhere["fused"]["items"][other]}
    changed = {"fused": {**params["fused"], "items": items}}
    before, after = scores_of(system, params), scores_of(system, changed)
    np.testing.assert_array_equal(after[part], before[part])
    assert (after[other] != before[other]).any() and (after["fused"] != before["fused"]).any()


def test_the_parts_of_nfrec_are_functions_of_the_one_trained_network() -> None:
    system = nfrec_of()
    assert list(system.networks) == ["fused"] == list(system.optimizers)
    assert {name: component.trained for name, component in system.components.items()} == dict.fromkeys(
        ("fused", "id", "text"), "fused"
    )
    assert system.components["fused"].network is system.networks["fused"]
    shapes = [
        jax.eval_shape(component.network.init, jax.random.key(0), context()) for component in system.components.values()
    ]
    assert shapes[0]["items"].keys() == {"id", "text"}
    assert shapes[0] == shapes[1] == shapes[2]


def test_item_dropout_falls_on_the_text_half_alone() -> None:
    system = nfrec_of(text={"item_dropout": 0.5})
    network, params = system.networks["fused"], moved(system)["fused"]
    still, dropped = (
        np.asarray(network.item_tables(params, context(), key).candidates) for key in (None, jax.random.key(1))
    )
    np.testing.assert_array_equal(dropped[:, :DIM], still[:, :DIM])
    kept = dropped[:, DIM:] != 0
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(dropped[:, DIM:][kept], 2 * still[:, DIM:][kept], rtol=1e-6)


FUSED_VIEW = {"id": 0.3, "text": 0.7}
SYSTEMS: dict[str, Any] = {
    "alterrec": lambda: alterrec_of("id", "text").build(KNOWN),
    "id": lambda: alterrec_of("id").build(KNOWN),
    "text": lambda: alterrec_of("text").build(KNOWN),
    "nfrec": nfrec_of,
}


@pytest.mark.parametrize(
    ("name", "networks", "views"),
    [
        ("alterrec", ["id", "text"], {"fused": FUSED_VIEW, "id": {"id": 1.0}, "text": {"text": 1.0}}),
        ("id", ["id"], {"id": {"id": 1.0}}),
        ("text", ["text"], {"text": {"text": 1.0}}),
        ("nfrec", ["fused"], {"fused": {"fused": 1.0}, "id": {"id": 1.0}, "text": {"text": 1.0}}),
    ],
)
def test_networks_and_views_of_each_system(name: str, networks: list[str], views: dict[str, dict[str, float]]) -> None:
    system = SYSTEMS[name]()
    assert list(system.networks) == networks, "in the order in which they train"
    assert {view: pytest.approx(weights) for view, weights in system.views.items()} == views
    assert system.main == next(iter(views)) == next(iter(system.views))
    assert {name for weights in views.values() for name in weights} == set(system.components)
    assert {name for names in system.optimized.values() for name in names} == set(system.networks)


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("alterrec", ("text",)),
        ("alterrec", ("text", "id")),
        ("id", ("id",)),
        ("nfrec", ("id",)),
        ("nfrec", ("id", "text")),
    ],
)
def test_an_encoder_of_some_components_scores_as_that_of_all(name: str, some: tuple[str, ...]) -> None:
    system = SYSTEMS[name]()
    params = moved(system)
    whole, found = scores_of(system, params), scores_of(system, params, *some)
    assert list(whole) == list(system.components) and list(found) == list(some)
    for component in some:
        np.testing.assert_array_equal(found[component], whole[component])


def test_three_networks_are_fused_by_their_shares_and_begin_from_numbers_of_their_own() -> None:
    networks = {
        "id": IdNetworkConfig(),
        "text": VectorNetworkConfig(weight=2.0),
        "image": VectorNetworkConfig(feature="image"),
    }
    system = AlterRecConfig(networks=networks).check().build(KNOWN)
    assert system.views["fused"] == pytest.approx({"id": 0.25, "text": 0.5, "image": 0.25})
    assert list(system.views) == ["fused", "id", "text", "image"]
    assert len(set(system.init_numbers.values())) == 3 and system.init_numbers["id"] == 0
    assert system.reads.features == ("text", "image") and not system.reads.graphs and not system.reads.users


MADE_OF: dict[str, Any] = {
    "alterrec": lambda **one: AlterRecConfig(
        networks={
            "id": IdNetworkConfig(dim=4, **one),
            "text": VectorNetworkConfig(dim=4, **one),
        },
        mining=MiningConfig(k1=2, k2=ITEMS, augment=False),
    ),
    "nfrec": lambda **one: NFRecConfig(network=FusedNetworkConfig(dim=4, **one)),
    "sasrec": lambda **one: SASRecConfig(network=TransformerOnIdsConfig(dim=4, **one)),
    "llm2sasrec": lambda **one: LLM2SASRecConfig(network=TransformerOnIdsConfig(dim=4, **one)),
}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("name", MADE_OF)
def test_auto_is_the_transformer_on_a_real_order_and_the_mean_on_a_random_one(name: str, ordered: bool) -> None:
    known, chosen = CatalogueInfo(ITEMS, ordered=ordered), "transformer" if ordered else "mean"
    auto, plain = (MADE_OF[name](encoder=encoder).check().build(known) for encoder in ("auto", chosen))
    for network in auto.networks:
        ours, theirs = (jax.eval_shape(s.networks[network].init, jax.random.key(0), context()) for s in (auto, plain))
        assert ours == theirs and bool(ours["encoder"]) == ordered
    names, order = " and ".join(auto.networks), "real" if ordered else "random"
    rate = "" if ordered else " (learning rates times 5)"
    assert auto.notes == (f"encoder of {names}: {chosen}{rate}, for the order within sessions is {order}",)
    assert plain.notes == ()
    rates = [next(iter(system.optimizers.values())).learning_rate for system in (auto, plain)]
    assert rates[0] == (1 if ordered else 5) * rates[1]


def test_auto_is_said_of_the_networks_that_have_it() -> None:
    networks = {"id": IdNetworkConfig(dim=4, encoder="auto"), "text": VectorNetworkConfig(dim=4)}
    config = AlterRecConfig(networks=networks, mining=MiningConfig(k1=2, k2=ITEMS, augment=False)).check()
    assert config.build(CatalogueInfo(ITEMS, ordered=False)).notes == (
        "encoder of id: mean (learning rates times 5), for the order within sessions is random",
    )


@pytest.mark.parametrize("name", MADE_OF)
def test_heads_divide_the_width_where_auto_may_be_the_transformer(name: str) -> None:
    with pytest.raises(UserError, match=r"heads"):
        MADE_OF[name](encoder="auto", heads=3).check()
    MADE_OF[name](encoder="mean", heads=3).check()


def test_every_family_says_what_it_is_and_those_that_train_come_first() -> None:
    found = families()
    kinds = [one.kind for one in found.values()]
    assert set(kinds) == {TRAINED, COUNTED} and kinds == sorted(kinds, key=lambda kind: kind != TRAINED)
    for name, one in found.items():
        assert one is family(name) and one.config.family == name and one.title
        assert bool(one.paper) or one.kind == COUNTED
        assert (one.layout in LAYOUTS) == (one.kind == TRAINED)
