"""Recommendations against NumPy: the fused ranking, exclusion, new items at their text rank, the unknown session."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from alterrec_jax.config import RunConfig
from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info
from alterrec_jax.data.targets import select_targets
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.rank_counts import RankingLimits
from alterrec_jax.evaluation.ranking import rank_targets
from alterrec_jax.serving.recommend import Recommendation, Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from tests.conftest import CATALOGUE, TEXT_WIDTH
from tests.evaluation.examples import make_sessions
from tests.examples import alterrec_or_part, random_model
from tests.oracles import encoders as oracle
from tests.oracles import mining

LENGTH, NEW, ALPHA = 7, 4, 0.3
TEXT: dict[str, Any] = dict(encoder="mean", dim=11, mlp_hidden=(), temperature=0.5)


def config_of(weight: float = ALPHA, dim: int = 11) -> RunConfig:
    """Both networks of AlterRec, by means; `weight` is that of the ID score."""
    of_id, of_text = dict(encoder="mean", dim=3), {**TEXT, "dim": dim}
    return alterrec_or_part("alterrec", of_id, of_text, {}, weight=weight, max_length=LENGTH)


CONFIG = config_of()
SESSIONS = [[3, 7, 3], [28], list(range(20)), [], [CATALOGUE + 1], [0, CATALOGUE + 3, 5], [11, 11], [9, 2, 4, 28, 1]]


@pytest.fixture(scope="module")
def trained(dataset: Dataset) -> TrainedModel:
    """A model of random parameters."""
    return random_model(CONFIG, dataset)


def new_vectors() -> np.ndarray:
    """float32 [new item, d_text]; items 0 and 2 are alike, so that they share a rank."""
    vectors = np.random.default_rng(1).normal(size=(NEW, TEXT_WIDTH)).astype(np.float32)
    vectors[2] = vectors[0]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def given(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """New items by their feature; none where there are none."""
    return {"text": vectors} if len(vectors) else {}


def scores(trained: TrainedModel, session: list[int], vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64, by NumPy: the fused scores of the catalogue, and the text scores of it and of the new items."""
    id_table = oracle.id_table(trained.params["id"]["items"])
    texts = np.concatenate([trained.dataset.text_vectors[:CATALOGUE], vectors])
    text_table = oracle.text_table(trained.params["text"]["items"], texts, output_relu=False)
    known = [item for item in session if item < CATALOGUE][-LENGTH:]
    id_query = id_table[known].mean(axis=0) if known else np.zeros(3)
    text_scores = text_table @ (text_table[session[-LENGTH:]].mean(axis=0) / 0.5)
    return ALPHA * (id_table @ id_query) + (1 - ALPHA) * text_scores[:CATALOGUE], text_scores


def expected(trained: TrainedModel, session: list[int], vectors: np.ndarray, wanted: set[int]) -> list[int]:
    """The wanted items in order: new ones where the text network's ranking has them, the others around them."""
    if not session:
        return [i for i in mining.ranking(trained.dataset.train_counts[:CATALOGUE].tolist()) if i in wanted]
    fused, text = scores(trained, session, vectors)
    by_text = [item for item in mining.ranking(text.round(9).tolist()) if item in wanted]
    # Of equal scores the new item comes first, which no score here tests but those of two new ones.
    others = iter([item for item in mining.ranking(fused.tolist()) if item in wanted])
    return [item if item >= CATALOGUE else next(others) for item in by_text]


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("new", [0, NEW])
@pytest.mark.parametrize("in_blocks", [False, True])
def test_ranking_is_that_of_the_oracle(trained: TrainedModel, new: int, exclude: bool, in_blocks: bool) -> None:
    # In blocks, as of a long catalogue, with a rest; and with a last batch of two sessions.
    limits = RankingLimits(whole_rows=5, block=8) if in_blocks else RankingLimits()
    vectors = new_vectors()[:new]
    sessions = [session for session in SESSIONS if max(session, default=0) < CATALOGUE + new]
    recommender = Recommender(trained, exclude, given(vectors), limits, sessions_at_once=3)
    everything = CATALOGUE + new
    found = list(recommender(sessions, everything))
    assert len(found) == len(sessions)
    for session, recommendations in zip(sessions, found, strict=True):
        order = [one.item for one in recommendations]
        assert order == expected(trained, session, vectors, {*range(everything)} - {*(session if exclude else ())})
        assert not exclude or set(order).isdisjoint(session)
        assert_scores_are_right(trained, session, vectors, recommendations)
    for k in (1, 5):
        for replicated, best in zip(found, recommender(sessions, k), strict=True):
            assert [one.item for one in best] == [one.item for one in replicated[:k]]


@pytest.mark.parametrize(("new", "in_blocks", "of_session"), [(0, True, False), (NEW, False, True), (NEW, True, False)])
def test_what_a_session_must_not_get_and_what_alone_it_may_get(
    trained: TrainedModel, new: int, in_blocks: bool, of_session: bool
) -> None:
    """As many as are wanted, so long as there are as many: what is left out does not take the places of others."""
    limits = RankingLimits(whole_rows=5, block=8) if in_blocks else RankingLimits()
    vectors, everything = new_vectors()[:new], set(range(CATALOGUE + new))
    sessions = [session for session in SESSIONS if max(session, default=0) < CATALOGUE + new]
    best = [expected(trained, session, vectors, everything) for session in sessions]
    exclude = [order[: (0, 1, 9, 20)[row % 4]] for row, order in enumerate(best)]  # of the best, which hurts most
    only = [None if row % 3 == 0 else order[row % 2 :: 2][:12] for row, order in enumerate(best)]
    only[1] = []
    recommender = Recommender(trained, of_session, given(vectors), limits, sessions_at_once=3)
    for k in (4, len(everything)):
        found = list(recommender(sessions, k, exclude=exclude, only=only))
        assert len(found) == len(sessions) and found[1] == []
        for row, session in enumerate(sessions):
            allowed = only[row]
            wanted = everything if allowed is None else set(allowed)
            wanted = wanted - {*exclude[row]} - {*(session if of_session else ())}
            assert [one.item for one in found[row]] == expected(trained, session, vectors, wanted)[:k], row


