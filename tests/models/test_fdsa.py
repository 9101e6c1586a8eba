"""FDSA against both released forward passes and against its equations, and what its fields promise."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, Params
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.models.fdsa import FDSAConfig, FDSANetworkConfig, build_network
from alterrec_jax.nn.item_fields import RANDOM, item_fields
from alterrec_jax.training.coverage import coverage_notes
from alterrec_jax.training.loop import EpochDone, TrainLoop
from alterrec_jax.training.run_state import RunState
from tests.conftest import CATALOGUE
from tests.models.families import TINY
from tests.models.test_contract import batch_of, random_params
from tests.oracles import fdsa as oracle
from tests.parity import attention, dense, fixture, loss_and_gradient, norm
from tests.parity import batch_of as batch_of_fixture

HEADS, INNER = 3, 16
FIELDS = ("text", "category", "brand", "attributes")


def streams(held: dict[str, np.ndarray]) -> Params:
    """The parameters of the two Transformers and around them, of a fixture."""
    found: Params = {
        "positions": {"embedding": jnp.asarray(held["position_embedding.weight"])},
        "norm": norm(held, "LayerNorm"),
        "join": dense(held, "concat_layer"),
    }
    for stream, name in (("ids", "item"), ("features", "feature")):
        found[stream] = {}
        for layer in range(2):
            prefix = f"{name}_trm_encoder.layer.{layer}"
            maps = {part: f"{prefix}.multi_head_attention.{part}" for part in ("query", "key", "value")}
            maps["out"] = f"{prefix}.multi_head_attention.dense"
            found[stream][f"block_{layer}"] = {
                "attention": attention(held, maps, HEADS),
                "attention_norm": norm(held, f"{prefix}.multi_head_attention.LayerNorm"),
                "inner": dense(held, f"{prefix}.feed_forward.dense_1"),
                "outer": dense(held, f"{prefix}.feed_forward.dense_2"),
                "feed_forward_norm": norm(held, f"{prefix}.feed_forward.LayerNorm"),
            }
    return found


def features_of(held: dict[str, np.ndarray]) -> tuple[Params, dict[str, Any]]:
    """A fixture's parameters that make g, and what they make it of."""
    if "vectors" in held:
        output = dense(held, "adapter.mlp_layers.1")
        output["kernel"] = output["kernel"] / held["vectors"].shape[1] ** 0.5  # by which vectors are multiplied here
        return {"text": {"output": output}}, {"text": held["vectors"]}
    tables = {"brand": "token_embedding_table.item.embedding", "attributes": "token_seq_embedding_table.item.0"}
    params: Params = {
        name: {"embedding": jnp.asarray(held[f"feature_embed_layer.{table}.weight"])} for name, table in tables.items()
    }
    params["attention"] = dense(held, "feature_att_layer.projection.0")
    params["weight"] = dense(held, "feature_att_layer.projection.2")
    return params, {name: held[name] for name in tables}


