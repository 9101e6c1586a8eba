"""A function of rows in blocks is the function of all rows, forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.blocks import rows_in_blocks

ROWS, WIDTH, DIM = 23, 5, 3


def mlp(params: dict[str, jax.Array], rows: jax.Array, key: jax.Array | None) -> jax.Array:
    """Two layers, and dropout if there is a key."""
    out = jnp.tanh(rows @ params["first"]) @ params["second"]
    return out if key is None else out * jax.random.bernoulli(key, 0.5, out.shape)


def example() -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """Parameters, rows, and weights that make a number of the result."""
    first, second, rows, weights = (
        jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)
        for seed, shape in enumerate([(WIDTH, 7), (7, DIM), (ROWS, WIDTH), (ROWS, DIM)])
    )
    return {"first": first, "second": second}, rows, weights


@pytest.mark.parametrize("block", [1, 4, 11, 22, 23, 100])
def test_values_and_gradients_are_those_of_the_whole(block: int) -> None:
    params, rows, weights = example()
    np.testing.assert_allclose(rows_in_blocks(mlp, params, rows, None, block), mlp(params, rows, None), rtol=1e-5)

    def total(params: dict[str, jax.Array], block: int) -> jax.Array:
        return jnp.sum(weights * rows_in_blocks(mlp, params, rows, None, block))

    found, wanted = (jax.jit(jax.grad(total), static_argnums=1)(params, size) for size in (block, ROWS))
    for name in params:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-4, atol=1e-5)


def test_dropout_backwards_is_that_of_forwards() -> None:
    params, rows, weights = example()

    def total(params: dict[str, jax.Array]) -> jax.Array:
        return jnp.sum(weights * rows_in_blocks(mlp, params, rows, jax.random.key(0), 9))

    # The result is linear in the second layer, so the gradient tells the value, if its masks are the same ones.
    gradient = jax.jit(jax.grad(total))(params)["second"]
    np.testing.assert_allclose(jnp.sum(gradient * params["second"]), jax.jit(total)(params), rtol=1e-5)
    out = np.asarray(rows_in_blocks(mlp, params, rows, jax.random.key(0), 9))
    assert 0.3 < (out == 0).mean() < 0.7
    assert (out[:5] == 0).tolist() != (out[9:14] == 0).tolist(), "blocks draw masks of their own"
