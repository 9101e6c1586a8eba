"""Ranks, cross-entropies and recommendations on meshes of eight virtual devices: those of one, exactly."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.targets import select_targets
from alterrec_jax.evaluation import rank_counts, ranking
from alterrec_jax.evaluation.cross_entropy import mean_cross_entropy
from alterrec_jax.evaluation.protocol import fusion_views
from alterrec_jax.evaluation.ranking import Ranks, rank_rows, rank_targets
from alterrec_jax.models.registry import build_system
from alterrec_jax.nn.item_tables import has_row_per_item
from alterrec_jax.serving import recommend
from alterrec_jax.serving.recommend import Recommendation, Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_shards import Columns
from benchmarks import collectives
from tests.conftest import CATALOGUE
from tests.evaluation.examples import random_sessions
from tests.evaluation.test_ranking import batches
from tests.serving.test_recommend import CONFIG, NEW, SESSIONS, new_vectors
from tests.sharding.test_mesh_steps import MESHES, ONE, on_mesh

ITEMS, DIM = 61, 5


@pytest.fixture(params=["rows", "blocks"])
def scored_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole rows, or blocks of every device's items, as of a long catalogue."""
    if request.param == "blocks":
        for module in (ranking, recommend):
            monkeypatch.setattr(module, "IN_BLOCKS", 2)
        for module in (ranking, rank_counts, recommend):
            monkeypatch.setattr(module, "BLOCK", 4)
        monkeypatch.setattr(rank_counts, "LANE", 4)


def assert_equal(found: dict[str, Ranks], wanted: dict[str, Ranks]) -> None:
    assert found.keys() == wanted.keys()
    for view in wanted:
        np.testing.assert_array_equal(found[view].above, wanted[view].above)
        np.testing.assert_array_equal(found[view].equal, wanted[view].equal)


@pytest.mark.usefixtures("scored_in")
@pytest.mark.parametrize("words", MESHES)
def test_ranks_are_those_of_one_device(words: str) -> None:
    rng = np.random.default_rng(5)
    sessions = random_sessions(rng, 23, ITEMS + 3)
    targets = select_targets(sessions, "all_prefixes")
    queries = {name: rng.normal(size=(len(targets), DIM)).astype(np.float32) for name in ("id", "text")}
    tables = {name: rng.normal(size=(ITEMS, DIM)).astype(np.float32) for name in ("id", "text")}
    for table in tables.values():  # items of several devices that tie, and the items of one
        table[[3, 40, 60]] = table[20]
        table[8:12] = table[7]
    rows = (queries["id"] @ tables["id"].T).round()
    found: list[Any] = []
    for one in (ONE, words):
        with on_mesh(one):
            for exclude in (None, sessions):
                ranks = rank_targets(batches(queries, 9), tables, fusion_views(0.3), targets, exclude=exclude)
                by_rows = rank_rows(
                    lambda start, stop: rows[start:stop], "x", targets, catalogue=ITEMS, exclude=exclude
                )
                found.append(ranks | {"rows": by_rows})
    assert max(rank.equal.max() for rank in found[0].values()) > 3
    assert_equal(found[2], found[0])
    assert_equal(found[3], found[1])


@pytest.mark.parametrize("words", MESHES)
def test_cross_entropies_are_those_of_one_device(words: str) -> None:
    rng = np.random.default_rng(6)
    targets = select_targets(random_sessions(rng, 9, ITEMS), "all_prefixes")
    queries = {name: rng.normal(size=(len(targets), DIM)).astype(np.float32) for name in ("id", "text")}
    tables = {name: rng.normal(size=(ITEMS, DIM)).astype(np.float32) for name in ("id", "text")}
    found = []
    for one in (ONE, words):
        with on_mesh(one):
            found.append(mean_cross_entropy(batches(queries), tables, fusion_views(0.3), targets))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def trained(dataset: Dataset) -> TrainedModel:
    """A model of random parameters, which lie on the mesh in use."""
    system = build_system(CONFIG, CATALOGUE)
    vectors = mesh.put_rows(dataset.text_vectors[:CATALOGUE], np.float32)

    def drawn(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        rng = np.random.default_rng(len(jax.tree_util.keystr(path)))
        if has_row_per_item(path):
            return mesh.put_rows(rng.normal(size=(CATALOGUE, *leaf.shape[1:])), np.float32)
        return mesh.put(rng.normal(size=leaf.shape).astype(np.float32))

    params = {}
    for name, network in system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), vectors)
        params[name] = jax.tree_util.tree_map_with_path(drawn, shapes)
    return TrainedModel(CONFIG, dataset, system, params, {}, True)


@pytest.mark.usefixtures("scored_in")
@pytest.mark.parametrize(
    ("words", "new", "exclude"), [*((words, NEW, True) for words in MESHES), (MESHES[2], 0, False)]
)
def test_recommendations_are_those_of_one_device(words: str, new: int, exclude: bool, dataset: Dataset) -> None:
    vectors = dataset.text_vectors.copy()
    vectors[[4, 11, 28]] = vectors[17]  # texts that tie, on several devices
    dataset = dataclasses.replace(dataset, vectors={"text": vectors})
    sessions = [session for session in SESSIONS if max(session, default=0) < CATALOGUE + new]
    found: list[list[list[Recommendation]]] = []
    for one in (ONE, words):
        with on_mesh(one):
            recommender = Recommender(trained(dataset), new_vectors()[:new], exclude)
            found += [list(recommender(sessions, k)) for k in (3, CATALOGUE + new)]
    for mine, wanted in zip(found[2:], found[:2], strict=True):
        for some, expected in zip(mine, wanted, strict=True):
            assert [(one.item, one.by) for one in some] == [(one.item, one.by) for one in expected]
            np.testing.assert_allclose(
                [one.score for one in some], [one.score for one in expected], rtol=1e-5, atol=1e-6
            )


def test_no_device_gets_a_whole_row_of_scores() -> None:
    """Read in the compiled programs: what is gathered has one entry a target, never one an item."""
    items, batch = 4001, 16
    with on_mesh("data:4,model:2"):
        columns = Columns.of(items)
        scores = jax.ShapeDtypeStruct((batch, columns.total), np.float32, sharding=mesh.sharding(mesh.BATCH_AND_ITEMS))
        item = jax.ShapeDtypeStruct((batch,), np.int32, sharding=mesh.sharding(mesh.BATCH))
        gone = jax.ShapeDtypeStruct((batch, 3), np.int32, sharding=mesh.sharding(mesh.BATCH))
        where = jax.ShapeDtypeStruct((batch, 3), np.bool_, sharding=mesh.sharding(mesh.BATCH))
        text = rank_counts.count_ranks.lower(scores, item, gone, where, catalogue=items).compile().as_text()
    shapes = [shape for one in collectives.read(text or "") for shape in one.shapes]
    assert shapes
    assert max(itertools.chain(*shapes), default=0) <= batch
