"""The k best of each row, by `jax.lax.top_k` in the form that each kind of device is fast at."""

import functools

import jax
import jax.numpy as jnp

_PAGE = 16  # the most that XLA has a kernel for on NVIDIA GPUs (jax 0.10); for more it sorts whole rows
_PAGES = 8  # from here on a sort is taken to be no slower


def top_k(scores: jax.Array, k: int, approximately: bool = False) -> tuple[jax.Array, jax.Array]:
    """The k best scores of each row, from high to low, and their columns; equal scores by ascending column.

    Args:
      scores: float32 [row, column], none of them NaN or the least finite float.
      k: at most as many as there are columns.
      approximately: whether to select by `jax.lax.approx_max_k`; equal scores then go in any order.

    Returns:
      float32 [row, k] and int32 [row, k]. They stand behind barriers: without them XLA may push what follows into the
      selection, and fall back to sorting whole rows.
    """
    select = functools.partial(jax.lax.approx_max_k if approximately else jax.lax.top_k, k=k)
    if not approximately and _PAGE < k <= _PAGE * _PAGES:
        select = functools.partial(jax.lax.platform_dependent, cuda=functools.partial(_in_pages, k=k), default=select)
    # A barrier each: over one for both, XLA for several devices of a CPU may abort (jax 0.10.2).
    values, columns = (jax.lax.optimization_barrier(part) for part in select(scores))
    return values, columns


def _in_pages(scores: jax.Array, k: int) -> list[jax.Array]:
    """`jax.lax.top_k`, a few at a time: a page is the best of what comes after the page before."""
    number = jnp.arange(scores.shape[1], dtype=jnp.int32)[None]
    # Of what has a page already the score is less than any other, minus infinity among them.
    rest = least = jnp.where(scores == 0, 0, jnp.maximum(scores, jnp.finfo(scores.dtype).min))  # no negative zero
    pages: list[jax.Array] = []
    for taken in range(0, k, _PAGE):
        values, columns = jax.lax.top_k(rest, min(_PAGE, k - taken))
        pages.append(columns)
        value, column = values[:, -1:], columns[:, -1:]
        rest = jnp.where((least < value) | ((least == value) & (number > column)), least, -jnp.inf)
    found = jnp.concatenate(pages, axis=1)
    return [jnp.take_along_axis(scores, found, axis=1), found]
