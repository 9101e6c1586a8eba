"""Transformers with a low-pass filter beside the attention. The filter is a constant matrix: no Fourier transform."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from alterrec_jax.nn.transformer import TransformerSettings, attention_sublayer, feed_forward_sublayer


def low_pass(length: int, cutoff: int) -> np.ndarray:
    """float64 [length, length]: the projection of a sequence on its lowest cutoff // 2 + 1 frequencies.

    With C of them, it has M_ij = (1 + 2 sum over k = 1 .. C-1 of cos(2 pi k (i - j) / length)) / length, where the
    frequency length / 2, if it is among them, counts once. That is what zeros in all but the first C numbers of the
    real Fourier transform do to the sequence. It is circular: the last place is next to the first.
    """
    places = np.arange(length)
    return _kernel(length, cutoff, places[:, None] - places[None])


def low_pass_by_length(longest: int, cutoff: int) -> np.ndarray:
    """float64 [longest + 1, 2 longest - 1]: the entry M_ij of `low_pass(n, cutoff)` at [n, i - j + longest - 1].

    There is no sequence of length 0; its row is zeros.
    """
    apart = np.arange(2 * longest - 1) - (longest - 1)
    kernels = [_kernel(length, cutoff, apart) for length in range(1, longest + 1)]
    return np.stack([np.zeros(len(apart)), *kernels])


def _kernel(length: int, cutoff: int, apart: np.ndarray) -> np.ndarray:
    frequencies = np.arange(min(cutoff, length) // 2 + 1)
    weights = np.where((frequencies == 0) | (2 * frequencies == length), 1.0, 2.0)
    return np.sum(weights * np.cos(2 * np.pi * frequencies * apart[..., None] / length), axis=-1) / length


class FilteredRow(NamedTuple):
    """A row of items and pads, as `FilteredTransformer` takes it; or several, with a leading axis [row].

    Attributes:
      inputs: float [position, dim].
      columns: int32 [position], which of the learned position vectors each gets.
      low: float [position, position], the low-pass filter.
      mask: bool [query position, key position], what the attention of each position sees.
      number: int32 [], tells the row from the others of a batch.
    """

    inputs: Any
    columns: Any
    low: Any
    mask: Any
    number: Any


class FilteredTransformer(nn.Module):
    """Post-LayerNorm blocks of attention and a low-pass filter, side by side (BSARec).

    Attributes:
      settings: of the attention and of the feed-forward layers.
      columns: how many learned position vectors there are.
      alpha: weight of the filter; the attention has the rest.
      last: how many of the last positions the last block makes; nobody reads the others.
    """

    settings: TransformerSettings
    columns: int
    alpha: float
    last: int

    @nn.compact
    def __call__(self, row: FilteredRow, deterministic: bool) -> jax.Array:
        """float [last, dim]."""
        given, (length, dim) = self.settings, row.inputs.shape
        start = nn.initializers.normal(given.init_stddev)
        positions = nn.Embed(self.columns, dim, embedding_init=start, name="positions")
        hidden = given.norm("input_norm")(row.inputs + positions(row.columns))
        hidden = nn.Dropout(given.dropout)(hidden, deterministic=deterministic)
        for layer in range(given.layers):
            first = length - self.last if layer == given.layers - 1 else 0
            block = _FilteredBlock(given, self.alpha, name=f"block_{layer}")
            hidden = block(hidden, row.low[first:], row.mask[first:], deterministic)
        return hidden


class _FilteredBlock(nn.Module):
    settings: TransformerSettings
    alpha: float

    @nn.compact
    def __call__(self, hidden: jax.Array, low: jax.Array, mask: jax.Array, deterministic: bool) -> jax.Array:
        """float [position, dim] -> float [query, dim], the last positions: as many as `low` and `mask` have rows."""
        given, queries = self.settings, hidden[len(hidden) - len(low) :]
        smooth = jnp.einsum("qk,kd->qd", low, hidden, precision="highest")
        root = self.param("sqrt_beta", nn.initializers.normal(1.0), (hidden.shape[-1],))
        filtered = smooth + (root**2)[None] * (queries - smooth)
        filtered = nn.Dropout(given.dropout)(filtered, deterministic=deterministic)
        filtered = given.norm("filter_norm")(queries + filtered)
        attended = attention_sublayer(given, queries, hidden, mask[None], deterministic)
        mixed = self.alpha * filtered + (1 - self.alpha) * attended
        return feed_forward_sublayer(given, mixed, deterministic)
