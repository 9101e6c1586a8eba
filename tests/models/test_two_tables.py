"""Items of two halves against the powers of the graph's matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import Context, Network
from alterrec_jax.data.dataset_files import TEXT, TEXT_AND_IMAGE
from alterrec_jax.data.graphs import GRAPHS
from alterrec_jax.models.single import halves_of
from alterrec_jax.models.two_tables import (
    GRAPH,
    ID,
    LINEAR,
    MODALITY,
    PARTS,
    RESIDUAL,
    SUM,
    WEIGHTED,
    TwoTablesConfig,
    two_tables,
)
from tests.data.test_graphs import matrix_of
from tests.evaluation.examples import make_sessions

ITEMS, WIDTH, DIM = 13, 7, 5
LISTS = [[0, 1, 2], [1, 2, 1, 3], [4, 5], [5, 4], [6], [7, 8, 9, 10], [0, 11]]  # 6 and 12 met nobody


@pytest.fixture(scope="module")
def context() -> Context:
    vectors = jnp.asarray(np.random.default_rng(0).normal(size=(2, ITEMS, WIDTH)), jnp.float32)
    graph = GRAPHS[GRAPH](make_sessions(LISTS), ITEMS)
    return Context({TEXT: vectors[0], TEXT_AND_IMAGE: vectors[1]}, {GRAPH: jax.tree.map(jnp.asarray, graph)})


@pytest.mark.parametrize("gcn", [RESIDUAL, SUM, WEIGHTED])
def test_both_halves_are_spread_over_the_graph(context: Context, gcn: str) -> None:
    made = two_tables(TwoTablesConfig(dim=DIM, layers=3, gcn=gcn), ITEMS, "float32")
    params = made.init(jax.random.key(0), context)
    matrix = matrix_of(context.graphs[GRAPH]).astype(np.float64)
    alone = matrix.sum(axis=1) == 0
    assert alone.nonzero()[0].tolist() == [6, 12]
    mean = matrix / np.maximum(matrix.sum(axis=1), 1)[:, None]
    expected = []
    for part in PARTS:
        rows = np.asarray(params[part]["table"], np.float64)
        for layer in range(3):
            around = mean @ rows
            new = {RESIDUAL: (rows + around) / 2, SUM: rows + around}.get(gcn)
            new = around @ np.asarray(params["maps"][part][layer]) if new is None else new
            rows = np.where(alone[:, None], rows, new)
        expected.append(rows)
    found = jax.jit(made.embed)(params, context)
    np.testing.assert_allclose(found, np.concatenate(expected, axis=1), rtol=1e-5, atol=1e-6)
    queries = jax.random.normal(jax.random.key(1), (5, 2 * DIM))
    network = Network(made.init, made.embed, lambda *_: queries, ITEMS, 2 * DIM)  # type: ignore[arg-type]
    for part, of_half in halves_of(network, PARTS).items():
        half = slice(0, DIM) if part == ID else slice(DIM, None)
        alone_part = np.asarray(of_half.session_embeddings(params, None, None))  # type: ignore[arg-type]
        np.testing.assert_array_equal(alone_part[:, half], np.asarray(queries)[:, half])
        assert not np.delete(alone_part, np.arange(2 * DIM)[half], axis=1).any()
        expected_scores = np.asarray(queries)[:, half] @ np.asarray(found)[:, half].T
        np.testing.assert_allclose(alone_part @ np.asarray(found).T, expected_scores, rtol=1e-5, atol=1e-5)


def test_the_modality_is_of_texts_with_image_words_where_the_dataset_has_them(context: Context) -> None:
    bare = context._replace(features={TEXT: context.features[TEXT_AND_IMAGE]})

    def half(context: Context, **changes: object) -> np.ndarray:
        made = two_tables(TwoTablesConfig(dim=DIM, layers=0, **changes), ITEMS, "float32")  # type: ignore[arg-type]
        return np.asarray(made.embed(made.init(jax.random.key(0), context), context))[:, DIM:]

    np.testing.assert_array_equal(half(context), half(bare))
    assert np.abs(half(context, image_words=False) - half(bare)).max() > 0.1
    linear = half(context, modality=LINEAR)
    solved, residual, *_ = np.linalg.lstsq(np.asarray(context.features[TEXT_AND_IMAGE]), linear, rcond=None)
    assert (residual < 1e-8).all()


def test_dropout_falls_on_both_tables_before_the_graph(context: Context) -> None:
    made = two_tables(TwoTablesConfig(dim=DIM, layers=0), ITEMS, "float32")
    params = made.init(jax.random.key(0), context)
    rows, dropped = (np.asarray(made.embed(params, context, key)) for key in (None, jax.random.key(1)))
    kept = dropped != 0
    np.testing.assert_allclose(dropped[kept], rows[kept] / 0.7, rtol=1e-6)
    for half in (kept[:, :DIM], kept[:, DIM:]):
        assert 0.5 < half.mean() < 0.9
    assert two_tables(TwoTablesConfig(dim=DIM), ITEMS, "float32").per_item == (f"{ID}/table", f"{MODALITY}/table")
