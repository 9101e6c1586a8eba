"""What item tables start from: the geometry of the vectors that each method keeps, and what it refuses."""

import jax
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, Context
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig
from alterrec_jax.models.llm2bert4rec import LLM2BERT4RecConfig, LLM2BERT4RecNetworkConfig
from alterrec_jax.models.sasrec import LLM2SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.nn.item_tables import START, learned_items
from alterrec_jax.nn.table_starts import PCA, RANDOM, RANDOM_PROJECTION, RAW, TableStart, started_table

ITEMS, WIDTH = 400, 12
KNOWN = np.arange(ITEMS) % 4 != 1
RNG = np.random.default_rng(0)
SPREADS = np.geomspace(2, 0.1, WIDTH)
AXES, _ = np.linalg.qr(RNG.normal(size=(WIDTH, WIDTH)))
VECTORS = np.where(KNOWN[:, None], (RNG.normal(size=(ITEMS, WIDTH)) * SPREADS) @ AXES + 0.7, 0).astype(np.float32)
CENTRED = VECTORS[KNOWN].astype(np.float64) - VECTORS[KNOWN].astype(np.float64).mean(axis=0)


def table_of(start: TableStart, dim: int, seed: int = 0) -> np.ndarray:
    """The table of the items, all of them."""
    return np.asarray(started_table(start, jax.numpy.asarray(VECTORS), dim, jax.random.key(seed)), np.float64)


@pytest.mark.parametrize("dim", [1, 5, WIDTH])
def test_principal_components_have_the_gram_matrix_of_centred_vectors_cut_to_their_rank(dim: int) -> None:
    left, values, right = np.linalg.svd(CENTRED, full_matrices=False)
    cut = (left[:, :dim] * values[:dim]) @ right[:dim]
    table = table_of(TableStart(PCA), dim)[KNOWN]
    np.testing.assert_allclose(table @ table.T, cut @ cut.T, atol=2e-5)
    np.testing.assert_allclose(np.linalg.norm(table, axis=0), values[:dim], rtol=1e-5)


@pytest.mark.parametrize("method", [PCA, RANDOM_PROJECTION, RAW])
def test_items_without_a_vector_have_mean_and_spread_of_the_others(method: str) -> None:
    tables = np.stack([table_of(TableStart(method), WIDTH, seed) for seed in range(30)])
    known, others = (tables[:, which] for which in (KNOWN, ~KNOWN))
    deviation = known.std(axis=1).mean(axis=0)
    np.testing.assert_allclose(others.std(axis=1).mean(axis=0), deviation, rtol=0.05)
    np.testing.assert_allclose(others.mean(axis=(0, 1)), known.mean(axis=(0, 1)), atol=0.1 * deviation.max())
    assert not np.array_equal(others[0], others[1])


def test_random_projections_keep_inner_products_in_expectation_and_are_a_function_of_the_seed() -> None:
    start, dim = TableStart(RANDOM_PROJECTION), 6
    tables = [table_of(start, dim, seed) for seed in range(300)]
    found = np.mean([table[KNOWN][:20] @ table[KNOWN][:20].T for table in tables], axis=0)
    norms = np.linalg.norm(CENTRED[:20], axis=1)
    # Of one projection an inner product is off by about |x| |y| / sqrt(dim), of the mean over these by 0.024 |x| |y|.
    assert (np.abs(found - CENTRED[:20] @ CENTRED[:20].T) / np.outer(norms, norms)).max() < 0.15
    np.testing.assert_array_equal(table_of(start, dim, 7), tables[7])
    assert not np.allclose(tables[7], tables[8])


def test_raw_vectors_stay_as_they_are() -> None:
    np.testing.assert_array_equal(table_of(TableStart(RAW), WIDTH)[KNOWN], VECTORS[KNOWN])


@pytest.mark.parametrize("method", [PCA, RANDOM_PROJECTION, RAW])
def test_a_scale_is_the_standard_deviation_of_the_table(method: str) -> None:
    plain, scaled = (table_of(TableStart(method, scale=scale), WIDTH) for scale in (0.0, 0.02))
    np.testing.assert_allclose(scaled[KNOWN].std(), 0.02, rtol=1e-4)
    np.testing.assert_allclose(scaled, plain * (0.02 / plain[KNOWN].std()), rtol=1e-4, atol=1e-7)


def test_no_vectors_at_all_are_finite() -> None:
    nothing = jax.numpy.zeros((ITEMS, WIDTH))
    table = started_table(TableStart(PCA, scale=0.02), nothing, 5, jax.random.key(0))
    np.testing.assert_array_equal(table, np.zeros((ITEMS, 5)))


@pytest.mark.parametrize(
    ("method", "dim", "message"),
    [
        (RAW, 8, "raw vectors of text, which are 12 wide, but dim is 8; make dim 12"),
        (RAW, 16, "raw vectors of text, which are 12 wide, but dim is 16; make dim 12"),
        (PCA, 13, r"13 \(dim\) principal components, but the vectors of text are only 12 wide"),
    ],
)
def test_a_width_that_does_not_fit_is_refused(method: str, dim: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        table_of(TableStart(method), dim)


def test_every_system_with_a_learned_table_starts_it_by_the_same_record() -> None:
    start, dim = TableStart(PCA), 4
    id_network = IdNetworkConfig(dim=dim, layers=1, start=start)
    configs = {
        "id": AlterRecConfig(networks={"id": id_network, "text": VectorNetworkConfig(dim=dim, layers=1)}),
        "only": LLM2SASRecConfig(start=start, network=TransformerOnIdsConfig(dim=dim, layers=1)),
        "llm2bert4rec": LLM2BERT4RecConfig(start=start, network=LLM2BERT4RecNetworkConfig(dim=dim, layers=1, heads=2)),
    }
    context = Context({"text": jax.numpy.asarray(VECTORS)}, {})
    grams = []
    for name, config in configs.items():
        networks = config.check().build(CatalogueInfo(ITEMS)).networks
        network = networks.get(name, next(iter(networks.values())))
        assert network.reads.features == ("text",)
        table = np.asarray(jax.jit(lambda net=network: net.init(jax.random.key(0), context)["items"]["table"])())
        grams.append(table[KNOWN] @ table[KNOWN].T)
    for gram in grams[1:]:
        np.testing.assert_allclose(gram, grams[0], atol=1e-4)


def test_random_is_what_a_table_is_without_a_start() -> None:
    tables = [learned_items(ITEMS, 8, start=start) for start in (TableStart(), TableStart(RANDOM, feature="image"))]
    first, second = (table.init(jax.random.key(1), Context({}, {}))["table"] for table in tables)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(np.std(first), START, rtol=0.05)
