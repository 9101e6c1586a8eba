"""BSARec against the released forward pass, and against the Fourier transform of its equations in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context, SessionBatch
from alterrec_jax.data.packing import Chunks, fill_rows, keep_ends, plan_rows
from alterrec_jax.models.bsarec import NONE, OFFICIAL, BSARecNetworkConfig, build_network, softmax_with_pad
from alterrec_jax.nn.frequency import low_pass, low_pass_by_length
from tests.oracles import bsarec as oracle
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


@pytest.mark.parametrize(("length", "cutoff"), [(1, 0), (1, 5), (2, 3), (7, 5), (8, 7), (8, 9), (50, 3), (50, 5)])
def test_the_filter_is_a_projection_and_what_the_fourier_transform_does(length: int, cutoff: int) -> None:
    matrix = low_pass(length, cutoff)
    rows = np.random.default_rng(0).normal(size=(length, 3))
    np.testing.assert_allclose(matrix @ rows, oracle.smoothed(rows, cutoff), rtol=0, atol=1e-14)
    np.testing.assert_allclose(matrix @ np.ones(length), np.ones(length), rtol=1e-13)
    np.testing.assert_allclose(matrix @ matrix, matrix, rtol=0, atol=1e-14)
    by_length = low_pass_by_length(length + 2, cutoff)
    apart = np.arange(length)[:, None] - np.arange(length)[None]
    np.testing.assert_allclose(by_length[length, apart + length + 1], matrix, rtol=1e-13, atol=1e-15)


def random_params(padding: str, length: int) -> dict:
    """Parameters of ordinary size for a tiny network."""
    network = build_network(dataclasses.replace(CONFIG, padding=padding), ITEMS, length, "float32")
    rng, shapes = np.random.default_rng(4), jax.eval_shape(network.init, jax.random.key(0), NOTHING_KNOWN)
    return jax.tree.map(lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), jnp.float32), shapes)


PREFIXES = [[5], [4, 9, 4], [7, 7, 3, 8], [2, 2], [0, 1, 2, 3, 4, 5, 6], [22], [11, 3, 11, 11, 6]]


def queries_of(padding: str, params: dict, length: int) -> np.ndarray:
    """float32 [prefix, dim] of PREFIXES, packed into rows of so many positions, in their order."""
    network = build_network(dataclasses.replace(CONFIG, padding=padding), ITEMS, length, "float32")
    lengths = np.array([len(prefix) for prefix in PREFIXES])
    items = np.array([item for prefix in PREFIXES for item in prefix], np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    chunks = Chunks(np.arange(len(lengths)), np.zeros_like(lengths), lengths, lengths - 1)
    batch = keep_ends(fill_rows(items, offsets, chunks, plan_rows(lengths, length), length), len(PREFIXES))
    tables = network.item_tables(params, NOTHING_KNOWN)
    found = np.asarray(jax.jit(network.session_embeddings)(params, tables, batch))
    return found[np.argsort(batch.interaction)]


@pytest.mark.parametrize("padding", [OFFICIAL, NONE])
def test_queries_are_those_of_the_oracle_and_beta_is_squared(padding: str) -> None:
    params = random_params(padding, LENGTH)
    found = queries_of(padding, params, LENGTH)
    for row, prefix in zip(found, PREFIXES, strict=True):
        expected = oracle.query(params, prefix, LENGTH, CUTOFF, CONFIG.alpha, padding == OFFICIAL)
        np.testing.assert_allclose(row, expected, rtol=2e-5, atol=2e-5, err_msg=str(prefix))
    for block in ("block_0", "block_1"):
        params["encoder"][block] |= {"sqrt_beta": -params["encoder"][block]["sqrt_beta"]}
    np.testing.assert_array_equal(queries_of(padding, params, LENGTH), found)


def test_more_padding_changes_the_released_model_and_not_ours() -> None:
    for padding, moves in ((OFFICIAL, True), (NONE, False)):
        params = random_params(padding, LENGTH)
        table = params["encoder"]["positions"]["embedding"]
        encoder = params["encoder"] | {"positions": {"embedding": jnp.pad(table, ((2, 0), (0, 0)))}}
        short, long = (
            queries_of(padding, params, LENGTH),
            queries_of(padding, params | {"encoder": encoder}, LENGTH + 2),
        )
        moved = np.abs(short - long).max()
        assert moved > 5e-3 if moves else moved < 1e-5


def test_it_has_as_many_parameters_as_the_authors_count() -> None:
    network = build_network(BSARecNetworkConfig(heads=1), 12_101, 50, "float32")
    shapes = jax.eval_shape(network.init, jax.random.key(0), NOTHING_KNOWN)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 878_208
