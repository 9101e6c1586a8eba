"""A run on newer data starts from another's parameters: rows by item id and by class, new items by their texts."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import polars as pl
import pytest

from alterrec_jax.config import RunConfig
from alterrec_jax.contract import Context, Network, Reads, System, param_shapes
from alterrec_jax.data.catalogue import write_catalogue
from alterrec_jax.data.dataset import Dataset, load_dataset, write_dataset
from alterrec_jax.data.features import catalogue_info, class_values, make_context
from alterrec_jax.errors import UserError
from alterrec_jax.models.alterrec import AlterRecConfig, MiningConfig
from alterrec_jax.models.sasrec import SASRecConfig, TransformerOnIdsConfig
from alterrec_jax.models.unimodal import AttributeNetworkConfig, IdNetworkConfig, VectorNetworkConfig
from alterrec_jax.models.unisrec import INDUCTIVE, TRANSDUCTIVE, UniSRecConfig, UniSRecNetworkConfig
from alterrec_jax.serving.trained_model import load_trained
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_rows import copy_rows
from alterrec_jax.sharding.per_item import class_feature, is_per_item
from alterrec_jax.training.checkpoint import Checkpoint, CheckpointStore
from alterrec_jax.training.run_state import RunState, record_of
from alterrec_jax.training.similar_items import place_by_text, similar_items
from alterrec_jax.training.start import params_of_run
from alterrec_jax.training.trainer import Trainer
from tests.conftest import CATALOGUE, TEXT_WIDTH, small_tables
from tests.models.families import TINY
from tests.sharding.examples import ONE, on_mesh

THREE = AlterRecConfig(
    batch_prefixes=53,
    max_length=7,
    networks={
        "id": IdNetworkConfig(encoder="mean", dim=3, item_norm=True),
        "text": VectorNetworkConfig(encoder="mean", dim=5, mlp_hidden=()),
        "attributes": AttributeNetworkConfig(encoder="mean", dim=4),
    },
    mining=MiningConfig(negatives="uniform", augment=False),
    warmup_epochs=1,
    epochs=3,
)
KEPT, NEW = [f"B{i:03d}" for i in range(CATALOGUE - 1, 4, -1)], [f"N{i}" for i in range(7)]
GONE = CATALOGUE - len(KEPT)


def write_newer(path: pathlib.Path, change: Callable[[dict[str, Any]], None] = lambda arguments: None) -> Dataset:
    """Of the small dataset's items those that are kept, in another order, and new ones, the last without a text."""
    rng = np.random.default_rng(3)
    items, _, vectors = small_tables()
    kept = items.with_row_index("row").filter(pl.col("item_id").is_in(KEPT)).reverse()
    brand = kept["brand"].replace({"maker 3": "maker A"})  # one is gone, and one is new
    fresh = pl.DataFrame({"item_id": NEW, "name": NEW, "text": NEW, "category": "a new kind", "brand": "maker 1"})
    fresh = fresh.with_columns(attributes=pl.lit(["tag=1", "tag=new"]))
    drawn = rng.normal(size=(len(NEW), TEXT_WIDTH)).astype(np.float32)
    drawn[-1] = 0
    catalogue = len(KEPT) + len(NEW)
    sessions = [
        (split, f"{split}-{n}", f"user {n % 3}", rng.integers(0, catalogue, 5).tolist(), 1)
        for split, count in (("train", 40), ("validation", 5), ("test", 5))
        for n in range(count)
    ]
    schema = {"split": pl.String, "session_id": pl.String, "user_id": pl.String, "items": pl.List(pl.Int32)}
    arguments: dict[str, Any] = {
        "items": pl.concat([kept.drop("row").with_columns(brand), fresh], how="diagonal"),
        "sessions": pl.DataFrame(sessions, schema={**schema, "first_target": pl.Int32}, orient="row"),
        "text_vectors": np.concatenate([vectors[kept["row"].to_numpy()], drawn]),
        "catalogue_size": catalogue,
        "provenance": {"source": "synthetic"},
    }
    change(arguments)
    write_dataset(path, **arguments)
    return load_dataset(path)


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The newer dataset."""
    return write_newer(tmp_path_factory.mktemp("datasets") / "newer")


def drawn(system: System, context: Context, seed: int) -> dict[str, Any]:
    """Parameters of all networks, on the devices; different for every seed."""
    rng = np.random.default_rng(seed)

    def leaf_of(network: Network) -> Callable[[Any, Any], jax.Array]:
        def leaf(path: Any, shape: Any) -> jax.Array:
            if is_per_item(network.per_item, path):
                return mesh.put_rows(rng.normal(size=(network.catalogue_size, *shape.shape[1:])), np.float32)
            return mesh.put(rng.normal(size=shape.shape).astype(np.float32))

        return leaf

    shapes = {name: param_shapes(network, context) for name, network in system.networks.items()}
    return {n: jax.tree_util.tree_map_with_path(leaf_of(system.networks[n]), shapes[n]) for n in shapes}


def begun(config: RunConfig, dataset: Dataset, workdir: pathlib.Path) -> pathlib.Path:
    """Writes what a run of some epochs would leave, without training it."""
    system = config.build(catalogue_info(dataset))
    params = drawn(system, make_context(dataset, system.reads, config.precision), 1)
    state = RunState(epoch=1, best={"epoch": 0})
    workdir.mkdir(parents=True, exist_ok=True)
    write_catalogue(workdir, dataset)
    with contextlib.closing(CheckpointStore(workdir)) as store:
        store.save(1, Checkpoint({}, params, record_of(state, False, config, dataset)))
    return workdir


@pytest.fixture(scope="module")
def before(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The workdir of a run on the small dataset."""
    return begun(THREE, dataset, tmp_path_factory.mktemp("runs") / "before")


