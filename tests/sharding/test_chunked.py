"""A function of rows in blocks is the function of all rows, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.chunked import rows_in_blocks

ROWS, WIDTH, DIM = 23, 5, 3


def mlp(params: dict[str, jax.Array], rows: jax.Array, numbers: jax.Array, key: jax.Array | None) -> jax.Array:
    """Two layers, and dropout if there is a key."""
    out = jnp.tanh(rows @ params["first"]) @ params["second"]
    if key is None:
        return out
    return out * jax.vmap(lambda number: jax.random.bernoulli(jax.random.fold_in(key, number), 0.5, (DIM,)))(numbers)


def example() -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Parameters, rows, and weights that make a number of the result."""
    first, second, rows, weights = (
        jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
        for seed, shape in enumerate([(WIDTH, 7), (7, DIM), (ROWS, WIDTH), (ROWS, DIM)])
    )
    return {"first": first, "second": second}, rows, weights


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("block", [1, 4, 22, 100])
def test_values_and_gradients_are_those_of_the_whole(block: int, dropout: bool) -> None:
    params, rows, weights = example()
    key = jax.random.key(0) if dropout else None
    whole = mlp(params, rows, jnp.arange(ROWS), key)
    np.testing.assert_allclose(rows_in_blocks(mlp, params, rows, key, block), whole, rtol=1e-5)

    def total(params: dict[str, jax.Array], rows: jax.Array, block: int, learned_rows: bool) -> jax.Array:
        key = jax.random.key(0) if dropout else None
        return jnp.sum(weights * rows_in_blocks(mlp, params, rows, key, block, learned_rows=learned_rows))

    gradient = jax.jit(jax.grad(total, argnums=(0, 1)), static_argnums=(2, 3))
    wanted, of_rows = gradient(params, rows, ROWS, True)
    for learned_rows in (False, True):
        found, found_rows = gradient(params, rows, block, learned_rows)
        for name in params:
            np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5)
        if learned_rows or block >= ROWS:
            np.testing.assert_allclose(found_rows, of_rows, rtol=1e-4, atol=1e-5)
        else:
            assert not found_rows.any()


@pytest.mark.parametrize("learned_rows", [False, True])
def test_devices_share_rows_and_their_gradients(learned_rows: bool) -> None:
    """Each of two devices has eleven rows, five at a time."""
    params, rows, weights = example()
    rows, weights = rows[:22], weights[:22]

    def total(params: dict[str, jax.Array], rows: jax.Array) -> jax.Array:
        found = rows_in_blocks(mlp, params, rows, jax.random.key(0), 5, learned_rows=learned_rows)
        return jnp.sum(weights * found)

    gradient = jax.grad(total, argnums=(0, 1) if learned_rows else 0)
    expected = jax.jit(gradient)(params, rows)
    with mesh.used(mesh.make_mesh("data:2,model:2", jax.devices()[:4])):
        found = jax.jit(gradient)(mesh.put(params), mesh.put(rows, mesh.ITEMS))
    jax.tree.map(lambda *both: np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-5), found, expected)
