"""Item encoders (section 4.1.1): the learned ID table X, and the table H made from frozen sentence vectors."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alterrec_jax.models.encoders import NORM_EPSILON
from alterrec_jax.products import exactness

_START = 0.02


class IdTable(nn.Module):
    """X: one learned row an item, optionally normalised (released code)."""

    items: int
    dim: int
    norm: bool

    @nn.compact
    def __call__(self) -> jax.Array:
        """float [item, dim]."""
        table = self.param("table", nn.initializers.normal(_START), (self.items, self.dim))
        return nn.LayerNorm(NORM_EPSILON, name="norm")(table) if self.norm else table


class TextTable(nn.Module):
    """H = MLP(sentence vectors), eq. 1.

    Hidden layers are linear maps with ReLU; dropout on the finished table gives inputs and candidates the same mask.
    """

    dim: int
    dtype: str
    unit_variance: bool
    hidden: tuple[int, ...]
    output_relu: bool
    dropout: float
    norm: bool

    @nn.compact
    def __call__(self, vectors: jax.Array, deterministic: bool) -> jax.Array:
        """float [item, d_text] -> float [item, dim]."""
        # Where sentence vectors have unit length, their entries then have unit variance: what initialisers and Adam
        # expect.
        table = vectors * vectors.shape[-1] ** 0.5 if self.unit_variance else vectors
        exact: dict[str, Any] = {"dtype": jnp.dtype(self.dtype), "precision": exactness(self.dtype)}
        for layer, width in enumerate(self.hidden):
            table = nn.relu(nn.Dense(width, name=f"hidden_{layer}", **exact)(table))
        # Rows start as small as those of the ID table, so that neither network drowns the other in the fused score.
        small = nn.initializers.variance_scaling(_START**2, "fan_in", "normal")
        table = nn.Dense(self.dim, kernel_init=small, name="output", **exact)(table).astype(jnp.float32)
        if self.output_relu:
            table = nn.relu(table)
        table = nn.Dropout(self.dropout)(table, deterministic=deterministic)
        return nn.LayerNorm(NORM_EPSILON, name="norm")(table) if self.norm else table
