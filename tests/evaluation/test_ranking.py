"""Ranking against a sort in plain Python, on scores with many ties."""

import numpy as np
import pytest

from alterrec_jax.data.targets import select_targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.rank_counts import MISS, RankingLimits, count_ranks, first_duplicate
from alterrec_jax.evaluation.ranking import rank_rows, rank_targets
from alterrec_jax.sharding.digests import row_digests
from tests.evaluation.examples import fusion, make_sessions, random_sessions
from tests.oracles.ranking import counts

CATALOGUE, ITEMS, DIM = 37, 41, 3


def small_integers(rng, *shape):
    """Float32 whose products are exact, so that ties abound and no rounding blurs them."""
    return rng.integers(-2, 3, shape).astype(np.float32)


@pytest.fixture
def case():
    rng = np.random.default_rng(7)
    sessions = random_sessions(rng, 31, ITEMS)
    targets = select_targets(sessions, "all_prefixes")
    queries = {name: small_integers(rng, len(targets), DIM) for name in ("id", "text")}
    tables = {name: small_integers(rng, CATALOGUE, DIM) for name in ("id", "text")}
    return sessions, targets, queries, tables


def batches(queries, *cuts):
    """The queries in pieces that end at `cuts` and at the end."""
    total = len(next(iter(queries.values())))
    edges = [0, *cuts, total]
    for start, stop in zip(edges, edges[1:], strict=False):
        yield {name: query[start:stop] for name, query in queries.items()}


def expected(sessions, targets, scores, exclude):
    above, equal = [], []
    for row in range(len(targets)):
        history = sessions[targets.session[row]][: targets.position[row]]
        found = counts(scores[row], int(targets.item[row]), set(history.tolist()) if exclude else set())
        above.append(MISS if found is None else found[0])
        equal.append(1 if found is None else found[1])
    return above, equal


LIMITS = {"rows": RankingLimits(), "blocks": RankingLimits(whole_rows=4, block=8, lane=4)}


@pytest.fixture(params=LIMITS)
def limits(request):
    """Scores are counted in whole rows, or as those of a long catalogue, in blocks that leave a rest."""
    return LIMITS[request.param]


@pytest.mark.parametrize("exclude", [False, True])
def test_equals_the_oracle(case, exclude, limits):
    sessions, targets, queries, tables = case
    views = fusion(0.25)
    ranks = rank_targets(
        batches(queries, 5),
        tables,
        views,
        targets,
        exclude=sessions if exclude else None,
        batch_size=11,
        limits=limits,
    )
    scores = {name: queries[name] @ tables[name].T for name in queries}
    scores["fused"] = 0.25 * scores["id"] + 0.75 * scores["text"]
    assert max(rank.equal.max() for rank in ranks.values()) > 3, "the case must have ties"
    for view in views:
        above, equal = expected(sessions, targets, scores[view], exclude)
        np.testing.assert_array_equal(ranks[view].above, above)
        np.testing.assert_array_equal(ranks[view].equal, equal)
        assert ranks[view].above.dtype == ranks[view].equal.dtype == np.int32


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64, 1009, None])
@pytest.mark.parametrize("cuts", [(), (1, 2, 2, 40), (50,)])
def test_any_batching_gives_the_same(case, batch_size, cuts, limits):
    sessions, targets, queries, tables = case
    whole = rank_targets(batches(queries), tables, fusion(0.5), targets, exclude=sessions, batch_size=13, limits=limits)
    cut = rank_targets(
        batches(queries, *cuts), tables, fusion(0.5), targets, exclude=sessions, batch_size=batch_size, limits=limits
    )
    for view in whole:
        np.testing.assert_array_equal(whole[view].above, cut[view].above)
        np.testing.assert_array_equal(whole[view].equal, cut[view].equal)


def test_one_shape_is_compiled_once(case):
    sessions, targets, queries, tables = case
    before = count_ranks._cache_size()
    rank_targets(batches(queries, 3, 17, 60), tables, fusion(0.5), targets, batch_size=19)
    assert count_ranks._cache_size() == before + 1


@pytest.mark.parametrize(("alpha", "single"), [(1.0, "id"), (0.0, "text")])
def test_alpha_at_its_ends_is_the_single_network(case, alpha, single):
    _, targets, _, _ = case
    rng = np.random.default_rng(1)
    queries = {name: rng.normal(size=(len(targets), 13)) for name in ("id", "text")}
    tables = {name: rng.normal(size=(CATALOGUE, 13)) for name in ("id", "text")}
    ranks = rank_targets(batches(queries), tables, fusion(alpha), targets)
    np.testing.assert_array_equal(ranks["fused"].above, ranks[single].above)
    np.testing.assert_array_equal(ranks["fused"].equal, ranks[single].equal)


