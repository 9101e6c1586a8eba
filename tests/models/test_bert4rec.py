"""BERT4Rec against RecBole's forward pass and against its equations, and what its masks promise."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.contract import PREFIX, WHOLE, CatalogueInfo, Context, Params, SessionBatch
from alterrec_jax.data.batches import TrainBatches
from alterrec_jax.data.packing import Chunks, Plan, fill_rows
from alterrec_jax.errors import UserError
from alterrec_jax.losses.cloze import CLOZE, MaskedSessions, cloze, mask_sessions, masked_of, most_masked
from alterrec_jax.models.bert4rec import BERT4RecConfig, BERT4RecNetworkConfig, build_network
from tests import parity
from tests.evaluation.examples import make_sessions
from tests.oracles import encoders
from tests.parity import attention, dense, fixture, loss_and_gradient, norm

HELD = fixture("bert4rec")
ITEMS, DIM = HELD["table_gradient"].shape
HEADS, INNER, LENGTH = 3, 16, 7
NOTHING_KNOWN = Context({}, {})
CONFIG = BERT4RecNetworkConfig(dim=DIM, heads=HEADS, inner=INNER)
NETWORK, ENCODE = build_network(CONFIG, ITEMS, LENGTH, "float32")


def parameters() -> Params:
    """The fixture's parameters as ours. Item 0 there is padding, and the row behind the items is MASK."""
    transformer: dict = {
        "positions": {"embedding": jnp.asarray(HELD["position_embedding.weight"])},
        "input_norm": norm(HELD, "LayerNorm"),
    }
    for layer in range(2):
        prefix = f"trm_encoder.layer.{layer}"
        maps = {part: f"{prefix}.multi_head_attention.{part}" for part in ("query", "key", "value")}
        maps["out"] = f"{prefix}.multi_head_attention.dense"
        transformer[f"block_{layer}"] = {
            "attention": attention(HELD, maps, HEADS),
            "attention_norm": norm(HELD, f"{prefix}.multi_head_attention.LayerNorm"),
            "inner": dense(HELD, f"{prefix}.feed_forward.dense_1"),
            "outer": dense(HELD, f"{prefix}.feed_forward.dense_2"),
            "feed_forward_norm": norm(HELD, f"{prefix}.feed_forward.LayerNorm"),
        }
    rows = jnp.asarray(HELD["item_embedding.weight"])
    return {
        "items": {"table": rows[1:-1]},
        "item_bias": jnp.asarray(HELD["output_bias"][1:, None]),
        "encoder": {
            "transformer": transformer,
            "mask": rows[-1],
            "head": dense(HELD, "output_ffn"),
            "head_norm": norm(HELD, "output_ln"),
        },
    }


