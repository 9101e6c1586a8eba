"""Ranks, cross-entropies and recommendations on meshes of eight virtual devices: those of one, exactly."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from alterrec_jax.data.dataset import Dataset
from alterrec_jax.data.features import catalogue_info, make_context
from alterrec_jax.data.targets import select_targets
from alterrec_jax.evaluation.cross_entropy import mean_cross_entropy
from alterrec_jax.evaluation.fusion import fit_fusion
from alterrec_jax.evaluation.rank_counts import RankingLimits, count_ranks
from alterrec_jax.evaluation.ranking import Ranks, rank_rows, rank_targets
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.serving.recommend import Recommendation, Recommender
from alterrec_jax.serving.trained_model import TrainedModel
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_shards import ItemShards
from alterrec_jax.sharding.per_item import is_per_item
from tests.conftest import CATALOGUE, TEXT_WIDTH
from tests.evaluation.examples import random_sessions
from tests.sharding.examples import MESHES, ONE, collectives, on_mesh

ITEMS, DIM, NEW = 61, 5, 4
VIEWS = {"fused": {"id": 0.3, "text": 0.7}, "id": {"id": 1.0}, "text": {"text": 1.0}}
CONFIG = AlterRecConfig(
    max_length=7,
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=3, weight=0.6),
        "text": VectorNetworkConfig(encoder="mean", dim=11, mlp_hidden=(), temperature=0.5, weight=1.4),
    },
    mining=MiningConfig(k1=2, augment=False),
)
SESSIONS = [[3, 7, 3], [28], list(range(20)), [], [CATALOGUE + 1], [0, CATALOGUE + 3, 5], [11, 11], [9, 2, 4, 28, 1]]


def batches(queries: dict[str, np.ndarray], *cuts: int) -> Iterator[dict[str, np.ndarray]]:
    """The queries in pieces that end at `cuts` and at the end."""
    edges = [0, *cuts, len(next(iter(queries.values())))]
    for start, stop in itertools.pairwise(edges):
        yield {name: query[start:stop] for name, query in queries.items()}


def new_vectors() -> np.ndarray:
    """float32 [new item, width]; items 0 and 2 are alike, so that they share a rank."""
    vectors = np.random.default_rng(1).normal(size=(NEW, TEXT_WIDTH)).astype(np.float32)
    vectors[2] = vectors[0]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


LIMITS = {"rows": RankingLimits(), "blocks": RankingLimits(whole_rows=2, block=4, lane=4)}


@pytest.fixture(params=LIMITS)
def limits(request: pytest.FixtureRequest) -> RankingLimits:
    """Whole rows, or blocks of every device's items, as of a long catalogue."""
    return LIMITS[request.param]


def assert_equal(found: dict[str, Ranks], wanted: dict[str, Ranks]) -> None:
    assert found.keys() == wanted.keys()
    for view in wanted:
        np.testing.assert_array_equal(found[view].above, wanted[view].above)
        np.testing.assert_array_equal(found[view].equal, wanted[view].equal)


@pytest.mark.parametrize("words", MESHES)
def test_ranks_are_those_of_one_device(words: str, limits: RankingLimits) -> None:
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
                ranks = rank_targets(batches(queries, 9), tables, VIEWS, targets, exclude=exclude, limits=limits)
                by_rows = rank_rows(
                    lambda start, stop: rows[start:stop], "x", targets, catalogue=ITEMS, exclude=exclude
                )
                found.append(ranks | {"rows": by_rows})
    assert max(rank.equal.max() for rank in found[0].values()) > 3
    assert_equal(found[2], found[0])
    assert_equal(found[3], found[1])


@pytest.mark.parametrize("words", MESHES)
def test_fitted_weights_are_those_of_one_device(words: str) -> None:
    rng = np.random.default_rng(6)
    sessions = random_sessions(rng, 23, ITEMS)
    targets = select_targets(sessions, "all_prefixes")
    tables = {name: rng.normal(size=(ITEMS, DIM)).astype(np.float32) for name in ("text", "id")}
    near = {name: table[targets.item] + rng.normal(size=(len(targets), DIM)) for name, table in tables.items()}
    queries = {name: rows.astype(np.float32) for name, rows in near.items()}
    found = []
    for one in (ONE, words):
        with on_mesh(one):
            for exclude in (None, sessions):
                options: dict[str, Any] = {"catalogue": ITEMS, "exclude": exclude, "metric": "ndcg@5"}
                found.append(fit_fusion(batches(queries, 9), tables, ("text", "id"), targets, **options))
    assert found[2:] == [pytest.approx(weights, rel=1e-5) for weights in found[:2]]
    assert all(0 < weight < 1 for weights in found for weight in weights.values())