@pytest.mark.parametrize("wrong", [-1, CATALOGUE + NEW, 1 << 40, 1.5, True])
def test_numbers_of_no_item_are_refused(trained: TrainedModel, wrong: Any) -> None:
    recommender = Recommender(trained, False, given(new_vectors()))
    there = f"from 0 to {CATALOGUE + NEW - 1}$"
    with pytest.raises(UserError, match=f"a session holds .*{there}"):
        recommender([[1], [wrong]], 5)
    with pytest.raises(UserError, match=f"an exclude list holds .*{there}"):
        recommender([[1]], 5, exclude=[[wrong]])
    with pytest.raises(UserError, match=f"an only list holds .*{there}"):
        recommender([[1]], 5, only=[[wrong]])


def assert_scores_are_right(
    trained: TrainedModel, session: list[int], vectors: np.ndarray, found: list[Recommendation]
) -> None:
    """Each item tells the score it was ranked by, and of which kind that is."""
    fused, text = scores(trained, session, vectors) if session else (trained.dataset.train_counts, np.zeros(0))
    for one in found:
        is_new = one.item >= CATALOGUE
        right: Any = text[one.item] if is_new else fused[one.item]
        assert one.score == pytest.approx(right, rel=1e-4, abs=1e-5)
        assert one.by == ("text" if is_new else "fused" if session else "popularity")


def test_new_items_do_reach_the_top_and_not_only_the_end(trained: TrainedModel) -> None:
    sessions = [session for session in SESSIONS if session]
    found = Recommender(trained, False, given(new_vectors()))(sessions, CATALOGUE + NEW)
    ranks = [[one.item for one in recommendations].index(CATALOGUE) for recommendations in found]
    assert min(ranks) < 8 and max(ranks) > 12


@pytest.mark.rounding
@pytest.mark.parametrize("alpha", [0.0, ALPHA, 1.0])
def test_items_are_ranked_as_they_are_evaluated(trained: TrainedModel, alpha: float) -> None:
    vectors, params = trained.dataset.text_vectors.copy(), {name: dict(tree) for name, tree in trained.params.items()}
    vectors[20:CATALOGUE] = vectors[3]
    table = params["id"]["items"]["table"]
    params["id"]["items"] = {**params["id"]["items"], "table": table.at[20:].set(table[3])}
    config = config_of(alpha)
    system = config.build(catalogue_info(trained.dataset))
    with_duplicates = TrainedModel(
        config, dataclasses.replace(trained.dataset, vectors={"text": vectors}), system, params, {}, True
    )
    sessions = [session for session in SESSIONS if session and max(session) < CATALOGUE]
    held = make_sessions([[*session, item] for session in sessions for item in range(CATALOGUE)])
    targets = select_targets(held, "last")
    encoder = with_duplicates.encoder("id", "text")
    ranks = rank_targets(encoder(held, targets), encoder.tables, system.views, targets)["fused"]
    found = Recommender(with_duplicates, False)(sessions, CATALOGUE)
    for row, recommendations in enumerate(found):
        scores = dict((one.item, one.score) for one in recommendations)
        of_item = np.array([scores[item] for item in range(CATALOGUE)])
        rows = slice(row * CATALOGUE, (row + 1) * CATALOGUE)
        assert ranks.above[rows].tolist() == [(of_item > score).sum() for score in of_item]
        assert ranks.equal[rows].tolist() == [(of_item == score).sum() for score in of_item]
        assert ranks.equal[row * CATALOGUE + 3] == 1 + CATALOGUE - 20


@pytest.mark.rounding
@pytest.mark.parametrize("new", [5, 61, 131, 4097, 4099])
@pytest.mark.parametrize("dim", [61, 121])
def test_new_items_that_are_alike_tie(dataset: Dataset, dim: int, new: int) -> None:
    """In every bit, wherever they stand: in an odd number of columns the last ones may be added up otherwise."""
    one = random_model(config_of(dim=dim), dataset)
    vectors = np.random.default_rng(new).normal(size=(new, TEXT_WIDTH)).astype(np.float32)
    vectors[::2] = vectors[0]
    recommender = Recommender(one, False, given(vectors))
    for session, found in zip(SESSIONS, recommender(SESSIONS, CATALOGUE + new), strict=True):
        scores = {one.item - CATALOGUE: one.score for one in found if one.item >= CATALOGUE}
        assert len(scores) == (new if session else 0)
        assert len({scores[item] for item in range(0, new, 2) if session}) <= 1


def test_no_sessions_give_no_recommendations(trained: TrainedModel) -> None:
    assert list(Recommender(trained, False, given(new_vectors()))([], 5)) == []


@pytest.mark.parametrize("k", [0, -1, CATALOGUE + NEW + 1])
def test_more_items_than_there_are_is_an_error(trained: TrainedModel, k: int) -> None:
    with pytest.raises(UserError, match=f"--k={k} is not between 1 and the number of items, {CATALOGUE + NEW}"):
        list(Recommender(trained, False, given(new_vectors()))([[1]], k))
