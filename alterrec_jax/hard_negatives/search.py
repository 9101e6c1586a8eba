"""The k-th best score of each row, found by counting how many scores reach a guess, and the best items by `lax.top_k`.

On a mesh each device sees the scores of its own prefixes and items; counts are added up, and the best are the best of
the devices' best.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.scoring.top_k import top_k
from alterrec_jax.sharding import mesh

SELECTIONS = ("search", "top_k", "approx")
"""How the k-th best score is found: by counting ("search"), by `lax.top_k`, or by `lax.approx_max_k`, which is fast
on TPU and misses some of the best."""


class SearchSettings(NamedTuple):
    """How a border is searched for; it is the same border whatever they are.

    Attributes:
      sorted_up_to: ranks up to this are sorted out, whatever the selection: `lax.top_k` is a pass or two over the
        scores there.
      run, runs_a_sample, fewest_samples: of every `runs_a_sample` runs of `run` items, one is looked at first, where a
        row has `fewest_samples` of them or more.
      few: rows of which no part is worth going on alone.
      written_out: rounds before the loop; five and more took longer.
    """

    sorted_up_to: int = 64
    run: int = 64
    runs_a_sample: int = 16
    fewest_samples: int = 4
    few: int = 64
    written_out: int = 3


def best_items(
    scores: jax.Array, k: int, held: int | None = None, start: jax.Array | int = 0, approximately: bool = False
) -> tuple[jax.Array, jax.Array]:
    """The k best scores of each row on all devices, float32 [prefix, k], and whose they are, int32 [prefix, k].

    They go from high to low; equal scores by ascending item number, unless only approximately the best are wanted.

    Args:
      scores: float32 [prefix, item], of some of the items that a device holds.
      k: at most as many as there are scores.
      held: how many items each device holds; by default as many as there are scores.
      start: the first of them that has a score here.
      approximately: as of `top_k`.
    """
    items = scores.shape[1]
    values, numbers = top_k(scores, min(k, items), approximately)
    numbers = numbers + start + mesh.shard_offset(items if held is None else held, mesh.MODEL)
    if mesh.size(mesh.MODEL) == 1:
        return values, numbers
    numbers = mesh.all_gather(numbers, mesh.MODEL, 1)
    values, place = top_k(mesh.all_gather(values, mesh.MODEL, 1), k)
    return values, jnp.take_along_axis(numbers, place, axis=1)


def merged(one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array], k: int) -> tuple[jax.Array, jax.Array]:
    """The k best of two lists for each row, as `best_items` gives them: scores and whose they are."""
    scores, items = (jnp.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    lowest, items = jax.lax.sort((-scores, items), dimension=1, num_keys=2)
    return -lowest[:, :k], items[:, :k]


def kth_best(
    scores: jax.Array,
    k: int,
    selection: str = "search",
    items: int | None = None,
    search: SearchSettings = SearchSettings(),  # noqa: B008
) -> jax.Array:
    """float32 [prefix]: of each row a border that at least k scores reach, and fewer than k surpass.

    It is the k-th best score (k from 1), or, by "search", any number between that and the next lower one. Arguments as
    of `rank_window`.
    """
    if selection != "search" or k <= search.sorted_up_to:
        return best_items(scores, k, approximately=selection == "approx")[0][:, -1]
    return _search(scores, k, scores.shape[1] if items is None else items, search)


class _Bracket(NamedTuple):
    """The border lies in [low, high), as ordered integers; `at_low` scores reach low, `at_high` reach high."""

    low: jax.Array
    high: jax.Array
    at_low: jax.Array
    at_high: jax.Array


def _search(scores: jax.Array, k: int, items: int, settings: SearchSettings) -> jax.Array:
    """The k-th best of so many items by counting how many scores reach a guess."""
    least = jnp.min(jnp.where(scores > -jnp.inf, scores, jnp.inf), axis=1)
    low = _ordered(mesh.pmin(least, mesh.MODEL))
    high = _ordered(mesh.pmax(jnp.max(scores, axis=1), mesh.MODEL)) + 1
    bracket = _Bracket(low, high, jnp.full_like(low, items), jnp.zeros_like(low))
    for guess in _first_guesses(scores, k, items, settings):
        bracket = _guessed(scores, k, bracket, guess)
    return _float(_narrowed(scores, k, bracket, settings).low)


def _first_guesses(scores: jax.Array, k: int, items: int, settings: SearchSettings) -> list[jax.Array]:
    """Two scores, as ordered integers [prefix], between which the k-th best most likely is: those of a sample of the
    items that have its rank there, give or take three standard deviations."""
    prefixes, columns = scores.shape
    run, stride = settings.run, settings.runs_a_sample
    runs = columns // (stride * run)
    if runs < settings.fewest_samples:
        return []
    of_runs = scores[:, : runs * stride * run].reshape(prefixes, runs, stride, run)
    sample = of_runs[:, :, 0].reshape(prefixes, runs * run)
    size = sample.shape[1] * mesh.size(mesh.MODEL)
    rank = k * size / items
    margin = math.ceil(3 * math.sqrt(rank * (1 - rank / size))) + 1
    ranks = (math.floor(rank) + margin, math.floor(rank) - margin)
    return [_ordered(_search(sample, of_sample, size, settings)) for of_sample in ranks if 0 < of_sample < size]


def _guessed(scores: jax.Array, k: int, bracket: _Bracket, guess: jax.Array) -> _Bracket:
    """The bracket once it is known how many scores reach a guess, for the rows that still search."""
    guess = jnp.clip(guess, bracket.low + 1, bracket.high - 1)
    reach = mesh.psum(jnp.sum(scores >= _float(guess)[:, None], axis=1, dtype=jnp.int32), mesh.MODEL)
    active = _searching(bracket, k)
    up, down = active & (reach >= k), active & (reach < k)
    return _Bracket(
        low=jnp.where(up, guess, bracket.low),
        high=jnp.where(down, guess, bracket.high),
        at_low=jnp.where(up, reach, bracket.at_low),
        at_high=jnp.where(down, reach, bracket.at_high),
    )


def _searching(bracket: _Bracket, k: int) -> jax.Array:
    """bool [prefix]: whose low end is not the border yet."""
    return (bracket.at_low != k) & (bracket.high - 1 > bracket.low)


def _narrowed(scores: jax.Array, k: int, bracket: _Bracket, settings: SearchSettings) -> _Bracket:
    """Narrows every row's bracket until its low end is the border.

    Half of the rows take half as many rounds as the last one, so the last quarter goes on alone, and so on.
    """
    few = len(scores) // 4 if len(scores) >= settings.few else 0

    def narrow(state: tuple[jax.Array, _Bracket]) -> tuple[jax.Array, _Bracket]:
        count, bracket = state
        low, high, at_low, at_high = bracket
        # Two guesses by where the k-th would be if scores lay evenly, then one that halves.
        share = (at_low - k) / jnp.maximum(at_low - at_high, 1)
        from_score, to_score = _float(low), _float(high)
        between = _ordered(from_score + (to_score - from_score) * jnp.clip(share, 0.02, 0.98))
        half = (low >> 1) + (high >> 1) + (low & high & 1)
        return count + 1, _guessed(scores, k, bracket, jnp.where(count % 3 == 2, half, between))

    state = (jnp.int32(0), bracket)
    if few:  # XLA on CPU runs the body of a loop on one core; what is written out runs on all
        for _ in range(settings.written_out):
            state = narrow(state)

    def some_search(state: tuple[jax.Array, _Bracket]) -> jax.Array:
        """Whether the loop goes on. Where devices count together, it does on all of them, or on none."""
        searching = jnp.sum(_searching(state[1], k))
        return (mesh.pmax(searching, mesh.DATA) if mesh.size(mesh.MODEL) > 1 else searching) > few

    _, bracket = jax.lax.while_loop(some_search, narrow, state)
    if not few:
        return bracket
    last = jnp.argsort(~_searching(bracket, k))[:few]
    narrowed = _narrowed(scores[last], k, jax.tree.map(lambda ends: ends[last], bracket), settings)
    return jax.tree.map(lambda ends, of_last: ends.at[last].set(of_last), bracket, narrowed)


def _ordered(values: jax.Array) -> jax.Array:
    """int32 of the same order as float32 values."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _float(ordered: jax.Array) -> jax.Array:
    """The float32 values that `_ordered` was made of; 0 for subnormal ones, which some devices compare as 0."""
    values = jax.lax.bitcast_convert_type(jnp.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered), jnp.float32)
    return jnp.where(jnp.abs(values) < jnp.finfo(jnp.float32).tiny, 0, values)