@pytest.mark.rounding
@pytest.mark.parametrize("catalogue", [5, 97, 1009, 12103])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_items_with_equal_rows_tie_wherever_they_stand(catalogue, batch_size, limits):
    # In an odd number of columns the last ones may be added up in another order than the rest.
    rng = np.random.default_rng(catalogue)
    targets = select_targets(make_sessions([[0, 0], [0, 1], [0, catalogue - 1], [0, catalogue // 2]]), "last")
    tables = {name: np.tile(rng.normal(size=61), (catalogue, 1)) for name in ("id", "text")}
    queries = {name: rng.normal(size=(4, 61)) for name in ("id", "text")}
    found = rank_targets(batches(queries), tables, fusion(0.3), targets, batch_size=batch_size, limits=limits)
    for ranks in found.values():
        assert ranks.above.tolist() == [0] * 4
        assert ranks.equal.tolist() == [catalogue] * 4


def test_what_cannot_be_recommended_is_a_miss():
    sessions = make_sessions([[0, 1], [0, 4], [2, 3, 2]])  # 4 is outside a catalogue of 4; 2 is a repeat
    targets = select_targets(sessions, "last")
    scores = np.array([[3, 2, 1, 0]] * 3, np.float32)
    kept = rank_rows(lambda start, stop: scores[start:stop], "x", targets, catalogue=4)
    assert kept.above.tolist() == [1, MISS, 2]
    assert kept.equal.tolist() == [1, 1, 1]
    excluded = rank_rows(lambda start, stop: scores[start:stop], "x", targets, catalogue=4, exclude=sessions)
    assert excluded.above.tolist() == [0, MISS, MISS]


def test_twins_are_items_whose_rows_are_equal_in_every_table():
    rng = np.random.default_rng(3)
    tables = [small_integers(rng, 53, 2), small_integers(rng, 53, 1)]
    tables[0][11] = tables[0][40] = [-0.0, 0.0]
    joined = [tuple(float(value) + 0.0 for table in tables for value in table[item]) for item in range(53)]
    expected = [joined.index(row) for row in joined]
    assert len(set(expected)) < 50, "the case must have twins"
    digests = [row_digests(table) for table in tables]
    assert first_duplicate(digests).tolist() == expected
    assert first_duplicate(digests[:1]).tolist() != expected


@pytest.mark.rounding
def test_a_long_catalogue_is_ranked_equally_in_rows_and_in_blocks():
    rng = np.random.default_rng(11)
    catalogue, dim = 3001, 23
    targets = select_targets(random_sessions(rng, 19, catalogue + 5), "all_prefixes")
    tables = {name: rng.normal(size=(catalogue, dim)).astype(np.float32) for name in ("id", "text")}
    for twin in range(0, 3000, 7):  # far apart, in different blocks
        tables["text"][twin] = tables["text"][(twin * 5) % 97]
    queries = {name: rng.normal(size=(len(targets), dim)).astype(np.float32) for name in ("id", "text")}
    rows = rank_targets(batches(queries), tables, fusion(0.3), targets)
    limits = RankingLimits(whole_rows=1000, block=256)
    blocks = rank_targets(batches(queries), tables, fusion(0.3), targets, limits=limits)
    assert rows["text"].equal.max() > 3
    for view in rows:
        np.testing.assert_array_equal(blocks[view].above, rows[view].above)
        np.testing.assert_array_equal(blocks[view].equal, rows[view].equal)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error(case, bad, limits):
    _, targets, queries, tables = case
    tables["text"][5, 1] = bad
    queries["text"][:, 1] = 1.0
    with pytest.raises(UserError, match="'text'"):
        rank_targets(batches(queries), tables, {"id": {"id": 1.0}, "text": {"text": 1.0}}, targets, limits=limits)
    rank_targets(batches(queries), tables, {"id": {"id": 1.0}}, targets)  # what is not looked at does no harm


def test_no_targets():
    targets = select_targets(make_sessions([[1], []]), "last")
    ranks = rank_targets([], {"model": np.zeros((5, 2))}, {"model": {"model": 1.0}}, targets)
    assert len(ranks["model"]) == 0


def test_mistakes_of_the_caller_are_named(case):
    _, targets, queries, tables = case
    with pytest.raises(ValueError, match="more queries"):
        rank_targets(batches(queries), tables, fusion(0.5), targets[:-1])
    with pytest.raises(ValueError, match="queries for"):
        rank_targets(list(batches(queries, 9))[:1], tables, fusion(0.5), targets)
    with pytest.raises(ValueError, match="'image', which has no table"):
        rank_targets(batches(queries), tables, {"x": {"image": 1.0}}, targets)
    with pytest.raises(ValueError, match="'x' gives no component"):
        rank_targets(batches(queries), tables, {"x": {"id": 0.0}}, targets)
    with pytest.raises(ValueError, match="differ in length"):
        rank_targets(batches(queries), {"id": tables["id"], "text": tables["text"][1:]}, fusion(0.5), targets)
