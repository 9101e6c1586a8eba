"""MMSBR against the released forward pass, against its equations in NumPy, and what it does without."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context, ItemTables, Network, Params, SessionBatch
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.price_levels import RELATIVE_PRICE
from alterrec_jax.errors import UserError
from alterrec_jax.losses.modality_contrast import contrast_of
from alterrec_jax.models.mmsbr import ADDITIVE, COUNTERPARTS, GATED, MMSBRConfig, MMSBRNetworkConfig, build_network
from alterrec_jax.nn.gaussians import Gaussian, distance_key, distance_query
from alterrec_jax.nn.pivots import PIVOTS as PIVOT_ROWS
from alterrec_jax.nn.pivots import PivotTransformer, items_of_pivots
from alterrec_jax.nn.table_starts import modality_tables
from alterrec_jax.training.coverage import coverage_notes
from tests.models.families import TINY
from tests.models.test_contract import batch_of as packed
from tests.oracles import mmsbr as oracle
from tests.parity import batch_of, dense, fixture, loss_and_gradient, norm

HELD = fixture("mmsbr")
ITEMS, PIVOTS, DIM = HELD["table_gradient"].shape
LENGTH, PAIRS, TOKENS, HEADS, LEVELS = HELD["items"].shape[1], 2, 3, 3, len(HELD["level_gradient"])
KNOWN = CatalogueInfo(ITEMS, classes={"category": 1 + len(HELD["category_gradient"])}, price_coverage=1.0)
TABLES = {"text": "text", "image": "image", "image_words": "text_img", "image_of_text": "img_text"}


def network_of(catalogue: CatalogueInfo = KNOWN, **changes: Any) -> Network:
    given = MMSBRNetworkConfig(
        dim=DIM, vector_dim=7, pivots=PIVOTS, tokens=TOKENS, pairs=PAIRS, heads=HEADS, price_levels=LEVELS - 1
    )
    config = dataclasses.replace(given, **changes)
    return build_network(config, catalogue, True, LENGTH, "float32")


def context_of() -> Context:
    """What is known of the fixture's items; prices so that levels are those of the fixture."""
    relative = 1 + (HELD["levels"] - 0.5) / (LEVELS - 1)
    features: dict[str, np.ndarray] = {name: HELD[f"{of}_embedding.weight"] for name, of in TABLES.items()}
    features |= {"category": HELD["categories"].astype(np.int32), RELATIVE_PRICE: relative[:, None]}
    return Context({name: jnp.asarray(some) for name, some in features.items()}, {})


def side_by_side(names: list[str]) -> dict[str, jax.Array]:
    """Several linear layers as one."""
    layers = [dense(HELD, name) for name in names]
    return {part: jnp.concatenate([layer[part] for layer in layers], axis=-1) for part in ("kernel", "bias")}


def parameters() -> Params:
    """The fixture's parameters as ours."""

    def with_unknown(name: str) -> dict[str, np.ndarray]:
        return {"embedding": np.pad(HELD[name], ((1, 0), (0, 0)))}

    def layer(name: str) -> dict[str, Any]:
        return {
            "attention": side_by_side([f"{name}.mh.{part}" for part in ("query", "key", "value")]),
            "out": dense(HELD, f"{name}.mh.concat_weight"),
            "norm": norm(HELD, f"{name}.layer_norm"),
            "inner": dense(HELD, f"{name}.pffn.final1"),
            "outer": dense(HELD, f"{name}.pffn.final2"),
        }

    fusion: dict[str, Any] = {"join": dense(HELD, "mlp_star_f1"), "output": dense(HELD, "mlp_star_f2")}
    for first, (ours, theirs) in enumerate({"image": "mlp_img", "text": "mlp_text"}.items()):
        second = [dense(HELD, f"{theirs}.{token}.mlp_2") for token in range(TOKENS)]
        fusion |= {
            f"{ours}_tokens": side_by_side([f"{theirs}.{token}.mlp_1" for token in range(TOKENS)]),
            f"{ours}_kernel": jnp.stack([part["kernel"] for part in second]),
            f"{ours}_bias": jnp.stack([part["bias"] for part in second]),
        }
        fusion |= {f"{ours}_{pair}": layer(f"transformers.{2 * pair + first}") for pair in range(PAIRS)}
    prices = {
        "means": with_unknown("price_mean_embedding.weight"),
        "spreads": with_unknown("price_cov_embedding.weight"),
        "category": with_unknown("cate_embedding.weight"),
        "norm": norm(HELD, "LayerNorm"),
        "map_means": side_by_side([f"mean_{part}" for part in ("query", "key", "value")]),
        "map_spreads": side_by_side([f"cov_{part}" for part in ("query", "key", "value")]),
        "out_means": dense(HELD, "mean_dense"),
        "out_spreads": dense(HELD, "cov_dense"),
    }
    interest = {"each": dense(HELD, "glu1"), "mean": dense(HELD, "glu2")}
    interest |= {"weight": HELD["w_2.weight"].T, "bias": HELD["w_2.bias"]}
    pivots = np.stack([HELD[f"star_emb{number}.weight"] for number in range(1, PIVOTS + 1)], axis=1)
    items = {"pivots": pivots} | {name: HELD[f"{of}_embedding.weight"] for name, of in TABLES.items()}
    return jax.tree.map(jnp.asarray, {"items": items, "fusion": fusion, "interest": interest, "prices": prices})