@pytest.mark.parametrize("words", MESHES)
def test_cross_entropies_are_those_of_one_device(words: str) -> None:
    rng = np.random.default_rng(6)
    targets = select_targets(random_sessions(rng, 9, ITEMS), "all_prefixes")
    queries = {name: rng.normal(size=(len(targets), DIM)).astype(np.float32) for name in ("id", "text")}
    tables = {name: rng.normal(size=(ITEMS, DIM)).astype(np.float32) for name in ("id", "text")}
    found = []
    for one in (ONE, words):
        with on_mesh(one):
            found.append(mean_cross_entropy(batches(queries), tables, VIEWS, targets))
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def trained(dataset: Dataset) -> TrainedModel:
    """A model of random parameters, which lie on the mesh in use."""
    system = CONFIG.build(catalogue_info(dataset))
    known = make_context(dataset, system.reads, CONFIG.precision)

    def drawn(per_item: tuple[str, ...], path: tuple[Any, ...], leaf: Any) -> jax.Array:
        rng = np.random.default_rng(len(jax.tree_util.keystr(path)))
        if is_per_item(per_item, path):
            return mesh.put_rows(rng.normal(size=(CATALOGUE, *leaf.shape[1:])), np.float32)
        return mesh.put(rng.normal(size=leaf.shape).astype(np.float32))

    params = {}
    for name, network in system.networks.items():
        shapes = jax.eval_shape(network.init, jax.random.key(0), known)
        params[name] = jax.tree_util.tree_map_with_path(functools.partial(drawn, network.per_item), shapes)
    return TrainedModel(CONFIG, dataset, system, params, {}, True)


@pytest.mark.parametrize(
    ("words", "new", "exclude"), [*((words, NEW, True) for words in MESHES), (MESHES[2], 0, False)]
)
def test_recommendations_are_those_of_one_device(
    words: str, new: int, exclude: bool, dataset: Dataset, limits: RankingLimits
) -> None:
    vectors = dataset.text_vectors.copy()
    vectors[[4, 11, 28]] = vectors[17]  # texts that tie, on several devices
    dataset = dataclasses.replace(dataset, vectors={"text": vectors})
    sessions = [session for session in SESSIONS if max(session, default=0) < CATALOGUE + new]
    only = [None, *(range(row, CATALOGUE + new, 2) for row in range(1, len(sessions)))]
    found: list[list[list[Recommendation]]] = []
    for one in (ONE, words):
        with on_mesh(one):
            recommender = Recommender(trained(dataset), exclude, {"text": new_vectors()} if new else {}, limits)
            found += [list(recommender(sessions, k)) for k in (3, CATALOGUE + new)]
            found += [list(recommender(sessions, 3, exclude=sessions[::-1], only=only))]
    half = len(found) // 2
    for mine, wanted in zip(found[half:], found[:half], strict=True):
        for some, expected in zip(mine, wanted, strict=True):
            assert [(one.item, one.by) for one in some] == [(one.item, one.by) for one in expected]
            np.testing.assert_allclose(
                [one.score for one in some], [one.score for one in expected], rtol=1e-5, atol=1e-5
            )


def test_no_device_gets_a_whole_row_of_scores() -> None:
    """Read in the compiled programs: what is gathered has one entry a target, never one an item."""
    items, batch = 4001, 16
    with on_mesh("data:4,model:2"):
        shards = ItemShards.of(items)
        scores = jax.ShapeDtypeStruct((batch, shards.columns), np.float32, sharding=mesh.sharding(mesh.BATCH_AND_ITEMS))
        item = jax.ShapeDtypeStruct((batch,), np.int32, sharding=mesh.sharding(mesh.BATCH))
        gone = jax.ShapeDtypeStruct((batch, 3), np.int32, sharding=mesh.sharding(mesh.BATCH))
        where = jax.ShapeDtypeStruct((batch, 3), np.bool_, sharding=mesh.sharding(mesh.BATCH))
        text = count_ranks.lower(scores, item, gone, where, catalogue=items).compile().as_text()
    shapes = [shape for _, shape in collectives(text or "")]
    assert shapes
    assert max(itertools.chain(*shapes), default=0) <= batch
