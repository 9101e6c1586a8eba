"""A gated recurrent unit over rows that hold several sessions."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import SessionBatch
from alterrec_jax.numerics import layer_precision, product


class SegmentGRU(nn.Module):
    """A GRU without biases, whose state is zero where a session begins; PyTorch's form, which resets after the product.

        r, z = sigmoid(W x + U h);  n = tanh(W_n x + r * (U_n h));  h' = (1 - z) n + z h

    Attributes:
      width: of the state.
      dtype: of what products take.
    """

    width: int
    dtype: str

    @nn.compact
    def __call__(self, inputs: jax.Array, batch: SessionBatch) -> jax.Array:
        """float32 [row, position, dim] -> float32 [row, position, width], the state behind each item."""
        bound = self.width**-0.5

        def uniform(key: jax.Array, shape: tuple[int, ...], dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
            return jax.random.uniform(key, shape, dtype, -bound, bound)

        gates = nn.Dense(
            3 * self.width, use_bias=False, kernel_init=uniform, name="input_gates", **layer_precision(self.dtype)
        )
        recurrent = self.param("hidden_gates", uniform, (self.width, 3 * self.width))

        def step(state: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            given, begins = now
            state = jnp.where(begins[:, None], 0.0, state)
            reset_x, update_x, new_x = jnp.split(given, 3, axis=-1)
            reset_h, update_h, new_h = jnp.split(product(state, recurrent, self.dtype), 3, axis=-1)
            update = jax.nn.sigmoid(update_x + update_h)
            new = jnp.tanh(new_x + jax.nn.sigmoid(reset_x + reset_h) * new_h)
            state = new + update * (state - new)
            return state, state

        # The products with the inputs are those of all positions at once; the scan keeps what depends on the state.
        over_positions = (jnp.swapaxes(gates(inputs).astype(jnp.float32), 0, 1), (batch.positions == 0).T)
        start = jnp.zeros((inputs.shape[0], self.width))  # an export knows no number of rows
        _, states = jax.lax.scan(step, start, over_positions)
        return jnp.swapaxes(states, 0, 1)
