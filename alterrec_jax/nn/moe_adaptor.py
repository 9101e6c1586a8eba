"""UniSRec's adaptor: from text vectors of any shop to item embeddings, by a mixture of whitening experts.

    A(v) = sum over k of g_k(v) W_k (drop(v) - b_k),
    g(v) = softmax(v W_g + eps * (softplus(v W_n) + 0.01)),   eps ~ N(0, 1), in training alone

with v the frozen vector of an item and b_k in its space. W_g and W_n begin as zeros, so that all experts weigh the
same. The maps of all experts are one product; what is weighed afterwards are their outcomes.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.contract import Context, Params, Reads
from alterrec_jax.nn.item_tables import ItemEncoder, keep_mask
from alterrec_jax.numerics import MemoryLimits, layer_precision
from alterrec_jax.sharding.chunked import rows_in_blocks

_LEAST_NOISE = 0.01

AdaptFn = Callable[[Params, jax.Array, jax.Array | None], jax.Array]
"""adapt(params, vectors float [row, width], key or None) -> float [row, dim]; a key turns dropout and noise on, which
are drawn for each row."""


class MoEAdaptor(nn.Module):
    """A(v).

    Attributes:
      dim: width of what comes out.
      experts: how many.
      dtype: of what products take.
      unit_variance: whether vectors of unit length are multiplied by sqrt(width) first.
    """

    dim: int
    experts: int
    dtype: str
    unit_variance: bool

    @nn.compact
    def __call__(self, vectors: jax.Array, keep: jax.Array | None, noise: jax.Array | None) -> jax.Array:
        """float [row, width] -> float [row, dim].

        Args:
          vectors: of items.
          keep: float [row, width], what dropout multiplies by; None without.
          noise: float [row, expert], eps; None without.
        """
        width, exact, zeros = vectors.shape[-1], layer_precision(self.dtype), nn.initializers.zeros
        vectors = vectors.astype(jnp.promote_types(self.dtype, jnp.float32))
        # Entries of unit variance have the size of those of BERT's CLS vectors, which the settings are made for.
        vectors = vectors * width**0.5 if self.unit_variance else vectors
        gate, spread = (self.param(name, zeros, (width, self.experts)) for name in ("gate", "noise"))
        kernel = self.param("kernel", nn.initializers.normal(0.02), (width, self.experts * self.dim))
        bias = self.param("bias", zeros, (self.experts, width))

        logits = jnp.matmul(vectors, gate, precision="highest")
        if noise is not None:
            logits += noise * (nn.softplus(jnp.matmul(vectors, spread, precision="highest")) + _LEAST_NOISE)
        gates = nn.softmax(logits)
        dropped = vectors if keep is None else vectors * keep
        mapped = jnp.matmul(dropped.astype(self.dtype), kernel.astype(self.dtype), precision=exact["precision"])
        mapped = mapped.reshape(-1, self.experts, self.dim).astype(vectors.dtype)
        by_expert = kernel.reshape(width, self.experts, self.dim)
        offsets = jnp.einsum("kw,wkd->kd", bias, by_expert, precision="highest")
        return jnp.sum(gates[:, :, None] * mapped, axis=1) - jnp.matmul(gates, offsets, precision="highest")


def adapted_items(
    feature: str,
    adaptor: MoEAdaptor,
    dropout: float,
    rows_at_once: int = MemoryLimits().rows_of_table,  # noqa: B008
) -> tuple[ItemEncoder, AdaptFn]:
    """Items made by the adaptor, and the adaptor for any vectors.

    In the table an item has one mask of dropout, which its experts share, and one noise, drawn by its number.

    Args:
      feature: the name of the vectors in the context.
      adaptor: what is applied.
      dropout: rate on the vectors.
      rows_at_once: items that pass through the adaptor together.
    """

    def init(key: jax.Array, context: Context) -> Params:
        return adaptor.init(key, context.features[feature][:1], None, None)["params"]  # their width alone matters

    def of_rows(params: Params, rows: jax.Array, numbers: jax.Array, key: jax.Array | None) -> jax.Array:
        keep = noise = None
        if key is not None:
            # Folded, not split: blocks of rows share the key, and draw by their rows' numbers.
            keep_key, noise_key = (jax.random.fold_in(key, part) for part in range(2))
            keep = keep_mask(keep_key, numbers, rows.shape[1], dropout) if dropout else None
            noise = _normal(noise_key, numbers, adaptor.experts)
        return adaptor.apply({"params": params}, rows, keep, noise)  # type: ignore[return-value]

    def embed(params: Params, context: Context, key: jax.Array | None = None) -> jax.Array:
        return rows_in_blocks(of_rows, params, context.features[feature], key, rows_at_once)

    def adapt(params: Params, vectors: jax.Array, key: jax.Array | None = None) -> jax.Array:
        return of_rows(params, vectors, jnp.arange(len(vectors), dtype=jnp.int32), key)

    return ItemEncoder(init, embed, (), Reads(features=(feature,)), from_features=True), adapt


def _normal(key: jax.Array, numbers: jax.Array, width: int) -> Any:
    """float32 [row, width], normal numbers, drawn for each row by its number."""
    return jax.vmap(lambda number: jax.random.normal(jax.random.fold_in(key, number), (width,)))(numbers)
