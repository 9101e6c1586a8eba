"""Hard negatives and augmented positives from the frozen peer's ranking (section 4.2 of the AlterRec paper).

The rank of an item is the number of items that score higher, so items of one score share a rank. The window of ranks
[k1, k2) is then what scores less than the k1-th best and at least as much as the k2-th best: two numbers a prefix
describe it, membership is a comparison, and no list of items has to be sorted, gathered or scattered. The top p of
`jax.lax.top_k`, p <= k1, are never in the window.

On a mesh each device sees the scores of its own prefixes and items: borders are found by counts that are added up, and
the best are the best of the devices' best.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from alterrec_jax.numerics import MemoryLimits, scores_of, scores_of_table
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


class RankWindow(NamedTuple):
    """The ranks [k1, k2) of each prefix's ranking, by their borders.

    Attributes:
      upper: float32 [prefix], every score of the window is less: the k1-th best (or what lies between it and the
        next lower score), or infinity where k1 is 0.
      lower: float32 [prefix], no score of the window is less: the k2-th best (or what lies between it and the next
        lower score), or minus infinity where k2 is the whole catalogue.
      best: int32 [prefix, p], the best p items, equal scores by ascending item number.
    """

    upper: jax.Array
    lower: jax.Array
    best: jax.Array


def rank_window(
    scores: jax.Array,
    k1: int,
    k2: int,
    p: int = 0,
    selection: str = "search",
    items: int | None = None,
    search: SearchSettings = SearchSettings(),  # noqa: B008
) -> RankWindow:
    """Finds the window [k1, k2) and the top p of each row.

    Args:
      scores: float32 [prefix, item], the peer's scores; minus infinity where there is no item.
      k1, k2: ranks from 0; 0 <= k1 < k2 <= items.
      p: how many of the best to name; p <= k1.
      selection: one of SELECTIONS.
      items: how many there are on all devices; by default as many as there are columns.
      search: how, where the selection is "search".
    """
    prefixes = len(scores)
    items = scores.shape[1] if items is None else items
    sorted_out = p
    if selection == "top_k" or k1 <= search.sorted_up_to:
        sorted_out = k1
    if selection == "top_k" and k2 < items:
        sorted_out = k2
    values, numbers = best_items(scores, sorted_out)

    def border(k: int) -> jax.Array:
        """The k-th best score, 0 < k < items."""
        return values[:, k - 1] if k <= sorted_out else kth_best(scores, k, selection, items, search)

    below = border(k1) if k1 else jnp.full(prefixes, jnp.inf, scores.dtype)
    least = border(k2) if k2 < items else jnp.full(prefixes, -jnp.inf, scores.dtype)
    return RankWindow(below, least, numbers[:, :p])


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


def peer_window(
    queries: jax.Array,
    table: jax.Array,
    k1: int,
    k2: int,
    p: int = 0,
    selection: str = "search",
    items: int | None = None,
    kept: bool = False,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> RankWindow:
    """`rank_window` of the scores of some queries, a few prefixes at a time where all scores are too many to hold.

    The scores will then be made again, in blocks of items, and rounded otherwise; so they will be where the window is
    kept. So that they fall on the same sides of the borders, these then lie halfway between two scores.

    Args:
      queries: float [prefix, dim].
      table: float32 [item, dim]; rows from `items` on are padding.
      k1, k2, p, selection, items: as of `rank_window`.
      kept: whether the window will be compared with the scores of another step.
      limits: how many scores a device holds at a time.
    """
    items = len(table) if items is None else items
    padding = items < len(table)

    def of_device(queries: jax.Array, table: jax.Array) -> RankWindow:
        real = mesh.shard_offset(len(table), mesh.MODEL) + jnp.arange(len(table)) < items

        def window(scores: jax.Array, between: bool = True) -> RankWindow:
            scores = jnp.where(real[None], scores, -jnp.inf) if padding else scores
            found = rank_window(scores, k1, k2, p, selection, items)
            if between and k1 > 0:
                found = found._replace(upper=_halfway(scores, found.upper))
            if between and k2 < items:
                found = found._replace(lower=_halfway(scores, found.lower))
            return found

        prefixes = len(queries)
        if prefixes * len(table) <= limits.scores:
            return window(scores_of(queries, table), between=kept)
        at_once = prefixes_at_once(len(table), mesh.size(mesh.MODEL), limits)
        pieces = -(-prefixes // at_once)
        padded = jnp.pad(queries, ((0, pieces * at_once - prefixes), (0, 0)))
        found = jax.lax.map(
            lambda some: window(scores_of_table(some, table, limits.items_of_product)),
            padded.reshape(pieces, at_once, -1),
        )
        return jax.tree.map(lambda of_piece: of_piece.reshape(pieces * at_once, *of_piece.shape[2:])[:prefixes], found)

    window: RankWindow = mesh.shard_map(of_device, (mesh.BATCH, mesh.ITEMS), mesh.BATCH)(queries, table)
    return window


def prefixes_at_once(
    items: int,
    devices: int,
    limits: MemoryLimits = MemoryLimits(),  # noqa: B008
) -> int:
    """How many prefixes are mined together where all of them have too many scores for a device's so many items.

    A few, whose scores stay in a processor's cache. But devices that share the items search together, and every piece
    costs them rounds of their own; and accelerators read the whole table for every piece: there, as many as can be
    held.
    """
    in_cache = devices == 1 and mesh.platform() == "cpu"
    return max((limits.scores_of_piece if in_cache else limits.scores) // items, 1)


def _halfway(scores: jax.Array, border: jax.Array) -> jax.Array:
    """float32 [prefix]: the border, moved between the scores that reach it and those that do not, if there are both."""
    reach = scores >= border[:, None]
    upper = mesh.pmin(jnp.min(jnp.where(reach, scores, jnp.inf), axis=1), mesh.MODEL)
    lower = mesh.pmax(jnp.max(jnp.where(reach, -jnp.inf, scores), axis=1), mesh.MODEL)
    middle = lower / 2 + upper / 2
    return jnp.where((lower < middle) & (middle <= upper) & jnp.isfinite(middle), middle, border)


def in_window(scores: jax.Array, window: RankWindow) -> jax.Array:
    """bool [prefix, item]: which of some items, by the peer's scores for them, are in the window."""
    return (scores < window.upper[:, None]) & (scores >= window.lower[:, None])


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


