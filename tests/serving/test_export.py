"""Exported programs against the recommender of the checkpoint: embeddings, scores and lists, for any number of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.errors import UserError
from alterrec_jax.models.core import COREConfig, CORENetworkConfig
from alterrec_jax.models.msgifsr import MSGIFSRConfig, MSGIFSRNetworkConfig
from alterrec_jax.models.sr_gnn import SRGNNConfig, SRGNNNetworkConfig
from alterrec_jax.serving.export import (
    NO_ITEM,
    PLATFORMS,
    arrays_of,
    everything,
    exported_encoder,
    exported_top_items,
    rows_of,
    served,
    top_items,
)
from alterrec_jax.serving.recommend import Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from tests.conftest import CATALOGUE
from tests.examples import alterrec_or_part, random_model

LENGTH, K = 7, 9
SESSIONS = [[3, 7, 3], [28], list(range(20)), [], [0, 5], [11, 11], [9, 2, 4, 28, 1]]


def trained_model(
    dataset: Dataset, model: str = "alterrec", precision: str = "float32", alpha: float = 0.3
) -> TrainedModel:
    """A model of random parameters, its ID network a Transformer."""
    if model == "core":
        config = COREConfig(max_length=LENGTH, network=CORENetworkConfig(dim=6, layers=1, inner=5))
        return random_model(config, dataset)
    if model == "sr_gnn":
        return random_model(SRGNNConfig(max_length=LENGTH, network=SRGNNNetworkConfig(dim=6)), dataset)
    config = alterrec_or_part(
        model,
        dict(encoder="transformer", dim=6, layers=2, temperature=0.5),
        dict(encoder="mean", dim=11, mlp_hidden=(5,)),
        dict(dim=13),
        weight=alpha,
        precision=precision,
        max_length=LENGTH,
    )
    return random_model(config, dataset)


@pytest.mark.parametrize(
    ("kind", "exclude"),
    [
        ({}, True),
        ({"alpha": 1.0}, False),
        ({"precision": "bfloat16"}, False),
        ({"model": "id"}, True),
        ({"model": "text"}, True),
        ({"model": "nfrec"}, False),
        ({"model": "core"}, False),
        ({"model": "sr_gnn"}, True),
    ],
    ids=["alterrec", "ID alone counts", "bfloat16", "id", "text", "nfrec", "core", "sr_gnn"],
)
def test_what_it_recommends_is_what_the_checkpoint_does(dataset: Dataset, kind: dict, exclude: bool) -> None:
    trained = trained_model(dataset, **kind)
    model = served(trained)
    program = jax.export.deserialize(bytearray(exported_top_items(model, dataset.train_counts[:CATALOGUE], K, exclude)))
    assert program.platforms == PLATFORMS
    for some in (SESSIONS, SESSIONS[:1], SESSIONS[3:6]):  # one program for any number
        # What the model sees is what is left out: the recommender is given no more than that.
        seen = [session[-LENGTH:] for session in some]
        arrays = map(jnp.asarray, arrays_of(model))
        scores, items = program.call(*arrays, rows_of(some, LENGTH), *everything(len(some)))
        assert scores.shape == items.shape == (len(some), K)
        for row, wanted in enumerate(Recommender(trained, exclude)(seen, K)):
            assert_same_list(scores[row], items[row], [(one.score, one.item) for one in wanted])


def test_lists_of_items_hold_for_the_program_as_for_the_recommender(dataset: Dataset) -> None:
    trained, seen = trained_model(dataset), [session[-LENGTH:] for session in SESSIONS]
    model, recommender = served(trained), Recommender(trained, True)
    best = [[one.item for one in found] for found in recommender(seen, 12)]
    listed = [order[: (3, 0, 12)[row % 3]] for row, order in enumerate(best)]
    only = [row % 2 == 1 for row in range(len(seen))]
    top = jax.jit(top_items(model, dataset.train_counts[:CATALOGUE], K, True))
    width = max(map(len, listed))
    rows = np.array([[*items, *[NO_ITEM] * (width - len(items))] for items in listed], np.int32)
    scores, items = top(*arrays_of(model), rows_of(seen, LENGTH), rows, np.array(only))
    wanted = recommender(
        seen,
        K,
        exclude=[[] if alone else items for alone, items in zip(only, listed, strict=True)],
        only=[items if alone else None for alone, items in zip(only, listed, strict=True)],
    )
    for row, some in enumerate(wanted):
        there = np.asarray(scores[row]) > -np.inf
        assert there.sum() == len(some) == (min(K, len(listed[row])) if only[row] else K)
        assert_same_list(scores[row][there], items[row][there], [(one.score, one.item) for one in some])


def assert_same_list(scores: jax.Array, items: jax.Array, wanted: list[tuple[float, int]]) -> None:
    """Scores within rounding, and items in the same order but for those whose scores differ by no more than that."""
    expected, order = np.array([score for score, _ in wanted]), [item for _, item in wanted]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    apart = np.flatnonzero(np.abs(np.diff(expected)) > 1e-3)
    edges = [0, *(apart + 1).tolist()]  # the last group goes on beyond K
    for start, stop in zip(edges, edges[1:], strict=False):
        assert sorted(np.asarray(items[start:stop]).tolist()) == sorted(order[start:stop])


def test_session_vectors_are_the_weighted_embeddings(dataset: Dataset) -> None:
    trained = trained_model(dataset)
    model = served(trained)
    program = jax.export.deserialize(bytearray(exported_encoder(model)))
    vectors = np.asarray(program.call(jnp.asarray(model.item_vectors), rows_of(SESSIONS, LENGTH)))
    tables = trained.encoder().tables
    np.testing.assert_array_equal(model.item_vectors, np.concatenate([tables["id"], tables["text"]], axis=1))
    assert vectors.dtype == np.float32 and not vectors[SESSIONS.index([])].any()
    # The mean encoder by hand: the text part, weight 1 - alpha.
    text = np.asarray(tables["text"])
    for row, session in zip(vectors, SESSIONS, strict=True):
        if session:
            np.testing.assert_allclose(row[6:], 0.7 * text[session[-LENGTH:]].mean(axis=0), rtol=1e-4, atol=1e-5)


def test_components_that_look_up_the_same_arrays_share_columns(dataset: Dataset) -> None:
    network = MSGIFSRNetworkConfig(order=2, dim=6, heads=2)
    model = served(random_model(MSGIFSRConfig(max_length=LENGTH, network=network), dataset))
    assert model.item_inputs is not None and model.item_inputs.shape == (CATALOGUE, 6 + 1)
    np.testing.assert_array_equal(model.item_inputs[:, :6], model.item_vectors)


@pytest.mark.parametrize("k", [0, CATALOGUE + 1])
def test_k_must_be_possible(dataset: Dataset, k: int) -> None:
    with pytest.raises(UserError, match=f"--k={k} is not between 1 and"):
        top_items(served(trained_model(dataset)), dataset.train_counts[:CATALOGUE], k, False)