SESSIONS = [[3, 5, 3, 8], [4], [7, 7, 2], [1, 2, 3, 4, 5, 6, 7], [9, 9]]


def embedded(network: Network, params: Params, batch: SessionBatch) -> tuple[ItemTables, np.ndarray]:
    """The tables, and the session vectors at all positions."""

    def both(params: Params) -> tuple[ItemTables, jax.Array]:
        tables = network.item_tables(params, context_of())
        return tables, network.session_embeddings(params, tables, batch)

    tables, queries = jax.jit(both)(params)
    return tables, np.asarray(queries)


def test_queries_scores_and_gradients_are_those_of_the_released_code() -> None:
    network, (batch, ends) = network_of(score=GATED, price_weight=-1.0), batch_of(HELD)
    (value, (queries, scores)), gradient = loss_and_gradient(network, parameters(), context_of(), batch, ends)
    np.testing.assert_allclose(queries[:, :DIM], HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=5e-5)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    of_prices = {name: gradient["prices"][name]["embedding"][1:] for name in ("means", "spreads", "category")}
    for found, name in (
        (gradient["items"]["pivots"], "table_gradient"),
        (gradient["items"]["text"], "text_gradient"),
        (gradient["items"]["image"], "image_gradient"),
        (of_prices["means"], "level_gradient"),
        (of_prices["spreads"], "spread_gradient"),
        (of_prices["category"], "category_gradient"),
    ):
        # A sum over scores of up to 140: the released gradients are up to 3e-6 off their own in float64.
        np.testing.assert_allclose(found, HELD[name], rtol=2e-5, atol=2e-5, err_msg=name)