def test_queries_scores_and_gradient_are_those_of_recbole() -> None:
    batch, ends = parity.batch_of(HELD)

    (value, (queries, scores)), gradient = loss_and_gradient(NETWORK, parameters(), NOTHING_KNOWN, batch, ends)
    np.testing.assert_array_equal(queries[:, -1], 1)
    np.testing.assert_allclose(queries[:, :-1], HELD["queries"], rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(scores, HELD["scores"], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(value, HELD["loss"], rtol=2e-6)
    # The float32 gradient there is 7e-6 off its own float64 one, of a largest entry of 1.9.
    np.testing.assert_allclose(gradient["items"]["table"], HELD["table_gradient64"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(gradient["encoder"]["mask"], HELD["mask_gradient64"], rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(gradient["item_bias"][:, 0], HELD["bias_gradient64"], rtol=2e-5, atol=1e-6)


Sessions = list[list[int]]
SESSIONS: list[Sessions] = [
    [[3, 5, 3], [4, 9], [7, 7]],
    [[1, 2, 3, 4, 5, 6, 7]],
    [[22, 22, 22], [6, 1, 0, 2]],
]
"""Whole sessions of the rows of one batch: of two items and of a row's seven, repeats and immediate repeats."""


def packed(rows: list[Sessions], wanted: int = 0) -> SessionBatch:
    """A training batch: all items of each session, and what follows each.

    Only items from number `wanted` on are to be learned of a session that has more.
    """
    sessions = [session for row in rows for session in row]
    lengths = np.array([len(session) for session in sessions])
    row = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    offset = np.concatenate([np.cumsum([0, *(len(session) for session in row[:-1])]) for row in rows])
    zeros = np.zeros_like(lengths)
    chunks = Chunks(np.arange(len(sessions)), zeros, lengths, np.minimum(wanted, lengths - 1))
    items = np.concatenate(sessions).astype(np.int32)
    stops = np.cumsum(lengths)
    batch = fill_rows(items, np.array([0, *stops]), chunks, Plan(row, offset, len(rows)), LENGTH)
    batch = batch._replace(is_target=batch.is_target & ~np.isin(batch.interaction, stops - 1), interaction=None)
    return jax.tree.map(jnp.asarray, batch)


@functools.partial(jax.jit, static_argnames="rate")
def drawn(key: jax.Array, batch: SessionBatch, rate: float, last: float) -> MaskedSessions:
    """`mask_sessions`, compiled."""
    return mask_sessions(key, batch, rate, last)


def encode(params: Params, found: MaskedSessions) -> np.ndarray:
    """What the network makes of the places of sessions with masks."""
    return np.asarray(encoded(params, NETWORK.item_tables(params, NOTHING_KNOWN), found))


encoded = jax.jit(ENCODE)
Token = tuple[int, int, int]
"""A row, a segment of it and a position."""


def tokens_of(found: MaskedSessions) -> dict[Token, tuple[int, bool]]:
    """Of each token of a session its item, and whether that is masked."""
    items, positions, segments = (np.asarray(part) for part in found.tokens[:3])
    masked = np.asarray(found.masked)
    return {
        (int(row), int(segments[row, at]), int(positions[row, at])): (int(items[row, at]), bool(masked[row, at]))
        for row, at in np.argwhere(segments >= 0)
    }


def read_at(found: MaskedSessions) -> list[tuple[int, int, Token]]:
    """Row and number of each place that is wanted, and its token."""
    tokens, places = jax.tree.map(np.asarray, found.tokens), np.asarray(found.places)
    read = []
    for row, number in zip(*np.nonzero(found.wanted), strict=True):
        at = places[row, number]
        read.append((row, number, (int(row), int(tokens.segments[row, at]), int(tokens.positions[row, at]))))
    return read


def whole(rows: list[Sessions]) -> dict[Token, int]:
    """The item of each token that the rows of a batch must have."""
    return {
        (row, number, place): item
        for row, sessions in enumerate(rows)
        for number, session in enumerate(sessions)
        for place, item in enumerate(session)
    }


def oracle(params: Params, tokens: dict[Token, tuple[int, bool]]) -> tuple[dict[Token, np.ndarray], list[float]]:
    """What the equations make of the masked tokens, and their cross-entropies."""
    table, mask, bias = (
        np.asarray(part, np.float64)
        for part in (params["items"]["table"], params["encoder"]["mask"], params["item_bias"][:, 0])
    )
    hidden, losses = {}, []
    for row, number in sorted({token[:2] for token in tokens}):
        session = [tokens[token] for token in sorted(tokens) if token[:2] == (row, number)]
        of_session = encoders.cloze(params["encoder"], np.array([mask if m else table[item] for item, m in session]))
        for place, (item, masked) in enumerate(session):
            if masked:
                hidden[row, number, place] = of_session[place]
                scores = table @ of_session[place] + bias
                losses.append(np.log(np.exp(scores).sum()) - scores[item])
    return hidden, losses


@pytest.mark.parametrize("seed", range(2))
def test_hidden_states_are_those_of_the_equations(seed: int) -> None:
    params, found = parameters(), drawn(jax.random.key(seed), packed(SESSIONS), 0.6, 0.2)
    assert {token: item for token, (item, _) in tokens_of(found).items()} == whole(SESSIONS)
    read = np.asarray(encode(params, found))
    expected, _ = oracle(params, tokens_of(found))
    places = read_at(found)
    assert sorted(token for *_, token in places) == sorted(expected), "a masked item is not read"
    for row, number, token in places:
        np.testing.assert_allclose(read[row, number, :-1], expected[token], rtol=2e-5, atol=2e-5)
        assert read[row, number, -1] == 1


def test_the_loss_is_the_mean_cross_entropy_of_masked_items() -> None:
    params, batch = parameters(), packed(SESSIONS)
    still = dataclasses.replace(CONFIG, dropout=0.0, attention_dropout=0.0)
    objective = cloze("net", *build_network(still, ITEMS, LENGTH, "float32"), 0.6, 0.2)
    value = jax.jit(objective.loss)({"net": params}, NOTHING_KNOWN, batch, jax.random.key(5), None)[CLOZE]
    _, losses = oracle(params, tokens_of(drawn(jax.random.split(jax.random.key(5), 3)[0], batch, 0.6, 0.2)))
    np.testing.assert_allclose(value / jnp.sum(batch.is_target), np.mean(losses), rtol=1e-5)


def test_prefixes_of_one_item_have_vectors_of_their_own() -> None:
    """RecBole drops the first item of a prefix at test, so there all of these are one."""
    params, (batch, ends) = parameters(), parity.batch_of(HELD)
    tables = NETWORK.item_tables(params, NOTHING_KNOWN)
    embed = jax.jit(NETWORK.session_embeddings)
    one, other = (embed(params, tables, batch._replace(items=jnp.full_like(batch.items, i)))[ends[0]] for i in (8, 3))
    assert np.abs(one - other).max() > 0.01


def test_a_masked_item_never_reaches_what_is_read() -> None:
    params, found = parameters(), drawn(jax.random.key(1), packed(SESSIONS), 0.6, 0.2)

    def read(changed: jax.Array) -> np.ndarray:
        items = jnp.where(changed, (found.tokens.items + 5) % ITEMS, found.tokens.items)
        return encode(params, found._replace(tokens=found.tokens._replace(items=items)))

    nothing = jnp.zeros_like(found.masked)
    np.testing.assert_array_equal(read(found.masked), read(nothing))
    assert not np.allclose(read(~found.masked), read(nothing)), "items that are not masked are seen"


def counts_of(found: MaskedSessions) -> dict[tuple[int, int], list[int]]:
    """The places of each session that are masked."""
    counts: dict[tuple[int, int], list[int]] = {}
    for (row, number, place), (_, masked) in sorted(tokens_of(found).items()):
        counts.setdefault((row, number), []).extend([place] if masked else [])
    return counts


def test_each_session_has_its_share_masked_anywhere_and_masks_are_drawn_anew() -> None:
    batch, seen = packed(SESSIONS), set()
    for seed in range(40):
        found = drawn(jax.random.key(seed), batch, 0.6, 0.0)
        for (row, number), masked in counts_of(found).items():
            assert len(masked) == max(1, round(0.6 * len(SESSIONS[row][number])))
            seen |= {(row, number, place) for place in masked}
    assert seen == set(whole(SESSIONS)), "every item is a label, the first and the last too"
    same, again, other = (counts_of(drawn(jax.random.key(seed), batch, 0.6, 0.2)) for seed in (7, 7, 8))
    assert same == again != other


def test_a_share_of_sessions_masks_its_last_item_alone() -> None:
    batch = packed([[list(range(7))]] * 300)
    shares = []
    for seed, last in enumerate((0.0, 0.3, 1.0)):
        masked = counts_of(drawn(jax.random.key(seed), batch, 0.6, last)).values()
        assert {len(of_session) for of_session in masked} <= {1, 4}
        shares.append(np.mean([of_session == [6] for of_session in masked]))
    assert shares[0] == 0 and shares[2] == 1 and 0.2 < shares[1] < 0.4


def test_only_what_is_to_be_learned_is_masked() -> None:
    """Of a session that is older than what is learned from, as of a chunk, the first items are context."""
    batch = packed(SESSIONS, wanted=3)
    for seed in range(10):
        for (row, number), masked in counts_of(drawn(jax.random.key(seed), batch, 1.0, 0.0)).items():
            length = len(SESSIONS[row][number])
            assert masked == list(range(min(3, length - 1), length))


def test_chunks_of_long_sessions_learn_every_item_once() -> None:
    sessions = make_sessions([list(range(ITEMS)), [4, 5, 6], list(range(ITEMS))[::-1]])
    batches = TrainBatches(sessions, 3 * LENGTH, LENGTH, WHOLE)
    learned = []
    for batch in batches.epoch(jax.random.key(0)):
        found = drawn(jax.random.key(1), jax.tree.map(jnp.asarray, batch), 1.0, 0.0)
        learned += [item for item, masked in tokens_of(found).values() if masked]
    assert sorted(learned) == sorted(sessions.items.tolist())


def partitions(length: int) -> list[list[int]]:
    """All ways to fill a row or a part of it with sessions of two items or more, as the numbers of their items."""
    return [[]] + [[first, *rest] for first in range(2, length + 1) for rest in partitions(length - first)]


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.6, 0.75, 0.9, 1.0])
def test_the_places_that_are_read_are_enough_and_no_more_than_needed(rate: float) -> None:
    needed = [sum(masked_of(items, rate) for items in row) for row in partitions(LENGTH)]
    assert most_masked(LENGTH, rate) == max(needed) <= LENGTH


def test_it_trains_on_whole_sessions_and_ranks_prefixes() -> None:
    system = BERT4RecConfig().build(CatalogueInfo(ITEMS))
    assert system.layout == WHOLE
    assert [component.network.layout for component in system.components.values()] == [PREFIX]


def test_the_heads_divide_the_width() -> None:
    with pytest.raises(UserError, match=r"network.heads is 3; it must be a divisor of network.dim \(64\)"):
        BERT4RecConfig(network=BERT4RecNetworkConfig(heads=3)).check()
