"""A start from another run's parameters, which may have been trained on older data.

What holds a row an item is carried over by item id, what holds a row a class (a category, a brand, an attribute) by
its name. An item that the other run did not know starts from the rows of known ones with similar texts
(`similar_items`), or from a fresh row if it has no text. What holds a row a user is carried over on the same data
alone: a workdir names no users.
Networks made of features alone need share no item: a shop may start from what was learned in others. A table an item
that the other run's network has none of starts fresh.
"""

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import polars as pl

from alterrec_jax.contract import Context, Network, Params, System, param_shapes
from alterrec_jax.data.catalogue import read_catalogue, require_encoders
from alterrec_jax.data.dataset import Dataset, Sessions
from alterrec_jax.data.features import (
    ID_FEATURES,
    catalogue_info,
    class_values,
    context_shapes,
    feature_rows,
    preparation_flag,
)
from alterrec_jax.errors import UserError
from alterrec_jax.models.registry import read_run_config
from alterrec_jax.runtime.console import log
from alterrec_jax.sharding import mesh
from alterrec_jax.sharding.item_rows import copy_rows
from alterrec_jax.sharding.per_item import class_feature, is_per_item
from alterrec_jax.training.checkpoint import read_newest
from alterrec_jax.training.similar_items import Similar, place_by_text, similar_items


class Carried(NamedTuple):
    """Which rows of another run belong where.

    Attributes:
      items: int32 [catalogue], the row of each item in the other run; -1 for a new one.
      classes: by id feature, the same of its classes.
      similar: of the new items; None where no item is known.
    """

    items: np.ndarray
    classes: Mapping[str, np.ndarray]
    similar: Similar | None


def fitted_params(system: System, train: Sessions) -> dict[str, Params]:
    """The parameters of the networks that no step trains, each fitted to the training sessions alone."""
    found: dict[str, Params] = {}
    for name, network in system.networks.items():
        if network.fit is not None:
            started = time.monotonic()
            found[name] = jax.tree.map(lambda array: mesh.put_rows(array, array.dtype), network.fit(train))
            log(f"{name}: fitted to {len(train):,} training sessions in {time.monotonic() - started:.1f} s")
    return found


def params_of_run(
    workdir: str, system: System, context: Context, dataset: Dataset, fresh: Mapping[str, Params]
) -> dict[str, Params]:
    """The best parameters of a run, of the networks that have the same names here.

    Args:
      workdir: of the run.
      system, context: what is to start from it.
      dataset: what it is to train on: that of the run, another one that shares items with it, or, of networks made of
        features alone, any.
      fresh: its parameters as they would be without; their arrays are taken over.

    Raises:
      UserError: there is no such run, its networks have other names or shapes, or its dataset shares nothing.
    """
    meta = read_newest(workdir).meta
    same_data = meta["dataset"]["fingerprint"] == dataset.fingerprint
    before = dataset if same_data else _dataset_before(workdir, meta, dataset)
    config = read_run_config(meta["config"], f"the configuration in {workdir}")
    there = config.build(catalogue_info(before))
    if lacking := [name for name in there.reads.features if feature_rows(before, name) is None]:
        flag = preparation_flag(lacking[0])
        raise UserError(f"start_from={workdir} reads {lacking[0]}, which {dataset.path} lacks; prepare it with {flag}")
    its_context = context_shapes(before, there.scoring_reads, config.precision)
    shapes = {name: param_shapes(network, its_context) for name, network in there.networks.items()}
    shared = [name for name in system.networks if name in there.networks and system.networks[name].fit is None]
    if not shared:
        names = ", ".join(there.networks), ", ".join(system.networks)
        raise UserError(
            f"start_from={workdir} has the networks {names[0]}, this run {names[1]}: none has the same name"
        )
    for name in shared:
        network = system.networks[name]
        if not same_data:
            _check_reads(f"start_from={workdir}: its network {name} reads", network, meta["dataset"], before, dataset)
        if not _fits(network, shapes[name], param_shapes(network, context), same_data):
            raise UserError(f"start_from={workdir}: its network {name} has other shapes; use the same settings")
    domains = ", ".join(meta["dataset"].get("domains", {}))
    log(f"start_from={workdir}: trained on {meta['dataset']['path']}" + (f" ({domains})" if domains else ""))
    params = read_newest(workdir, shapes).best
    carried = None
    if not same_data:
        carried = _carried(workdir, before, dataset, all(_is_portable(there.networks[name]) for name in shared))
        if users := [name for name in shared if system.networks[name].per_user]:
            log(f"start_from={workdir}: {', '.join(users)}: users start from fresh rows, for a workdir names none")
    for name in shared:
        if lacking := _lacking(shapes[name], fresh[name]):
            log(f"start_from={workdir}: {name}: {', '.join(lacking)} starts fresh, for that run has none")
    return {name: _joined(system.networks[name], params[name], fresh[name], carried) for name in shared}


def _is_portable(network: Network) -> bool:
    """Whether what it learned is of use where none of its items is known."""
    return network.places_new_items and not network.per_item and not network.per_class


def _dataset_before(workdir: str, meta: Mapping[str, Any], dataset: Dataset) -> Dataset:
    """What a system must know of the dataset of a run to be built, by the run's own catalogue: it may be gone."""
    items = read_catalogue(pathlib.Path(workdir), "start_from needs it, for this run is on another dataset")
    # Only their shape matters: numbers that take no room, and of which no two rows are equal.
    rows = np.arange(len(items), dtype=np.float32)[:, None]
    vectors = {name: np.broadcast_to(rows, (len(rows), of.shape[1])) for name, of in dataset.vectors.items()}
    manifest = {
        "counts": {"catalogue": len(items)},
        "fingerprint": meta["dataset"]["fingerprint"],
        "order": {"ordered": meta["dataset"].get("ordered", True)},
    }
    train = dataset.splits["train"]
    users = pl.Series([str(number) for number in range(meta["dataset"].get("users", 0))], dtype=pl.String)
    none = dataclasses.replace(
        train, items=train.items[:0], offsets=train.offsets[:1], user_ids=train.user_ids[:0], user_names=users
    )
    return Dataset(pathlib.Path(meta["dataset"]["path"]), manifest, items, vectors, {"train": none})


