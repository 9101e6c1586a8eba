"""What a train step sends between the devices of a mesh: read from its compiled program, and by a formula."""

import itertools
import math
from typing import Any, NamedTuple

import jax

from alterrec_jax.config import AlterRecConfig
from alterrec_jax.contract import Network
from alterrec_jax.hard_negatives import rank_window
from alterrec_jax.models.alterrec import build_networks
from alterrec_jax.nn import item_tables
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.mesh import AXES, DATA, MODEL
from alterrec_jax.training.stages import RANDOM, WINDOW, Turn
from benchmarks import collectives, programs
from benchmarks.synthetic import TEXT_WIDTH


class Sizes(NamedTuple):
    """What the formula needs to know of a step.

    Attributes:
      data, model: devices along each axis.
      prefixes: positions of a batch, of all devices.
      items: of the catalogue.
      dim, peer_dim: widths of the network that trains and of its peer.
      k1, k2, p: the window, and augmented positives of each prefix.
      kept: whether the windows that are found are kept.
      encoder, mlp: parameters of the session encoder that trains, and of its MLP over texts (0 for an ID network).
    """

    data: int
    model: int
    prefixes: int
    items: int
    dim: int
    peer_dim: int
    k1: int
    k2: int
    p: int
    kept: bool
    encoder: int
    mlp: int

    @property
    def held(self) -> int:
        """Items that a device holds."""
        return -(-self.items // self.model)


class Traffic(NamedTuple):
    """Bytes of what the collectives along one axis return on one device, in a step.

    Attributes:
      reduced: of all-reduces.
      gathered: of all-gathers.
      searching: of all-reduces in the loops that look for a border, if each of these goes round once.
    """

    reduced: int
    gathered: int
    searching: int

    def sent(self, devices: int, rounds: int) -> float:
        """Bytes that each device sends in a step."""
        reduced, gathered = self.reduced + rounds * self.searching, self.gathered
        return collectives.sent("all-reduce", reduced, devices) + collectives.sent("all-gather", gathered, devices)


def sizes_of(turn: Turn, config: AlterRecConfig, items: int) -> Sizes:
    """The sizes of a turn's step on the mesh in use."""
    networks, of, mined = build_networks(config, items), {"id": config.id, "text": config.text}, config.mining
    own = _counted(networks[turn.network], programs.features_of(config, items)[turn.network])
    return Sizes(
        data=mesh.size(DATA),
        model=mesh.size(MODEL),
        prefixes=programs.rows_of_step(config) * config.max_length,
        items=items,
        dim=of[turn.network].dim,
        peer_dim=of[turn.peer].dim if turn.peer else 0,
        k1=mined.k1,
        k2=min(mined.k2, items),
        p=mined.positives,
        kept=config.keeps_windows,
        encoder=own["encoder"],
        mlp=own["items"] if turn.network == "text" else 0,
    )


def traffic_of(found: list[collectives.Collective]) -> dict[str, Traffic]:
    """What a program sends along each axis of the mesh in use.

    Raises:
      ValueError: it holds other collectives than all-reduces and all-gathers along one axis.
    """
    sums = {axis: Traffic(0, 0, 0) for axis in AXES}
    places = {axis: mesh.size(axis) for axis in AXES}
    for one in found:
        axis = collectives.axis_of(one.groups, places)
        reduces, gathers = one.kind == "all-reduce", one.kind == "all-gather" and not one.searching
        if axis not in sums or not (reduces or gathers):
            raise ValueError(f"a collective that no formula knows: {one}")
        size = one.times * one.bytes
        more = Traffic(size * (reduces and not one.searching), size * gathers, size * one.searching)
        sums[axis] = Traffic(*map(sum, zip(sums[axis], more, strict=True)))
    return sums


def formula(turn: Turn, sizes: Sizes) -> dict[str, Traffic]:
    """What `traffic_of` should find for a step in float32 whose window is searched for, k2 being above 64.

    With M devices along `model` and D along `data`, b = B / D prefixes of a device, widths d and d' (the peer's), and h
    items that a device holds, of V. All numbers have 4 bytes.

    Along `model`, all-reduced because each device knows its own items only:
      - rows that are looked up: inputs and targets 2 b d, the peer's inputs b d', the p positives' rows b p d;
      - of the softmax: the largest score and the sum 2 b, the gradient of the queries b d;
      - the gradient of the MLP (text); the square of the gradient's norm (ID), one number;
      - random: the rows of the n = k2 - k1 + 1 items that are drawn, n d, whose gradients are all-gathered, n d;
      - window: what `_mining` says, and all-gathered 2 b M min(k, h): each device's best k, scores and numbers, where k
        is k1 if that is found so (up to 64), or else p. A window that an epoch before has found is looked up
        instead, b (2 + p).

    Along `data`, because each device knows its own prefixes only:
      - all-reduced: the gradient of the rows that are candidates, h d (random: n d / M), that of the encoder, and two
        numbers, the batch's loss and count of prefixes; for each round of a search, if M > 1, whether others search;
      - all-gathered: for each lookup whose gradient is wanted, items and gradients of all B prefixes: B (d + 1) for
        inputs, as much for targets, p times that for positives; and if windows are kept, the prefixes' numbers and
        borders, 3 B (their best items are gathered already).

    So what goes over `model` does not grow with V, and over `data` only h d does. A loop's condition, which is asked
    once more than its body runs, is counted as often as that.
    """
    s, window, kept = sizes, turn.phase == WINDOW, 0
    ours = s.prefixes // s.data
    over_model, gathered = 3 * ours * s.dim + 2 * ours, 0
    over_model += s.mlp if turn.network == "text" else 1
    over_data, lookups = s.encoder + 2, 2
    of_search = _Search(0, 0, 0)
    if turn.phase == RANDOM:
        drawn = min(s.k2 - s.k1 + 1, s.items)
        drawn += -drawn % s.model
        over_model += drawn * s.dim
        gathered += drawn * s.dim
        over_data += drawn // s.model * s.dim
    else:
        over_data += s.held * s.dim
    if window:
        over_model += ours * s.peer_dim + ours * s.p * s.dim
        lookups += s.p
    if turn.again:
        over_model += ours * (2 + s.p)
    elif window:
        of_search, of_best = _mining(s)
        over_model += of_search.once
        gathered += of_best
        kept = 3 * s.prefixes * s.kept
    found = {
        DATA: Traffic(over_data, lookups * s.prefixes * (s.dim + 1) + kept, of_search.loops * (s.model > 1)),
        MODEL: Traffic(over_model, gathered, of_search.a_round),
    }
    return {
        axis: Traffic(*(4 * numbers for numbers in found[axis])) if devices > 1 else Traffic(0, 0, 0)
        for axis, devices in ((DATA, s.data), (MODEL, s.model))
    }


class _Search(NamedTuple):
    """Numbers that searches for borders all-reduce over `model`.

    Attributes:
      once: outside of loops.
      a_round: in all their loops, each of which goes round once.
      loops: how many loops there are.
    """

    once: int
    a_round: int
    loops: int


def _mining(sizes: Sizes) -> tuple[_Search, int]:
    """Numbers that are all-reduced over `model` to find the window, and those that are all-gathered.

    Where scores are too many, the window is found for one piece of the prefixes after another. There, and where windows
    are kept, 2 b more numbers are for moving each border between two scores.
    """
    s = sizes
    prefixes, pieces = s.prefixes // s.data, 1
    if prefixes * s.held > rank_window.MAX_SCORES:
        at_once = rank_window.prefixes_at_once(s.held, s.model)
        prefixes, pieces = at_once, -(-prefixes // at_once)
    best = s.k1 if s.k1 <= rank_window._SMALL else s.p
    gathered = 2 * min(best, s.held) * s.model * prefixes
    found = _searches(prefixes, [k for k in (s.k1, s.k2) if rank_window._SMALL < k < s.items], s)
    borders = (s.k1 > 0) + (s.k2 < s.items)
    once = found.once + 2 * borders * prefixes * (s.kept or pieces > 1)
    return _Search(pieces * once, pieces * found.a_round, pieces * found.loops), pieces * gathered


def _searches(prefixes: int, ranks: list[int], sizes: Sizes) -> _Search:
    """Of searches for some ranks among the same scores of b prefixes, and of those in samples that give their guesses.

    Each takes b numbers for every guess that is written out, and in each loop the prefixes that still search. XLA asks
    only once for what several searches want alike: the least and the largest score, 2 b, and where there is no sample
    the first guess (that of all small ranks is the same: a share of the way that is clipped), or all of equal ranks.
    """
    levels = [prefixes]
    while levels[-1] >= rank_window._FEW:
        levels.append(levels[-1] // 4)
    written_out = rank_window._WRITTEN_OUT if len(levels) > 1 else 0
    columns, items = sizes.held, sizes.items
    once = a_round = loops = 0
    while ranks:
        runs = columns // (rank_window._SAMPLED * rank_window._RUN)
        columns, size = runs * rank_window._RUN, runs * rank_window._RUN * sizes.model
        guesses = [_ranks_in_sample(k, size, items) if runs >= rank_window._RUNS else [] for k in ranks]
        alone = [k for k, own in zip(ranks, guesses, strict=True) if not own]
        shares = {min(max((items - k) / items, 0.02), 0.98) for k in alone}
        once += prefixes * (2 + sum(map(len, guesses)))
        once += written_out * (prefixes * (len(ranks) - len(alone)) + len(ranks) * sum(levels[1:-1]))
        once += prefixes * (len(shares) + (written_out - 1) * len(set(alone))) if written_out else 0
        a_round += len(ranks) * sum(levels)
        loops += len(ranks) * len(levels)
        ranks, items = list(itertools.chain(*guesses)), size
    return _Search(once, a_round, loops)


def _ranks_in_sample(k: int, size: int, items: int) -> list[int]:
    """The ranks in a sample of so many items that are looked for to find the k-th best, as in `mining`."""
    rank = k * size / items
    margin = math.ceil(3 * math.sqrt(rank * (1 - rank / size))) + 1
    return [of_sample for of_sample in (math.floor(rank) + margin, math.floor(rank) - margin) if 0 < of_sample < size]


def operations(turn: Turn, sizes: Sizes, config: AlterRecConfig) -> int:
    """Multiplications and additions of one device in a step's matrix products, as the code makes them.

    A product takes one forwards and two backwards. Scores in blocks are made once more backwards, and the peer's both
    ways after mining; so is what comes of texts in blocks, whose first layer needs no gradient of its input.
    """
    s, ours, window = sizes, sizes.prefixes // sizes.data, turn.phase == WINDOW
    candidates = -(-min(s.k2 - s.k1 + 1, s.items) // s.model) if turn.phase == RANDOM else s.held
    in_blocks = ours * candidates > rank_window.MAX_SCORES
    count = (3 + in_blocks) * ours * candidates * s.dim
    if window:
        count += (1 + 2 * in_blocks) * ours * s.held * s.peer_dim
    for dim, times in ((s.dim, 3), (s.peer_dim, int(window))):
        of_layer = ours * dim * (12 * dim + 2 * config.max_length)
        count += times * config.id.layers * of_layer
    if turn.network == "text":
        widths = [TEXT_WIDTH, *config.text.mlp_hidden, s.dim]
        again = s.held > item_tables._ROWS_AT_ONCE
        for layer, (inner, outer) in enumerate(itertools.pairwise(widths)):
            count += ((3 if layer else 2) + again) * s.held * inner * outer
    return 2 * count


def _counted(network: Network, features: Any) -> dict[str, int]:
    """How many parameters the parts of a network have."""
    params = jax.eval_shape(network.init, jax.random.key(0), features)
    return {part: sum(leaf.size for leaf in jax.tree.leaves(of_part)) for part, of_part in params.items()}