def started(config: RunConfig, dataset: Dataset, workdir: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters that a run starts from, and those that it would have started from; both on the host."""
    system = config.build(catalogue_info(dataset))
    context = make_context(dataset, system.reads, config.precision)
    fresh = drawn(system, context, 2)
    plain = jax.tree.map(np.array, fresh)
    return jax.tree.map(np.array, params_of_run(str(workdir), system, context, dataset, fresh)), plain


def test_a_run_in_another_order_has_its_own_encoder(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    """A network that leaves its encoder to the data starts from one with the same encoder alone."""
    config = SASRecConfig(max_length=11, network=TransformerOnIdsConfig(dim=6, layers=1, encoder="auto"))
    drawn_order = {**dataset.manifest, "order": {"ordered": False}}
    at_random = dataclasses.replace(dataset, manifest={**drawn_order, "fingerprint": "another"})
    workdir = begun(config, at_random, tmp_path / "run")
    again = dataclasses.replace(at_random, manifest={**drawn_order, "fingerprint": "a third"})
    found, _ = started(config, again, workdir)
    assert not found["id"]["encoder"]
    with pytest.raises(UserError, match="its network id has other shapes"):
        started(config, dataset, workdir)


def nearest(dataset: Dataset, item: int, neighbours: int = 10) -> dict[int, float]:
    """The weights of the known items that a new one starts from, in plain Python; none without a text."""
    vectors = dataset.text_vectors.astype(np.float64)
    known = [i for i, name in enumerate(dataset.items["item_id"]) if name in KEPT]
    norms = np.linalg.norm(vectors, axis=1)
    if not norms[item]:
        return {}
    cosines = {i: vectors[i] @ vectors[item] / norms[i] / norms[item] for i in known}
    best = sorted(known, key=lambda i: -cosines[i])[:neighbours]
    total = sum(max(cosines[i], 0) for i in best)
    return {i: max(cosines[i], 0) / total for i in best}


@pytest.mark.parametrize("words", [ONE, "data:4,model:2", "model:8"])
def test_what_a_run_on_newer_data_starts_from(
    words: str, before: pathlib.Path, dataset: Dataset, newer: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    old = jax.tree.map(np.asarray, load_trained(before).params)
    with on_mesh(words):
        found, fresh = started(THREE, newer, before)
    number = {name: row for row, name in enumerate(dataset.items["item_id"])}
    table, rows = found["id"]["items"]["table"], old["id"]["items"]["table"]
    catalogue = newer.catalogue_size
    for item, name in enumerate(newer.items["item_id"]):
        if name in KEPT:
            np.testing.assert_array_equal(table[item], rows[number[name]])
        elif weights := nearest(newer, item):
            mean = sum(weight * table[known] for known, weight in weights.items())
            np.testing.assert_allclose(table[item], mean, rtol=1e-5, atol=1e-6)
        else:
            assert name == NEW[-1], "the only one without a text"
            np.testing.assert_array_equal(table[item], fresh["id"]["items"]["table"][item])
    assert not table[catalogue:].any()
    for feature in ("category", "brand"):
        embedding, previous, drawn = (
            params["attributes"]["items"][feature]["embedding"] for params in (found, old, fresh)
        )
        np.testing.assert_array_equal(embedding[0], previous[0], err_msg="unknown stays unknown")
        there = class_values(dataset, feature)
        for place, value in enumerate(class_values(newer, feature), 1):
            wanted = previous[1 + there.index(value)] if value in there else drawn[place]
            np.testing.assert_array_equal(embedding[place], wanted, err_msg=f"{feature} {value}")
    np.testing.assert_array_equal(found["id"]["items"]["norm"]["scale"], old["id"]["items"]["norm"]["scale"])
    jax.tree.map(np.testing.assert_array_equal, found["text"], old["text"])
    told = capsys.readouterr().err
    assert (
        f"of its {CATALOGUE} items {len(KEPT)} are carried over and {GONE} are gone; of {len(NEW)} new ones 6" in told
    )
    assert "category: 4 carried over, 0 gone, 1 new" in told and "brand: 6 carried over, 1 gone, 1 new" in told


@pytest.mark.parametrize("name", [name for name in TINY if "alterrec" not in name])
def test_every_family_carries_what_it_learned_of_an_item(
    name: str, dataset: Dataset, newer: Dataset, tmp_path: pathlib.Path
) -> None:
    config = TINY[name]
    system = config.build(catalogue_info(dataset))
    old = drawn(system, make_context(dataset, system.reads, config.precision), 1)
    begun(config, dataset, tmp_path)
    found, fresh = started(config, newer, tmp_path)
    number = {name: row for row, name in enumerate(dataset.items["item_id"])}
    for name, params in old.items():

        def compare(path: Any, leaf: Any, now: Any, new: Any, network: Network = system.networks[name]) -> None:
            if is_per_item(network.per_item, path):
                kept = [number[name] for name in KEPT]
                leaf, now = np.asarray(leaf)[kept], now[: len(KEPT)]
            elif is_per_item(network.per_user, path):  # a workdir does not name its users
                leaf = new
            elif feature := class_feature(network.per_class, path):
                there, here = ([None, *class_values(data, feature)] for data in (dataset, newer))
                kept = [value for value in here if value in there]
                assert 1 < len(kept) < len(here), "some are kept, and some are new"
                leaf, now = (
                    np.asarray(rows)[[names.index(value) for value in kept]]
                    for rows, names in ((leaf, there), (now, here))
                )
            np.testing.assert_array_equal(leaf, now)

        jax.tree_util.tree_map_with_path(compare, params, found[name], fresh[name])


def test_such_a_run_trains_and_needs_the_older_data_no_more(
    before: pathlib.Path, newer: Dataset, tmp_path: pathlib.Path
) -> None:
    config = dataclasses.replace(THREE, start_from=str(before), epochs=1)
    Trainer(config, newer, tmp_path).run()
    assert len(load_trained(tmp_path).params["id"]["items"]["table"]) == newer.catalogue_size


def other_ids(arguments: dict[str, Any]) -> None:
    arguments["items"] = arguments["items"].with_columns(pl.col("item_id") + "x")


def other_encoder(arguments: dict[str, Any]) -> None:
    arguments["provenance"]["text_encoders"] = {"text": {"sha256": "other", "fusion": "mean"}}


def other_width(arguments: dict[str, Any]) -> None:
    arguments["text_vectors"] = arguments["text_vectors"][:, :-1]


def test_newer_data_without_what_the_run_read_are_refused(before: pathlib.Path, tmp_path: pathlib.Path) -> None:
    newer = write_newer(tmp_path / "data", lambda arguments: arguments.update(text_vectors=None))
    ids_alone = dataclasses.replace(THREE, networks={"id": THREE.networks["id"]})
    with pytest.raises(UserError, match="start_from=.* reads text, which .*data lacks; prepare it with --text_columns"):
        started(ids_alone, newer, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_ids, "knows no item of .*; are the item ids those of one shop"),
        (other_encoder, r"its network text reads text vectors not made.* are of a model .sha256 other, mean"),
        (other_width, "its network text reads text vectors of width 5, which .* has of another width"),
    ],
)
def test_newer_data_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Any]], None], message: str, before: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    newer = write_newer(tmp_path / "data", change)
    with pytest.raises(UserError, match=message):
        started(THREE, newer, before)


def unisrec(mode: str, **fields: Any) -> UniSRecConfig:
    """UniSRec, which can start from what it learned of the texts of other shops."""
    network = UniSRecNetworkConfig(dim=8, experts=2, layers=1, inner=5, dropout=0.1, learning_rate=0.01)
    return UniSRecConfig(mode=mode, batch_prefixes=53, max_length=7, network=network, **fields).check()


def test_what_was_learned_of_texts_is_carried_to_a_shop_that_shares_no_item(
    dataset: Dataset, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its item table starts fresh, for pretraining has none; frozen parts stay as they were pretrained."""
    domains = [{"name": name, "fingerprint": "1"} for name in ("gifts", "groceries")]
    shops = dataclasses.replace(dataset, manifest={**dataset.manifest, "domains": domains})
    there = begun(unisrec(INDUCTIVE, epochs=5, pretrain_epochs=5), shops, tmp_path / "there")
    old = jax.tree.map(np.asarray, load_trained(there).params["unisrec"])
    elsewhere = write_newer(tmp_path / "data", other_ids)
    config = unisrec(TRANSDUCTIVE, epochs=1, start_from=str(there), freeze_encoder=True)
    found, fresh = started(config, elsewhere, there)
    table = found["unisrec"].pop("items")["table"]
    np.testing.assert_array_equal(table, fresh["unisrec"]["items"]["table"])
    jax.tree.map(np.testing.assert_array_equal, found["unisrec"], old)
    told = capsys.readouterr().err
    assert f"start_from={there}: trained on {dataset.path} (gifts, groceries)" in told
    assert f"knows no item of {elsewhere.path}; what it learned of features is carried over" in told
    assert "unisrec: items/table starts fresh, for that run has none" in told

    Trainer(config, elsewhere, tmp_path / "here").run()
    new = load_trained(tmp_path / "here").params["unisrec"]
    for part in ("positions", "block_0"):
        jax.tree.map(np.testing.assert_array_equal, new["encoder"][part], old["encoder"][part])
    moved = [(new["adaptor"], old["adaptor"]), (new["encoder"]["input_norm"], old["encoder"]["input_norm"])]
    for one, other in moved:
        assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))
    assert np.abs(np.asarray(new["items"]["table"])).max() > 0


