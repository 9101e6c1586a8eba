"""The k-th best score of each row, found by counting how many scores reach a guess, and the best items by `lax.top_k`.

On a mesh each device sees the scores of its own prefixes and items; counts are added up, and the best are the best of
the devices' best.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.scoring.top_k import top_k
from alterrec_jax.sharding import mesh

SELECTIONS = ("search", "top_k", "approx")
"""How the k-th best score is found: by counting ("search"), by `lax.top_k`, or by `lax.approx_max_k`, which is fast
on TPU and misses some of the best."""


_NONE = jnp.iinfo(jnp.int32).max


class SearchSettings(NamedTuple):
    """How a border is searched for; it is the same border whatever they are.

    Attributes:
      sorted_up_to: where some of the best are sorted out anyway, ranks up to this are too.
      by_score, by_bits: guesses of a round, evenly between two scores, and between their bits. The former are nearest
        where scores lie evenly; the latter bound the rounds, to log(2^32) / log(by_bits + 1), however they lie.
      written_out: rounds before the loop, of which few rows need more.
    """

    sorted_up_to: int = 64
    by_score: int = 6
    by_bits: int = 1
    written_out: int = 4


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
    if selection != "search":
        return best_items(scores, k, approximately=selection == "approx")[0][:, -1]
    return _search(scores, k, scores.shape[1] if items is None else items, search)


def extremes(
    scores: jax.Array, above: Sequence[jax.Array], below: Sequence[jax.Array]
) -> tuple[list[jax.Array], list[jax.Array]]:
    """The least score of all devices wherever one of `above` holds, and the largest wherever one of `below` does.

    float32 [prefix] each; infinity, or minus infinity, where there is none. Integers of the same order are compared:
    of floats the least must heed NaN, which takes XLA on CPU ten times as long.

    Args:
      scores: float32 [prefix, item].
      above, below: bool [prefix, item] each.
    """
    ordered = _ordered(scores)
    arrays = [jnp.where(where, ordered, _NONE) for where in above]
    arrays += [jnp.where(where, ~ordered, _NONE) for where in below]  # complements are of the reverse order
    found = mesh.pmin(_in_one_pass(jax.lax.min, _NONE, arrays), mesh.MODEL)
    least = [jnp.where(one == _NONE, jnp.inf, _float(one)) for one in found[: len(above)]]
    return least, [jnp.where(one == _NONE, -jnp.inf, _float(~one)) for one in found[len(above) :]]


def _in_one_pass(
    function: Callable[[jax.Array, jax.Array], jax.Array], start: int, arrays: Sequence[jax.Array]
) -> jax.Array:
    """int32 [array, row], what a function makes of each row of arrays int32 [row, column].

    They are made of the same scores, which are read once, and none of them is written. One reduction at a time, XLA on
    CPU would write out what it reads.
    """
    starts = [jnp.int32(start)] * len(arrays)
    found = jax.lax.reduce(list(arrays), starts, functools.partial(jax.tree.map, function), (1,))
    return jax.lax.optimization_barrier(jnp.stack(found))


class _Bracket(NamedTuple):
    """The border lies in [low, high), as ordered integers [prefix]; `at_low` scores reach low."""

    low: jax.Array
    high: jax.Array
    at_low: jax.Array


def _search(scores: jax.Array, k: int, items: int, settings: SearchSettings) -> jax.Array:
    """The k-th best of so many items by counting how many scores reach some guesses, all in one pass."""
    (least,), (most,) = extremes(scores, [scores > -jnp.inf], [jnp.ones_like(scores, bool)])
    bracket = _Bracket(_ordered(least), _ordered(most) + 1, jnp.full(len(scores), items))

    def narrow(bracket: _Bracket) -> _Bracket:
        guesses = _guesses(bracket, settings)
        reach = [(scores >= _float(guess)[:, None]).astype(jnp.int32) for guess in guesses]
        counts = mesh.psum(_in_one_pass(jax.lax.add, 0, reach), mesh.MODEL)
        for guess, count in zip(guesses, counts, strict=True):
            up, down = (count >= k) & (guess > bracket.low), (count < k) & (guess < bracket.high)
            bracket = _Bracket(
                low=jnp.where(up, guess, bracket.low),
                high=jnp.where(down, guess, bracket.high),
                at_low=jnp.where(up, count, bracket.at_low),
            )
        return bracket

    def some_search(bracket: _Bracket) -> jax.Array:
        """Whether the loop goes on. Where devices count together, it does on all of them, or on none."""
        searching = jnp.sum((bracket.at_low != k) & (bracket.high - 1 > bracket.low))
        return (mesh.pmax(searching, mesh.DATA) if mesh.size(mesh.MODEL) > 1 else searching) > 0

    for _ in range(settings.written_out):  # XLA on CPU runs the body of a loop on one core, these on all
        bracket = narrow(bracket)
    return _float(jax.lax.while_loop(some_search, narrow, bracket).low)


def _guesses(bracket: _Bracket, settings: SearchSettings) -> list[jax.Array]:
    """Ordered integers [prefix] within the bracket."""
    from_score, to_score = _float(bracket.low), _float(bracket.high)
    shares = [(number + 1) / (settings.by_score + 1) for number in range(settings.by_score)]
    by_score = [_ordered(from_score + (to_score - from_score) * share) for share in shares]
    parts = settings.by_bits + 1
    (low, low_rest), (high, high_rest) = (divmod(end, parts) for end in (bracket.low, bracket.high))
    by_bits = [
        low * (parts - part) + high * part + (low_rest * (parts - part) + high_rest * part) // parts
        for part in range(1, parts)
    ]
    return [jnp.clip(guess, bracket.low + 1, bracket.high - 1) for guess in (*by_score, *by_bits)]


def _ordered(values: jax.Array) -> jax.Array:
    """int32 of the same order as float32 values."""
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)
    return jnp.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def _float(ordered: jax.Array) -> jax.Array:
    """The float32 values that `_ordered` was made of; 0 for subnormal ones, which some devices compare as 0."""
    values = jax.lax.bitcast_convert_type(jnp.where(ordered < 0, ordered ^ 0x7FFFFFFF, ordered), jnp.float32)
    return jnp.where(jnp.abs(values) < jnp.finfo(jnp.float32).tiny, 0, values)