@pytest.mark.parametrize("name", ["fdsa_fields", "fdsa_text"])
def test_queries_scores_and_gradients_are_those_of_the_released_code(name: str) -> None:
    """Of brand and attributes RecBole's, of text vectors that of UniSRec's authors."""
    held = fixture(name)
    (items, dim), length = held["table_gradient"].shape, held["items"].shape[1]
    features, known = features_of(held)
    classes = {field: len(part["embedding"]) for field, part in features.items() if "embedding" in part}
    config = FDSANetworkConfig(features=tuple(known), dim=dim, heads=HEADS, inner=INNER)
    network = build_network(config, CatalogueInfo(items, classes), length, "float32")
    context, (batch, ends) = Context(jax.tree.map(jnp.asarray, known), {}), batch_of_fixture(held)
    params = {
        "items": {"table": jnp.asarray(held["item_embedding.weight"][1:])},
        "features": features,
        "encoder": streams(held),
    }

    (value, (queries, scores)), gradient = loss_and_gradient(network, params, context, batch, ends)
    of_encoder = gradient["encoder"]
    found = {
        "table": gradient["items"]["table"],
        "norm": of_encoder["norm"]["scale"],
        "position": of_encoder["positions"]["embedding"],
    }
    found |= {field: gradient["features"][field]["embedding"] for field in classes}
    if "vectors" in held:
        found["adapter"] = gradient["features"]["text"]["output"]["kernel"].T / held["vectors"].shape[1] ** 0.5
    np.testing.assert_allclose(queries, held["queries"], rtol=2e-5, atol=4e-6)
    np.testing.assert_allclose(scores, held["scores"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(value, held["loss"], rtol=2e-6)
    # The float32 gradients there are up to 3e-6 off their own float64 ones.
    for part, ours in found.items():
        np.testing.assert_allclose(ours, held[f"{part}_gradient64"], rtol=2e-5, atol=1e-5, err_msg=part)


SESSIONS = [[4], [3, 5, 3, 8], [7, 7, 2], [9, 9], [1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12]]


@pytest.mark.parametrize("fields", [FIELDS, ("text",)])
def test_session_vectors_are_those_of_the_equations(fields: tuple[str, ...], dataset: Dataset) -> None:
    """Some of the items have no brand, no attributes or no text, and item 7 has nothing."""
    config = FDSANetworkConfig(features=fields, dim=6, layers=2, inner=5)
    network = build_network(config, catalogue_info(dataset), 11, "float32")
    known = {name: np.array(rows) for name, rows in make_context(dataset, network.reads, "float32").features.items()}
    for rows in known.values():
        rows[7] = 0
    known["text"][3] = 0
    context = Context(jax.tree.map(jnp.asarray, known), {})
    params = random_params(network, context, 5)
    batch, _ = batch_of(SESSIONS)
    tables = network.item_tables(params, context)
    queries = jax.jit(network.session_embeddings)(params, tables, batch)
    queries = np.asarray(queries).reshape(*batch.items.shape, -1)
    seen = 0
    for row, position in np.argwhere(np.asarray(batch.segments) >= 0):
        start = position - int(batch.positions[row, position])
        prefix = np.asarray(batch.items[row, start : position + 1]).tolist()
        expected = oracle.session_vector(params, known, prefix)
        np.testing.assert_allclose(queries[row, position], expected, rtol=2e-4, atol=2e-5, err_msg=str(prefix))
        seen += 1
    assert seen == sum(map(len, SESSIONS))


def test_a_field_that_an_item_lacks_has_no_weight() -> None:
    """Whatever stands in the row of "unknown"; of one field that it has, an item is that field."""
    known = {"brand": jnp.array([0, 2, 1, 0]), "attributes": jnp.array([[1, 3], [0, 0], [2, 0], [0, 0]])}
    catalogue, context = CatalogueInfo(4, {"brand": 3, "attributes": 4}), Context(known, {})
    of_items = item_fields(("brand", "attributes"), catalogue, 5, precision="float32")
    params = of_items.init(jax.random.key(0), context)

    @jax.jit
    def made(params: Params) -> jax.Array:
        return of_items.embed(params, of_items.known(params, context))

    brands, values = (params[name]["embedding"] for name in known)
    found = made(params)
    np.testing.assert_allclose(found[0], (values[1] + values[3]) / 2, rtol=1e-6)
    np.testing.assert_allclose(found[1], brands[2], rtol=1e-6)
    np.testing.assert_array_equal(found[3], 0)
    for name in known:
        other = {**params, name: {"embedding": params[name]["embedding"].at[0].set(77)}}
        np.testing.assert_array_equal(made(other), found)
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(made(params) ** 2)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not any(gradient[name]["embedding"][0].any() for name in known)


def test_random_vectors_read_no_text_and_do_not_train(dataset: Dataset) -> None:
    network = FDSANetworkConfig(text=RANDOM, random_width=4, dim=4, layers=1, inner=5, weight_decay=0.1, l2=0.1)
    config = dataclasses.replace(TINY["fdsa"], epochs=1, network=network)
    system, train = config.build(catalogue_info(dataset)), dataset.splits["train"]
    context = make_context(dataset, system.reads, config.precision)
    assert context.features == {}
    batches = TrainBatches(train, config.batch_prefixes, config.max_length, system.layout)
    loop = TrainLoop(system, context, batches, len(train.items), seed=0)
    arrays, state = loop.fresh(), RunState()
    before = jax.tree.map(np.asarray, arrays.params["fdsa"])
    vectors = before["features"][RANDOM]
    assert vectors.shape == (CATALOGUE, 4) and 0.015 < vectors.std() < 0.025
    for event in loop.run(arrays, state):
        if isinstance(event, EpochDone):
            state.epoch, state.step = state.epoch + 1, 0
    changed = jax.tree_util.tree_map_with_path(
        lambda path, old, new: (str(path[-1].key), bool(np.any(old != new))), before, arrays.params["fdsa"]
    )
    for name, moved in jax.tree.leaves(changed, is_leaf=lambda leaf: isinstance(leaf, tuple)):
        assert moved != (name == RANDOM), name


def test_fields_that_a_dataset_lacks_are_left_out_and_all_of_them_refused(dataset: Dataset) -> None:
    bare = dataclasses.replace(dataset, items=dataset.items.drop("category", "brand", "attributes"), vectors={})
    config = FDSAConfig(network=FDSANetworkConfig(features=FIELDS, dim=4))
    with pytest.raises(UserError, match="this system needs text"):
        make_context(bare, config.build(catalogue_info(bare)).reads, "float32")
    with pytest.raises(UserError, match="no category and no brand"):
        FDSAConfig(network=FDSANetworkConfig(features=("category", "brand"))).build(catalogue_info(bare))
    part = dataclasses.replace(dataset, items=dataset.items.drop("brand", "attributes"), vectors={})
    system = config.build(catalogue_info(part))
    context = make_context(part, system.reads, "float32")
    assert set(context.features) == {"category"}
    params = system.networks["fdsa"].init(jax.random.key(0), context)
    assert set(params["features"]) == {"category"}
    left_out = [note for note in coverage_notes(system, part) if "left out" in note]
    flags = ("--text_columns", "--brand_column", "--attribute_columns")
    assert len(left_out) == 3 and all(flag in note for flag, note in zip(flags, left_out, strict=True))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": ()}, "at least one feature"),
        ({"features": ("text", "text")}, "each named once"),
        ({"features": ("brand",), "text": RANDOM}, "real where text is not among"),
        ({"heads": 5}, "a divisor of network.dim"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        FDSAConfig(network=FDSANetworkConfig(**fields)).check()