def drawn_from_window(key: jax.Array, scores: jax.Array, k1: int, k2: int, hard_fraction: float) -> jax.Array:
    """Negatives of the released code: a share of the window, and uniform items in place of the rest.

    Of the n = k2 - k1 negatives, round(hard_fraction * n) places are drawn from places k1 .. k2-1 of the ranking of
    `jax.lax.top_k` without replacement and the others from the catalogue with replacement. One draw of places and one
    of items serves the whole batch.

    Returns:
      float32 [prefix, item], how often each item is a negative.
    """
    prefixes, items = scores.shape
    window = k2 - k1
    hard = round(hard_fraction * window)
    rank_key, item_key = jax.random.split(key)
    places = k1 + jax.random.permutation(rank_key, window)[:hard]
    mined = jax.lax.top_k(scores, k2)[1][:, places]
    uniform = jax.random.randint(item_key, (window - hard,), 0, items)
    shared = jnp.zeros(items, jnp.float32).at[uniform].add(1.0)
    counts = jnp.broadcast_to(shared[None, :], (prefixes, items))
    return counts.at[jnp.arange(prefixes)[:, None], mined].add(1.0)


def random_negatives(key: jax.Array, items: int, count: int) -> jax.Array:
    """int32 [count]: items drawn uniformly without replacement, one draw for a whole batch."""
    return jax.random.permutation(key, items)[:count].astype(jnp.int32)
