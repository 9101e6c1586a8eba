"""The kernels for GPUs, interpreted, against a slow sum over every prefix' window; and as programs for a GPU."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo
from alterrec_jax.errors import UserError
from alterrec_jax.hard_negatives.rank_window import RankWindow
from alterrec_jax.hard_negatives.sets import WindowNegatives
from alterrec_jax.losses.streamed import log_sum_exp, pallas_gpu
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.sharding import mesh
from tests.training.examples import stage_of


class Case(NamedTuple):
    """Inputs of a sum over windows."""

    queries: np.ndarray
    table: np.ndarray
    peer_queries: np.ndarray
    peer_table: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    targets: np.ndarray
    cotangent: np.ndarray

    def negatives(self, dtype: str) -> WindowNegatives:
        """The windows."""
        upper, lower = jnp.asarray(self.upper), jnp.asarray(self.lower)
        window = RankWindow(upper, lower, jnp.zeros((len(upper), 0), jnp.int32))
        queries = jnp.asarray(self.peer_queries, dtype)
        return WindowNegatives(queries, jnp.asarray(self.peer_table), window, jnp.asarray(self.targets))


def random_case(prefixes: int, items: int, dim: int, peer_dim: int) -> Case:
    """Whole numbers of few values, exact in bfloat16, so that many of the peer's scores are equal to borders."""
    rng = np.random.default_rng(prefixes + items + dim)

    def whole(*shape: int) -> np.ndarray:
        return rng.integers(-1, 2, shape).astype(np.float32)

    queries, peer_queries = whole(prefixes, dim) / 8, whole(prefixes, peer_dim)
    borders = np.sort(rng.integers(-4, 5, (2, prefixes)), axis=0).astype(np.float32)
    borders[:, 0] = borders[0, 0]  # an empty window
    borders[1, -1] = np.inf
    targets = rng.integers(0, items, prefixes).astype(np.int32)
    cotangent = rng.integers(-2, 3, prefixes).astype(np.float32)
    tables = whole(items, dim), whole(items, peer_dim)
    return Case(queries, tables[0], peer_queries, tables[1], borders[1], borders[0], targets, cotangent)


def expected(case: Case, candidates: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The logarithms of the sums, and the gradients of queries and table, prefix by prefix in float64."""
    log_sums, of_queries = [], np.zeros(case.queries.shape)
    of_table = np.zeros(case.table.shape)
    for row, query in enumerate(case.queries.astype(np.float64)):
        window = []
        for item in range(candidates):
            peer = float(case.peer_queries[row] @ case.peer_table[item])
            if case.lower[row] <= peer < case.upper[row] and item != case.targets[row]:
                window.append(item)
        weights = np.exp(case.table[window].astype(np.float64) @ query)
        log_sums.append(math.log(weights.sum()) if window else -math.inf)
        for item, weight in zip(window, weights, strict=True):
            share = case.cotangent[row] * weight / weights.sum()
            of_queries[row] += share * case.table[item]
            of_table[item] += share * query
    return np.array(log_sums), of_queries, of_table


SIZES = [(1, 5, 3, 2, 5), (64, 64, 64, 64, 64), (70, 203, 70, 9, 197), (131, 65, 5, 130, 65)]
"""Prefixes, items, both widths, and how many of the items are no padding: less than a tile, just one, and more."""


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-5), ("bfloat16", 2e-2)])
@pytest.mark.parametrize(("prefixes", "items", "dim", "peer_dim", "candidates"), SIZES)
def test_sums_and_gradients_are_those_of_the_windows(
    prefixes: int, items: int, dim: int, peer_dim: int, candidates: int, dtype: str, near: float
) -> None:
    case = random_case(prefixes, items, dim, peer_dim)
    _compare(case, candidates, dtype, near)


@pytest.mark.parametrize("shape", [(8, 1), (1, 8), (4, 2)])
def test_devices_of_a_mesh_add_up_what_their_kernels_find(shape: tuple[int, int]) -> None:
    over = jax.make_mesh(shape, mesh.AXES, axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with mesh.used(over):
        _compare(random_case(144, 80, 7, 5), 75, "float32", 1e-5)


def _compare(case: Case, candidates: int, dtype: str, near: float) -> None:
    negatives = case.negatives(dtype)
    summed = functools.partial(log_sum_exp, negatives=negatives, candidates=candidates, block=1, gpu_kernels=True)

    @jax.jit
    def run(queries: jax.Array, table: jax.Array, cotangent: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        log_sum, backward = jax.vjp(summed, queries, table)
        return log_sum, backward(cotangent)

    log_sum, found = run(jnp.asarray(case.queries, dtype), jnp.asarray(case.table), jnp.asarray(case.cotangent))
    expected_log_sum, *gradients = expected(case, candidates)
    np.testing.assert_allclose(log_sum, expected_log_sum, rtol=near, atol=near)
    assert np.isneginf(log_sum[0])
    for one, wanted, like in zip(found, gradients, (dtype, "float32"), strict=True):
        assert one.dtype == like
        np.testing.assert_allclose(one.astype(jnp.float32), wanted, rtol=near, atol=near)


def test_for_a_gpu_they_are_three_programs_of_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    case = random_case(70, 203, 70, 9)
    negatives = case.negatives("bfloat16")

    def gradients(queries: jax.Array, table: jax.Array) -> tuple[jax.Array, jax.Array]:
        summed = functools.partial(log_sum_exp, negatives=negatives, block=1, gpu_kernels=True)
        return jax.grad(lambda *both: jnp.sum(summed(*both)), (0, 1))(queries, table)

    monkeypatch.setattr(pallas_gpu.mesh, "platform", lambda: "gpu")
    traced = jax.jit(gradients).trace(jnp.asarray(case.queries, "bfloat16"), jnp.asarray(case.table))
    assert traced.lower(lowering_platforms=("cuda",)).as_text().count("__gpu$xla.gpu.triton") == 3


@pytest.mark.parametrize(
    ("precision", "changes", "message"),
    [("float32", {}, "precision 'bfloat16'"), ("bfloat16", {"hard_fraction": 0.5}, "mining.hard_fraction is below 1")],
)
def test_what_has_no_kernel_is_refused(precision: str, changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        AlterRecConfig(precision=precision, mining=MiningConfig(gpu_kernels=True, **changes)).check()


def test_a_device_that_is_no_gpu_is_refused() -> None:
    config = AlterRecConfig(precision="bfloat16", mining=MiningConfig(gpu_kernels=True)).check()
    with pytest.raises(UserError, match="for GPUs, not for cpu"):
        config.build(CatalogueInfo(30)).objectives["window"](stage_of("id", "window", "text"))