def test_the_contrast_is_that_of_the_released_code() -> None:
    def total(items: dict[str, jax.Array]) -> jax.Array:
        known, hardest = jnp.ones(ITEMS, bool), int(HELD["hardest"])
        both = (contrast_of(items[one], items[other], known, hardest) for one, other in COUNTERPARTS.items())
        return sum(both, jnp.float32(0))

    value, gradient = jax.value_and_grad(total)(parameters()["items"])
    scale = ITEMS * np.log10(np.e)  # a sum of decimal logarithms there
    np.testing.assert_allclose(scale * value, HELD["contrast"], rtol=2e-6)
    for ours, theirs in TABLES.items():
        np.testing.assert_allclose(scale * gradient[ours], HELD[f"contrast_{theirs}_gradient"], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(("score", "lacking"), [(ADDITIVE, ()), (GATED, ("image", "category"))])
def test_packed_sessions_are_those_of_the_equations(score: str, lacking: tuple[str, ...]) -> None:
    """Without an image its stream is left out, and without categories prices stand alone."""
    params, weight = parameters(), 0.3
    classes = {} if "category" in lacking else KNOWN.classes
    network = network_of(KNOWN._replace(classes=classes), score=score, price_weight=weight)
    params["items"] = {name: rows for name, rows in params["items"].items() if name not in lacking}
    batch, _ = packed(SESSIONS)
    tables, queries = embedded(network, params, batch)
    held = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    streams = [name for name in ("text", "image") if name not in lacking]
    items = [
        oracle.item_vector(
            held["fusion"],
            held["items"]["pivots"][item],
            {name: held["items"][name][item] for name in streams},
            PAIRS,
            HEADS,
        )
        for item in range(ITEMS)
    ]
    levels, categories = HELD["levels"].tolist(), HELD["categories"].tolist() if classes else [None] * ITEMS
    of_items = [oracle.prices_of_item(held["prices"], *known) for known in zip(levels, categories, strict=True)]
    found = queries @ np.asarray(tables.candidates).T
    flat_items, positions = np.asarray(batch.items).reshape(-1), np.asarray(batch.positions).reshape(-1)
    (places,) = np.nonzero(np.asarray(batch.segments).reshape(-1) >= 0)
    assert len(places) == sum(map(len, SESSIONS))
    for place in places:
        session = flat_items[place - positions[place] : place + 1].tolist()
        about = oracle.interest(held["interest"], np.array([items[item] for item in session]))
        known = [[one[item] for item in session] for one in (levels, categories)]
        price = oracle.prices_of_prefix(held["prices"], known[0], known[1] if classes else None, HEADS)
        for item in range(ITEMS):
            far = oracle.distance(*price, *of_items[item])
            inner = about @ items[item]
            expected = inner - weight * far if score == ADDITIVE else inner * (1 - weight * far)
            np.testing.assert_allclose(found[place, item], expected, rtol=2e-4, atol=2e-4)


def test_items_in_blocks_are_those_of_the_whole_dropout_and_gradients_included() -> None:
    transformer = PivotTransformer(("text",), 1, HEADS, TOKENS, 0.4, 0.2, "float32")
    rng = np.random.default_rng(0)
    rows = {PIVOT_ROWS: rng.normal(size=(11, 2, DIM)), "text": rng.normal(size=(11, 5))}
    rows = {name: jnp.asarray(some, jnp.float32) for name, some in rows.items()}
    params = transformer.init(jax.random.key(0), rows[PIVOT_ROWS], {"text": rows["text"]})["params"]

    @functools.partial(jax.jit, static_argnums=2)
    def total(params: Params, rows: dict[str, jax.Array], at_once: int) -> Any:
        def summed(params: Params, rows: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
            found = items_of_pivots(transformer, params, rows, jax.random.key(1), at_once)
            return jnp.sum(found**2), found

        return jax.value_and_grad(summed, argnums=(0, 1), has_aux=True)(params, rows)

    ((_, items), _), expected = total(params, rows, 4), total(params, rows, 11)
    jax.tree.map(
        lambda *both: np.testing.assert_allclose(*both, rtol=2e-4, atol=1e-5), total(params, rows, 4), expected
    )
    assert 0.1 < np.mean(np.asarray(items) == 0) < 0.9


def test_the_distance_of_equals_is_zero_and_others_have_that_of_the_formula() -> None:
    rng = np.random.default_rng(0)
    one, other = (Gaussian(rng.normal(size=(3, 5)), rng.exponential(size=(3, 5))) for _ in range(2))
    keys = distance_key(jax.tree.map(jnp.asarray, one))
    for query, factor in ((one, 1.0), (other, 0.7)):
        found = np.sum(distance_query(jax.tree.map(jnp.asarray, query), factor) * keys, axis=1)
        expected = [-factor * oracle.distance(*(part[row] for part in (*query, *one))) for row in range(3)]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_without_prices_the_interest_alone_scores() -> None:
    network, params = network_of(price=False), parameters()
    batch, ends = batch_of(HELD)
    tables, queries = embedded(network, params, batch)
    assert network.dim == DIM and "prices" not in jax.eval_shape(network.init, jax.random.key(0), context_of())
    np.testing.assert_allclose(queries[ends], HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(tables.candidates, HELD["vectors"], rtol=2e-5, atol=2e-6)


def test_the_contrast_counts_only_items_that_have_both() -> None:
    rows, others = (jnp.asarray(np.random.default_rng(seed).normal(size=(7, 3)), jnp.float32) for seed in range(2))
    known = np.array([1, 0, 1, 1, 0, 1, 1], bool)
    expected = contrast_of(rows[known], others[known], jnp.ones(5, bool), 3)
    np.testing.assert_allclose(contrast_of(rows, others, jnp.asarray(known), 3), expected, rtol=1e-6)
    gradient = jax.grad(lambda rows: contrast_of(rows, others, jnp.zeros(7, bool), 3))(rows)
    assert not np.any(gradient)


def test_modality_tables_keep_inner_products_and_leave_unknown_ones_at_the_centre() -> None:
    rng = np.random.default_rng(0)
    vectors, others = (jnp.asarray(rng.normal(size=(11, 4)), jnp.float32).at[3].set(0) for _ in range(2))
    known = np.arange(11) != 3
    of_vectors, of_others = modality_tables(vectors, others, 6)
    assert of_others is not None
    centred = [np.asarray(rows)[known] - np.asarray(rows)[known].mean(axis=0) for rows in (vectors, others)]
    np.testing.assert_allclose((of_vectors @ of_others.T)[known][:, known], centred[0] @ centred[1].T, atol=1e-5)
    assert not of_vectors[3].any() and not of_others[3].any()
    assert modality_tables(vectors, None, 2)[0].shape == (11, 2)


def test_what_a_dataset_lacks_is_left_out_and_said(dataset: Dataset) -> None:
    system = TINY["mmsbr"].build(catalogue_info(dataset))
    assert system.terms == ("next_item", "same_item")
    lacks = [note.split(" has no ")[1].split(",")[0] for note in coverage_notes(system, dataset) if " has no " in note]
    assert lacks == ["image", "image_words", "image_of_text"]
    init = system.networks["mmsbr"].init
    shapes = jax.eval_shape(init, jax.random.key(0), make_context(dataset, system.reads, "float32"))
    assert shapes["items"].keys() == {"pivots", "text"} and not any("image" in name for name in shapes["fusion"])
    vectors = {**dataset.vectors, "image": np.eye(len(dataset.items), 13, dtype=np.float32)}
    vectors |= {"image_words": vectors["text"][::-1]}
    context = make_context(dataclasses.replace(dataset, vectors=vectors), system.reads, "float32")
    shapes = jax.eval_shape(init, jax.random.key(0), context)
    assert shapes["items"].keys() == {"pivots", "text", "image", "image_words"} and "image_0" in shapes["fusion"]


def test_too_few_prices_are_refused_unless_they_are_off() -> None:
    few = CatalogueInfo(9, price_coverage=0.44)
    with pytest.raises(UserError, match="has one for 44% of the catalogue's items.*--config.network.price=False"):
        MMSBRConfig().build(few)
    without = MMSBRConfig(network=MMSBRNetworkConfig(price=False)).build(few)
    assert without.reads.features == ("text",) and "category" not in without.reads.optional