def test_on_its_own_data_a_run_may_add_an_item_table(dataset: Dataset, tmp_path: pathlib.Path) -> None:
    there = begun(unisrec(INDUCTIVE, epochs=5, pretrain_epochs=5), dataset, tmp_path)
    found, fresh = started(unisrec(TRANSDUCTIVE, start_from=str(there)), dataset, there)
    table = found["unisrec"].pop("items")["table"]
    np.testing.assert_array_equal(table, fresh["unisrec"]["items"]["table"])
    jax.tree.map(np.testing.assert_array_equal, found["unisrec"], load_trained(there).params["unisrec"])
    with pytest.raises(UserError, match="has other shapes"):  # what learned with a table is not what does without
        started(unisrec(INDUCTIVE), dataset, begun(unisrec(TRANSDUCTIVE), dataset, tmp_path / "with"))


def test_a_network_with_item_rows_of_its_own_needs_items_that_it_knows(
    dataset: Dataset, tmp_path: pathlib.Path
) -> None:
    there = begun(unisrec(TRANSDUCTIVE), dataset, tmp_path / "there")
    with pytest.raises(UserError, match="knows no item of"):
        started(unisrec(TRANSDUCTIVE), write_newer(tmp_path / "data", other_ids), there)


def test_what_depends_on_numbers_of_the_other_data_is_refused(
    before: pathlib.Path, newer: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = AlterRecConfig.build

    def changed(**changes: Any) -> Callable[..., System]:
        def built(*args: Any) -> System:
            system = build(*args)
            network = system.networks["attributes"]._replace(**changes)
            return system._replace(networks={**system.networks, "attributes": network})

        return built

    changes: dict[str, dict[str, Any]] = {
        "reads category by its numbers": {"per_class": {}},
        "reads users, whose numbers": {"reads": Reads(users=True)},
    }
    for message, change in changes.items():
        monkeypatch.setattr(AlterRecConfig, "build", changed(**change))
        with pytest.raises(UserError, match=f"its network attributes {message}"):
            started(THREE, newer, before)


def test_without_the_catalogue_of_the_run_nobody_knows_its_rows(before: pathlib.Path, newer: Dataset) -> None:
    catalogue = before / "catalogue.parquet"
    content = catalogue.read_bytes()
    catalogue.unlink()
    try:
        with pytest.raises(UserError, match=r"catalogue.parquet cannot be read .*; start_from needs it"):
            started(THREE, newer, before)
    finally:
        catalogue.write_bytes(content)


@pytest.mark.parametrize("words", [ONE, "model:8"])
def test_rows_travel_some_at_a_time(words: str, newer: Dataset) -> None:
    rng = np.random.default_rng(0)
    source, table = rng.normal(size=(16, 2, 3)).astype(np.float32), rng.normal(size=(24, 2, 3)).astype(np.float32)
    places, rows = rng.permutation(24)[:11], rng.integers(0, 16, 11)
    wanted = table.copy()
    wanted[places] = source[rows]
    known = np.where(np.arange(newer.catalogue_size) < len(KEPT), 0, -1)
    with on_mesh(words):
        put = [mesh.put_rows(array, np.float32) for array in (table, source)]
        np.testing.assert_array_equal(copy_rows(put[0], places, put[1], rows, rows_at_once=4), wanted)
        similar = similar_items(newer, known)
        by_item = rng.normal(size=(newer.catalogue_size, 3)).astype(np.float32)
        few, many = (
            np.asarray(place_by_text(mesh.put_rows(by_item, np.float32), similar, at_once)) for at_once in (7, 999)
        )
    np.testing.assert_allclose(few, many, rtol=1e-6)
    assert len(similar.items) == len(NEW) - 1 and np.allclose(similar.weights.sum(axis=1), 1)
