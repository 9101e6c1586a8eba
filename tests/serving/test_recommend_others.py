"""Recommendations of other models, and of AlterRec by ID alone: by the main view; new items where one reads text."""

import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from tests.conftest import CATALOGUE, TEXT_WIDTH
from tests.examples import alterrec_or_part, random_model
from tests.oracles import encoders as oracle
from tests.oracles import mining, nfrec

LENGTH, NEW, TAU = 7, 5, 0.5
SESSIONS = [[3, 7, 3], [28], list(range(20)), [], [0, 5], [11, 11], [9, 2, 4, 28, 1]]
WITH_NEW = [[CATALOGUE + 1], [0, CATALOGUE + 3, 5], [CATALOGUE, CATALOGUE + 4]]
NO_ITEMS = np.zeros((0, TEXT_WIDTH), np.float32)


def trained(model: str, dataset: Dataset) -> TrainedModel:
    """A model of random parameters."""
    config = alterrec_or_part(
        model,
        dict(encoder="mean", dim=3, temperature=TAU),
        dict(encoder="mean", dim=11, mlp_hidden=(), temperature=TAU),
        dict(dim=13, temperature=TAU),
        weight=1.0,
        max_length=LENGTH,
    )
    return random_model(config, dataset)


def new_vectors() -> np.ndarray:
    """float32 [new item, d_text]."""
    vectors = np.random.default_rng(1).normal(size=(NEW, TEXT_WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def tables(model: TrainedModel, vectors: np.ndarray) -> dict[str, np.ndarray]:
    """float64 [item, dim], by NumPy: of the catalogue, and of the new items where it is text that places them."""
    texts = np.concatenate([model.dataset.text_vectors[:CATALOGUE], vectors])
    if set(model.params) == {"id"}:
        return {"main": oracle.id_table(model.params["id"]["items"])}
    if set(model.params) == {"text"}:
        table = oracle.text_table(model.params["text"]["items"], texts, output_relu=False)
        return {"main": table, "text": table}
    if set(model.params) == {"id", "text"}:
        text = oracle.text_table(model.params["text"]["items"], texts, output_relu=False)
        return {"main": oracle.id_table(model.params["id"]["items"]), "text": text}
    items = model.params["fused"]["items"]
    text = oracle.text_table(items["text"], texts, output_relu=False)
    return {"main": nfrec.fused(oracle.id_table(items["id"]), text[:CATALOGUE], "concat"), "text": text}


def expected(model: TrainedModel, session: list[int], vectors: np.ndarray) -> list[int]:
    """All items in order: new ones where the text part's ranking of everything has them, the others around them."""
    found = tables(model, vectors)
    known = [item for item in session if item < len(found["main"])][-LENGTH:]
    main = nfrec.scores(found["main"], known, TAU) if known else model.dataset.train_counts
    order = [item for item in mining.ranking(main.tolist()) if item < CATALOGUE]
    if not len(vectors) or not session:
        return order
    text = nfrec.scores(found["text"], session[-LENGTH:], TAU)
    others = iter(order)
    return [item if item >= CATALOGUE else next(others) for item in mining.ranking(text.tolist())]


@pytest.mark.parametrize("new", [0, NEW])
@pytest.mark.parametrize("model", ["alterrec", "id", "text", "nfrec"])
def test_ranking_is_that_of_the_oracle(model: str, new: int, dataset: Dataset) -> None:
    one, vectors = trained(model, dataset), new_vectors()[:new]
    if model == "id" and new:
        with pytest.raises(UserError, match="has no network on text alone, so it cannot place new items"):
            Recommender(one, False, {"text": vectors})
        return
    sessions = SESSIONS + (WITH_NEW if new else [])
    recommender = Recommender(one, False, {"text": vectors} if new else {})
    for session, found in zip(sessions, recommender(sessions, CATALOGUE + new), strict=True):
        assert [r.item for r in found] == expected(one, session, vectors), session
        for r in found:
            known = [item for item in session if item < CATALOGUE or (model == "text" and new)]
            by = one.system.main if known else "popularity"
            assert r.by == ("text" if r.item >= CATALOGUE else by), session


@pytest.mark.parametrize("model", ["alterrec", "id", "text", "nfrec"])
def test_scores_are_those_of_the_main_view(model: str, dataset: Dataset) -> None:
    one = trained(model, dataset)
    table = tables(one, NO_ITEMS)["main"]
    sessions = [session for session in SESSIONS if session]
    for session, found in zip(sessions, Recommender(one, True)(sessions, CATALOGUE), strict=True):
        scores = nfrec.scores(table, session[-LENGTH:], TAU)
        assert {r.item for r in found} == set(range(CATALOGUE)) - set(session)
        np.testing.assert_allclose([r.score for r in found], [scores[r.item] for r in found], rtol=1e-4, atol=1e-4)