def _check_reads(whose: str, network: Network, record: Mapping[str, Any], before: Dataset, dataset: Dataset) -> None:
    """Refuses a network that read something else than this dataset has, though it has the same name and shape.

    Args:
      whose: the beginning of the sentence that refuses.
      network: what is to start.
      record: of the dataset that it was trained on, as of `run_state.run_of`.
      before, dataset: that dataset, as far as it is known, and the new one.
    """
    if network.reads.users and not network.per_user:
        raise UserError(f"{whose} users, whose numbers are those of its own dataset; start from it on that one")
    read = (*network.reads.features, *network.reads.optional)
    require_encoders(whose, read, record, dataset)
    without_numbers = {*network.per_class.values(), *network.grouped_by}
    for feature in read:
        by_number = feature in ID_FEATURES and feature not in without_numbers
        if by_number and class_values(before, feature) != class_values(dataset, feature):
            raise UserError(f"{whose} {feature} by its numbers, which are others in {dataset.path}")
        width = record.get("widths", {}).get(feature)
        if width is not None and feature in dataset.vectors and dataset.vectors[feature].shape[1] != width:
            raise UserError(f"{whose} {feature} vectors of width {width}, which {dataset.path} has of another width")


def _fits(network: Network, there: Params, here: Params, same_data: bool) -> bool:
    """Whether parameters of some shapes can be carried over to those of others, which may have further item tables."""
    shapes = dict(jax.tree_util.tree_leaves_with_path(there))
    known = dict(jax.tree_util.tree_leaves_with_path(here))
    if not shapes.keys() <= known.keys():
        return False

    def fits(path: tuple[Any, ...]) -> bool:
        if path not in shapes:
            return is_per_item(network.per_item, path)
        one, other = shapes[path], known[path]
        if same_data:
            return bool(one == other)
        by_row = is_per_item((*network.per_item, *network.per_user), path)
        by_row = by_row or class_feature(network.per_class, path) is not None
        return one.shape[1:] == other.shape[1:] if by_row else one.shape == other.shape

    return all(map(fits, known))


def _lacking(there: Params, here: Params) -> list[str]:
    """The parameters, by their paths, that only the second tree has."""
    known = dict(jax.tree_util.tree_leaves_with_path(there))
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(here) if path not in known]
    return ["/".join(str(key.key) for key in path) for path in paths]


def _carried(workdir: str, before: Dataset, dataset: Dataset, portable: bool) -> Carried:
    """Finds who is who, and says so; `portable`, whether nobody need be known."""
    ids = dataset.items["item_id"].head(dataset.catalogue_size).to_list()
    items = _places(before.items["item_id"].to_list(), ids)
    if (items < 0).all():
        if not portable:
            raise UserError(
                f"start_from={workdir} knows no item of {dataset.path}; are the item ids those of one shop?"
            )
        log(f"start_from={workdir}: it knows no item of {dataset.path}; what it learned of features is carried over")
        return Carried(items, {}, None)
    classes = {
        name: _places([None, *class_values(before, name)], [None, *class_values(dataset, name)])
        for name in ID_FEATURES
        if name in before.items.columns and name in dataset.items.columns
    }
    similar = similar_items(dataset, items)
    kept, new = int((items >= 0).sum()), int((items < 0).sum())
    log(
        f"start_from={workdir}: of its {len(before.items):,} items {kept:,} are carried over and "
        f"{len(before.items) - kept:,} are gone; of {new:,} new ones {len(similar.items):,} start from items with "
        f"similar texts where a network learns a row an item, {new - len(similar.items):,} as fresh ones"
    )
    for name, rows in classes.items():
        kept = int((rows[1:] >= 0).sum())
        gone = len(class_values(before, name)) - kept
        log(f"start_from={workdir}: {name}: {kept:,} carried over, {gone:,} gone, {len(rows) - 1 - kept:,} new")
    return Carried(items, classes, similar)


def _places(there: list[str | None], here: list[str | None]) -> np.ndarray:
    """int32 [here], where each name stands in the other list; -1 if nowhere."""
    place = {name: number for number, name in enumerate(there)}
    return np.array([place.get(name, -1) for name in here], np.int32)


def _joined(network: Network, before: Params, fresh: Params, carried: Carried | None) -> Params:
    """The parameters of a network with what another run's know: all of it on the same data, where nothing moves."""
    known = dict(jax.tree_util.tree_leaves_with_path(before))

    def of_leaf(path: tuple[Any, ...], new: jax.Array) -> jax.Array:
        if path not in known:
            return new
        old = known[path]
        if carried is None:
            return old
        if is_per_item(network.per_item, path):
            places = np.flatnonzero(carried.items >= 0)
            known_rows = copy_rows(new, places, old, carried.items[places])
            return known_rows if carried.similar is None else place_by_text(known_rows, carried.similar)
        if is_per_item(network.per_user, path):
            return new
        feature = class_feature(network.per_class, path)
        if feature is None:
            return old
        rows, given = np.array(new), carried.classes[feature] >= 0
        rows[given] = np.asarray(old)[carried.classes[feature][given]]
        return mesh.put(rows)

    found: Params = jax.tree_util.tree_map_with_path(of_leaf, fresh)
    return found
