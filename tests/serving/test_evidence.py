"""Evidence against NumPy: of networks by an oracle of their scores, of neighbours by their matrix, and what is left."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.serving.evidence import Evidence, Explainer
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.training.start import fitted_params
from tests.conftest import CATALOGUE
from tests.examples import alterrec_or_part, random_model
from tests.models.families import TINY
from tests.oracles import encoders as oracle

LENGTH, ALPHA, TAU = 7, 0.3, 0.5
SESSIONS = [[3, 7, 3, 5], [28], [11, 11], [0, CATALOGUE + 1, 5], [*range(20)]]
RECOMMENDED = [4, 0, 28, 17]
OF_ID: dict[str, Any] = dict(encoder="mean", dim=3)
OF_TEXT: dict[str, Any] = dict(encoder="mean", dim=11, mlp_hidden=(), temperature=TAU)


@pytest.fixture(scope="module")
def networks(dataset: Dataset) -> TrainedModel:
    """AlterRec's two networks, by means, of random parameters."""
    return random_model(alterrec_or_part("alterrec", OF_ID, OF_TEXT, {}, weight=ALPHA, max_length=LENGTH), dataset)


@pytest.fixture(scope="module")
def neighbours(dataset: Dataset) -> TrainedModel:
    """Both kinds of neighbours, fitted, where items of all ages weigh the same; the networks beside them are random."""
    unordered = dataclasses.replace(dataset, manifest={**dataset.manifest, "order": {"ordered": False}})
    plain = random_model(TINY["alterrec with neighbours"].check(), unordered)
    fitted = fitted_params(plain.system, dataset.splits["train"])
    return dataclasses.replace(plain, params={**plain.params, **fitted})


def log_softmax(scores: np.ndarray) -> np.ndarray:
    return scores - np.log(np.exp(scores - scores.max()).sum()) - scores.max()


def network_scores(trained: TrainedModel, session: list[int]) -> dict[str, np.ndarray]:
    """float64 [catalogue] by view, from the equations: means of the latest known items' rows."""
    tables = {
        "id": oracle.id_table(trained.params["id"]["items"]),
        "text": oracle.text_table(
            trained.params["text"]["items"], trained.dataset.text_vectors[:CATALOGUE], output_relu=False
        ),
    }
    known = [item for item in session if item < CATALOGUE][-LENGTH:]
    if not known:
        return dict.fromkeys(("fused", "id", "text"), np.zeros(CATALOGUE))
    of_id = tables["id"] @ tables["id"][known].mean(axis=0)
    of_text = tables["text"] @ tables["text"][known].mean(axis=0) / TAU
    return {"fused": ALPHA * of_id + (1 - ALPHA) * of_text, "id": of_id, "text": of_text}


@pytest.mark.parametrize("session", SESSIONS, ids=str)
def test_evidence_of_networks_is_that_of_the_oracle(networks: TrainedModel, session: list[int]) -> None:
    found = Explainer(networks)(session, dict.fromkeys(("fused", "id", "text"), RECOMMENDED))
    whole = network_scores(networks, session)
    assert list(found) == ["fused", "id", "text"]
    for view, evidence in found.items():
        p = log_softmax(whole[view])
        assert evidence.items.tolist() == [*dict.fromkeys(item for item in session if item < CATALOGUE)]
        np.testing.assert_allclose(evidence.lift, p[RECOMMENDED] + np.log(CATALOGUE), rtol=1e-4, atol=1e-4)
        for column, item in enumerate(evidence.items):
            without = log_softmax(network_scores(networks, [other for other in session if other != item])[view])
            expected = (p - without)[RECOMMENDED]
            np.testing.assert_allclose(evidence.values[:, column], expected, rtol=1e-4, atol=1e-4)


def test_an_item_that_is_too_old_to_be_seen_is_no_evidence(networks: TrainedModel) -> None:
    evidence = Explainer(networks)([*range(20)], {"id": RECOMMENDED})["id"]
    np.testing.assert_allclose(evidence.values[:, : 20 - LENGTH], 0, atol=2e-6)
    assert np.abs(evidence.values[:, 20 - LENGTH :]).min() > 1e-4


def test_evidence_of_neighbours_is_their_row_of_the_matrix(neighbours: TrainedModel) -> None:
    """The rows of a session are added, so an item brings its entry, less what it brings to the mean item."""
    params = neighbours.params["together"]
    matrix = np.zeros((CATALOGUE, CATALOGUE))
    for row, (items, weights) in enumerate(zip(params["items"], params["weights"], strict=True)):
        np.add.at(matrix[row], np.asarray(items), np.asarray(weights))
    session = [3, 7, 5]
    evidence = Explainer(neighbours)(session, {"together": RECOMMENDED})["together"]
    total = matrix[session].sum(axis=0)
    for column, item in enumerate(session):
        rest = total - matrix[item]
        shift = np.log(np.exp(total).mean()) - np.log(np.exp(rest).mean())
        by_hand = matrix[item, RECOMMENDED] - shift
        np.testing.assert_allclose(evidence.values[:, column], by_hand, rtol=1e-4, atol=2e-6)


def test_a_long_catalogue_is_scored_a_few_rows_at_a_time(networks: TrainedModel) -> None:
    session, wanted = [*range(13)], {"fused": RECOMMENDED}
    at_once = Explainer(networks)(session, wanted)["fused"]
    in_blocks = Explainer(networks, rows_at_once=4)(session, wanted)["fused"]
    np.testing.assert_allclose(in_blocks.values, at_once.values, rtol=1e-5, atol=1e-6)


def test_an_empty_session_says_nothing(networks: TrainedModel) -> None:
    evidence = Explainer(networks)([], {"fused": RECOMMENDED})["fused"]
    assert evidence.values.shape == evidence.shares.shape == (4, 0)
    np.testing.assert_allclose(evidence.lift, 0, atol=1e-6)


def test_an_item_beyond_the_catalogue_is_never_recommended(networks: TrainedModel) -> None:
    with pytest.raises(ValueError, match=f"no evidence for item {CATALOGUE}; the catalogue has {CATALOGUE}"):
        Explainer(networks)([1], {"fused": [CATALOGUE]})


def test_shares_are_of_what_speaks_for_an_item() -> None:
    values = np.array([[1.0, -2.0, 3.0], [-1.0, 0.0, -0.5]], np.float32)
    shares = Evidence(np.arange(3), values, np.zeros(2, np.float32)).shares
    assert shares.tolist() == [[0.25, 0.0, 0.75], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("view", ["id", "text", "fused"])
def test_any_view_ranks(networks: TrainedModel, view: str) -> None:
    (found,) = Recommender(networks, True, view=view)([[3, 7, 3]], CATALOGUE)
    scores = network_scores(networks, [3, 7, 3])[view]
    order = [item for item in np.argsort(-scores, kind="stable").tolist() if item not in (3, 7)]
    assert [one.item for one in found] == order
    assert {one.by for one in found} == {view}
    np.testing.assert_allclose([one.score for one in found], scores[order], rtol=1e-4, atol=1e-4)
