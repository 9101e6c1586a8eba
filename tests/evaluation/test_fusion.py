"""Weights that are fitted by the metric: against a search in plain Python, and what they promise."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from alterrec_jax.contract import CatalogueInfo, System
from alterrec_jax.data.dataset import Sessions
from alterrec_jax.data.targets import Targets, select_targets, target_in_history
from alterrec_jax.errors import UserError
from alterrec_jax.evaluation.fitted_views import fit_view, fit_views, weight_entries, with_weights_of, without_each
from alterrec_jax.evaluation.fusion import fit_fusion
from alterrec_jax.evaluation.metrics import summarise
from alterrec_jax.evaluation.protocol import Protocol, validate
from alterrec_jax.evaluation.ranking import rank_targets
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.unimodal import AttributeNetworkConfig, IdNetworkConfig, VectorNetworkConfig
from tests.evaluation.examples import make_dataset, random_sessions
from tests.oracles import fusion as oracle

CATALOGUE, ITEMS = 131, 137
DIM, SCALE = {"id": 3, "text": 5, "attributes": 2}, {"id": 0.2, "text": 7.0, "attributes": 1.0}
METRICS = ("ndcg@20", "hits@20", "mrr@5")
METRIC = METRICS[0]


class Case(NamedTuple):
    """Queries that know something of their target, on scales of their own."""

    sessions: Sessions
    targets: Targets
    queries: dict[str, np.ndarray]
    tables: dict[str, np.ndarray]

    def fit(self, *components: str, batch_size: int = 64, metric: str = METRIC, **options: Any) -> dict[str, float]:
        """The weights of some components, of all where none is named."""
        names = components or tuple(self.tables)
        options = {"catalogue": CATALOGUE, "batch_size": batch_size, "metric": metric} | options
        return fit_fusion(batches(self.queries, 9, 9, 70), self.tables, names, self.targets, **options)

    def quality(self, weights: dict[str, float], metric: str, exclude: Sessions | None) -> float:
        """The metric of a view, as evaluation has it."""
        name, _, k = metric.partition("@")
        options: dict[str, Any] = {"catalogue": CATALOGUE, "exclude": exclude}
        rank = rank_targets([self.queries], self.tables, {"view": weights}, self.targets, **options)["view"]
        return summarise(rank.above, rank.equal, [int(k)])[f"{name}@{k}"]


def batches(queries: dict[str, np.ndarray], *cuts: int) -> Iterator[dict[str, np.ndarray]]:
    """The queries in pieces that end at `cuts` and at the end."""
    for start, stop in itertools.pairwise([0, *cuts, len(queries["id"])]):
        yield {name: query[start:stop] for name, query in queries.items()}


def make_case(seed: int, sessions: int = 41) -> Case:
    rng = np.random.default_rng(seed)
    held = random_sessions(rng, sessions, ITEMS)
    targets = select_targets(held, "all_prefixes")
    targets = targets[(targets.item < CATALOGUE) & ~target_in_history(held, targets)]
    tables = {name: rng.normal(size=(CATALOGUE, dim)).astype(np.float32) for name, dim in DIM.items()}
    for table in tables.values():
        table[100:120] = table[20:40]  # ties
    queries = {
        name: (scale * (tables[name][targets.item] + rng.normal(size=(len(targets), DIM[name])))).astype(np.float32)
        for name, scale in SCALE.items()
    }
    return Case(held, targets, queries, tables)


@pytest.fixture(scope="module")
def case() -> Case:
    return make_case(3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exclude", [False, True])
def test_it_finds_what_a_search_in_plain_python_finds(case: Case, exclude: bool, metric: str) -> None:
    held = case.sessions if exclude else None
    found = case.fit(metric=metric, exclude=held)
    scores = {name: case.queries[name] @ table.T for name, table in case.tables.items()}
    seen = [
        set(case.sessions[session][:position].tolist()) if exclude else set()
        for session, position in zip(case.targets.session, case.targets.position, strict=True)
    ]
    items = case.targets.item.tolist()
    assert found == pytest.approx(oracle.fitted(scores, items, seen, metric), rel=1e-5)
    assert case.quality(found, metric, held) == pytest.approx(oracle.quality(scores, found, items, seen, metric))
    assert sum(found.values()) == pytest.approx(1) and min(found.values()) >= 0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("metric", METRICS)
def test_it_is_never_worse_than_a_component_alone_and_mostly_better(seed: int, metric: str) -> None:
    case = make_case(seed)
    found = case.quality(case.fit(metric=metric), metric, None)
    alone = [case.quality({name: 1.0}, metric, None) for name in case.tables]
    assert found >= max(alone)
    assert found > max(alone), "each component knows something of its own"


def test_it_depends_neither_on_batches_nor_on_what_is_held(case: Case) -> None:
    found = case.fit()
    assert case.fit() == case.fit(held_bytes=0) == found
    assert case.fit(batch_size=8) == pytest.approx(found, rel=1e-6)


def test_neither_does_it_on_the_scales_of_the_components(case: Case) -> None:
    other = case._replace(queries={name: query * 2 ** (3 * i) for i, (name, query) in enumerate(case.queries.items())})
    found, there = other.fit(), case.fit()
    again = {name: found[name] * 2 ** (3 * i) for i, name in enumerate(found)}
    assert {name: weight / sum(again.values()) for name, weight in again.items()} == pytest.approx(there, rel=1e-5)


@pytest.mark.parametrize("useless", ["equal rows", "no query"])
def test_what_ranks_nothing_gets_no_weight(case: Case, useless: str) -> None:
    tables, queries = dict(case.tables), dict(case.queries)
    if useless == "equal rows":
        tables["text"] = np.broadcast_to(tables["text"][:1], tables["text"].shape)
    else:
        queries["text"] = np.zeros_like(queries["text"])
    found = case._replace(tables=tables, queries=queries).fit()
    assert found["text"] == 0
    without = case.fit("id", "attributes")
    assert {name: found[name] for name in without} == pytest.approx(without, rel=1e-6)


def test_what_ranks_at_random_does_no_harm(case: Case) -> None:
    rng = np.random.default_rng(5)
    queries = {**case.queries, "text": rng.normal(size=case.queries["text"].shape).astype(np.float32)}
    noisy = case._replace(queries=queries)
    found, without = noisy.fit(), noisy.fit("id")
    assert noisy.quality(found, METRIC, None) >= noisy.quality(without, METRIC, None)
    assert found["text"] * SCALE["text"] < found["id"] * SCALE["id"]


def test_where_nothing_ranks_all_weigh_alike_and_one_alone_weighs_all(case: Case) -> None:
    nothing = case._replace(queries={name: 0 * query for name, query in case.queries.items()})
    assert nothing.fit("id", "text") == {"id": 0.5, "text": 0.5}
    assert case.fit("text") == {"text": 1.0}


def test_scores_that_are_not_finite(case: Case) -> None:
    table = case.tables["text"].copy()
    table[7, 2] = np.nan
    with pytest.raises(UserError, match="the scores of 'text' are not all finite .* train with a lower learning rate"):
        case._replace(tables={**case.tables, "text": table}).fit()


def system_of(fusion_weights: str, *names: str) -> System:
    """AlterRec of some networks; only its views and what is fitted of them matter here."""
    kinds: dict[str, Any] = {"id": IdNetworkConfig, "text": VectorNetworkConfig, "attributes": AttributeNetworkConfig}
    networks = {name: kinds[name](weight=1 + i) for i, name in enumerate(names)}
    mining = MiningConfig(negatives="full", augment=False)
    config = AlterRecConfig(fusion_weights=fusion_weights, networks=networks, mining=mining)
    return config.check().build(CatalogueInfo(CATALOGUE, {"category": 3, "brand": 4}))


@pytest.mark.parametrize("exclude", [False, True])
def test_the_views_of_a_system_on_its_validation_split(exclude: bool) -> None:
    rng = np.random.default_rng(2)
    dataset = make_dataset(random_sessions(rng, 5, CATALOGUE), random_sessions(rng, 31, ITEMS), ITEMS, CATALOGUE)
    tables = {name: rng.normal(size=(CATALOGUE, dim)).astype(np.float32) for name, dim in DIM.items()}
    held = dataset.splits["validation"]

    def provider(sessions: Sessions, targets: Targets) -> Iterator[dict[str, np.ndarray]]:
        assert sessions is held
        drawn = np.random.default_rng(1).normal(size=(held.offsets[-1], 9)).astype(np.float32)
        row = held.offsets[targets.session] + targets.position
        yield {
            name: SCALE[name] * (tables[name][targets.item % CATALOGUE] + drawn[row, : DIM[name]]) for name in tables
        }

    protocol = Protocol(exclude_session_items=exclude)
    system = system_of("fitted", *DIM)
    asked = (dataset, provider, tables, protocol)
    views = fit_views(system, *asked, METRIC)
    assert list(views) == list(system.views) and views != system.views
    assert {name: view for name, view in views.items() if name != "fused"} == {name: {name: 1.0} for name in DIM}
    # Targets that cannot be hit take the same share from all views, and here validation has no other ones.
    measured = validate(dataset, provider, tables, views, protocol)
    assert measured["fused"][METRIC] > max(measured[name][METRIC] for name in DIM)
    assert fit_views(system_of("fixed", *DIM), *asked, METRIC) == system.views
    record = {"epoch": 3, **weight_entries(system, views)}
    assert {f"fused_weight_{name}" for name in DIM} == record.keys() - {"epoch"}
    assert with_weights_of(system, record).views == views
    assert with_weights_of(system, {"epoch": 3}).views == system.views, "a record of before there were weights"
    parts = without_each(system._replace(views=views), lambda view: fit_view(view, *asked, metric=METRIC))
    assert list(parts) == [f"fused without {name}" for name in views["fused"] if views["fused"][name]]
    assert list(parts["fused without text"]) == ["id", "attributes"]
    assert parts["fused without text"] == fit_view({"id": 0.5, "attributes": 0.5}, *asked, metric=METRIC)


def test_without_a_target_that_can_be_hit_a_view_stays() -> None:
    rng = np.random.default_rng(2)
    dataset = make_dataset(random_sessions(rng, 5, CATALOGUE), random_sessions(rng, 9, ITEMS), ITEMS, CATALOGUE)
    held = dataset.splits["validation"]
    held.items[:] = CATALOGUE + 1
    view = {"id": 0.3, "text": 0.7}
    assert fit_view(view, dataset, lambda *_: [], {}, Protocol(), metric=METRIC) == view


def test_the_parts_of_fixed_weights_keep_their_shares_and_two_networks_have_none() -> None:
    def refuse(view: Any) -> Any:
        raise AssertionError(view)

    parts = without_each(system_of("fixed", *DIM), refuse)
    assert parts == {
        "fused without id": pytest.approx({"text": 0.4, "attributes": 0.6}),
        "fused without text": pytest.approx({"id": 0.25, "attributes": 0.75}),
        "fused without attributes": pytest.approx({"id": 1 / 3, "text": 2 / 3}),
    }
    assert without_each(system_of("fixed", "id", "text"), refuse) == {}
    assert without_each(system_of("fixed", "id"), refuse) == {}


def test_what_is_fitted() -> None:
    assert system_of("fitted", "id", "text").fitted == ("fused",) == system_of("fitted", *DIM).fitted
    assert system_of("fitted", "id").fitted == () == system_of("fixed", "id", "text").fitted
